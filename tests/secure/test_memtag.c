/* test_memtag.c: memory tags: which accesses fault, and that no right one does. */
#include "support.h"

#include <pthread.h>
#include <setjmp.h>

#include "child.h"

#define TEST_API 1
#include "subject.h"

#include "base/config.h"

#define KIB ((size_t)1 << 10)
#define TAG_OF(pointer) ((unsigned)((uintptr_t)(pointer) >> 56))
#define PLACE_OF(pointer) ((uintptr_t)(pointer) << 8 >> 8)
#define TAG_FAULT 9 /* SEGV_MTESERR */

/* Small, several to a page, large slots, runs. All have tags. */
static const size_t sizes[] = {1, 24, 100, 400, 1000, 4000, 20000, 32000, 60 * KIB, 120 * KIB};
#define SIZES (sizeof sizes / sizeof *sizes)

static void *hide(void *pointer)
{
    void *volatile hidden = pointer;
    return hidden;
}

/* ---- Faults ---- */

static _Thread_local sigjmp_buf after_fault;
static _Thread_local int fault_code;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    fault_code = info->si_code;
    siglongjmp(after_fault, 1);
}

/* cmocka's own handler comes back with each test. */
static void catch_faults(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    fault_code = 0;
}

static bool reading_faults(const char *place)
{
    catch_faults();
    if (sigsetjmp(after_fault, 1) == 0)
        (void)*(const volatile char *)place;
    return fault_code == TAG_FAULT;
}

static bool writing_faults(char *place)
{
    catch_faults();
    if (sigsetjmp(after_fault, 1) == 0)
        *(volatile char *)place = 1;
    return fault_code == TAG_FAULT;
}

static void must_report(void (*crime)(void *), void *argument, const char *message)
{
    Child child = child_run(crime, argument);
    if (!WIFSIGNALED(child.status) || WTERMSIG(child.status) != SIGABRT ||
        strstr(child.text, message) == NULL)
        fail_msg("status %d, said '%s', not '%s'", child.status, child.text, message);
}

/* A whole allocation can be used, and has a tag. */
static void must_be_usable(char *block, size_t size)
{
    size_t usable = valloc_usable_size(block);
    assert_in_range(TAG_OF(block), 1, 15);
    assert_true(usable >= size);
    memset(block, 0x5a, usable);
    assert_int_equal(block[usable - 1], 0x5a);
}

/* ---- Wrong accesses ---- */

static void freed_memory_faults(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        char *block = valloc_malloc(sizes[i]);
        must_be_usable(block, sizes[i]);
        valloc_free(block);
        block = hide(block);
        assert_true(reading_faults(block));
        assert_true(reading_faults(block + sizes[i] - 1));
        assert_true(writing_faults(block));
        assert_true(writing_faults(block + sizes[i] - 1));
    }
}

/* Neighbours in a slab never have the same tag, whatever their order. */
static void overflows_and_underflows_fault(void **state)
{
    char *blocks[64];
    (void)state;
    for (size_t i = 0; sizes[i] <= VA_SMALL_MAX; i++) {
        for (size_t n = 0; n < 64; n++)
            blocks[n] = valloc_malloc(sizes[i]);
        for (size_t n = 0; n < 64; n += 3) { /* some are free, some in use again */
            valloc_free(blocks[n]);
            blocks[n] = valloc_malloc(sizes[i]);
        }
        for (size_t n = 0; n < 64; n++) {
            size_t bytes = valloc_usable_size(blocks[n]) + VA_CANARY_BYTES;
            char *end = hide(blocks[n] + bytes);
            size_t from = PLACE_OF(blocks[n]) % VA_BLOCK_BYTES;
            if (from + 2 * bytes <= VA_BLOCK_BYTES) {
                assert_true(writing_faults(end));
                assert_true(reading_faults(end + 15));
            }
            if (from >= bytes) {
                assert_true(writing_faults(blocks[n] - 1));
                assert_true(reading_faults(blocks[n] - bytes));
            }
        }
        for (size_t n = 0; n < 64; n++)
            valloc_free(blocks[n]);
    }
}

/* ---- Wrong frees ---- */

static void free_twice(void *size)
{
    void *block = hide(valloc_malloc(*(const size_t *)size));
    valloc_free(block);
    valloc_free(hide(block));
    _exit(0);
}

/* Allocates until a freed place is in use again, with another tag; returns the old address. */
static void *find_stale(size_t size)
{
    for (;;) {
        void *old = valloc_malloc(size);
        valloc_free(old);
        for (unsigned tries = 0; tries < 4000; tries++) {
            void *next = valloc_malloc(size);
            if (PLACE_OF(next) == PLACE_OF(old) && next != old)
                return hide(old);
            valloc_free(next);
        }
    }
}

