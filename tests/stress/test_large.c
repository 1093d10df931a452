/* test_large.c: blocks above 1 MiB: loops over them make no system call, what they leave is bounded
 * in bytes and in time, zeroed and aligned ones keep nothing resident but what is touched. */
#define _GNU_SOURCE
#include "support.h"

#include <pthread.h>

#include "calls.h"
#include "child.h"
#include "base/config.h"
#include "simulated.h"
#include "valloc.h"

#define THREADS 4
#define TURNS 200

static void *obtain(size_t size)
{
    char *block = valloc_malloc(size);
    assert_non_null(block);
    block[0] = block[size - 1] = 1;
    return block;
}

static valloc_stats stats(void)
{
    valloc_stats now;
    valloc_get_stats(&now);
    return now;
}

/* ---- Loops ---- */

static void one_size(void)
{
    for (size_t size = 2 * VA_MIB; size <= 64 * VA_MIB; size *= 2)
        for (int i = 0; i < 4; i++)
            valloc_free(obtain(size));
}

static void two_sizes_in_turn(void)
{
    valloc_free(obtain(20 * VA_MIB));
    valloc_free(obtain(24 * VA_MIB));
}

static void three_at_once(void)
{
    void *small = obtain(4 * VA_MIB);
    void *medium = obtain(8 * VA_MIB);
    void *large = obtain(16 * VA_MIB);
    valloc_free(small);
    valloc_free(medium);
    valloc_free(large);
}

static void grow_and_free(void)
{
    char *block = obtain(2 * VA_MIB);
    for (size_t size = 3 * VA_MIB; size < 40 * VA_MIB; size += size / 2) {
        block = valloc_realloc(block, size);
        assert_non_null(block);
        block[size - 1] = 1;
    }
    valloc_free(block);
}

static void shrink_and_free(void)
{
    void *block = obtain(48 * VA_MIB);
    for (size_t size = 32 * VA_MIB; size > 2 * VA_MIB; size /= 2)
        assert_ptr_equal(valloc_realloc(block, size), block);
    valloc_free(block);
}

static void (*loop)(void);
static pthread_barrier_t barrier;

_Noreturn static void *run_loop(void *measured)
{
    for (int i = 0; i < TURNS / 10; i++)
        loop();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* the calls are counted from here on */
    if (measured != NULL)
        for (int i = 0; i < TURNS; i++)
            loop();
    pthread_barrier_wait(&barrier);
    for (;;) /* the end of a thread makes system calls */
        pause();
}

static void loops_in(size_t threads)
{
    static char measured;
    pthread_t others[THREADS];
    /* A peak that the threads, all at once, come to only by chance. */
    valloc_free(obtain(threads * 128 * VA_MIB));
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (size_t i = 0; i < threads; i++)
        pthread_create(&others[i], NULL, run_loop, &measured);
    pthread_barrier_wait(&barrier);
    bool counting = count_memory_calls();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    int calls = memory_calls;
    if (!counting)
        fprintf(stderr, "system calls cannot be counted here\n");
    if (calls != 0)
        fprintf(stderr, "%d system calls in %d turns\n", calls, TURNS);
    /* Threads come upon new places now and then, but not in every turn: there each table of states
     * takes a call. */
    _exit(calls > (threads == 1 ? 0 : TURNS));
}

static void loops_alone(void *argument)
{
    (void)argument;
    loops_in(1);
}

static void loops_together(void *argument)
{
    (void)argument;
    loops_in(THREADS);
}

static void loops_make_no_system_call(void **state)
{
    (void)state;
    if (SECURED) /* what is freed is cleared by system calls */
        skip();
#ifdef SANITIZED /* it makes system calls of its own */
    skip();
#endif
    void (*const loops[])(void) = {one_size, two_sizes_in_turn, three_at_once, shrink_and_free,
                                   grow_and_free};
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        loop = loops[i];
        Child child = child_run(loops_alone, NULL);
        if (child.status != 0)
            fail_msg("loop %zu, one thread: %s", i, child.text);
        if (loop == grow_and_free) /* in several threads they come into each other's way */
            continue;
        child = child_run(loops_together, NULL);
        if (child.status != 0)
            fail_msg("loop %zu, %d threads: %s", i, THREADS, child.text);
    }
}

