/* size_class.c: the tables of size_class.h, computed by the compiler from the two formulas. */
#include "size_class.h"

/* Bytes of small class c. Many programs ask for a power of two and a header: there are classes for
 * 1 KiB and 4 KiB with one, as large as they may be for 63 and 15 to fit into a slab, in place of
 * those of 7680 and 30720 bytes, of which a slab has as many as of the next ones. */
#define KIB_AND_HEADER 1040u
#define PAGE_AND_HEADER 4368u
#define STEPS(c) ((c) < 8 ? 16u * ((c) + 1) : (9u + (c) % 8) << (3 + (c) / 8))
#define BYTES(c)                                                                                   \
    ((c) == 32   ? KIB_AND_HEADER                                                                  \
     : (c) == 49 ? PAGE_AND_HEADER                                                                 \
                 : STEPS((c) - ((c) > 32) - ((c) > 49) + ((c) > 55) + ((c) > 70)))
#define RECIPROCAL(c) ((uint32_t)((((uint64_t)1 << 32) + BYTES(c) - 1) / BYTES(c)))
#define SMALL(c)                                                                                   \
    {                                                                                              \
        BYTES(c), RECIPROCAL(c), (uint16_t)(VA_BLOCK_BYTES / BYTES(c)), 1                          \
    }
#define RUN(blocks)                                                                                \
    {                                                                                              \
        (blocks) << VA_BLOCK_SHIFT, 1, 0, blocks                                                   \
    }
#define SMALL8(c)                                                                                  \
    SMALL((c)), SMALL((c) + 1), SMALL((c) + 2), SMALL((c) + 3), SMALL((c) + 4), SMALL((c) + 5),    \
        SMALL((c) + 6), SMALL((c) + 7)

VA_TABLE const SizeClass va_size_classes[VA_CLASSES] = {
    SMALL8(0u),  SMALL8(8u),  SMALL8(16u), SMALL8(24u), SMALL8(32u), SMALL8(40u), SMALL8(48u),
    SMALL8(56u), SMALL8(64u), RUN(1),      RUN(2),      RUN(3),      RUN(4),      RUN(5),
    RUN(6),      RUN(7),      RUN(8),      RUN(10),     RUN(12),     RUN(14),     RUN(16),
};

/* Class of 16 * i bytes. Above 128 bytes, with b the highest bit of size - 1, the three bits
 * below it choose among the eight classes of (2^b, 2^(b+1)]; one more beyond each class with a
 * header, one less beyond each size that has no class of its own. */
#define LAST(i) (16u * (i)-1)
#define HIGH(i) (31u - (unsigned)__builtin_clz(LAST(i) | 1u))
#define STEP(i) (8u + (HIGH(i) - 7u) * 8u + ((LAST(i) >> (HIGH(i) - 3u)) & 7u))
#define ABOVE(i, bytes) (16u * (i) > (bytes))
#define CLASS(i)                                                                                   \
    ((i) <= 8 ? ((i) == 0 ? 0u : (i)-1u)                                                           \
              : STEP(i) + ABOVE(i, KIB_AND_HEADER) + ABOVE(i, PAGE_AND_HEADER) -                   \
                    ABOVE(i, STEPS(54)) - ABOVE(i, STEPS(70)))
#define OFFSET(i) (uint16_t)(CLASS(i) << VA_CLASS_SHIFT)
#define OFFSET4(i) OFFSET((i)), OFFSET((i) + 1), OFFSET((i) + 2), OFFSET((i) + 3)
#define OFFSET16(i) OFFSET4((i)), OFFSET4((i) + 4), OFFSET4((i) + 8), OFFSET4((i) + 12)
#define OFFSET64(i) OFFSET16((i)), OFFSET16((i) + 16), OFFSET16((i) + 32), OFFSET16((i) + 48)
#define OFFSET256(i) OFFSET64((i)), OFFSET64((i) + 64), OFFSET64((i) + 128), OFFSET64((i) + 192)

VA_TABLE const uint16_t va_class_offsets[VA_SMALL_MAX / 16 + 1] = {
    OFFSET256(0u),    OFFSET256(256u),  OFFSET256(512u),  OFFSET256(768u), OFFSET256(1024u),
    OFFSET256(1280u), OFFSET256(1536u), OFFSET256(1792u), OFFSET(2048u),
};

#define FIRST VA_CLASSES_SMALL
VA_TABLE const uint8_t va_run_classes[VA_RUN_MAX / VA_BLOCK_BYTES + 1] = {
    FIRST,     FIRST,      FIRST + 1,  FIRST + 2,  FIRST + 3,  FIRST + 4,
    FIRST + 5, FIRST + 6,  FIRST + 7,  FIRST + 8,  FIRST + 8,  FIRST + 9,
    FIRST + 9, FIRST + 10, FIRST + 10, FIRST + 11, FIRST + 11,
};

static_assert(VA_CLASSES << VA_CLASS_SHIFT < 1 << VA_OWNER_SHIFT, "a class fits into an entry");

unsigned va_class_of_aligned(size_t size, size_t alignment)
{
    if (alignment <= VA_MIN_ALIGN)
        return va_class_of(size);
    if (alignment > VA_BLOCK_BYTES || size > VA_RUN_MAX)
        return VA_CLASS_LARGE;
    unsigned class = va_class_of(va_align_up(va_max(size, 1), alignment));
    while (class < VA_CLASSES_SMALL && va_size_classes[class].bytes % alignment != 0)
        class ++;
    return class;
}
