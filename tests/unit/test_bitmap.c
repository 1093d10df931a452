/* test_bitmap.c: masks and searches against loops over single bits. */
#include "support.h"

#include "table/bitmap.h"

static void mask_is_the_intersection(void **state)
{
    (void)state;
    for (size_t first = 0; first < 200; first++) {
        for (size_t count = 0; count < 200; count++) {
            for (size_t word = first / 64; word * 64 < first + count; word++) {
                uint64_t expected = 0;
                for (size_t bit = 0; bit < 64; bit++)
                    if (word * 64 + bit >= first && word * 64 + bit < first + count)
                        expected |= (uint64_t)1 << bit;
                assert_true(va_bitmap_mask(word, first, count) == expected);
            }
        }
    }
}

static unsigned naive_find(uint64_t word, unsigned count)
{
    for (unsigned start = 0; start + count <= 64; start++) {
        unsigned n = 0;
        while (n < count && (word >> (start + n) & 1) != 0)
            n++;
        if (n == count)
            return start;
    }
    return 64;
}

static void find_ones_is_the_lowest_run(void **state)
{
    (void)state;
    uint64_t seed = 42;
    for (int i = 0; i < 20000; i++) {
        uint64_t word = random_next(&seed);
        if (i % 2 == 0)
            word |= random_next(&seed) | random_next(&seed);
        for (unsigned count = 1; count <= 64; count += (unsigned)i % 5 + 1)
            assert_int_equal(va_word_find_ones(word, count), naive_find(word, count));
    }
    assert_int_equal(va_word_find_ones(UINT64_MAX, 63), 0);
    assert_int_equal(va_word_find_ones(UINT64_MAX << 1, 63), 1);
    assert_int_equal(va_word_find_ones(0, 2), 64);
}

static void longest_ones_is_the_longest_run(void **state)
{
    (void)state;
    uint64_t seed = 43;
    for (int i = 0; i < 100000; i++) {
        uint64_t word = random_next(&seed) & ~((uint64_t)1 << i % 64);
        for (int j = i % 7; j > 3; j--)
            word = (word | random_next(&seed)) & ~((uint64_t)1 << i % 64);
        for (int j = i % 7; j < 2; j++)
            word &= random_next(&seed);
        unsigned longest = 0;
        while (longest < 63 && naive_find(word, longest + 1) < 64)
            longest++;
        assert_int_equal(va_word_longest_ones(word), longest);
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t word = ~((uint64_t)1 << bit);
        assert_int_equal(va_word_longest_ones(word), bit > 31 ? bit : 63 - bit);
        assert_int_equal(va_word_longest_ones(~word), 1);
    }
    assert_int_equal(va_word_longest_ones(0), 0);
}

static void words_are_counted(void **state)
{
    (void)state;
    uint64_t seed = 44;
    for (int i = 0; i < 10000; i++) {
        uint64_t word = random_next(&seed);
        for (int j = i % 9; j > 0; j--)
            word &= random_next(&seed);
        unsigned count = 0;
        for (unsigned bit = 0; bit < 64; bit++)
            count += (word >> bit & 1) != 0;
        assert_int_equal(va_word_count(word), count);
    }
    assert_int_equal(va_word_count(0), 0);
    assert_int_equal(va_word_count(UINT64_MAX), 64);
}

static void ones_in_a_row_are_told_from_others(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 64; first++)
        for (unsigned count = 1; count <= 64 - first; count++) {
            uint64_t word = UINT64_MAX >> (64 - count) << first;
            assert_int_equal(va_word_only_ones(word), count);
            assert_int_equal(va_word_longest_ones(word), count);
            for (unsigned bit = 0; bit < 64; bit++) {
                bool is_end = bit == first || bit == first + count - 1;
                bool is_next = bit + 1 == first || bit == first + count;
                unsigned expected = is_end ? count - 1 : is_next ? count + 1 : 0;
                assert_int_equal(va_word_only_ones(word ^ (uint64_t)1 << bit), expected);
            }
        }
    assert_int_equal(va_word_only_ones(0), 0);
}

static void test_reads_single_bits(void **state)
{
    (void)state;
    uint64_t words[3] = {1, (uint64_t)1 << 63, 0};
    for (size_t bit = 0; bit < 192; bit++)
        assert_int_equal(va_bitmap_test(words, bit), bit == 0 || bit == 127);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mask_is_the_intersection),
        cmocka_unit_test(find_ones_is_the_lowest_run),
        cmocka_unit_test(longest_ones_is_the_longest_run),
        cmocka_unit_test(words_are_counted),
        cmocka_unit_test(ones_in_a_row_are_told_from_others),
        cmocka_unit_test(test_reads_single_bits),
    };
    return cmocka_run_group_tests_name("bitmap", tests, NULL, NULL);
}
