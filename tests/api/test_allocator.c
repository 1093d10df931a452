/* test_allocator.c: allocators beside that of the process: life, errors, every function's results,
 * frees that cross allocators, introspection. */
#include "support.h"

#include <errno.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define BLOCK ((size_t)VALLOC_BLOCK_BYTES)

static const size_t sizes[] = {1,     8,     16,    100,        128,     1000,        4096,
                               20000, 32768, 40000, 100 * 1024, 3 * MIB, 20 * MIB + 1};
#define SIZES (sizeof sizes / sizeof *sizes)

/* ---- Life ---- */

static void assert_rejected(int result)
{
    assert_int_equal(result, -1);
    assert_int_equal(errno, EINVAL);
}

static void bad_arguments_are_rejected(void **state)
{
    (void)state;
    static MemoryAllocator allocator;
    MemoryAllocator zeroed = {0};
    assert_rejected(valloc_init(NULL, 1, 1));
    assert_rejected(valloc_init(&allocator, 0, 1));
    assert_rejected(valloc_init(&allocator, 1, 0));
    assert_rejected(valloc_init(&allocator, 1, -1));
    assert_rejected(valloc_init(&allocator, 1, VALLOC_MAX_THREADS + 1));
    assert_rejected(valloc_init_with(&allocator, 3, 1, &(valloc_options){.hard_limit = 2 * BLOCK}));
    assert_rejected(valloc_init_with(&allocator, 3, 1, &(valloc_options){.soft_limit = 2 * BLOCK}));
    assert_rejected(valloc_init_with(
        &allocator, 1, 1, &(valloc_options){.soft_limit = 4 * MIB, .hard_limit = 2 * MIB}));
    assert_memory_equal(&allocator, &zeroed, sizeof zeroed);
    assert_rejected(valloc_set_limits(&allocator, 0, 0));
    assert_rejected(valloc_set_limits(NULL, 0, 0));
    assert_rejected(valloc_init(valloc_process(), 1, 1));
    valloc_destroy(NULL);
    valloc_destroy(&allocator);

    assert_int_equal(valloc_init(&allocator, 1, VALLOC_MAX_THREADS), 0);
    assert_rejected(valloc_init(&allocator, 1, 1));
    void *block = valloc_allocate(&allocator, 100);
    assert_non_null(block);
    assert_rejected(valloc_set_limits(&allocator, 4 * MIB, 2 * MIB));
    valloc_destroy(&allocator);
    assert_memory_equal(&allocator, &zeroed, sizeof zeroed);
}

static void no_memory_is_told(void **state)
{
    (void)state;
    MemoryAllocator allocator = {0};
    errno = 0;
    assert_int_equal(valloc_init(&allocator, SIZE_MAX / BLOCK, 1), -1);
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(valloc_init(&allocator, 1, 1), 0);
    errno = 0;
    assert_null(valloc_allocate(&allocator, PTRDIFF_MAX));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    volatile size_t many = SIZE_MAX / 2; /* the compiler would tell us */
    assert_null(valloc_allocate_zeroed(&allocator, many, 3));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(valloc_allocate_aligned(&allocator, 24, 100));
    assert_int_equal(errno, EINVAL);
    valloc_destroy(&allocator);
}

