/* test_arena.c: runs lent, resized and reclaimed at random against a map of who holds what. */
#include "support.h"

#include "arena/arena.h"

#define MODEL_BLOCKS 65536
#define LIVE_MAX 400

static unsigned char held[MODEL_BLOCKS]; /* by block number, from the first one lent on */
static size_t origin;

/* The zones lie far apart: each has a half of the map. */
static size_t place_of(const Block *run)
{
    size_t number = va_block_number(run);
    size_t dense = va_arenas[run->arena].zones[ZONE_DENSE].first;
    return number < dense ? number - origin : number - dense + MODEL_BLOCKS / 2;
}

static void mark(const Block *run, size_t from, size_t to, unsigned char value)
{
    size_t first = place_of(run);
    for (size_t i = from; i < to; i++) {
        assert_true(first + i < MODEL_BLOCKS);
        assert_int_equal(held[first + i], !value);
        held[first + i] = value;
    }
}

static int is_zero(const unsigned char *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static void runs_never_overlap(void **state)
{
    (void)state;
    Block *live[LIVE_MAX] = {NULL};
    uint64_t seed = 7;
    Block *first = va_arena_lend(1, 1);
    origin = va_block_number(first);
    mark(first, 0, 1, 1);
    for (int i = 0; i < 200000; i++) {
        uint64_t r = random_next(&seed);
        Block **place = &live[r % LIVE_MAX];
        size_t blocks = r >> 20 & 1 ? 1 + (r >> 24) % 4 : 1 + (r >> 24) % 150;
        if (*place == NULL) {
            size_t align = (r >> 40) % 16 == 0 ? (size_t)1 << (r >> 44) % 7 : 1;
            Block *run = NULL;
            if (align > 1)
                run = va_arena_lend(blocks, align);
            else
                va_arena_lend_many(blocks, (ZoneKind)(r >> 41 & 1), &run, 1);
            assert_non_null(run);
            assert_int_equal(run->run_blocks, blocks);
            assert_int_equal((uintptr_t)va_block_address(run) % (align << VA_BLOCK_SHIFT), 0);
            mark(run, 0, blocks, 1);
            if (run->zero && i % 64 == 0)
                assert_true(
                    is_zero((unsigned char *)va_block_address(run), blocks << VA_BLOCK_SHIFT));
            memset(va_block_address(run), 0xaa, 64);
            run->zero = false;
            *place = run;
        } else if ((r >> 50) % 3 == 0) {
            size_t old = (*place)->run_blocks;
            if (va_arena_resize(*place, blocks)) {
                assert_int_equal((*place)->run_blocks, blocks);
                if (blocks > old)
                    mark(*place, old, blocks, 1);
                else
                    mark(*place, blocks, old, 0);
            } else {
                assert_int_equal((*place)->run_blocks, old);
                assert_true(blocks > old);
            }
        } else {
            mark(*place, 0, (*place)->run_blocks, 0);
            va_arena_reclaim(*place);
            *place = NULL;
        }
        if (i % 20000 == 0)
            va_purge_all();
    }
    ArenaStats stats;
    size_t blocks = 1;
    for (int i = 0; i < LIVE_MAX; i++)
        blocks += live[i] == NULL ? 0 : live[i]->run_blocks;
    va_arena_stats(&stats);
    assert_int_equal(stats.lent, blocks << VA_BLOCK_SHIFT);
    for (int i = 0; i < LIVE_MAX; i++)
        if (live[i] != NULL)
            va_arena_reclaim(live[i]);
    va_arena_reclaim(first);
}

static void purged_blocks_read_as_zero(void **state)
{
    (void)state;
    Block *run = va_arena_lend(100, 1);
    memset(va_block_address(run), 1, (size_t)100 << VA_BLOCK_SHIFT);
    run->zero = false;
    va_arena_reclaim(run);
    assert_true(va_purge_all() >= (size_t)100 << VA_BLOCK_SHIFT);
    assert_int_equal(va_purge_all(), 0);
    run = va_arena_lend(100, 1);
    assert_true(run->zero);
    assert_true(is_zero((unsigned char *)va_block_address(run), (size_t)100 << VA_BLOCK_SHIFT));
    va_arena_reclaim(run);
}

static void many_runs_come_and_go_at_once(void **state)
{
    (void)state;
    Block *runs[20];
    for (int turn = 0; turn < 3; turn++) {
        assert_int_equal(va_arena_lend_many(3, ZONE_DENSE, runs, 20), 20);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(runs[i]->run_blocks, 3);
            assert_true(i == 0 || runs[i] >= runs[i - 1] + 3);
            if (runs[i]->zero)
                assert_true(is_zero((unsigned char *)va_block_address(runs[i]), VA_BLOCK_BYTES));
            assert_true(turn == 0 || !runs[i]->zero);
            memset(va_block_address(runs[i]), 1, 1);
            runs[i]->zero = false;
            runs[i]->next = i == 0 ? NULL : runs[i - 1];
        }
        va_arena_reclaim(runs[19]);
    }
    va_purge_all();
    /* Runs that begin in free blocks at the end of what was lent, and go on beyond. */
    ArenaStats before;
    ArenaStats after;
    va_arena_stats(&before);
    Block *last = va_arena_lend(3000, 1);
    Block *behind = va_arena_lend(1, 1);
    va_arena_reclaim(behind);
    assert_int_equal(va_arena_lend_many(3, ZONE_SPARSE, runs, 20), 20);
    assert_ptr_equal(runs[0], behind);
    va_arena_stats(&after);
    assert_true(after.reserved > before.reserved);
    for (int i = 0; i < 20; i++)
        va_arena_reclaim(runs[i]);
    va_arena_reclaim(last);
}

static void the_lowest_run_that_fits_is_lent(void **state)
{
    (void)state;
    Block *a = va_arena_lend(8, 1);
    Block *b = va_arena_lend(8, 1);
    Block *c = va_arena_lend(8, 1);
    assert_true(a < b && b < c);
    va_arena_reclaim(a);
    va_arena_reclaim(b);
    Block *d = va_arena_lend(16, 1);
    assert_ptr_equal(d, a);
    va_arena_reclaim(d);
    va_arena_reclaim(c);
}

static void impossible_runs_are_refused(void **state)
{
    (void)state;
    assert_null(va_arena_lend((size_t)1 << 40, 1));
    assert_null(va_arena_lend(1, (size_t)1 << 40));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_never_overlap),
        cmocka_unit_test(purged_blocks_read_as_zero),
        cmocka_unit_test(many_runs_come_and_go_at_once),
        cmocka_unit_test(the_lowest_run_that_fits_is_lent),
        cmocka_unit_test(impossible_runs_are_refused),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
