/* test_bounds.c: what thread caches hold stays within the documented budget, whatever sizes and
 * however many threads, and a thread's part shrinks when threads multiply. Time passes with the
 * work done, so that a busy machine changes nothing. */
#include "support.h"

#include <pthread.h>

#include "simulated.h"
#include "table/size_class.h"
#include "valloc.h"

#define LIVE 300
#define TURNS 20000
#define THREADS_MAX 64

static size_t cache_limit(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats.cache_limit;
}

static size_t share(size_t threads)
{
    return va_max(VA_CACHE_MIN_BYTES, va_min(VA_CACHE_ALL_BYTES / threads, VA_CACHE_MAX_BYTES));
}

/* A thread's stacks hold its share, and in any case a part of it of each class, at least one slot;
 * of what is in use a part more. */
static size_t budget(size_t threads)
{
    valloc_stats stats;
    size_t bytes = share(threads);
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        size_t each = va_size_classes[class].bytes;
        if (class < VA_CLASSES_SMALL)
            bytes += va_max(each, share(threads) >> VA_STACK_SHARE_SHIFT);
        else if (each <= share(threads) >> VA_RUN_USE_SHIFT)
            bytes += each;
    }
    valloc_get_stats(&stats);
    return threads * bytes + (stats.lent >> VA_STACK_USE_SHIFT) + (stats.lent >> VA_RUN_USE_SHIFT);
}

/* Random replacement of sizes below 64 KiB and a few below 2 MiB. */
static void use_everything(uint64_t seed, size_t turns)
{
    void *live[LIVE] = {NULL};
    for (size_t i = 0; i < turns; i++) {
        void **place = &live[random_next(&seed) % LIVE];
        size_t size = (size_t)1 << random_next(&seed) % (i % 64 == 0 ? 21 : 16);
        valloc_free(*place);
        *place = valloc_malloc(1 + random_next(&seed) % size);
        assert_non_null(*place);
        if (i % 16 == 0)
            pass_ms(1);
    }
    for (size_t i = 0; i < LIVE; i++)
        valloc_free(live[i]);
}

static pthread_barrier_t before;
static pthread_barrier_t after;

static void *worker(void *number)
{
    valloc_free(valloc_malloc(1)); /* everybody has a cache before anybody's grows */
    pthread_barrier_wait(&before);
    use_everything((uintptr_t)number + 1, TURNS);
    pthread_barrier_wait(&before);
    pthread_barrier_wait(&after);
    return NULL;
}

static void caches_stay_within_the_budget(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 4, 16, THREADS_MAX};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        pthread_t threads[THREADS_MAX];
        size_t count = counts[c];
        pthread_barrier_init(&before, NULL, (unsigned)count + 1);
        pthread_barrier_init(&after, NULL, (unsigned)count + 1);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, worker, (void *)i), 0);
        pthread_barrier_wait(&before);
        pthread_barrier_wait(&before);
        size_t now = cache_limit();
        size_t most = budget(count + 1);
        printf("%zu threads: %zu KiB cached at most, budget %zu\n", count, now >> 10, most >> 10);
        pthread_barrier_wait(&after);
        for (size_t i = 0; i < count; i++)
            pthread_join(threads[i], NULL);
        assert_true(now > 0 && now <= most);
        pthread_barrier_destroy(&before);
        pthread_barrier_destroy(&after);
    }
    assert_true(cache_limit() <= budget(1));
}

static void *guest(void *unused)
{
    (void)unused;
    valloc_free(valloc_malloc(100));
    pthread_barrier_wait(&before);
    pthread_barrier_wait(&after);
    return NULL;
}

/* Bulk phases of many sizes, which let stacks grow, for some periods of the sweep. Returns the
 * largest limit in the second half: a sweep has just lowered it now and then. */
static size_t go_on(void)
{
    enum { PHASE = 200 };
    static void *live[PHASE];
    size_t most = 0;
    for (unsigned ms = 0; ms < 10 * VA_PURGE_DELAY_MS;) {
        for (size_t size = 64; size <= 4096; size += size / 4, ms++) {
            pass_ms(1);
            for (size_t i = 0; i < PHASE; i++)
                assert_non_null(live[i] = valloc_malloc(size));
            for (size_t i = 0; i < PHASE; i++)
                valloc_free(live[i]);
        }
        if (ms > 5 * VA_PURGE_DELAY_MS)
            most = va_max(most, cache_limit());
    }
    return most;
}

static void a_thread_gives_way_to_others(void **state)
{
    (void)state;
    enum { GUESTS = 127 };
    pthread_t guests[GUESTS];
    size_t alone = go_on();
    pthread_barrier_init(&before, NULL, GUESTS + 1);
    pthread_barrier_init(&after, NULL, GUESTS + 1);
    for (size_t i = 0; i < GUESTS; i++)
        assert_int_equal(pthread_create(&guests[i], NULL, guest, NULL), 0);
    pthread_barrier_wait(&before);
    size_t among = go_on();
    pthread_barrier_wait(&after);
    for (size_t i = 0; i < GUESTS; i++)
        pthread_join(guests[i], NULL);
    printf("one busy thread: %zu KiB alone, %zu among %d others\n", alone >> 10, among >> 10,
           GUESTS);
    assert_true(among < alone / 2);
}

static size_t cached(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats.cached;
}

/* A thread whose budget is spent on sizes that it does not use any more keeps those that it uses.
 */