/* Initial blocks leave while runs are held, and these leave or shrink then. */
static void an_allocator_never_holds_fewer_blocks_than_at_first(void **state)
{
    (void)state;
    static MemoryAllocator allocator;
    static void *small[10 * 2];
    for (int shrunk = 0; shrunk <= (WATCHED_BYTES == 0); shrunk++) { /* else shrinking moves */
        assert_int_equal(valloc_init(&allocator, 10, 1), 0);
        for (size_t i = 0; i < 10 * 2; i++)
            assert_non_null(small[i] = valloc_allocate(&allocator, 30 * KIB));
        unsigned char *run = valloc_allocate(&allocator, 2 * MIB);
        assert_non_null(run);
        fill_bytes(run, 2 * MIB, 7);
        for (size_t i = 0; i < 10 * 2; i++)
            free_valloc(&allocator, small[i]);
        valloc_set_limits(&allocator, 64 * MIB, 0); /* flushes */
        if (shrunk) {
            run = valloc_reallocate(&allocator, run, MIB + 1);
            assert_true(bytes_hold(run, FILL_EDGE, 7));
            assert_int_equal(allocator.used_blocks, 17);
            assert_true(allocator.total_blocks >= 17);
        }
        free_valloc(&allocator, run);
        valloc_set_limits(&allocator, 64 * MIB, 0);
        assert_int_equal(allocator.total_blocks, 10);
        assert_int_equal(allocator.used_blocks, 0);
        for (size_t i = 0; i < 10 * 2; i++)
            assert_non_null(valloc_allocate(&allocator, 30 * KIB));
        valloc_destroy(&allocator);
    }
}

/* Too large for a thread to keep it. */
static void a_freed_block_is_not_used(void **state)
{
    (void)state;
    static MemoryAllocator allocator;
    assert_int_equal(valloc_init(&allocator, 1, 1), 0);
    for (int i = 0; i < 3; i++) {
        void *block = valloc_allocate(&allocator, 100 * MIB - WATCHED_BYTES - 1024 * SECURED_BYTES);
        assert_non_null(block);
        assert_int_equal(allocator.used_blocks, 100 * MIB / BLOCK);
        free_valloc(&allocator, block);
        assert_int_equal(allocator.used_blocks, 0);
    }
    valloc_destroy(&allocator);
}

/* Also of what was freed last, which its thread keeps. */
static void zeroed_memory_is_zero_after_a_destruction(void **state)
{
    (void)state;
    static MemoryAllocator allocator;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(valloc_init(&allocator, 1, 2), 0);
        unsigned char *block = valloc_allocate_zeroed(&allocator, 2, MIB);
        assert_non_null(block);
        assert_true(bytes_hold(block, 2 * MIB, 0));
        fill_bytes(block, 2 * MIB, 0xa5);
        free_valloc(&allocator, block);
        valloc_destroy(&allocator);
    }
}

static void initial_blocks_are_there_from_the_start(void **state)
{
    (void)state;
    MemoryAllocator allocator = {0};
    assert_int_equal(valloc_init(&allocator, 200, 4), 0);
    assert_int_equal(allocator.total_blocks, 200);
    assert_int_equal(allocator.used_blocks, 0);
    assert_int_equal(allocator.recycled_blocks, 0);
    assert_int_equal(allocator.num_threads, 4);
    /* 199 blocks of 16 slots each need no more than what is held. */
    static void *blocks[199 * 16];
    const size_t size = 4096 - WATCHED_BYTES - SECURED_BYTES;
    for (size_t i = 0; i < 199 * 16; i++) {
        blocks[i] = valloc_allocate(&allocator, size);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, size);
    }
    assert_true(allocator.used_blocks >= 199);
    assert_true(allocator.total_blocks <= 224); /* a batch and a refill may look ahead */
    for (size_t i = 0; i < 199 * 16; i++)
        free_valloc(&allocator, blocks[i]);
    assert_true(allocator.total_blocks >= 200);
    valloc_destroy(&allocator);
}

static void empty_allocators_come_and_go(void **state)
{
    (void)state;
    valloc_stats before, after;
    MemoryAllocator allocator = {0};
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(valloc_init(&allocator, 1, 64), 0);
        if (i % 2 == 0) {
            char *block = valloc_allocate(&allocator, (size_t)i % 5000 + 1);
            assert_non_null(block);
            *block = 1;
        }
        valloc_destroy(&allocator);
        if (i == 1000)
            valloc_get_stats(&before);
    }
    valloc_get_stats(&after);
    assert_int_equal(after.metadata, before.metadata);
    assert_true(after.committed <= before.committed); /* what is free may go meanwhile */
    assert_int_equal(after.caches, before.caches);
}

