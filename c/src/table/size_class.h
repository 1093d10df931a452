/* size_class.h: from a size to its class and back. Pure; the tables are constants of the build, and
 * follow from two lists.
 *
 * Small classes, up to 32 KiB, are slots of slabs: steps of 16 bytes up to 128, then 8 classes per
 * doubling, so that a request wastes at most 1/8 of its slot. Many programs ask for a power of two
 * and a header: 1040 and 4368 bytes are the largest slots of which a slab has 63 and 15. They take
 * the places of 7680 and 30720 bytes, of which a slab has no more than of the next class.
 * Run classes are whole runs of 1 to 16 blocks of 64 KiB.
 *
 * Allocation and the check of a sized free both use va_class_of and va_class_of_aligned, so that
 * they cannot disagree.
 *
 * A class travels as its offset, class * 16: that is the distance of its stack from the start
 * of a thread cache, and what a table entry holds. */
#ifndef VA_SIZE_CLASS_H
#define VA_SIZE_CLASS_H

#include "base/config.h"

/* Bytes of a slot, and blocks of a run; the largest first, so that in tables by size each class
 * overwrites the end of the next larger one. */
/* clang-format off */
#define VA_SMALL_CLASSES(X) \
    X(32768) X(28672) X(26624) X(24576) X(22528) X(20480) X(18432) X(16384) X(15360) X(14336) \
    X(13312) X(12288) X(11264) X(10240) X(9216) X(8192) X(7168) X(6656) X(6144) X(5632) \
    X(5120) X(4608) X(4368) X(4096) X(3840) X(3584) X(3328) X(3072) X(2816) X(2560) X(2304) \
    X(2048) X(1920) X(1792) X(1664) X(1536) X(1408) X(1280) X(1152) X(1040) X(1024) X(960) \
    X(896) X(832) X(768) X(704) X(640) X(576) X(512) X(480) X(448) X(416) X(384) X(352) X(320) \
    X(288) X(256) X(240) X(224) X(208) X(192) X(176) X(160) X(144) X(128) X(112) X(96) X(80) \
    X(64) X(48) X(32) X(16)
/* clang-format on */
#define VA_RUN_CLASSES(X) X(16) X(14) X(12) X(10) X(8) X(7) X(6) X(5) X(4) X(3) X(2) X(1)

#define VA_PLACE_OF_SMALL(bytes) VA_SMALL_PLACE_##bytes,
#define VA_PLACE_OF_RUN(blocks) VA_RUN_PLACE_##blocks,
enum { VA_SMALL_CLASSES(VA_PLACE_OF_SMALL) VA_CLASSES_SMALL };
enum { VA_RUN_CLASSES(VA_PLACE_OF_RUN) VA_CLASSES_RUN };
#define VA_CLASSES (VA_CLASSES_SMALL + VA_CLASSES_RUN)
/* The class that has exactly these bytes, or blocks. */
#define VA_CLASS_OF_BYTES(bytes) (VA_CLASSES_SMALL - 1 - VA_SMALL_PLACE_##bytes)
#define VA_CLASS_OF_BLOCKS(blocks) (VA_CLASSES - 1 - VA_RUN_PLACE_##blocks)

/* The pseudo class of large allocations, in table entries and block records. */
#define VA_CLASS_LARGE VA_CLASSES
/* That of blocks which an allocator holds but has no use for at present; table entries only. */
#define VA_CLASS_SPARE (VA_CLASSES + 1)
/* That of blocks which may be unmapped, since the kernel refused to map them anew: nobody gets them
 * any more, also not in a child; table entries only. */
#define VA_CLASS_LOST (VA_CLASSES + 2)
#define VA_CLASS_SHIFT 4

/* Secure builds look a class up at every allocation: its offset is its place in the table, too. */
#if VALLOC_SECURE_ZERO || VALLOC_SECURE_CANARY
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
#define VA_RUN_BLOCKS_MAX ((VA_RUN_MAX + VA_RUN_GUARD_BYTES) / VA_BLOCK_BYTES)
/* Class by run length in blocks, 1 to 16. */
extern const uint8_t va_run_classes[VA_RUN_BLOCKS_MAX + 1];

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
        return va_run_classes[(size + VA_RUN_GUARD_BYTES + VA_BLOCK_BYTES - 1) >> VA_BLOCK_SHIFT];
    return VA_CLASS_LARGE;
}

/* The same for an alignment, a power of two: the first class whose slots all lie on multiples
 * of it. Above a block's size only large allocations are aligned. */
unsigned va_class_of_aligned(size_t size, size_t alignment);

#endif
