/* test_chacha.c: the stream of ChaCha with 8 rounds against the published test vector for a key of
 * zeroes, and that keys and counters lead elsewhere. */
#include "support.h"

#include "harden/chacha.h"

static void the_stream_is_chachas(void **state)
{
    (void)state;
    static const uint8_t expected[64] = {
        0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6, 0x7f, 0x5b, 0xb8, 0xe8, 0x1f,
        0x09, 0xa5, 0xa1, 0x2c, 0x84, 0x0e, 0xc3, 0xce, 0x9a, 0x7f, 0x3b, 0x18, 0x1b,
        0xe1, 0x88, 0xef, 0x71, 0x1a, 0x1e, 0x98, 0x4c, 0xe1, 0x72, 0xb9, 0x21, 0x6f,
        0x41, 0x9f, 0x44, 0x53, 0x67, 0x45, 0x6d, 0x56, 0x19, 0x31, 0x4a, 0x42, 0xa3,
        0xda, 0x86, 0xb0, 0x01, 0x38, 0x7b, 0xfd, 0xb8, 0x0e, 0x0c, 0xfe, 0x42};
    uint32_t key[VA_CHACHA_KEY_WORDS] = {0};
    uint32_t block[VA_CHACHA_WORDS];
    va_chacha_block(key, 0, block);
    assert_memory_equal(block, expected, sizeof expected);
}

static void every_bit_of_the_key_and_the_counter_counts(void **state)
{
    (void)state;
    uint32_t key[VA_CHACHA_KEY_WORDS] = {0};
    uint32_t zero[VA_CHACHA_WORDS];
    uint32_t block[VA_CHACHA_WORDS];
    va_chacha_block(key, 0, zero);
    for (unsigned bit = 0; bit < 64; bit++) {
        va_chacha_block(key, (uint64_t)1 << bit, block);
        assert_memory_not_equal(block, zero, sizeof zero);
    }
    for (unsigned bit = 0; bit < 256; bit++) {
        key[bit / 32] = 1u << bit % 32;
        va_chacha_block(key, 0, block);
        assert_memory_not_equal(block, zero, sizeof zero);
        key[bit / 32] = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stream_is_chachas),
        cmocka_unit_test(every_bit_of_the_key_and_the_counter_counts),
    };
    return cmocka_run_group_tests_name("chacha", tests, NULL, NULL);
}