#define MANY 10000
static void ten_thousand_live_at_once(void **state)
{
    (void)state;
    MemoryAllocator *allocators = valloc_calloc(MANY, sizeof *allocators);
    char **blocks = valloc_calloc(MANY, sizeof *blocks);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(valloc_init(&allocators[i], 1, 2), 0);
        blocks[i] = valloc_allocate(&allocators[i], 48);
        assert_non_null(blocks[i]);
        memset(blocks[i], (int)(i % 251), 48);
    }
    for (size_t i = 0; i < MANY; i++) {
        assert_true(bytes_hold(blocks[i], 48, (unsigned char)(i % 251)));
        assert_ptr_equal(valloc_owner(blocks[i]), &allocators[i]);
        if (i % 3 == 0)
            valloc_free(blocks[i]);
        valloc_destroy(&allocators[i]);
    }
    valloc_free(blocks);
    valloc_free(allocators);
}

/* ---- Allocation ---- */

static void every_size_is_served(void **state)
{
    (void)state;
    MemoryAllocator allocator = {0};
    assert_int_equal(valloc_init(&allocator, 1, 1), 0);
    for (size_t i = 0; i < SIZES; i++) {
        size_t size = sizes[i];
        for (size_t alignment = 16; alignment <= 2 * MIB; alignment *= 8) {
            char *block = valloc_allocate_aligned(&allocator, alignment, size);
            assert_non_null(block);
            assert_int_equal((uintptr_t)block % alignment, 0);
            assert_true(valloc_usable_size(block) >= size);
            assert_ptr_equal(valloc_owner(block), &allocator);
            fill_bytes(block, size, 0x5a);
            free_valloc(&allocator, block);
            char *zeroed = valloc_allocate_aligned_zeroed(&allocator, alignment, size);
            assert_true(bytes_hold(zeroed, size, 0));
            free_valloc(&allocator, zeroed);
        }
        char *block = valloc_allocate_zeroed(&allocator, size, 1);
        assert_true(bytes_hold(block, size, 0));
        fill_bytes(block, size, 7);
        for (size_t j = 0; j < SIZES; j++) {
            block = valloc_reallocate(&allocator, block, sizes[j]);
            assert_non_null(block);
            assert_ptr_equal(valloc_owner(block), &allocator);
            assert_int_equal(block[0], 7);
            fill_bytes(block, sizes[j], 7);
        }
        free_valloc(&allocator, block);
    }
    void *null_grown = valloc_reallocate(&allocator, NULL, 100);
    assert_ptr_equal(valloc_owner(null_grown), &allocator);
    void *aligned = valloc_reallocate_aligned(&allocator, null_grown, 4096, 100);
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    void *empty = valloc_allocate(&allocator, 0);
    assert_non_null(empty);
    errno = 77;
    free_valloc(&allocator, empty);
    free_valloc(&allocator, NULL);
    free_valloc(NULL, NULL);
    char *block = valloc_allocate(&allocator, 100);
    free_valloc(NULL, block); /* ignored */
    memset(block, 1, 100);
    free_valloc(&allocator, block);
    assert_int_equal(errno, 77);
    valloc_destroy(&allocator);
}

static void the_process_is_an_allocator_too(void **state)
{
    (void)state;
    MemoryAllocator *process = valloc_process();
    size_t used = process->used_blocks;
    char *run = valloc_allocate(process, 5 * MIB - WATCHED_BYTES);
    assert_ptr_equal(valloc_owner(run), process);
    assert_in_range(process->used_blocks - used, 80, 82); /* guard pages come on top */
    char *slot = valloc_allocate_zeroed(process, 10, 10);
    assert_true(bytes_hold(slot, 100, 0));
    valloc_free(slot);
    free_valloc(process, run);
}

/* ---- Frees across allocators ---- */

static int count_live(const MemoryBlock *block, void *context)
{
    *(size_t *)context += block->live_slots;
    return 0;
}