static void free_stale(void *size)
{
    valloc_free(find_stale(*(const size_t *)size));
    _exit(0);
}

static void free_sized_stale(void *size)
{
    valloc_free_sized(find_stale(*(const size_t *)size), *(const size_t *)size);
    _exit(0);
}

static void resize_stale(void *size)
{
    _exit(valloc_realloc(find_stale(*(const size_t *)size), 10) == NULL);
}

static void measure_stale(void *size)
{
    _exit(valloc_usable_size(find_stale(*(const size_t *)size)) == 0);
}

static void free_without_tag(void *size)
{
    valloc_free((void *)PLACE_OF(valloc_malloc(*(const size_t *)size)));
    _exit(0);
}

static void wrong_frees_are_reported(void **state)
{
    (void)state;
    void (*const crimes[])(void *) = {free_stale,    free_sized_stale, resize_stale,
                                      measure_stale, free_without_tag, free_twice};
    size_t small = 100;
    for (size_t i = 0; i < sizeof crimes / sizeof *crimes; i++)
        must_report(crimes[i], &small, "freed already");
    for (size_t i = 0; i < SIZES; i += 3)
        must_report(free_twice, (void *)(uintptr_t)&sizes[i], "freed already");
}

/* One tag of 13 to 15 is the old one; the bound allows for a processor that draws badly. */
static void a_place_mostly_gets_another_tag(void **state)
{
    static void *last[8 * KIB];
    size_t again = 0;
    size_t same = 0;
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        void *block = valloc_malloc(64);
        size_t place = PLACE_OF(block) / 64 % (sizeof last / sizeof *last);
        if (PLACE_OF(last[place]) == PLACE_OF(block)) {
            again++;
            same += last[place] == block;
        }
        last[place] = block;
        valloc_free(block);
    }
    print_message("%zu of %zu had the same tag\n", same, again);
    assert_true(again > 10000);
    assert_true(same * 5 < again);
}

/* ---- Right ones ---- */

static void every_function_keeps_tags(void **state)
{
    static MemoryAllocator allocator;
    (void)state;
    assert_int_equal(valloc_init(&allocator, 1, 2), 0);
    for (size_t i = 0; i < SIZES; i++) {
        size_t size = sizes[i];
        void *batch[5];
        void *aligned = NULL;
        assert_int_equal(valloc_posix_memalign(&aligned, 256, size), 0);
        assert_int_equal((uintptr_t)aligned % 256, 0);
        char *blocks[] = {valloc_malloc(size),
                          valloc_calloc(1, size),
                          valloc_realloc(NULL, size),
                          valloc_aligned_alloc(64, size),
                          valloc_aligned_calloc(64, size),
                          valloc_malloc_at_least(size).ptr,
                          aligned,
                          valloc_allocate(&allocator, size),
                          valloc_allocate_zeroed(&allocator, 1, size),
                          valloc_allocate_aligned(&allocator, 64, size)};
        size_t count = sizeof blocks / sizeof *blocks;
        assert_int_equal(valloc_allocate_batch(size, 5, batch), 5);
        assert_ptr_equal(valloc_owner(blocks[7]), &allocator);
        for (size_t n = 0; n < 5; n++)
            must_be_usable(batch[n], size);
        for (size_t n = 0; n < count; n++)
            must_be_usable(blocks[n], size);
        valloc_free_batch(batch, 5);
        for (size_t n = 0; n < count - 3; n++)
            valloc_free(blocks[n]);
        for (size_t n = count - 3; n < count; n++)
            free_valloc(&allocator, blocks[n]);
        valloc_free_sized(valloc_malloc(size), size);
        valloc_free_aligned_sized(valloc_aligned_alloc(64, size), 64, size);
        must_be_usable(valloc_allocate(&allocator, size), size); /* lives until the end */
    }
    valloc_destroy(&allocator);
}

static void realloc_moves_tags(void **state)
{
    (void)state;
    for (size_t from = 0; from < SIZES; from++) {
        for (size_t to = 0; to < SIZES; to++) {
            char *block = valloc_malloc(sizes[from]);
            assert_null(valloc_realloc(block, PTRDIFF_MAX - 1));
            must_be_usable(block, sizes[from]);
            memset(block, (int)from + 1, sizes[from]);
            char *moved = valloc_realloc(block, sizes[to]);
            size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
            for (size_t i = 0; i < kept; i += kept / 7 + 1)
                assert_int_equal(moved[i], from + 1);
            must_be_usable(moved, sizes[to]);
            if (moved != hide(block))
                assert_true(reading_faults(hide(block)));
            valloc_free(moved);
        }
    }
}

