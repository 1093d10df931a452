/* test_defrag.c: a program that moves what valloc_defrag_hint tells it to needs fewer slabs, and
 * one that moves on and on comes to an end. What is moved keeps its contents. */
#include "support.h"

#include <pthread.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define OBJECTS 200000
#define PASSES 20

typedef struct Object {
    size_t number, bytes;
} Object;

static Object *objects[OBJECTS];
static MemoryAllocator heap;

static size_t lent(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats.lent - stats.cached;
}

static void make(MemoryAllocator *allocator, size_t i, size_t bytes)
{
    objects[i] = valloc_allocate(allocator, bytes);
    assert_non_null(objects[i]);
    *objects[i] = (Object){i, bytes};
}

/* One pass over all objects; returns how many moved. */
static size_t defragment(MemoryAllocator *allocator)
{
    size_t moved = 0;
    for (size_t i = 0; i < OBJECTS; i++) {
        if (objects[i] == NULL || !valloc_defrag_hint(objects[i]))
            continue;
        Object *copy = valloc_allocate(allocator, objects[i]->bytes);
        assert_non_null(copy);
        *copy = *objects[i];
        valloc_free(objects[i]);
        objects[i] = copy;
        moved++;
    }
    return moved;
}

static size_t defragment_to_the_end(MemoryAllocator *allocator)
{
    size_t all = 0;
    size_t moved = 1;
    int passes = 0;
    for (; moved != 0 && passes < PASSES; passes++)
        all += moved = defragment(allocator);
    assert_true(moved < OBJECTS / 100);
    for (size_t i = 0; i < OBJECTS; i++)
        assert_true(objects[i] == NULL || objects[i]->number == i);
    return all;
}

static void free_all(void)
{
    for (size_t i = 0; i < OBJECTS; i++) {
        valloc_free(objects[i]);
        objects[i] = NULL;
    }
}

/* Frees 4 in 10 at random: too few for slabs to drain by themselves. */
static void fragment(MemoryAllocator *allocator, size_t bytes)
{
    uint32_t x = 1;
    for (size_t i = 0; i < OBJECTS; i++)
        make(allocator, i, bytes != 0 ? bytes : 16 + i % 50 * 16);
    for (size_t i = 0; i < OBJECTS; i++) {
        x = x * 1664525 + 1013904223;
        if (x >> 16 < 0x10000 / 10 * 4) {
            valloc_free(objects[i]);
            objects[i] = NULL;
        }
    }
}

static void check(MemoryAllocator *allocator, size_t bytes)
{
    size_t nothing = lent();
    fragment(allocator, bytes);
    valloc_purge();
    size_t before = lent() - nothing;
    size_t moved = defragment_to_the_end(allocator);
    valloc_purge();
    size_t after = lent() - nothing;
    print_message("objects of %zu bytes: %zu MiB in slabs, then %zu; %zu moved\n", bytes,
                  before >> 20, after >> 20, moved);
    assert_true(after <= before);
#if !(defined(VALLOC_SECURE) && VALLOC_SECURE)
    assert_true(after < before * 7 / 10 + (1 << 20)); /* 0.6 of it is live */
#endif
    free_all();
}

static void fewer_slabs_suffice(void **state)
{
    (void)state;
    check(valloc_process(), 200);
    check(valloc_process(), 48);
    check(valloc_process(), 3000);
    check(valloc_process(), 0); /* of many sizes */
}

static void allocators_have_slabs_of_their_own(void **state)
{
    (void)state;
    assert_int_equal(valloc_init(&heap, 1, 4), 0);
    check(&heap, 200);
    valloc_destroy(&heap);
}

/* A dense heap, whatever is no slot, and what is another thread's. */
static void *ask(void *unused)
{
    size_t hints = 0;
    (void)unused;
    for (size_t i = 0; i < OBJECTS; i++)
        hints += (size_t)valloc_defrag_hint(objects[i]);
    return (void *)hints;
}

static void most_need_not_move(void **state)
{
    (void)state;
    void *large = valloc_malloc(5 << 20);
    void *run = valloc_malloc(100000);
    assert_int_equal(valloc_defrag_hint(NULL), 0);
    assert_int_equal(valloc_defrag_hint(&heap), 0);
    assert_int_equal(valloc_defrag_hint(large), 0);
    assert_int_equal(valloc_defrag_hint(run), 0);
    valloc_free(large);
    valloc_free(run);
    for (size_t i = 0; i < OBJECTS; i++)
        make(valloc_process(), i, 200);
    assert_true((size_t)ask(NULL) < 2000); /* one slab at most is not full */
    free_all();
    fragment(valloc_process(), 200);
    pthread_t thread;
    void *hints;
    assert_int_equal(pthread_create(&thread, NULL, ask, NULL), 0);
    assert_int_equal(pthread_join(thread, &hints), 0);
    assert_int_equal((size_t)hints, 0);
    free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fewer_slabs_suffice),
        cmocka_unit_test(allocators_have_slabs_of_their_own),
        cmocka_unit_test(most_need_not_move),
    };
    return cmocka_run_group_tests_name("defragmentation", tests, NULL, NULL);
}
