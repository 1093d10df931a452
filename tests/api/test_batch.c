/* test_batch.c: batches give what as many single calls would, and every way to free takes it; a
 * wrong free among right ones is reported; limits, other threads, purges, the profiler. */
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "child.h"

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define MOST 3000

static const size_t sizes[] = {0, 1, 16, 17, 64, 100, 1000, 32768, 32769, 100000, 3 << 20};
static const size_t counts[] = {0, 1, 2, 7, 8, 9, 100, MOST};
#define NUMBER(array) (sizeof(array) / sizeof *(array))

static void *blocks[MOST];

static void fill(size_t size, size_t count, unsigned char mark)
{
    for (size_t i = 0; i < count; i++) {
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        assert_true(valloc_usable_size(blocks[i]) >= size);
        fill_bytes(blocks[i], size, (unsigned char)(mark + i));
    }
    for (size_t i = 0; i < count; i++)
        if (size != 0 && !bytes_hold(blocks[i], size, (unsigned char)(mark + i)))
            fail_msg("block %zu of %zu overlaps another one", i, count);
}

static void shuffle(size_t count)
{
    uint64_t seed = 7;
    for (size_t i = count; i > 1; i--) {
        size_t other = random_next(&seed) % i;
        void *swap = blocks[i - 1];
        blocks[i - 1] = blocks[other];
        blocks[other] = swap;
    }
}

static size_t live_bytes(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats.live;
}

/* Sizes and counts whose product is not too large. */
static void for_all(void (*work)(size_t size, size_t count))
{
    for (size_t i = 0; i < NUMBER(sizes); i++)
        for (size_t k = 0; k < NUMBER(counts); k++)
            if (sizes[i] * counts[k] <= (size_t)32 << 20)
                work(sizes[i], counts[k]);
}

static void by_batches(size_t size, size_t count)
{
    size_t before = live_bytes();
    for (int order = 0; order < 3; order++) {
        assert_int_equal(valloc_allocate_batch(size, count, blocks), count);
        fill(size, count, 1);
        if (order != 0)
            shuffle(count);
        valloc_free_batch(blocks, order == 2 ? count / 2 : count);
        if (order == 2)
            valloc_free_batch(blocks + count / 2, count - count / 2);
    }
    if (WATCHED_BYTES == 0) /* else freed blocks wait */
        assert_int_equal(live_bytes(), before);
}

static void freed_one_by_one(size_t size, size_t count)
{
    assert_int_equal(valloc_allocate_batch(size, count, blocks), count);
    fill(size, count, 2);
    for (size_t i = 0; i < count; i++) {
        if (i % 3 == 0)
            valloc_free(blocks[i]);
        else if (i % 3 == 1)
            valloc_free_sized(blocks[i], size);
        else
            valloc_free(valloc_realloc(blocks[i], size + 1));
    }
}

static void allocated_one_by_one(size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++)
        blocks[i] = i % 2 == 0 ? valloc_malloc(size) : valloc_aligned_alloc(64, size);
    fill(size, count, 3);
    valloc_free_batch(blocks, count);
}

static void batches_are_as_single_calls(void **state)
{
    (void)state;
    for_all(by_batches);
    for_all(freed_one_by_one);
    for_all(allocated_one_by_one);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    errno = 0;
    assert_int_equal(valloc_allocate_batch((size_t)PTRDIFF_MAX + 1, 3, blocks), 0);
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(valloc_allocate_batch(SIZE_MAX, 3, blocks), 0);
    errno = 5;
    valloc_free_batch(blocks, 0);
    assert_int_equal(errno, 5);
}

/* Of several sizes and allocators, of another thread, and none. */
static void *allocate_elsewhere(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < MOST / 2; i++)
        blocks[i] = i % 50 == 49 ? NULL : valloc_malloc(i % 100 < 50 ? 48 : 200);
    return NULL;
}

static void a_batch_may_be_mixed(void **state)
{
    (void)state;
    static MemoryAllocator one, other;
    pthread_t thread;
    size_t before = live_bytes();
    assert_int_equal(valloc_init(&one, 1, 64), 0);
    assert_int_equal(valloc_init(&other, 1, 64), 0);
    for (int order = 0; order < 2; order++) {
        assert_int_equal(pthread_create(&thread, NULL, allocate_elsewhere, NULL), 0);
        pthread_join(thread, NULL);
        size_t place = MOST / 2;
        for (size_t i = 0; place < MOST; i++, place += 10) {
            MemoryAllocator *allocator = i % 3 == 0 ? &one : i % 3 == 1 ? &other : valloc_process();
            size_t size = sizes[i % 8];
            assert_int_equal(valloc_allocate_batch_from(allocator, size, 10, blocks + place), 10);
            for (size_t k = 0; k < 10; k++)
                assert_ptr_equal(valloc_owner(blocks[place + k]), allocator);
        }
        if (order != 0)
            shuffle(MOST);
        errno = 5;
        valloc_free_batch(blocks, MOST);
        assert_int_equal(errno, 5);
    }
    valloc_destroy(&one);
    valloc_destroy(&other);
    if (WATCHED_BYTES == 0)
        assert_int_equal(live_bytes(), before);
}

/* ---- Limits ---- */