/* Beyond the size that has tags, and back; in place where there is room. */
static void large_sizes_work(void **state)
{
    (void)state;
    for (size_t size = 100 * KIB; size < 16 * 1024 * KIB; size = size * 3 / 2) {
        char *block = valloc_malloc(size);
        memset(block, 1, size);
        if (valloc_expand(block, size * 2) != NULL)
            memset(block, 1, size * 2);
        block = valloc_realloc(block, size * 2);
        memset(block, 1, size * 2);
        block = valloc_realloc(block, 90 * KIB);
        must_be_usable(block, 90 * KIB);
        valloc_free(block);
    }
}

/* The heap's mapping grows by system calls, behind memory that has tags. */
static void a_growing_heap_keeps_tags(void **state)
{
    static char *blocks[16 * KIB];
    size_t count = sizeof blocks / sizeof *blocks;
    (void)state;
    for (size_t i = 0; i < count; i++)
        blocks[i] = valloc_malloc(2000);
    for (size_t i = 0; i < count; i++)
        must_be_usable(blocks[i], 2000);
    for (size_t i = 0; i < count; i++)
        valloc_free(blocks[i]);
}

static void destroyed_and_purged_memory_serves_again(void **state)
{
    static MemoryAllocator allocator;
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        char *others[200];
        assert_int_equal(valloc_init(&allocator, 4, 2), 0);
        for (size_t i = 0; i < 200; i++)
            must_be_usable(valloc_allocate(&allocator, sizes[i % SIZES]), sizes[i % SIZES]);
        valloc_destroy(&allocator);
        for (size_t i = 0; i < 200; i++)
            must_be_usable(others[i] = valloc_malloc(sizes[i % SIZES]), sizes[i % SIZES]);
        for (size_t i = 0; i < 200; i++)
            valloc_free(others[i]);
        valloc_purge();
        for (size_t i = 0; i < 200; i++)
            must_be_usable(others[i] = valloc_malloc(sizes[i % SIZES]), sizes[i % SIZES]);
        for (size_t i = 0; i < 200; i++)
            valloc_free(others[i]);
    }
}

static void the_kernel_takes_addresses_with_tags(void **state)
{
    int ends[2];
    char *from = valloc_malloc(100);
    char *to = valloc_malloc(100);
    (void)state;
    memset(from, 7, 100);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], from, 100), 100);
    assert_int_equal(read(ends[0], to, 100), 100);
    assert_memory_equal(from, to, 100);
    close(ends[0]);
    close(ends[1]);
    valloc_free(from);
    valloc_free(to);
}

/* ---- Threads and forks ---- */

static void *use_blocks(void *argument)
{
    char **blocks = argument;
    for (size_t i = 0; i < SIZES; i++) {
        must_be_usable(blocks[i], sizes[i]);
        valloc_free(blocks[i]);
        if (!reading_faults(hide(blocks[i])))
            return NULL;
        must_be_usable(blocks[i] = valloc_malloc(sizes[i]), sizes[i]);
    }
    return blocks;
}

static void threads_have_tags(void **state)
{
    pthread_t threads[4];
    char *blocks[4][SIZES];
    (void)state;
    for (size_t t = 0; t < 4; t++) {
        for (size_t i = 0; i < SIZES; i++)
            blocks[t][i] = valloc_malloc(sizes[i]);
        assert_int_equal(pthread_create(&threads[t], NULL, use_blocks, blocks[t]), 0);
    }
    for (size_t t = 0; t < 4; t++) {
        void *result;
        assert_int_equal(pthread_join(threads[t], &result), 0);
        assert_ptr_equal(result, blocks[t]);
        assert_ptr_equal(use_blocks(blocks[t]), blocks[t]);
        for (size_t i = 0; i < SIZES; i++)
            valloc_free(blocks[t][i]);
    }
}

static void use_and_exit(void *blocks)
{
    _exit(use_blocks(blocks) == NULL);
}

static void children_have_tags(void **state)
{
    char *blocks[SIZES];
    (void)state;
    for (size_t i = 0; i < SIZES; i++)
        blocks[i] = valloc_malloc(sizes[i]);
    Child child = child_run(use_and_exit, blocks);
    assert_true(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 0);
    assert_ptr_equal(use_blocks(blocks), blocks);
    for (size_t i = 0; i < SIZES; i++)
        valloc_free(blocks[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(freed_memory_faults),
        cmocka_unit_test(overflows_and_underflows_fault),
        cmocka_unit_test(wrong_frees_are_reported),
        cmocka_unit_test(a_place_mostly_gets_another_tag),
        cmocka_unit_test(every_function_keeps_tags),
        cmocka_unit_test(realloc_moves_tags),
        cmocka_unit_test(large_sizes_work),
        cmocka_unit_test(a_growing_heap_keeps_tags),
        cmocka_unit_test(destroyed_and_purged_memory_serves_again),
        cmocka_unit_test(the_kernel_takes_addresses_with_tags),
        cmocka_unit_test(threads_have_tags),
        cmocka_unit_test(children_have_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
