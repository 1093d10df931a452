/* test_big_heap.c: tens of GiB of address space of which few pages are used: resident memory is
 * those pages and the tables, and what is freed is found again. */
#include "support.h"

#include "base/config.h"
#include "valloc.h"

#define HEAP_BYTES ((size_t)48 << 30)
#define TOUCH_STEP ((size_t)64 << 20)
/* Pages of 64 KiB at most, 9.3 MiB of tables per GiB if all of them were touched: a block's entry
 * and record are, 68 bytes, where a run starts. */
#define BOUND_KIB (256 << 10)

static bool has_room(void)
{
#ifdef SANITIZED
    return false;
#else
    valloc_stats stats;
    valloc_free(valloc_malloc(1));
    valloc_get_stats(&stats);
    return stats.reserved >= 4 * HEAP_BYTES;
#endif
}

static void one_block(void **state)
{
    (void)state;
    if (!has_room())
        skip();
    long before = status_kib("VmRSS:");
    char *block = valloc_calloc(HEAP_BYTES / 2, 1);
    assert_non_null(block);
    for (size_t i = 0; i < HEAP_BYTES / 2; i += TOUCH_STEP) {
        assert_int_equal(block[i], 0);
        block[i] = (char)(i / TOUCH_STEP);
    }
    char *other = valloc_malloc(100); /* small ones lie elsewhere */
    block = valloc_realloc(block, HEAP_BYTES);
    assert_non_null(block);
    for (size_t i = 0; i < HEAP_BYTES; i += TOUCH_STEP)
        assert_int_equal(block[i], i < HEAP_BYTES / 2 ? (char)(i / TOUCH_STEP) : 0);
    block = valloc_realloc(block, HEAP_BYTES / 4);
    assert_int_equal(block[HEAP_BYTES / 4 - TOUCH_STEP], (char)(HEAP_BYTES / 4 / TOUCH_STEP - 1));
    long grown = status_kib("VmRSS:") - before;
    printf("a block of %zu GiB: %ld KiB\n", HEAP_BYTES >> 30, grown);
    assert_true(grown < BOUND_KIB);
    valloc_free(block);
    valloc_free(other);
}

/* Runs of 1 MiB, one byte of each written. */
#define RUNS (HEAP_BYTES >> 20)
static char *runs[RUNS];

static void put_runs(size_t step, char value)
{
    for (size_t i = 0; i < RUNS; i += step) {
        runs[i] = valloc_malloc((size_t)1 << 20);
        assert_non_null(runs[i]);
        runs[i][i % ((size_t)1 << 20)] = value;
    }
}

static void many_runs(void **state)
{
    (void)state;
    if (!has_room())
        skip();
    valloc_stats stats;
    long before = status_kib("VmRSS:");
    put_runs(1, 1);
    long grown = status_kib("VmRSS:") - before;
    valloc_get_stats(&stats);
    size_t committed = stats.committed;
    printf("%zu runs of 1 MiB: %ld KiB, tables %zu KiB accessible\n", RUNS, grown,
           stats.metadata >> 10);
    assert_true(grown < (long)(RUNS * 4) + BOUND_KIB);
    for (size_t i = 0; i < RUNS; i += 2)
        valloc_free(runs[i]);
    valloc_purge();
    put_runs(2, 2); /* into the holes */
    valloc_get_stats(&stats);
    assert_true(stats.committed <= committed + committed / 8);
    for (size_t i = 0; i < RUNS; i++) {
        assert_int_equal(runs[i][i % ((size_t)1 << 20)], 1 + (i % 2 == 0));
        valloc_free(runs[i]);
    }
    valloc_purge();
    long left = status_kib("VmRSS:") - before;
    printf("after all were freed: %ld KiB\n", left);
    assert_true(left < BOUND_KIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_block),
        cmocka_unit_test(many_runs),
    };
    return cmocka_run_group_tests_name("big heap", tests, NULL, NULL);
}
