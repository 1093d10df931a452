/* test_settings.c: the purge delay changes at run time, for what is freed already, and for a
 * background thread that sleeps. Huge pages: test_huge.c. */
#include "support.h"

#include "simulated.h"

#define TEST_API 1
#include "subject.h"

#define HOUR_MS 3600000u
#define SLOTS 4000
#define SLOT_BYTES ((size_t)20000)

static size_t dirty(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats.dirty;
}

static void *slots[SLOTS];

/* Leaves dirty blocks between live ones: an eighth of 80 MB. */
static void make_dirty(void)
{
    for (size_t i = 0; i < SLOTS; i++) {
        assert_non_null(slots[i] = valloc_malloc(SLOT_BYTES));
        memset(slots[i], 1, SLOT_BYTES);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (i / 50 % 8 != 0)
            continue;
        valloc_free(slots[i]);
        slots[i] = NULL;
    }
}

static void free_rest(void)
{
    for (size_t i = 0; i < SLOTS; i++)
        valloc_free(slots[i]);
}

/* Slow paths, which look at the purge clock. */
static void visit(void)
{
    void *few[1000];
    for (int i = 0; i < 1000; i++)
        assert_non_null(few[i] = valloc_malloc(1000));
    for (int i = 0; i < 1000; i++)
        valloc_free(few[i]);
}

static void shorter_delay_holds_at_once(void **state)
{
    (void)state;
    valloc_set_purge_delay(HOUR_MS);
    visit();
    make_dirty();
    size_t before = dirty();
    assert_true(before >= 4 << 20);
    pass_ms(5000);
    visit();
    assert_true(dirty() >= before / 2);
    valloc_set_purge_delay(10);
    for (int i = 0; i < 10; i++) {
        pass_ms(11);
        visit();
    }
    assert_true(dirty() < before / 4);
    free_rest();
}

static void the_longest_delay_purges_nothing(void **state)
{
    (void)state;
    valloc_set_purge_delay(SIZE_MAX);
    visit();
    make_dirty();
    size_t before = dirty();
    assert_true(before >= 4 << 20);
    for (int i = 0; i < 10; i++) {
        pass_ms(HOUR_MS);
        visit();
    }
    assert_true(dirty() >= before / 2);
    free_rest();
    valloc_purge();
}

static void sleeping_thread_obeys(void **state)
{
    (void)state;
    valloc_set_purge_delay(HOUR_MS);
    valloc_background_purge(1);
    make_dirty();
    pass_ms(1000);
    let_others_run();
    valloc_set_purge_delay(10);
    /* Once is enough: later sweeps of the thread free more blocks, which are dirty for a while. */
    bool clean = false;
    for (int i = 0; i < PATIENCE && !clean; i++) {
        pass_ms(20);
        let_others_run();
        clean = dirty() == 0;
    }
    assert_true(clean);
    valloc_background_purge(0);
    free_rest();
}

int main(void)
{
    stop_clock();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shorter_delay_holds_at_once),
        cmocka_unit_test(the_longest_delay_purges_nothing),
        cmocka_unit_test(sleeping_thread_obeys),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
