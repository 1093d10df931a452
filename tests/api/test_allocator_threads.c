/* test_allocator_threads.c: allocators beside that of the process, used by several threads, below
 * limits and in children. */
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "child.h"

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define BLOCK ((size_t)VALLOC_BLOCK_BYTES)

/* ---- Threads ---- */

#define THREADS 8
#define ROUNDS 20000
#define PLACES 256

static struct {
    MemoryAllocator allocator;
    void *_Atomic places[PLACES];
} crossing;

static void destroy_crossing(void)
{
    for (int i = 0; i < PLACES; i++) {
        void *old = atomic_exchange(&crossing.places[i], NULL);
        if (i % 2 == 0)
            valloc_free(old);
    }
    valloc_destroy(&crossing.allocator);
}

static unsigned char mark_of(const void *block)
{
    return (unsigned char)((uintptr_t)block >> 4);
}

static void *cross(void *argument)
{
    uint64_t seed = 1 + (uintptr_t)argument;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t r = random_next(&seed);
        size_t size = 1 + (r >> 16) % (r % 64 == 0 ? 100000 : 500);
        char *block = valloc_allocate(&crossing.allocator, size);
        memset(block, mark_of(block), size < 16 ? size : 16);
        char *old = atomic_exchange(&crossing.places[(r >> 8) % PLACES], block);
        if (old == NULL)
            continue;
        if (old[0] != (char)mark_of(old))
            abort();
        if (r % 2 == 0)
            free_valloc(&crossing.allocator, old);
        else
            valloc_free(old);
    }
    return NULL;
}

static void run_crossing(int num_threads)
{
    pthread_t threads[THREADS];
    assert_int_equal(valloc_init(&crossing.allocator, 4, num_threads), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, cross, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    destroy_crossing();
}

static void threads_cross(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        run_crossing(64); /* a cache for each */
        run_crossing(2);  /* most share one */
    }
}

/* Threads fill their caches, stay, and go on after the destruction with another allocator. */
#define PHASES 20
static pthread_barrier_t barrier; /* met before and after each phase */

static void *stay(void *argument)
{
    (void)argument;
    for (int phase = 0; phase < PHASES; phase++) {
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < 600; i++) {
            size_t size = (size_t)(i + phase) * 16 % 3000 + 1;
            char *block = valloc_allocate(&crossing.allocator, size);
            memset(block, phase, size);
            char *old = atomic_exchange(&crossing.places[i % PLACES], block);
            if (old != NULL && *old != phase)
                abort();
            free_valloc(&crossing.allocator, old);
        }
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void destruction_leaves_caches_of_other_threads_sound(void **state)
{
    (void)state;
    pthread_t threads[4];
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 5), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, stay, NULL), 0);
    for (int phase = 0; phase < PHASES; phase++) {
        assert_int_equal(valloc_init(&crossing.allocator, 1, 64), 0);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        destroy_crossing();
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
}

static void *leave_half(void *argument)
{
    static _Atomic unsigned next;
    (void)argument;
    for (int i = 0; i < 200; i++) {
        void *block = valloc_allocate(&crossing.allocator, 500);
        void *old = atomic_exchange(&crossing.places[atomic_fetch_add(&next, 1) % PLACES], block);
        if (old != NULL)
            free_valloc(&crossing.allocator, old);
    }
    return NULL;
}

/* What threads leave behind serves the next ones: the allocator does not grow. */
static void short_threads_do_not_grow_it(void **state)
{
    (void)state;
    pthread_t others[3];
    assert_int_equal(valloc_init(&crossing.allocator, 1, 64), 0);
    for (int i = 0; i < 600; i++) {
        for (int j = 0; j < 3; j++)
            assert_int_equal(pthread_create(&others[j], NULL, leave_half, NULL), 0);
        for (int j = 0; j < 3; j++)
            pthread_join(others[j], NULL);
    }
    assert_true(crossing.allocator.total_blocks < 64);
    destroy_crossing();
}

#ifndef SANITIZED /* TSan ends its own state before the last round */
static pthread_key_t key;

