/* bitmap.h: sets of bits in arrays of 64-bit words. Pure; the caller owns the array and its lock.
 * Bit i is bit i % 64 of word i / 64. */
#ifndef VA_BITMAP_H
#define VA_BITMAP_H

#include "base/base.h"

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

/* How many bits are set: none, one and all at once, for without the instruction a call counts. */
VA_INLINE unsigned va_word_count(uint64_t word)
{
    if ((word & (word - 1)) == 0)
        return word != 0;
    return word == UINT64_MAX ? 64 : (unsigned)__builtin_popcountll(word);
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

/* How many ones a word has that has them all in a row; 0 for any other. */
VA_INLINE unsigned va_word_only_ones(uint64_t word)
{
    uint64_t rest = word & (word + (word & (0 - word))); /* without the lowest row */
    return rest != 0 || word == 0 ? 0 : va_highest_bit(word) - va_lowest_bit(word) + 1;
}

/* The most ones in a row within a word. */
VA_INLINE unsigned va_word_longest_ones(uint64_t word)
{
    unsigned only = va_word_only_ones(word);
    if (only != 0 || word == 0)
        return only;
    unsigned have = 1; /* a bit of word now says: `have` ones start here */
    for (uint64_t more; (more = word & (word >> have)) != 0; have *= 2)
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
