/* instances.c: compares a MemoryAllocator with the allocator of the process, in one run, in
 * turns. Prints a line for each measurement: measure, round, ns. own.py computes medians.
 *
 *   pair_process   allocate 64 B, write a byte, free: in the process's allocator
 *   pair_own       the same in a MemoryAllocator
 *   pair_shared    the same in one whose shared cache the thread has to use
 *   life_empty     init and destroy
 *   life_small     the same with ten allocations in between
 *   free_each      1 GiB in 1 Mi slots, freed one by one
 *   destroy        the same, destroyed
 *
 * instances [ROUNDS] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <pthread.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define PAIRS 2000000
#define LIVES 10000
#define SLOTS ((size_t)1 << 20)

static long rounds = 15;
static void *slots[SLOTS];

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static _Noreturn void fail(void)
{
    perror("instances");
    exit(1);
}

static void *touch(void *block)
{
    if (block == NULL)
        fail();
    *(volatile char *)block = 1;
    return block;
}

static double pairs_of_process(void)
{
    double start = now_ns();
    for (int i = 0; i < PAIRS; i++)
        valloc_free(touch(valloc_malloc(64)));
    return (now_ns() - start) / PAIRS;
}

static double pairs_of(MemoryAllocator *allocator)
{
    double start = now_ns();
    for (int i = 0; i < PAIRS; i++)
        free_valloc(allocator, touch(valloc_allocate(allocator, 64)));
    return (now_ns() - start) / PAIRS;
}

static double lives(int allocations)
{
    MemoryAllocator allocator = {0};
    double start = now_ns();
    for (int i = 0; i < LIVES; i++) {
        if (valloc_init(&allocator, 1, 4) != 0)
            fail();
        for (int j = 0; j < allocations; j++)
            touch(valloc_allocate(&allocator, 100));
        valloc_destroy(&allocator);
    }
    return (now_ns() - start) / LIVES;
}

static void fill(MemoryAllocator *allocator)
{
    if (valloc_init(allocator, 1, 4) != 0)
        fail();
    for (size_t i = 0; i < SLOTS; i++)
        slots[i] = touch(valloc_allocate(allocator, 1024));
}

static double free_each(MemoryAllocator *allocator)
{
    double start = now_ns();
    for (size_t i = 0; i < SLOTS; i++)
        free_valloc(allocator, slots[i]);
    return now_ns() - start;
}

static double destroy(MemoryAllocator *allocator)
{
    double start = now_ns();
    valloc_destroy(allocator);
    return now_ns() - start;
}

static void keep(const char *measure, long round, double ns)
{
    printf("%s %ld %.2f\n", measure, round, ns);
    fflush(stdout);
}

/* In a thread with id 2: an allocator for one thread has no place for it. */
static void *measure(void *unused)
{
    (void)unused;
    MemoryAllocator own = {0}, narrow = {0}, full = {0};
    if (valloc_init(&own, 1, 64) != 0 || valloc_init(&narrow, 1, 1) != 0)
        fail();
    for (long round = 0; round < rounds; round++) {
        keep("pair_process", round, pairs_of_process());
        keep("pair_own", round, pairs_of(&own));
        keep("pair_shared", round, pairs_of(&narrow));
        keep("life_empty", round, lives(0));
        keep("life_small", round, lives(10));
        fill(&full);
        keep("free_each", round, free_each(&full));
        valloc_destroy(&full);
        fill(&full);
        keep("destroy", round, destroy(&full));
    }
    valloc_destroy(&own);
    valloc_destroy(&narrow);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc > 1)
        rounds = strtol(argv[1], NULL, 10);
    valloc_free(touch(valloc_malloc(1))); /* this thread takes the first id */
    if (pthread_create(&thread, NULL, measure, NULL) != 0)
        fail();
    pthread_join(thread, NULL);
    return 0;
}