static void any_function_frees_any_block(void **state)
{
    (void)state;
    size_t live = 0;
    MemoryAllocator a = {0}, b = {0};
    assert_int_equal(valloc_init(&a, 2, 2), 0);
    assert_int_equal(valloc_init(&b, 2, 2), 0);
    for (int turn = 0; turn < 3000; turn++) {
        size_t size = sizes[turn % (int)SIZES];
        char *of_a = valloc_allocate(&a, size);
        char *of_b = valloc_allocate(&b, size);
        char *global = valloc_malloc(size);
        char *grown = valloc_realloc(valloc_allocate(&a, size), 2 * size);
        assert_ptr_equal(valloc_owner(of_a), &a);
        assert_ptr_equal(valloc_owner(of_b), &b);
        assert_ptr_equal(valloc_owner(global), valloc_process());
        assert_ptr_equal(valloc_owner(grown), &a);
        valloc_free(of_a);
        free_valloc(&a, of_b);
        free_valloc(&b, global);
        if (turn % 2 == 0)
            valloc_free_sized(grown, 2 * size);
        else
            free_valloc(&b, grown);
    }
    /* All came home: nothing is in use once the thread's caches are emptied. */
    assert_int_equal(valloc_blocks(&a, count_live, &live), 0);
    assert_int_equal(valloc_blocks(&b, count_live, &live), 0);
    assert_int_equal(live, 0);
    valloc_destroy(&a);
    valloc_destroy(&b);
}

static void foreign_pointers_have_no_owner(void **state)
{
    (void)state;
    static char bytes[64];
    assert_null(valloc_owner(bytes));
    assert_null(valloc_owner(&state));
    assert_null(valloc_owner((void *)(uintptr_t)0x123456780));
    void *freed = valloc_malloc(30 * MIB);
    valloc_free(freed);
    assert_null(valloc_owner(freed));
}

/* ---- Introspection ---- */

typedef struct Sums {
    MemoryAllocator *allocator;
    size_t blocks, used, live, count;
    const char *last;
} Sums;

static int add_block(const MemoryBlock *block, void *context)
{
    Sums *sums = context;
    assert_true((const char *)block->address > sums->last);
    assert_int_equal(block->size % BLOCK, 0);
    sums->last = (const char *)block->address + block->size - 1;
    sums->blocks += block->size / BLOCK;
    sums->count++;
    if (block->status == VALLOC_BLOCK_OCCUPIED) {
        assert_true(block->live_slots <= block->slots);
        assert_true(block->slots * block->slot_size <= block->size);
        sums->used += block->size / BLOCK;
        sums->live += block->live_slots;
    } else {
        assert_int_equal(block->status, VALLOC_BLOCK_FREE);
        assert_int_equal(block->live_slots, 0);
    }
    if (sums->allocator != NULL) /* a visitor may use what it visits */
        valloc_free(valloc_allocate(sums->allocator, 3000));
    return 0;
}

static int stop_at_second(const MemoryBlock *block, void *context)
{
    (void)block;
    return ++*(int *)context == 2 ? 42 : 0;
}

