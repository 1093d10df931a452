/* size_class.c: the tables of size_class.h. */
#include "table/size_class.h"

#define SMALL(size)                                                                                \
    [VA_CLASS_OF_BYTES(size)] = {.bytes = (size),                                                  \
                                 .reciprocal =                                                     \
                                     (uint32_t)((((uint64_t)1 << 32) + (size)-1) / (size)),        \
                                 .slots = VA_BLOCK_BYTES / (size),                                 \
                                 .run_blocks = 1},
#define RUN(blocks)                                                                                \
    [VA_CLASS_OF_BLOCKS(blocks)] = {.bytes = ((blocks) << VA_BLOCK_SHIFT) - VA_RUN_GUARD_BYTES,    \
                                    .reciprocal = 1,                                               \
                                    .run_blocks = (blocks)},
VA_TABLE const SizeClass va_size_classes[VA_CLASSES] = {VA_SMALL_CLASSES(SMALL)
                                                            VA_RUN_CLASSES(RUN)};

#pragma GCC diagnostic push
#ifdef __clang__
#pragma GCC diagnostic ignored "-Winitializer-overrides"
#else
#pragma GCC diagnostic ignored "-Woverride-init"
#endif
#define UP_TO_SLOT(size) [0 ...(size) / 16] = VA_CLASS_OF_BYTES(size) << VA_CLASS_SHIFT,
VA_TABLE const uint16_t va_class_offsets[VA_SMALL_MAX / 16 + 1] = {VA_SMALL_CLASSES(UP_TO_SLOT)};

#define UP_TO_RUN(blocks) [0 ...(blocks)] = VA_CLASS_OF_BLOCKS(blocks),
VA_TABLE const uint8_t va_run_classes[VA_RUN_BLOCKS_MAX + 1] = {VA_RUN_CLASSES(UP_TO_RUN)};
#pragma GCC diagnostic pop

unsigned va_class_of_aligned(size_t size, size_t alignment)
{
    if (alignment <= VA_MIN_ALIGN)
        return va_class_of(size);
    if (alignment > VA_BLOCK_BYTES || size > VA_RUN_MAX)
        return VA_CLASS_LARGE;
    size_t aligned = va_align_up(va_max(size, 1), alignment);
    if (aligned > VA_SMALL_MAX) /* all runs are so aligned */
        return va_class_of(va_max(size, VA_SMALL_MAX + 1));
    unsigned class = va_class_of(aligned);
    while (class < VA_CLASSES_SMALL && va_size_classes[class].bytes % alignment != 0)
        class ++;
    return class;
}
