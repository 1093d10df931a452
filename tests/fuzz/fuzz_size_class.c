/* fuzz_size_class.c: sizes and alignments to classes, against a search through all of them. */
#include "fuzz.h"

#include "table/size_class.h"

static unsigned search(size_t size, size_t alignment)
{
    if (alignment > VA_BLOCK_BYTES)
        return VA_CLASS_LARGE;
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        size_t bytes = va_size_classes[class].bytes;
        if (bytes >= size && (class >= VA_CLASSES_SMALL || bytes % alignment == 0))
            return class;
    }
    return VA_CLASS_LARGE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, data + size};
    while (!input_is_over(&input)) {
        uint8_t shift = take_byte(&input);
        size_t request = (size_t)take_word(&input) >> shift % 64;
        size_t alignment = (size_t)1 << take_byte(&input) % 63;
        unsigned expected = search(request, alignment > VA_MIN_ALIGN ? alignment : VA_MIN_ALIGN);
        demand(va_class_of_aligned(request, alignment) == expected);
        if (alignment <= VA_MIN_ALIGN)
            demand(va_class_of(request) == expected);
        if (expected < VA_CLASSES_SMALL) {
            const SizeClass *class = &va_size_classes[expected];
            uint64_t offset = take_short(&input);
            demand(offset * class->reciprocal >> 32 == offset / class->bytes);
            if (alignment <= VA_MIN_ALIGN)
                demand(va_small_class_offset(request) == expected << VA_CLASS_SHIFT);
        }
    }
    return 0;
}
