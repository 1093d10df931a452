/* size_class.h: from a size to its class and back. Pure; the tables are constants of the build.
 *
 *   class   0 ..  7   16, 32, ... 128 bytes
 *   class   8 .. 71   8 classes per doubling up to 32 KiB: 144, 160, ... 256, 288, ... 32768,
 *                     but with 1040 after 1024 and 4368 after 4096, none between 7168 and 8192
 *                     and between 28672 and 32768
 *   class  72 .. 83   whole runs of 1 2 3 4 5 6 7 8 10 12 14 16 blocks (64 KiB to 1 MiB)
 *
 * A small request wastes at most 1/8 of its slot above 128 bytes. Both allocation and the check
 * of a sized free use va_class_of and va_class_of_aligned, so that they cannot disagree.
 *
 * A class travels as its offset, class * 16: that is the distance of its stack from the start
 * of a thread cache, and what a table entry holds. */
#ifndef VA_SIZE_CLASS_H
#define VA_SIZE_CLASS_H

#include "config.h"

#define VA_CLASSES_SMALL 72
#define VA_CLASSES_RUN 12
#define VA_CLASSES (VA_CLASSES_SMALL + VA_CLASSES_RUN)
/* The pseudo class of large allocations, in table entries and block records. */
#define VA_CLASS_LARGE VA_CLASSES
/* That of blocks which an allocator holds but has no use for at present; table entries only. */
#define VA_CLASS_SPARE (VA_CLASSES + 1)
/* That of blocks which may be unmapped, since the kernel refused to map them anew: nobody gets them
 * any more, also not in a child; table entries only. */
#define VA_CLASS_LOST (VA_CLASSES + 2)
#define VA_CLASS_SHIFT 4

/* Secure builds look a class up at every allocation: its offset is its place in the table, too. */
#if VALLOC_SECURE_EXACT || VALLOC_SECURE_ZERO || VALLOC_SECURE_CANARY
#define VA_CLASS_ALIGNMENT _Alignas(1 << VA_CLASS_SHIFT)
#else
#define VA_CLASS_ALIGNMENT
#endif

typedef struct SizeClass {
    VA_CLASS_ALIGNMENT uint32_t bytes; /* of a slot, or of the run */
    uint32_t reciprocal; /* ceil(2^32 / bytes): offset * reciprocal >> 32 == offset / bytes, and the
                            lower half is below it if nothing remains; 1 for runs */
    uint16_t slots;      /* per slab; 0 for runs */
    uint16_t run_blocks; /* 1 for slabs */
} SizeClass;

extern const SizeClass va_size_classes[VA_CLASSES];
/* Class offset by (size + 15) / 16, up to VA_SMALL_MAX. */
extern const uint16_t va_class_offsets[VA_SMALL_MAX / 16 + 1];
/* Class by run length in blocks, 1 to 16. */
extern const uint8_t va_run_classes[VA_RUN_MAX / VA_BLOCK_BYTES + 1];

/* The class offset of a small request (size <= VA_SMALL_MAX). */
VA_INLINE unsigned va_small_class_offset(size_t size)
{
    return va_class_offsets[(size + 15) / 16];
}

/* The class of a request, VA_CLASS_LARGE above VA_RUN_MAX. */
VA_INLINE unsigned va_class_of(size_t size)
{
    if (va_likely(size <= VA_SMALL_MAX))
        return va_small_class_offset(size) >> VA_CLASS_SHIFT;
    if (size <= VA_RUN_MAX)
        return va_run_classes[(size + VA_BLOCK_BYTES - 1) >> VA_BLOCK_SHIFT];
    return VA_CLASS_LARGE;
}

/* The same for an alignment, a power of two: the first class whose slots all lie on multiples
 * of it. Above a block's size only large allocations are aligned. */
unsigned va_class_of_aligned(size_t size, size_t alignment);

#endif