static void blocks_add_up(void **state)
{
    (void)state;
    MemoryAllocator allocator = {0};
    static void *live[5000];
    uint64_t seed = 5;
    int seen = 0;
    assert_int_equal(valloc_init_with(&allocator, 3, 1, &(valloc_options){.name = "sums"}), 0);
    for (int turn = 0; turn < 4; turn++) {
        size_t count = 0;
        for (size_t i = 0; i < 5000; i++) {
            uint64_t r = random_next(&seed);
            free_valloc(&allocator, live[i]);
            live[i] = NULL;
            if (r % 4 != 0)
                live[i] = valloc_allocate(&allocator,
                                          r % 100 == 1 ? (r >> 8) % (3 * MIB) : (r >> 8) % 2000);
            count += live[i] != NULL;
        }
        Sums sums = {.allocator = NULL};
        assert_int_equal(valloc_blocks(&allocator, add_block, &sums), 0);
        assert_int_equal(sums.live, count);
        assert_int_equal(sums.used, allocator.used_blocks);
        assert_int_equal(sums.blocks, allocator.total_blocks);
        Sums busy = {.allocator = &allocator};
        assert_int_equal(valloc_blocks(&allocator, add_block, &busy), 0);
        assert_true(busy.count >= sums.count);
    }
    assert_true(allocator.recycled_blocks > 0);
    assert_int_equal(valloc_blocks(&allocator, stop_at_second, &seen), 42);
    assert_int_equal(seen, 2);
    for (size_t i = 0; i < 5000; i++)
        free_valloc(&allocator, live[i]);
    Sums empty = {.allocator = NULL};
    valloc_blocks(&allocator, add_block, &empty);
    assert_int_equal(empty.live, 0);
    Sums process = {.allocator = NULL};
    assert_int_equal(valloc_blocks(valloc_process(), add_block, &process), 0);
    assert_true(process.used > 0);
    valloc_destroy(&allocator);
}

static void collect_text(void *context, const char *text)
{
    char *all = context;
    strncat(all, text, 8000 - strlen(all));
}

static void a_dump_tells_a_person(void **state)
{
    (void)state;
    static char text[8192];
    MemoryAllocator allocator = {0};
    valloc_options options = {.name = "a name that is longer than there is room for",
                              .hard_limit = 8 * MIB};
    assert_int_equal(valloc_init_with(&allocator, 3, 1, &options), 0);
    void *slot = valloc_allocate(&allocator, 112 - WATCHED_BYTES - SECURED_BYTES);
    void *run = valloc_allocate(&allocator, 2 * MIB - WATCHED_BYTES - 1024 * SECURED_BYTES);
    valloc_dump(&allocator, collect_text, text);
    assert_non_null(strstr(text, "allocator 'a name that is longer than ther'"));
    assert_non_null(strstr(text, "hard limit 8192 KiB"));
    assert_non_null(strstr(text, "\n       112         1         5"));
    assert_non_null(strstr(text, "\n    larger        32           1           1 "));
    free_valloc(&allocator, slot);
    free_valloc(&allocator, run);
    valloc_destroy(&allocator);
}

static void a_destroyed_allocators_large_block_is_not_taken_for_zero(void **state)
{
    (void)state;
    MemoryAllocator allocator = {0};
    for (int i = 0; i < 20; i++) {
        size_t size = (size_t)(i + 2) * MIB;
        assert_int_equal(valloc_init(&allocator, 1, 1), 0);
        void *block = valloc_allocate(&allocator, size); /* never used memory, perhaps */
        memset(block, 0xff, size);
        free_valloc(&allocator, block); /* kept by the thread's cache */
        valloc_destroy(&allocator);
        unsigned char *zeroed = valloc_calloc(1, size);
        assert_int_equal(zeroed[0], 0);
        assert_memory_equal(zeroed, zeroed + 1, size - 1);
        valloc_free(zeroed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: memory that was never used. */
        cmocka_unit_test(a_destroyed_allocators_large_block_is_not_taken_for_zero),
        cmocka_unit_test(bad_arguments_are_rejected),
        cmocka_unit_test(no_memory_is_told),
        cmocka_unit_test(an_allocator_never_holds_fewer_blocks_than_at_first),
        cmocka_unit_test(a_freed_block_is_not_used),
        cmocka_unit_test(zeroed_memory_is_zero_after_a_destruction),
        cmocka_unit_test(initial_blocks_are_there_from_the_start),
        cmocka_unit_test(empty_allocators_come_and_go),
        cmocka_unit_test(ten_thousand_live_at_once),
        cmocka_unit_test(every_size_is_served),
        cmocka_unit_test(the_process_is_an_allocator_too),
        cmocka_unit_test(any_function_frees_any_block),
        cmocka_unit_test(foreign_pointers_have_no_owner),
        cmocka_unit_test(blocks_add_up),
        cmocka_unit_test(a_dump_tells_a_person),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