/* Runs in each round of the thread's destructors, also after valloc's own. */
static void use_at_exit(void *round)
{
    char *block = valloc_allocate(&crossing.allocator, 5000);
    memset(block, 3, 5000);
    valloc_free(atomic_exchange(&crossing.places[(uintptr_t)round], block));
    if ((uintptr_t)round < 4)
        pthread_setspecific(key, (void *)((uintptr_t)round + 1));
}

static void *exit_soon(void *argument)
{
    pthread_setspecific(key, argument);
    if (argument == (void *)1) /* the others' first use comes at their exit */
        free_valloc(&crossing.allocator, valloc_allocate(&crossing.allocator, 100));
    return NULL;
}

static void threads_past_their_exit_are_served(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_key_create(&key, use_at_exit), 0);
    assert_int_equal(valloc_init(&crossing.allocator, 1, 8), 0);
    for (uintptr_t i = 0; i < 200; i++) {
        assert_int_equal(pthread_create(&thread, NULL, exit_soon, (void *)(1 + i % 2)), 0);
        pthread_join(thread, NULL);
    }
    /* A few for each of eight caches and the shared one, whoever has them. */
    assert_true(crossing.allocator.total_blocks < 64);
    for (int i = 1; i <= 4; i++)
        assert_true(bytes_hold(crossing.places[i], 5000, 3));
    destroy_crossing();
    pthread_key_delete(key);
}
#endif

/* ---- Limits ---- */

static MemoryAllocator limited;

/* Allocates until that fails, verifies, frees all; several times. */
static void *hit_the_limit(void *argument)
{
    size_t size = 1000 + 3000 * (uintptr_t)argument;
    size_t most = 64 * MIB / size;
    char **blocks = valloc_calloc(most, sizeof *blocks);
    for (int round = 0; round < 5; round++) {
        size_t count = 0;
        while (count < most && (blocks[count] = valloc_allocate(&limited, size)) != NULL)
            memset(blocks[count++], (int)round, size);
        if (count == most || errno != ENOMEM)
            abort();
        for (size_t i = 0; i < count; i++) {
            if (!bytes_hold(blocks[i], size, (unsigned char)round))
                abort();
            free_valloc(&limited, blocks[i]);
        }
    }
    valloc_free(blocks);
    return NULL;
}

static void a_hard_limit_holds_and_is_recovered_from(void **state)
{
    (void)state;
    pthread_t threads[4];
    valloc_options options = {.soft_limit = 8 * MIB, .hard_limit = 16 * MIB};
    assert_int_equal(valloc_init_with(&limited, 16, 8, &options), 0);
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hit_the_limit, (void *)i), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(limited.total_blocks <= 16 * MIB / BLOCK);
    /* Everything is free: nearly all of it can be had in another shape. */
    size_t got = 0;
    while (got < 64 && valloc_allocate(&limited, 200 * KIB) != NULL)
        got++;
    assert_true(got >= 48 && got < 64);
    assert_null(valloc_allocate(&limited, 17 * MIB));
    assert_int_equal(valloc_set_limits(&limited, 0, 0), 0);
    assert_non_null(valloc_allocate(&limited, 17 * MIB));
    char *large = valloc_allocate(&limited, 2 * MIB);
    assert_int_equal(valloc_set_limits(&limited, 0, 1), 0);
    assert_null(valloc_reallocate(&limited, large, 40 * MIB));
    free_valloc(&limited, large);
    valloc_destroy(&limited);
}

