/* operations.c OPERATION: repeats one operation of malloc's family, to count its instructions.
 *
 * Every call of the allocator is in a function `call_NAME` that does nothing else, so callgrind can
 * separate it from the loop. Counting begins in `measured`. The same work was done before, so the
 * heap is warm, except in `fresh`.
 *
 * The allocator sees a clock that stands still. Otherwise periodic work, like trimming caches,
 * would make the counts depend on the machine's speed.
 *
 *   pair SIZE         malloc, free
 *   calloc SIZE       calloc, free
 *   aligned SIZE      aligned_alloc to 64 bytes, free
 *   sized SIZE        C++'s operator new, its sized delete
 *   growth SIZE       a buffer that realloc grows from 64 bytes to SIZE, by half at a time, free
 *   resize SIZE       a block that realloc doubles and halves in turns
 *   fresh SIZE        10,000 mallocs without a free
 *   ordered SIZE      10,000 mallocs, then all frees in the same order
 *   random SIZE       the same, freed at random
 *   loop SIZE         16 mallocs of each size up to SIZE, an eighth apart, then all frees in order
 *   remote SIZE       10,000 mallocs, all freed in order by another thread
 *   exchange SIZE     another thread's blocks freed, and malloc, in turns
 *   batch SIZE        valloc_allocate_batch of 100, valloc_free_batch; ends with status 3
 *                     without valloc
 *   instance SIZE     valloc_allocate, free_valloc; ends with status 3 without valloc */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"
#pragma weak valloc_init
#pragma weak valloc_allocate
#pragma weak valloc_allocate_batch
#pragma weak valloc_free_batch
#pragma weak free_valloc

#define BLOCKS 10000
/* Loops of pairs, and rounds of all blocks. */
#define PAIRS 10000
#define ROUNDS 4
#define BATCH 100

#define CALL static __attribute__((noinline))

void *operator_new(size_t) __asm__("_Znwm");
void operator_delete_sized(void *, size_t) __asm__("_ZdlPvm");

static size_t size;
static MemoryAllocator allocator;
static void *blocks[BLOCKS];
static size_t turns[BLOCKS];

/* In place of libc's, also for the libraries preloaded. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = (struct timespec){.tv_sec = 1000};
    return 0;
}

static void *touched(void *block)
{
    if (block == NULL)
        abort();
    *(volatile char *)block = 1;
    return block;
}

CALL void *call_malloc(void)
{
    return malloc(size);
}

CALL void *call_calloc(void)
{
    return calloc(1, size);
}

CALL void *call_aligned(void)
{
    return aligned_alloc(64, size);
}

CALL void *call_realloc(void *block, size_t bytes)
{
    return realloc(block, bytes);
}

CALL void *call_new(void)
{
    return operator_new(size);
}

CALL void *call_allocate(void)
{
    return valloc_allocate(&allocator, size);
}

CALL size_t call_allocate_batch(void)
{
    return valloc_allocate_batch(size, BATCH, blocks);
}

CALL void call_free_batch(void)
{
    valloc_free_batch(blocks, BATCH);
}

CALL void call_free(void *block)
{
    free(block);
}

CALL void call_sized(void *block)
{
    operator_delete_sized(block, size);
}

CALL void call_release(void *block)
{
    free_valloc(&allocator, block);
}

static void pairs(void *(*allocate)(void), void (*release)(void *))
{
    for (int i = 0; i < PAIRS; i++)
        release(touched(allocate()));
}

static void pair(void)
{
    pairs(call_malloc, call_free);
}

/* Fewer: what is counted most is the zeroing. */
static void zeroed(void)
{
    for (int i = 0; i < PAIRS / 10; i++)
        call_free(touched(call_calloc()));
}

static void aligned(void)
{
    pairs(call_aligned, call_free);
}

static void sized(void)
{
    pairs(call_new, call_sized);
}

static void instance(void)
{
    pairs(call_allocate, call_release);
}

static void batch(void)
{
    for (int i = 0; i < PAIRS / BATCH; i++) {
        if (call_allocate_batch() != BATCH)
            abort();
        call_free_batch();
    }
}

static void growth(void)
{
    for (int i = 0; i < PAIRS / 1000; i++) {
        size_t bytes = 64;
        char *buffer = touched(malloc(bytes));
        while (bytes < size) {
            bytes += bytes / 2;
            buffer = touched(call_realloc(buffer, bytes));
        }
        call_free(buffer);
    }
}

static void resize(void)
{
    char *block = touched(malloc(size));
    for (int i = 0; i < PAIRS; i++)
        block = touched(call_realloc(block, i % 2 == 0 ? 2 * size : size));
    call_free(block);
}

static void fill(void)
{
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = touched(call_malloc());
}

static void *empty(void *unused)
{
    (void)unused;
    for (int i = 0; i < BLOCKS; i++)
        call_free(blocks[turns[i]]);
    return NULL;
}

static void loop(void)
{
    size_t most = size;
    for (int round = 0; round < PAIRS / 100; round++) {
        int count = 0;
        for (size = 16; size <= most; size += size < 128 ? 16 : size / 8)
            for (int i = 0; i < 16 && count < BLOCKS; i++)
                blocks[count++] = touched(call_malloc());
        for (int i = 0; i < count; i++)
            call_free(blocks[i]);
    }
    size = most;
}

static void in_thread(void *(*work)(void *))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) != 0)
        abort();
    pthread_join(thread, NULL);
}

static void bulk(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        fill();
        empty(NULL);
    }
}

static void shuffled(void)
{
    uint64_t state = 88172645463325252u;
    for (size_t i = BLOCKS - 1; i > 0; i--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        size_t other = state % (i + 1);
        size_t swap = turns[i];
        turns[i] = turns[other];
        turns[other] = swap;
    }
    bulk();
}

static void remote(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        fill();
        in_thread(empty);
    }
}

static void *replace_all(void *unused)
{
    (void)unused;
    for (int i = 0; i < BLOCKS; i++) {
        call_free(blocks[i]);
        blocks[i] = touched(call_malloc());
    }
    return NULL;
}

/* Every round's thread frees what the one before it allocated. */
static void exchange(void)
{
    for (int round = 0; round < ROUNDS; round++)
        in_thread(replace_all);
}

static const struct {
    const char *name;
    void (*work)(void);
} operations[] = {
    {"pair", pair},       {"calloc", zeroed}, {"aligned", aligned},   {"sized", sized},
    {"growth", growth},   {"resize", resize}, {"fresh", fill},        {"ordered", bulk},
    {"random", shuffled}, {"remote", remote}, {"exchange", exchange}, {"instance", instance},
    {"loop", loop},       {"batch", batch},
};

/* callgrind forgets what it counted before: --zero-before. */
CALL void measured(void (*work)(void))
{
    work();
}

int main(int argc, char **argv)
{
    if (argc != 3 || (size = strtoul(argv[2], NULL, 10)) == 0)
        return 2;
    for (size_t i = 0; i < BLOCKS; i++)
        turns[i] = i;
    if (strcmp(argv[1], "exchange") == 0)
        fill();
    if (strcmp(argv[1], "batch") == 0 && valloc_allocate_batch == NULL)
        return 3;
    if (strcmp(argv[1], "instance") == 0) {
        if (valloc_init == NULL)
            return 3;
        if (valloc_init(&allocator, 1, 4) != 0)
            return 1;
    }
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        if (strcmp(argv[1], operations[i].name) != 0)
            continue;
        if (operations[i].work != fill)
            operations[i].work();
        measured(operations[i].work);
        return 0;
    }
    return 2;
}
