/* test_commit.c: memory that the kernel does not grant, as under overcommit_memory=2: each amount
 * in a process of its own. Refusals are NULL with ENOMEM, what was had is intact, all of it can be
 * had again after freeing, and no refusal costs address space or memory. */
#include "support.h"

#include <errno.h>
#include <pthread.h>

#include "child.h"
#include "base/config.h"
#include "simulated.h"

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define BLOCKS 20000
#define THREADS 3
/* Tables, caches and the step by which the heap grows: bytes. Beyond a small heap entries of the
 * whole sparse zone are among them. Checked builds also have tables of states, which take
 * blocks that have entries. */
#define IS_SMALL(limit) ((limit) < (size_t)48 << 20)
#define LOST_STATES (VALLOC_CHECKS ? 8 : 0)
#define LOST(limit) ((size_t)((IS_SMALL(limit) ? 4 : 14) + LOST_STATES) << 20)

typedef struct Held {
    unsigned char *block;
    size_t size;
    unsigned char value;
} Held;

static size_t random_size(uint64_t *seed)
{
    uint64_t r = random_next(seed);
    size_t most = r % 200 == 0 ? (size_t)4 << 20 : r % 20 == 0 ? 200000 : 5000;
    return 1 + (size_t)(r >> 20) % most;
}

static unsigned char *make(uint64_t *seed, size_t *size)
{
    *size = random_size(seed);
    switch (random_next(seed) % 3) {
    case 0:
        return valloc_calloc(1, *size);
    case 1:
        return valloc_aligned_alloc((size_t)1 << (4 + random_next(seed) % 14), *size);
    default:
        return valloc_malloc(*size);
    }
}

/* How many bytes can be had in blocks of one size. */
static size_t capacity(void)
{
    static void *blocks[80000];
    size_t count = 0;
    errno = 0;
    while ((blocks[count] = valloc_malloc(2000)) != NULL)
        require(++count < sizeof blocks / sizeof *blocks);
    require(errno == ENOMEM);
    for (size_t i = 0; i < count; i++)
        valloc_free(blocks[i]);
    return count * 2000;
}

/* Takes blocks of any size until the tenth refusal, checks and frees them. */
static void fill(uint64_t seed)
{
    Held *held = calloc(BLOCKS, sizeof *held); /* libc's */
    int refusals = 0;
    require(held != NULL);
    for (size_t i = 0; i < BLOCKS && refusals < 10; i++) {
        Held *one = &held[i];
        one->value = (unsigned char)(1 + i % 250);
        errno = 0;
        one->block = make(&seed, &one->size);
        if (one->block != NULL && random_next(&seed) % 8 == 0) {
            size_t size = random_size(&seed);
            unsigned char *moved = valloc_realloc(one->block, size);
            if (moved != NULL) {
                one->block = moved;
                one->size = size;
            } else {
                require(errno == ENOMEM);
            }
        }
        if (one->block == NULL) {
            require(errno == ENOMEM);
            refusals++;
            continue;
        }
        fill_bytes(one->block, one->size, one->value);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (held[i].block == NULL)
            continue;
        require(bytes_hold(held[i].block, held[i].size, held[i].value));
        valloc_free(held[i].block);
    }
    free(held);
}

static void *fill_in_thread(void *seed)
{
    for (int turn = 0; turn < 3; turn++)
        fill((uintptr_t)seed);
    return NULL;
}

static size_t reserved(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats.reserved;
}

static void with_little(void *bytes)
{
    pthread_t threads[THREADS];
    size_t limit = (uintptr_t)bytes;
    test_commit_rest = limit;
    size_t first = capacity();
    require(first + LOST(limit) >= limit && first <= limit);
    /* Once refused, the heap leaves some of it to the program. */
    size_t again = first - va_min(first, ((size_t)3 << 20) + va_min(VA_LEAVE_BYTES, first / 16));
    for (uint64_t turn = 0; turn < 4; turn++) {
        fill(turn + 5);
        valloc_purge();
    }
    require(capacity() >= again);
    for (uintptr_t i = 0; i < THREADS; i++)
        require(pthread_create(&threads[i], NULL, fill_in_thread, (void *)(i + 17)) == 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    size_t address_space = 0;
    for (int i = 0; i < 200; i++) { /* more than there is, again and again */
        errno = 0;
        require(valloc_malloc((size_t)100 << 20) == NULL && errno == ENOMEM);
        if (i == 0) /* the first one may have mapped tables */
            address_space = reserved();
    }
    require(reserved() <= address_space + ((size_t)1 << 20));
    require(capacity() >= again);
    test_commit_rest = SIZE_MAX;
    fill(1);
    void *large = valloc_calloc(1, (size_t)100 << 20);
    require(large != NULL);
    valloc_free(large);
}

static void little_memory_is_all_used_and_no_more(void **state)
{
    (void)state;
    static const size_t kib[] = {0, 4, 64, 300, 1000, 2000, 5000, 8000, 12000, 14000, 20000, 70000};
    for (size_t i = 0; i < sizeof kib / sizeof *kib; i++) {
        Child child = child_run(with_little, (void *)(kib[i] << 10));
        if (child.status != 0)
            fail_msg("with %zu KiB: status %x, %s", kib[i], (unsigned)child.status, child.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(little_memory_is_all_used_and_no_more)};
    return cmocka_run_group_tests_name("commit", tests, NULL, NULL);
}
