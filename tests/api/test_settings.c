/* test_settings.c: the purge delay changes at run time, for what is freed already, and for a
 * background thread that sleeps. Huge pages: test_huge.c. */
#include "support.h"

#include "simulated.h"

#define TEST_API 1
#include "subject.h"

#define HOUR_MS 3600000u
#define BLOCKS 64
#define BLOCK_BYTES ((size_t)2 << 20)

static size_t dirty(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats.dirty;
}

/* Leaves dirty blocks between live ones. */
static void make_dirty(void **kept)
{
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        assert_non_null(blocks[i] = valloc_malloc(BLOCK_BYTES));
        memset(blocks[i], 1, BLOCK_BYTES);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        if (i % 8 == 0)
            valloc_free(blocks[i]);
        else
            kept[i] = blocks[i];
}

static void free_kept(void **kept)
{
    for (size_t i = 0; i < BLOCKS; i++)
        valloc_free(kept[i]);
}

/* Slow paths, which look at the purge clock. */
static void visit(void)
{
    void *slots[1000];
    for (int i = 0; i < 1000; i++)
        assert_non_null(slots[i] = valloc_malloc(1000));
    for (int i = 0; i < 1000; i++)
        valloc_free(slots[i]);
}

static void shorter_delay_holds_at_once(void **state)
{
    void *kept[BLOCKS] = {NULL};
    (void)state;
    valloc_set_purge_delay(HOUR_MS);
    visit();
    make_dirty(kept);
    size_t before = dirty();
    assert_true(before >= 8 << 20);
    pass_ms(5000);
    visit();
    assert_true(dirty() >= before / 2);
    valloc_set_purge_delay(10);
    for (int i = 0; i < 10; i++) {
        pass_ms(11);
        visit();
    }
    assert_true(dirty() < before / 4);
    free_kept(kept);
}

static void sleeping_thread_obeys(void **state)
{
    void *kept[BLOCKS] = {NULL};
    (void)state;
    valloc_set_purge_delay(HOUR_MS);
    valloc_background_purge(1);
    make_dirty(kept);
    pass_ms(1000);
    let_others_run();
    valloc_set_purge_delay(10);
    for (int i = 0; i < PATIENCE && dirty() != 0; i++) {
        pass_ms(20);
        let_others_run();
    }
    assert_int_equal(dirty(), 0);
    valloc_background_purge(0);
    free_kept(kept);
}

int main(void)
{
    stop_clock();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shorter_delay_holds_at_once),
        cmocka_unit_test(sleeping_thread_obeys),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