/* ---- What is kept ---- */

/* A test that fails in a child must not go on there. */
#define end_child(...) (fprintf(stderr, __VA_ARGS__), _exit(1))

static void use_runs_once_then_again(void *argument)
{
    (void)argument;
    /* A MiB goes as a run through the stacks, or two MiB as a large block. */
    for (size_t size = VA_MIB; size <= 2 * VA_MIB; size += VA_MIB) {
        size_t lent = stats().lent;
        valloc_free(obtain(size));
        valloc_free(obtain(size / 8 * 7));
        valloc_free(obtain(size / 8 * 6));
        if (stats().lent != lent)
            end_child("%zu bytes: once used, it is kept", size);
        for (int i = 0; i < 4; i++)
            valloc_free(obtain(size));
        if (stats().lent <= lent)
            end_child("%zu bytes: used again and again, it is not kept", size);
    }
}

static void runs_are_kept_once_they_are_used_again(void **state)
{
    (void)state;
    if (SECURED) /* what is freed is cleared by system calls */
        skip();
    Child child = child_run(use_runs_once_then_again, NULL);
    if (child.status != 0)
        fail_msg("%s", child.text);
}

static void grow_beside_holes(void *argument)
{
    static char *blocks[32];
    (void)argument;
    for (size_t i = 0; i < 32; i++) {
        blocks[i] = obtain(2 * VA_MIB);
        memset(blocks[i], 1, 2 * VA_MIB);
    }
    for (size_t i = 0; i < 32; i += 2)
        valloc_free(blocks[i]);
    valloc_stats before = stats();
    long resident = resident_now_kib();
    if (before.dirty < 20 * VA_MIB)
        end_child("only %zu bytes are dirty", before.dirty);
    char *growing = NULL; /* fits into no hole */
    for (size_t size = 3 * VA_MIB; size <= 24 * VA_MIB; size += 3 * VA_MIB) {
        growing = valloc_realloc(growing, size);
        if (growing == NULL)
            end_child("no memory");
        memset(growing + size - 3 * VA_MIB, 2, 3 * VA_MIB);
    }
    valloc_stats now = stats();
    if (now.lent + now.dirty > before.lent + before.dirty + 2 * VA_MIB)
        end_child("lent and dirty: %zu, then %zu", before.lent + before.dirty,
                  now.lent + now.dirty);
    if (resident_now_kib() > resident + (3 << 10))
        end_child("resident KiB: %ld, then %ld", resident, resident_now_kib());
    for (size_t i = 1; i < 32; i += 2)
        for (size_t at = 0; at < 2 * VA_MIB; at += 4096)
            if (blocks[i][at] != 1)
                end_child("a block in use was purged");
}

static void growth_gives_back_dirty_memory(void **state)
{
    (void)state;
    if (SECURED) /* what is freed is cleared by system calls */
        skip();
    Child child = child_run(grow_beside_holes, NULL);
    if (child.status != 0)
        fail_msg("%s", child.text);
}

/* Blocks that come and go at random leave holes, which growth must not purge as fast as they are
 * filled again. */
static void replace_at_random(void *unused)
{
    enum { PLACES = 200, PLACE_TURNS = 20000, TURNS_A_MS = 20 };
    static void *places[PLACES];
    uint64_t seed = 1;
    size_t most = 0;
    size_t before = stats().purged;
    (void)unused;
    for (size_t turn = 0; turn < PLACE_TURNS; turn++) {
        void **place = &places[random_next(&seed) % PLACES];
        valloc_free(*place);
        *place = obtain(1100 * VA_KIB + random_next(&seed) % (800 * VA_KIB));
        if (turn % 64 == 0)
            most = va_max(most, stats().lent);
        if (turn % TURNS_A_MS == 0)
            pass_ms(1);
    }
    size_t purged = stats().purged - before;
    size_t ms = PLACE_TURNS / TURNS_A_MS;
    size_t times = 2 + ms / VA_PURGE_AGAIN_MS; /* it starts within one, and ends within one */
    if (purged > times * (most + most / 4))
        end_child("%zu KiB purged of a heap of %zu at most, in %zu ms", purged >> 10, most >> 10,
                  ms);
}

