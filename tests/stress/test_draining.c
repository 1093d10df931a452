/* test_draining.c: a class whose live blocks become few, and are replaced on and on, gives up most
 * of its slabs, though the few lay in all of them; no block is handed out twice on the way, whoever
 * frees; a slab that drains is used again when the class grows; errors are seen there, too. */
#include "support.h"

#include "child.h"

#include <pthread.h>
#include <stdbool.h>

#include "table/block_table.h"
#include "base/config.h"
#include "simulated.h"
#include "valloc.h"

#define MANY 100000
#define FEW 5000
#define SIZE (64 - WATCHED_BYTES - SECURED_BYTES)
#define TURNOVERS 20
#define STEP 2500 /* more than a stack holds, so that slabs are looked at */

typedef struct Live {
    unsigned char *blocks[MANY];
    size_t count;
    uint64_t seed;
} Live;

static Live live;

static unsigned char filling(const void *block)
{
    return (unsigned char)((uintptr_t)block >> 6 ^ (uintptr_t)block >> 14);
}

static void allocate(Live *from, size_t count)
{
    while (count-- > 0) {
        unsigned char *block = valloc_malloc(SIZE);
        require(block != NULL);
        fill_bytes(block, SIZE, filling(block));
        from->blocks[from->count++] = block;
    }
}

static unsigned char *take_one(Live *from)
{
    size_t place = random_next(&from->seed) % from->count;
    unsigned char *block = from->blocks[place];
    require(bytes_hold(block, SIZE, filling(block)));
    from->blocks[place] = from->blocks[--from->count];
    return block;
}

static void free_some(Live *from, size_t count)
{
    while (count-- > 0)
        valloc_free(take_one(from));
}

static int blocks_of_class(const valloc_class_stats *class, void *context)
{
    if (class->slot_size == 64)
        *(size_t *)context = class->blocks;
    return 0;
}

static size_t blocks_held(void)
{
    size_t blocks = 0;
    valloc_stats_classes(NULL, blocks_of_class, &blocks);
    return blocks;
}

static bool drains(const void *block)
{
    return (va_entry_load(va_block_entry(va_block_of(block))) & VA_ENTRY_DRAINING) != 0;
}

static unsigned char *find_draining(void)
{
    for (size_t i = 0; i < live.count; i++)
        if (drains(live.blocks[i]))
            return live.blocks[i];
    return NULL;
}

/* Few blocks in all the slabs of many, then some of them replaced. */
static void scatter(void)
{
    live.seed = 7;
    allocate(&live, MANY - live.count);
    free_some(&live, MANY - FEW);
    allocate(&live, STEP);
    free_some(&live, STEP);
}

static void turn_over(void)
{
    for (size_t i = 0; i < TURNOVERS * FEW / STEP; i++) {
        allocate(&live, STEP);
        free_some(&live, STEP);
        pass_ms(1);
    }
}

static void a_class_that_shrinks_gives_its_slabs_up(void **state)
{
    (void)state;
    scatter();
    size_t before = blocks_held();
    assert_non_null(find_draining());
    turn_over();
    pass_ms(VA_PURGE_DELAY_MS + 50); /* the thread's cache gives back what it holds */
    turn_over();
    size_t after = blocks_held();
    print_message("blocks: %zu with few slots used, %zu after these were replaced\n", before,
                  after);
    assert_true(after * 4 < before);
    free_some(&live, live.count);
}

static void slabs_that_drain_are_used_before_fresh_ones(void **state)
{
    (void)state;
    scatter();
    size_t before = blocks_held();
    assert_non_null(find_draining());
    allocate(&live, MANY / 2);
    assert_true(blocks_held() <= before);
    free_some(&live, live.count);
}

static Live others;

static void *free_all(void *unused)
{
    (void)unused;
    free_some(&others, others.count);
    return NULL;
}

/* Another thread frees a part of the few while this one replaces the rest. */
static void another_thread_frees(void **state)
{
    (void)state;
    for (int turn = 0; turn < 10; turn++) {
        pthread_t thread;
        scatter();
        others.seed = 9;
        for (size_t i = 0; i < FEW / 2; i++)
            others.blocks[others.count++] = take_one(&live);
        assert_int_equal(pthread_create(&thread, NULL, free_all, NULL), 0);
        for (int i = 0; i < 20; i++) {
            allocate(&live, STEP);
            free_some(&live, STEP);
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        free_some(&live, live.count);
    }
}

static void free_twice(void *block)
{
    valloc_free(block);
    valloc_free(block);
}

#ifndef SANITIZED
static void free_inside(void *block)
{
    valloc_free((char *)block + 16);
    valloc_purge();
}
#endif

/* ---- Errors ---- */

#define SMALL (32 - WATCHED_BYTES - SECURED_BYTES)
#define OTHERS (2 * VA_OUTGOING_SLOTS + 2)

static void *smalls[OTHERS];

static void *allocate_smalls(void *unused)
{
    for (size_t i = 0; i < OTHERS; i++)
        smalls[i] = valloc_malloc(SMALL);
    return unused;
}

static void free_last_twice(void *count)
{
    for (size_t i = 0; i < *(size_t *)count; i++)
        valloc_free(smalls[i]);
    free_twice(smalls[*(size_t *)count]);
}

/* However full the batch for their owner is that the first of the two goes to. */
static void a_slot_of_another_thread_freed_twice(void **state)
{
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, allocate_smalls, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (size_t count = 0; count < OTHERS; count++) {
        Child child = child_run(free_last_twice, &count);
        assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
#ifndef SANITIZED
        assert_non_null(strstr(child.text, "freed already"));
#endif
    }
    for (size_t i = 0; i < OTHERS; i++)
        valloc_free(smalls[i]);
}

static void errors_are_seen(void **state)
{
    (void)state;
    scatter();
    void *block = find_draining();
    assert_non_null(block);
    Child child = child_run(free_twice, block);
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
#ifndef SANITIZED
    assert_non_null(strstr(child.text, "valloc: free: freed already"));
    child = child_run(free_inside, block);
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
    assert_non_null(strstr(child.text, "not the start of an allocation"));
#endif
    assert_int_equal(valloc_usable_size(block), SIZE);
    valloc_free_sized(block, SIZE); /* the process ends here */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_class_that_shrinks_gives_its_slabs_up),
        cmocka_unit_test(slabs_that_drain_are_used_before_fresh_ones),
        cmocka_unit_test(another_thread_frees),
        cmocka_unit_test(a_slot_of_another_thread_freed_twice),
        cmocka_unit_test(errors_are_seen),
    };
    stop_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