static void limit_of_the_process(void *unused)
{
    (void)unused;
    static char *blocks[4096];
    for (int round = 0; round < 3; round++) {
        valloc_stats stats;
        valloc_purge(); /* secure builds keep freed runs lent until memory is short */
        valloc_get_stats(&stats);
        if (valloc_set_limits(valloc_process(), 0, stats.lent + 64 * MIB) != 0)
            abort();
        size_t count = 0;
        while (count < 4096 && (blocks[count] = valloc_malloc(30000)) != NULL)
            memset(blocks[count++], 1, 30000);
        if (count == 4096 || count < 1900 || errno != ENOMEM || valloc_malloc(8 * MIB) != NULL)
            abort();
        MemoryAllocator other = {0};
        if (valloc_init(&other, 1000, 1) != -1 || errno != ENOMEM)
            abort();
        for (size_t i = 0; i < count; i++)
            valloc_free(blocks[i]);
        if (valloc_init(&other, 100, 1) != 0)
            abort();
        valloc_destroy(&other);
        if (valloc_set_limits(valloc_process(), 0, 0) != 0)
            abort();
        char *large = valloc_malloc(200 * MIB);
        if (large == NULL)
            abort();
        valloc_free(large);
    }
}

#ifndef SANITIZED
/* Only the caches of other threads would call for a wait: each one of these is seen as a switch. */
static void a_refusal_does_not_wait_for_its_own_thread(void **state)
{
    (void)state;
    enum { REFUSALS = 500 };
    static MemoryAllocator limited;
    struct rusage before;
    struct rusage after;
    assert_int_equal(valloc_init(&limited, 1, THREADS), 0);
    assert_int_equal(valloc_set_limits(&limited, 0, 4 * BLOCK), 0);
    assert_non_null(valloc_allocate(&limited, 100));
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < REFUSALS; i++)
        assert_null(valloc_allocate(&limited, 8 * BLOCK));
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_nvcsw - before.ru_nvcsw < REFUSALS / 2);
    valloc_destroy(&limited);
}
#endif

static void the_limit_of_the_process_counts_all(void **state)
{
    (void)state;
    Child child = child_run(limit_of_the_process, NULL);
    assert_int_equal(child.status, 0);
}

static void soft_limit_of_the_process(void *unused)
{
    (void)unused;
    valloc_stats stats;
    if (valloc_set_limits(valloc_process(), 8 * MIB, 0) != 0)
        abort();
    for (int i = 0; i < 20; i++) {
        char *block = valloc_malloc(32 * MIB);
        memset(block, 1, 32 * MIB);
        char *small = valloc_malloc(10);
        valloc_free(block);
        valloc_free(small);
        valloc_free(valloc_malloc(33 * MIB)); /* another size: the last one leaves its cache */
    }
    valloc_free(valloc_malloc(2 * MIB));
    valloc_get_stats(&stats);
    if (stats.dirty > 8 * MIB)
        abort();
}

static void above_a_soft_limit_nothing_free_is_kept(void **state)
{
    (void)state;
    Child child = child_run(soft_limit_of_the_process, NULL);
    assert_int_equal(child.status, 0);
}

/* ---- Fork ---- */

#ifndef SANITIZED
static void use_inherited(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++)
        free_valloc(&crossing.allocator, valloc_allocate(&crossing.allocator, (size_t)i * 7));
    for (int i = 0; i < PLACES; i++)
        free_valloc(&crossing.allocator, atomic_exchange(&crossing.places[i], NULL));
    valloc_destroy(&crossing.allocator);
    MemoryAllocator own = {0};
    if (valloc_init(&own, 1, 1) != 0 || valloc_allocate(&own, 100) == NULL)
        abort();
}

static void children_inherit_allocators(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    assert_int_equal(valloc_init(&crossing.allocator, 4, 6), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, cross, (void *)i), 0);
    for (int i = 0; i < 60; i++) {
        Child child = child_run(use_inherited, NULL);
        assert_int_equal(child.status, 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    destroy_crossing();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_cross),
        cmocka_unit_test(destruction_leaves_caches_of_other_threads_sound),
        cmocka_unit_test(short_threads_do_not_grow_it),
        cmocka_unit_test(a_hard_limit_holds_and_is_recovered_from),
#ifndef SANITIZED
        cmocka_unit_test(a_refusal_does_not_wait_for_its_own_thread),
#endif
        cmocka_unit_test(the_limit_of_the_process_counts_all),
        cmocka_unit_test(above_a_soft_limit_nothing_free_is_kept),
#ifndef SANITIZED
        cmocka_unit_test(threads_past_their_exit_are_served),
        cmocka_unit_test(children_inherit_allocators),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