static void growth_purges_no_more_than_the_heap(void **state)
{
    (void)state;
    if (SECURED) /* what is freed is cleared by system calls */
        skip();
    Child child = child_run(replace_at_random, NULL);
    if (child.status != 0)
        fail_msg("%s", child.text);
}

/* ---- What is left ---- */

/* One slow path after the other, as a program that goes on would take them. */
static void go_on_for(unsigned ms)
{
    for (unsigned passed = 0; passed < ms; passed += 10) {
        pass_ms(10);
        valloc_free(obtain(1100 * VA_KIB));
    }
}

static void free_runs_are_purged_after_a_while(void **state)
{
    (void)state;
    valloc_purge();
    long before = resident_now_kib();
    char *block = valloc_malloc(100 * VA_MIB);
    memset(block, 1, 100 * VA_MIB);
    valloc_free(block);
    go_on_for(5 * VA_PURGE_DELAY_MS);
    assert_true(resident_now_kib() - before < 8 << 10);
    assert_true(stats().dirty < 8 * VA_MIB);
}

static void *keep_a_run(void *argument)
{
    for (int i = 0; i < 2; i++) { /* once it would not be kept */
        char *block = valloc_malloc(32 * VA_MIB);
        memset(block, 1, 32 * VA_MIB);
        valloc_free(block);
    }
    pthread_barrier_wait(argument);
    pthread_barrier_wait(argument);
    return NULL;
}

static void runs_kept_by_other_threads_are_purged(void **state)
{
    (void)state;
    pthread_t thread;
    valloc_purge();
    size_t lent = stats().lent;
    long before = resident_now_kib();
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, keep_a_run, &barrier);
    pthread_barrier_wait(&barrier);
    valloc_purge();
    assert_true(stats().lent < lent + 2 * VA_MIB);
    assert_true(resident_now_kib() - before < 4 << 10);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

static void dirty_memory_is_bounded(void **state)
{
    (void)state;
    void *blocks[40];
    for (size_t i = 0; i < 40; i++)
        blocks[i] = obtain(50 * VA_MIB);
    for (size_t i = 0; i < 40; i++) {
        valloc_free(blocks[i]);
        assert_true(stats().dirty <= VA_DIRTY_MAX_BYTES);
    }
    /* What a block gives up by shrinking counts as well. */
    void *block = obtain((size_t)3 << 30);
    assert_ptr_equal(valloc_realloc(block, 2 * VA_MIB), block);
    assert_true(stats().dirty <= VA_DIRTY_MAX_BYTES);
    valloc_free(block);
    valloc_purge();
    assert_int_equal(stats().dirty, 0);
}

static void what_is_in_use_is_counted(void **state)
{
    (void)state;
    const MemoryAllocator *process = valloc_process();
    valloc_purge();
    size_t used = process->used_blocks;
    void *first = obtain(100 * VA_MIB);
    void *second = obtain(10 * VA_MIB);
    size_t bytes = whole_bytes(valloc_usable_size(first)) + whole_bytes(valloc_usable_size(second));
    assert_true(bytes >= 110 * VA_MIB);
    assert_int_equal(process->used_blocks - used, bytes / VA_BLOCK_BYTES);
    valloc_free(first);
    valloc_free(second);
    valloc_purge();
    assert_int_equal(process->used_blocks, used);
}

/* ---- Zeroed ---- */

