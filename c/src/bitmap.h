/* bitmap.h: sets of bits in arrays of 64-bit words. Pure; the caller owns the array and its lock.
 * Bit i is bit i % 64 of word i / 64. */
#ifndef VA_BITMAP_H
#define VA_BITMAP_H

#include "base.h"

VA_INLINE bool va_bitmap_test(const uint64_t *words, size_t bit)
{
    return (words[bit / 64] >> (bit % 64) & 1) != 0;
}

/* The bits of word `word` that lie in [first, first + count). */
VA_INLINE uint64_t va_bitmap_mask(size_t word, size_t first, size_t count)
{
    size_t low = word * 64 < first ? first - word * 64 : 0;
    size_t end = first + count - word * 64;
    uint64_t below_end = end >= 64 ? UINT64_MAX : ((uint64_t)1 << end) - 1;
    return below_end & (UINT64_MAX << low);
}

/* Are all bits of [first, first + count) ones? */
VA_INLINE bool va_bitmap_all(const uint64_t *words, size_t first, size_t count)
{
    for (size_t word = first / 64; word * 64 < first + count; word++) {
        uint64_t mask = va_bitmap_mask(word, first, count);
        if ((words[word] & mask) != mask)
            return false;
    }
    return true;
}

/* The lowest bit at which `count` (1 to 64) ones start within the word, 64 if nowhere. */
VA_INLINE unsigned va_word_find_ones(uint64_t word, unsigned count)
{
    unsigned have = 1; /* a bit of word now says: `have` ones start here */
    while (have < count && word != 0) {
        unsigned step = have < count - have ? have : count - have;
        word &= word >> step;
        have += step;
    }
    return word == 0 ? 64 : va_lowest_bit(word);
}

/* The most ones in a row within a word that has a zero. */
VA_INLINE unsigned va_word_longest_ones(uint64_t word)
{
    unsigned have = word != 0; /* a bit of word now says: `have` ones start here */
    for (uint64_t more; (more = word & (word >> have)) != 0 && have != 0; have *= 2)
        word = more;
    for (unsigned step = have / 2; step != 0; step /= 2) {
        uint64_t more = word & (word >> step);
        if (more != 0) {
            word = more;
            have += step;
        }
    }
    return have;
}

#endif