static void a_limit_ends_a_batch(void **state)
{
    (void)state;
    static MemoryAllocator limited;
    valloc_options options = {.hard_limit = 4 * VALLOC_BLOCK_BYTES};
    assert_int_equal(valloc_init_with(&limited, 1, 4, &options), 0);
    for (int i = 0; i < 3; i++) {
        errno = 0;
        size_t got = valloc_allocate_batch_from(&limited, 1000, MOST, blocks);
        assert_int_equal(errno, ENOMEM);
        assert_in_range(got, 100, 4 * VALLOC_BLOCK_BYTES / 1000);
        fill(1000, got, 4);
        valloc_free_batch(blocks, got);
    }
    valloc_destroy(&limited);
}

/* ---- Wrong frees ---- */

static void free_twice_in_a_batch(void *unused)
{
    (void)unused;
    if (valloc_allocate_batch(64, 100, blocks) != 100)
        return;
    blocks[40] = blocks[20];
    valloc_free_batch(blocks, 100);
}

static void free_freed_in_a_batch(void *unused)
{
    (void)unused;
    if (valloc_allocate_batch(64, 100, blocks) != 100)
        return;
    valloc_free(blocks[99]);
    valloc_free_batch(blocks, 100);
}

static void free_inside_in_a_batch(void *unused)
{
    (void)unused;
    if (valloc_allocate_batch(160, 100, blocks) != 100)
        return;
    blocks[3] = (char *)blocks[3] + 16;
    valloc_free_batch(blocks, 100);
}

static void free_unaligned_in_a_batch(void *unused)
{
    (void)unused;
    if (valloc_allocate_batch(16, 100, blocks) != 100)
        return;
    blocks[99] = (char *)blocks[99] + 1;
    valloc_free_batch(blocks, 100);
}

static void free_foreign_in_a_batch(void *unused)
{
    (void)unused;
    if (valloc_allocate_batch(16, 100, blocks) != 100)
        return;
    blocks[50] = &blocks[50];
    valloc_free_batch(blocks, 100);
}

static void allocate_from_nothing(void *unused)
{
    (void)unused;
    static MemoryAllocator none;
    if (valloc_allocate_batch_from(&none, 16, 100, blocks) != 0)
        exit(1);
}

static void wrong_frees_are_reported(void **state)
{
    (void)state;
    void (*const crimes[])(void *) = {free_twice_in_a_batch,   free_freed_in_a_batch,
                                      free_inside_in_a_batch,  free_unaligned_in_a_batch,
                                      free_foreign_in_a_batch, allocate_from_nothing};
    for (size_t i = 0; i < NUMBER(crimes); i++) {
#if defined(VALLOC_CHECKS) && !VALLOC_CHECKS
        if (i < 4)
            continue;
#endif
        Child child = child_run(crimes[i], NULL);
        if (!WIFSIGNALED(child.status) && WEXITSTATUS(child.status) == 0)
            fail_msg("wrong free %zu was not noticed: %s", i, child.text);
        assert_true(WATCHED_BYTES != 0 || strstr(child.text, "valloc: ") != NULL);
    }
}

/* ---- Other threads ---- */

static _Atomic int done;

static void *work(void *number)
{
    void *own[150];
    for (int i = 0; i < 2000; i++) {
        size_t size = 16 + 48 * (size_t)(i % 3);
        size_t count = 1 + (size_t)(i * 7 + (int)(uintptr_t)number) % 150;
        require(valloc_allocate_batch(size, count, own) == count);
        for (size_t k = 0; k < count; k++)
            *(void **)own[k] = &own[k];
        for (size_t k = 0; k < count; k++)
            require(*(void **)own[k] == &own[k]);
        valloc_free_batch(own, count);
    }
    atomic_fetch_add(&done, 1);
    return NULL;
}

/* Their stacks are emptied meanwhile, see idle.h. */
static void purges_meet_batches(void **state)
{
    (void)state;
    pthread_t threads[3];
    atomic_store(&done, 0);
    for (size_t i = 0; i < NUMBER(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    while (atomic_load(&done) != NUMBER(threads))
        valloc_purge();
    for (size_t i = 0; i < NUMBER(threads); i++)
        pthread_join(threads[i], NULL);
}

/* ---- The profiler ---- */

static int count_sample(const valloc_profile_sample *sample, void *count)
{
    assert_int_equal(sample->size, 64);
    ++*(size_t *)count;
    return 0;
}

static size_t count_samples(void)
{
    size_t count = 0;
    assert_int_equal(valloc_profile_visit(count_sample, &count), 0);
    return count;
}

static void batches_are_sampled(void **state)
{
    (void)state;
    if (valloc_profile_start(1, VALLOC_PROFILE_LIVE) != 0) {
        assert_int_equal(errno, ENOTSUP);
        skip();
    }
    assert_int_equal(valloc_allocate_batch(64, 300, blocks), 300);
    assert_int_equal(count_samples(), 300);
    valloc_free_batch(blocks, 100);
    assert_int_equal(count_samples(), 200);
    valloc_profile_stop();
    assert_int_equal(valloc_allocate_batch(64, 100, blocks), 100); /* not sampled */
    assert_int_equal(count_samples(), 200);
    valloc_free_batch(blocks, 300);
    assert_int_equal(count_samples(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_are_as_single_calls),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(a_batch_may_be_mixed),
        cmocka_unit_test(a_limit_ends_a_batch),
        cmocka_unit_test(wrong_frees_are_reported),
        cmocka_unit_test(purges_meet_batches),
        cmocka_unit_test(batches_are_sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