static void unused_stacks_give_way(void **state)
{
    (void)state;
    enum { SLOTS = 64, ROUNDS = 40 };
    static const size_t last = 512;
    static void *live[2 * SLOTS];
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class ++) {
        size_t bytes = va_size_classes[class].bytes;
        for (size_t round = 0; bytes != last && round < ROUNDS; round++) {
            for (size_t i = 0; i < 2 * SLOTS; i++)
                assert_non_null(live[i] = valloc_malloc(bytes - WATCHED_BYTES - SECURED_BYTES));
            for (size_t i = 0; i < 2 * SLOTS; i++)
                valloc_free(live[i]);
        }
    }
    /* At once in a quick run, else once the thread has swept its cache. */
    size_t most = 0;
    for (size_t round = 0; round < 1000 && most <= SLOTS / 2; round++) {
        size_t before = cached();
        for (size_t i = 0; i < SLOTS; i++)
            assert_non_null(live[i] = valloc_malloc(last - WATCHED_BYTES - SECURED_BYTES));
        size_t after = cached();
        for (size_t i = 0; i < SLOTS; i++)
            valloc_free(live[i]);
        if (round >= ROUNDS && before > after)
            most = va_max(most, (before - after) / last);
        pass_ms(round < ROUNDS ? 0 : VA_PURGE_DELAY_MS);
    }
    printf("%d blocks of %zu bytes: %zu of them from the cache\n", SLOTS, last, most);
    assert_true(most > SLOTS / 2);
}

/* Blocks that move on to larger sizes one by one, at random: the slots of theirs that wait would
 * keep every slab of the sizes left behind. */
static void sizes_left_behind_keep_no_slabs(void **state)
{
    (void)state;
    enum { MOVING = 40000, MORE = 20000, FIRST = 64, LAST = 512 };
    static void *moving[MOVING + MORE];
    uint64_t seed = 1;
    valloc_stats stats;
    if (WATCHED_BYTES != 0 || VALLOC_SECURE_QUARANTINE)
        skip(); /* what waits there keeps slabs */
    valloc_purge();
    valloc_get_stats(&stats);
    size_t before = stats.lent;
    for (size_t i = 0; i < MOVING; i++)
        assert_non_null(moving[i] = valloc_malloc(FIRST - WATCHED_BYTES - SECURED_BYTES));
    for (size_t size = 2 * FIRST; size <= LAST; size *= 2) {
        for (size_t i = MOVING - 1; i > 0; i--) {
            size_t other = random_next(&seed) % (i + 1);
            void *swapped = moving[i];
            moving[i] = moving[other];
            moving[other] = swapped;
        }
        for (size_t i = 0; i < MOVING; i++) {
            void *larger = valloc_malloc(size - WATCHED_BYTES - SECURED_BYTES);
            assert_non_null(larger);
            valloc_free(moving[i]);
            moving[i] = larger;
        }
    }
    for (size_t i = MOVING; i < MOVING + MORE; i++)
        assert_non_null(moving[i] = valloc_malloc(LAST - WATCHED_BYTES - SECURED_BYTES));
    valloc_get_stats(&stats);
    size_t lent = stats.lent - before;
    printf("%d KiB live, %zu lent\n", (MOVING + MORE) * LAST >> 10, lent >> 10);
    assert_true(lent < (size_t)(MOVING + MORE) * LAST * 5 / 4);
    for (size_t i = 0; i < MOVING + MORE; i++)
        valloc_free(moving[i]);
}

#define RUNS 64

static void *runs[RUNS];

static void *free_runs(void *unused)
{
    for (size_t i = 0; i < RUNS; i++)
        valloc_free(runs[i]);
    return unused;
}

/* What a thread allocated and others freed does not count as in use by it: afterwards runs of all
 * sizes, each freed more often than once, are kept within the budget of a thread that holds few. */
static void runs_freed_elsewhere_do_not_count(void **state)
{
    (void)state;
    for (size_t round = 0; round < 20; round++) {
        pthread_t thread;
        for (size_t i = 0; i < RUNS; i++)
            assert_non_null(runs[i] = valloc_malloc((size_t)512 << 10));
        assert_int_equal(pthread_create(&thread, NULL, free_runs, NULL), 0);
        pthread_join(thread, NULL);
    }
    for (size_t round = 0; round < 8; round++)
        for (size_t size = VA_BLOCK_BYTES; size <= VA_RUN_MAX; size += VA_BLOCK_BYTES) {
            for (size_t i = 0; i < 3; i++)
                runs[i] = valloc_malloc(size - WATCHED_BYTES - SECURED_BYTES);
            for (size_t i = 0; i < 3; i++)
                valloc_free(runs[i]);
        }
    size_t now = cache_limit();
    size_t most = budget(1);
    printf("runs of all sizes: %zu KiB cached at most, budget %zu\n", now >> 10, most >> 10);
    assert_true(now > 0 && now <= most);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: exited threads leave caches behind, whose limits count. */
        cmocka_unit_test(a_thread_gives_way_to_others),
        cmocka_unit_test(caches_stay_within_the_budget),
        cmocka_unit_test(unused_stacks_give_way),
        cmocka_unit_test(sizes_left_behind_keep_no_slabs),
        cmocka_unit_test(runs_freed_elsewhere_do_not_count),
    };
    stop_clock();
    return cmocka_run_group_tests_name("bounds", tests, NULL, NULL);
}