static void zeroed_blocks_are_not_touched(void **state)
{
    (void)state;
    const size_t size = VA_GIB;
    valloc_purge();
    long before = resident_now_kib();
    for (int turn = 0; turn < 3; turn++) {
        char *block = valloc_calloc(1, size);
        assert_non_null(block);
        assert_true(resident_now_kib() - before < 2 << 10);
        for (size_t i = 0; i < size; i += size / 16) {
            assert_int_equal(block[i], 0);
            block[i] = 1;
        }
        valloc_free(block);
        valloc_purge();
    }
}

static void zeroed_runs_of_the_thread_cache_are_not_touched(void **state)
{
    (void)state;
    static char *blocks[200];
    valloc_purge();
    for (size_t size = VA_SMALL_MAX + 1; size <= VA_RUN_MAX; size += size / 3) {
        long before = resident_now_kib();
        for (size_t i = 0; i < 200; i++)
            blocks[i] = valloc_calloc(1, size);
        /* A secure build writes where the request ends, and where the run does. */
        size_t most = size / 4 + (SECURED ? 2 * 4096 : 0);
        assert_true(resident_now_kib() - before < (long)(200 * most >> 10));
        for (size_t i = 0; i < 200; i++) {
            assert_int_equal(blocks[i][size - 1], 0);
            memset(blocks[i], 1, size);
        }
        for (size_t i = 0; i < 200; i++)
            valloc_free(blocks[i]);
        /* Used ones are cleared. */
        for (size_t i = 0; i < 50; i++) {
            blocks[i] = valloc_calloc(1, size);
            for (size_t at = 0; at < size; at += 512)
                assert_int_equal(blocks[i][at], 0);
        }
        for (size_t i = 0; i < 50; i++)
            valloc_free(blocks[i]);
        valloc_purge();
    }
}

/* ---- Aligned ---- */

static void alignment_costs_address_space_only(void **state)
{
    (void)state;
    valloc_purge();
    for (size_t alignment = 2 * VA_MIB; alignment <= VA_GIB; alignment *= 2) {
        long before = resident_now_kib();
        size_t dirty = stats().dirty;
        size_t lent = stats().lent;
        size_t bytes = 0;
        char *blocks[4];
        for (size_t i = 0; i < 4; i++) {
            blocks[i] = valloc_aligned_alloc(alignment, 3 * VA_MIB);
            assert_non_null(blocks[i]);
            assert_int_equal((uintptr_t)blocks[i] % alignment, 0);
            blocks[i][0] = 1;
            bytes += whole_bytes(valloc_usable_size(blocks[i]));
        }
        /* A huge page and the tables' pages for each at most; what lies between is for others. */
        assert_true(resident_now_kib() - before < 4 * (4 << 10));
        assert_int_equal(stats().lent, lent + bytes);
        if (alignment > 4 * VA_MIB) {
            char *between = valloc_malloc(3 * VA_MIB);
            assert_true(between < blocks[3]);
            valloc_free(between);
        }
        for (size_t i = 0; i < 4; i++)
            valloc_free(blocks[i]);
        valloc_purge();
        assert_int_equal(stats().dirty, 0);
        assert_true(dirty == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* The first, in children: they inherit nothing. */
        cmocka_unit_test(loops_make_no_system_call),
        cmocka_unit_test(runs_are_kept_once_they_are_used_again),
        cmocka_unit_test(growth_gives_back_dirty_memory),
        cmocka_unit_test(growth_purges_no_more_than_the_heap),
        cmocka_unit_test(free_runs_are_purged_after_a_while),
        cmocka_unit_test(runs_kept_by_other_threads_are_purged),
        cmocka_unit_test(dirty_memory_is_bounded),
        cmocka_unit_test(what_is_in_use_is_counted),
        cmocka_unit_test(zeroed_blocks_are_not_touched),
        cmocka_unit_test(zeroed_runs_of_the_thread_cache_are_not_touched),
        cmocka_unit_test(alignment_costs_address_space_only),
    };
    stop_clock();
    return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}
