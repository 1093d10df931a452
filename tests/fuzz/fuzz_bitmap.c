/* fuzz_bitmap.c: masks, tests and searches in bitmaps, against loops over single bits. */
#include "fuzz.h"

#include "table/bitmap.h"

#define BITS 320

static bool bits[BITS];

static uint64_t naive_mask(size_t word, size_t first, size_t count)
{
    uint64_t mask = 0;
    for (size_t bit = word * 64; bit < word * 64 + 64; bit++)
        if (bit >= first && bit - first < count)
            mask |= (uint64_t)1 << bit % 64;
    return mask;
}

static unsigned naive_find(const bool *word, unsigned count)
{
    for (unsigned start = 0; start + count <= 64; start++) {
        unsigned ones = 0;
        while (ones < count && word[start + ones])
            ones++;
        if (ones == count)
            return start;
    }
    return 64;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, data + size};
    uint64_t words[BITS / 64] = {0};
    memset(bits, 0, sizeof bits);
    while (!input_is_over(&input)) {
        uint8_t what = take_byte(&input);
        size_t first = take_below(&input, BITS);
        size_t count = 1 + take_below(&input, BITS - first);
        for (size_t word = first / 64; word * 64 < first + count; word++) {
            uint64_t mask = va_bitmap_mask(word, first, count);
            demand(mask == naive_mask(word, first, count));
            words[word] = what % 2 == 0 ? words[word] | mask : words[word] & ~mask;
        }
        for (size_t bit = first; bit < first + count; bit++)
            bits[bit] = what % 2 == 0;
        for (size_t bit = 0; bit < BITS; bit++)
            demand(va_bitmap_test(words, bit) == bits[bit]);
        size_t word = first / 64;
        unsigned ones = 2 + (what >> 1) % 62;
        demand(va_word_find_ones(words[word], ones) == naive_find(bits + word * 64, ones));
    }
    return 0;
}
