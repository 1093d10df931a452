/* instances.c: what an allocator of one's own costs beside that of the process, in one run, in
 * turns, by medians of 15 rounds.
 *
 *   pair      allocate 64 B, write a byte, free: the process; an allocator; one whose thread has no
 *             cache of its own and uses the shared one
 *   life      init and destroy of an empty allocator; with ten allocations between
 *   destroy   1 GiB in 1 Mi slots: freed one by one; destroyed */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <pthread.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define ROUNDS 15
#define PAIRS 2000000
#define LIVES 10000
#define SLOTS ((size_t)1 << 20)

enum { PROCESS, OWN, SHARED, EMPTY_LIFE, SMALL_LIFE, FREE_EACH, DESTROY, MEASURES };
static double samples[MEASURES][ROUNDS];
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

/* In a thread with id 2: an allocator for one thread has no place for it. */
static void *measure(void *unused)
{
    (void)unused;
    MemoryAllocator own = {0}, narrow = {0}, full = {0};
    if (valloc_init(&own, 1, 64) != 0 || valloc_init(&narrow, 1, 1) != 0)
        fail();
    for (int round = 0; round < ROUNDS; round++) {
        samples[PROCESS][round] = pairs_of_process();
        samples[OWN][round] = pairs_of(&own);
        samples[SHARED][round] = pairs_of(&narrow);
        samples[EMPTY_LIFE][round] = lives(0);
        samples[SMALL_LIFE][round] = lives(10);
        fill(&full);
        samples[FREE_EACH][round] = free_each(&full);
        valloc_destroy(&full);
        fill(&full);
        samples[DESTROY][round] = destroy(&full);
    }
    valloc_destroy(&own);
    valloc_destroy(&narrow);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(int measure)
{
    qsort(samples[measure], ROUNDS, sizeof(double), by_value);
    return samples[measure][ROUNDS / 2];
}

int main(void)
{
    pthread_t thread;
    valloc_free(touch(valloc_malloc(1))); /* this thread takes the first id */
    if (pthread_create(&thread, NULL, measure, NULL) != 0)
        fail();
    pthread_join(thread, NULL);
    double process = median(PROCESS), own = median(OWN), shared = median(SHARED);
    double each = median(FREE_EACH), destroyed = median(DESTROY);
    printf("pair, 64 B: process %.2f ns, allocator %.2f ns (%.2f), shared cache %.2f ns (%.2f)\n",
           process, own, own / process, shared, shared / process);
    printf("life of an empty allocator: %.2f us; with ten allocations: %.2f us\n",
           median(EMPTY_LIFE) / 1000, median(SMALL_LIFE) / 1000);
    printf("1 GiB in 1 Mi slots: freed in %.2f ms, destroyed in %.2f ms: %.0f times faster\n",
           each / 1e6, destroyed / 1e6, each / destroyed);
    return 0;
}
