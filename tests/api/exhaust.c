/* exhaust.c LEAST_MIB [large]: allocates under an address-space limit until it is refused, at every
 * kind of size (or at large ones only, of which little is touched), several times over, and with
 * threads that work at the limit in between: refusals are NULL with ENOMEM, at least LEAST_MIB can
 * be had each time, what was had is intact, and all works again after freeing. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS_MAX ((size_t)1 << 20)

static int complain(const char *what, size_t size, size_t got)
{
    fprintf(stderr, "%s: blocks of %zu bytes, %zu MiB\n", what, size, got >> 20);
    return 1;
}

static int fill_up(size_t size, size_t least)
{
    static unsigned char *blocks[BLOCKS_MAX];
    size_t count = 0;
    errno = 0;
    while (count < BLOCKS_MAX && (blocks[count] = malloc(size)) != NULL) {
        blocks[count][0] = (unsigned char)count;
        blocks[count][size - 1] = (unsigned char)count;
        count++;
    }
    if (count == BLOCKS_MAX)
        return complain("the limit never came", size, count * size);
    if (errno != ENOMEM)
        return complain("refused without ENOMEM", size, count * size);
    if (count * size < least)
        return complain("refused too early", size, count * size);
    if (calloc(1, least * 8) != NULL || realloc(blocks[0], least * 8) != NULL)
        return complain("got more than there is", size, count * size);
    for (size_t i = 0; i < count; i++)
        if (blocks[i][size - 1] != (unsigned char)i ||
            (size > 1 && blocks[i][0] != (unsigned char)i))
            return complain("contents lost", size, count * size);
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    return 0;
}

/* ---- Threads at the limit ---- */

#define THREADS 4
#define PLACES 500
#define TURNS 5000
/* Threads' stacks are part of the address space. */
#define STACK_BYTES ((size_t)256 << 10)

static size_t least_bytes;
static _Atomic unsigned long refusals;

typedef struct Held {
    size_t size; /* both of them also at its end */
    uint64_t value;
} Held;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* On the average a thousandth of what can be had: all places together want three times as much. */
static size_t random_size(uint64_t *seed)
{
    uint64_t r = next_random(seed);
    return 2 * sizeof(Held) + (size_t)(r >> 20) % (r % 2 ? 4000 : least_bytes / 160);
}

static void sign(Held *block, size_t size, uint64_t value)
{
    Held held = {size, value};
    *block = held;
    memcpy((char *)block + size - sizeof held, &held, sizeof held);
}

static int is_intact(const Held *block)
{
    return memcmp((const char *)block + block->size - sizeof *block, block, sizeof *block) == 0;
}

/* Makes, resizes or frees the block of a place. False if a block was damaged, or refused without
 * ENOMEM. */
static int change(Held **place, uint64_t *seed)
{
    uint64_t r = next_random(seed);
    size_t size = random_size(seed);
    Held *block = *place;
    if (block != NULL && !is_intact(block))
        return 0;
    if (block != NULL && r % 4 != 0) {
        free(block);
        *place = NULL;
        return 1;
    }
    uint64_t value = block != NULL ? block->value : r;
    errno = 0;
    Held *made = block != NULL ? realloc(block, size) : r % 5 ? malloc(size) : calloc(1, size);
    if (made == NULL) {
        refusals++;
        return errno == ENOMEM;
    }
    if (block != NULL && made->value != value)
        return 0;
    sign(made, size, value);
    *place = made;
    return 1;
}

/* All threads hold their blocks at the same time, however they are scheduled; and none takes any
 * before all are there: making a thread takes memory. */
static pthread_barrier_t all_hold;

static void *work(void *number)
{
    static Held *all[THREADS][PLACES];
    Held **places = all[(uintptr_t)number];
    uint64_t seed = (uintptr_t)number * 7919 + 1;
    size_t good = 1;
    pthread_barrier_wait(&all_hold);
    for (int i = 0; i < TURNS && good; i++) {
        good = (size_t)change(&places[next_random(&seed) % PLACES], &seed);
        if (i % 2000 == 0)
            malloc_trim(0);
    }
    pthread_barrier_wait(&all_hold);
    for (size_t i = 0; i < PLACES; i++) {
        if (places[i] != NULL && !is_intact(places[i]))
            good = 0;
        free(places[i]);
        places[i] = NULL;
    }
    return (void *)good;
}

static int work_in_threads(void)
{
    pthread_t threads[THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_barrier_init(&all_hold, NULL, THREADS);
#if defined(VALLOC_SECURE) && VALLOC_SECURE
    malloc_trim(0); /* slots that are quarantined at the end of the heap keep all of it mapped */
#endif
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], &attributes, work, (void *)i) != 0)
            return complain("no thread", 0, i);
    for (size_t i = 0; i < THREADS; i++) {
        void *good = NULL;
        pthread_join(threads[i], &good);
        if (good == NULL)
            return complain("a block was damaged, or refused without ENOMEM", 0, 0);
    }
    pthread_attr_destroy(&attributes);
    return 0;
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {2000, 5000, 30000, 100000, 700000, 3 << 20, 2000};
    static const size_t large[] = {700000, 3 << 20, 50 << 20, 700000};
    if (argc < 2)
        return 2;
    const size_t *used = argc == 2 ? sizes : large;
    size_t count = argc == 2 ? sizeof sizes / sizeof *sizes : sizeof large / sizeof *large;
    least_bytes = strtoul(argv[1], NULL, 10) << 20;
    for (size_t turn = 0; turn < 2; turn++) {
        for (size_t i = turn == 0 ? 0 : count - 2; i < count; i++)
            if (fill_up(used[i], least_bytes) != 0)
                return 1;
        if (work_in_threads() != 0)
            return 1;
    }
    if (fill_up(used[0], least_bytes) != 0)
        return 1;
    printf("%lu requests refused, and recovered\n", refusals);
    return refusals == 0 ? complain("the threads met no limit", 0, 0) : 0;
}
