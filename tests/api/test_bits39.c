/* test_bits39.c: 39 bits of address space, as on small aarch64 machines: the core's mappings all
 * lie there. The first reserve is what is left of it after halving; a block that fits nowhere gets
 * an arena of its own as long as there is room. */
#include "support.h"

#include <errno.h>

#include "block_table.h"

#define GIB ((size_t)1 << 30)
#define LARGE 200 /* GiB */

static void check_place(const void *block, size_t size)
{
    assert_non_null(block);
    assert_true((uintptr_t)block + size <= (uintptr_t)1 << 39);
    size_t blocks = (whole_bytes(size) + VA_BLOCK_BYTES - 1) / VA_BLOCK_BYTES;
    assert_int_equal(whole_bytes(valloc_usable_size(block)), blocks * VA_BLOCK_BYTES);
    assert_ptr_equal(valloc_owner(block), valloc_process());
}

static void two_large_blocks_and_no_third(void **state)
{
    (void)state;
    size_t size = LARGE * GIB;
    for (int turn = 0; turn < 3; turn++) {
        unsigned char *blocks[2];
        for (int i = 0; i < 2; i++) {
            blocks[i] = valloc_malloc(size);
            check_place(blocks[i], size);
            blocks[i][0] = blocks[i][size - 1] = (unsigned char)(i + 1);
        }
        errno = 0;
        assert_null(valloc_malloc(size));
        assert_int_equal(errno, ENOMEM);
        assert_int_equal(va_arena_count, 2);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(blocks[i][0], i + 1);
            assert_int_equal(blocks[i][size - 1], i + 1);
            valloc_free(blocks[i]);
        }
        valloc_purge();
    }
}

static void all_of_it_can_be_had_in_parts(void **state)
{
    (void)state;
    static unsigned char *blocks[512];
    for (int turn = 0; turn < 2; turn++) {
        size_t count = 0;
        while (count < 512 && (blocks[count] = valloc_malloc(GIB)) != NULL) {
            check_place(blocks[count], GIB);
            blocks[count][GIB - 1] = (unsigned char)count;
            count++;
        }
        assert_int_equal(errno, ENOMEM);
        assert_true(count > 490 && count < 512);
        unsigned char *small = valloc_malloc(100);
        assert_non_null(small);
        valloc_free(small);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(blocks[i][GIB - 1], (unsigned char)i);
            valloc_free(blocks[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_large_blocks_and_no_third),
        cmocka_unit_test(all_of_it_can_be_had_in_parts),
    };
    return cmocka_run_group_tests_name("39 bits", tests, NULL, NULL);
}
