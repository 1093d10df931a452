/* test_bits39.c: 39 bits of address space, as on small aarch64 machines: all of the core's mappings
 * lie there. Arenas are small, so that large blocks need several; when there is no more room it is
 * said. */
#include "support.h"

#include <errno.h>

#include "table/block_table.h"

#define GIB ((size_t)1 << 30)
#define BLOCKS 512 /* more than there is room for */

static void check_place(const void *block, size_t size)
{
    assert_non_null(block);
    assert_true((uintptr_t)block + size <= (uintptr_t)1 << 39);
    assert_true(valloc_usable_size(block) >= size);
    assert_ptr_equal(valloc_owner(block), valloc_process());
}

static void blocks_of_every_size_lie_there(void **state)
{
    (void)state;
    for (int turn = 0; turn < 3; turn++) {
        void *blocks[24];
        for (int i = 0; i < 24; i++) {
            blocks[i] = valloc_malloc((size_t)100 << i);
            check_place(blocks[i], (size_t)100 << i);
        }
        for (int i = 0; i < 24; i++)
            valloc_free(blocks[i]);
    }
}

static void there_are_arenas_until_there_is_no_room(void **state)
{
    (void)state;
    static unsigned char *blocks[BLOCKS];
    for (int turn = 0; turn < 2; turn++) {
        size_t count = 0;
        while (count < BLOCKS && (blocks[count] = valloc_malloc(GIB)) != NULL) {
            check_place(blocks[count], GIB);
            blocks[count][GIB - 1] = (unsigned char)count;
            count++;
        }
        assert_int_equal(errno, ENOMEM);
        assert_true(count > 16 && count < BLOCKS && va_arena_count > 2);
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
        cmocka_unit_test(blocks_of_every_size_lie_there),
        cmocka_unit_test(there_are_arenas_until_there_is_no_room),
    };
    return cmocka_run_group_tests_name("39 bits", tests, NULL, NULL);
}
