/* test_stress.c: threads allocate, hand over and free blocks that know their contents, in every
 * pattern of ownership; what a block holds is checked at its end. */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>

#include "subject.h"

#define THREADS 8
#define TURNS 60000

/* What every block starts with; the rest of it is filled with a byte made from both. */
typedef struct Header {
    size_t size;
    uint64_t check;
} Header;

static _Atomic unsigned long damaged;

static unsigned char filling(const Header *block)
{
    return (unsigned char)(block->size * 31 + ((uintptr_t)block >> 4));
}

static size_t random_size(uint64_t *seed)
{
    uint64_t r = random_next(seed);
    size_t most = r % 2000 == 0 ? (size_t)3 << 20 : r % 50 == 0 ? 200000 : r % 8 == 0 ? 8000 : 300;
    return sizeof(Header) + (size_t)(r >> 20) % most;
}

static Header *make(uint64_t *seed)
{
    size_t size = random_size(seed);
    uint64_t r = random_next(seed);
    Header *block;
    if (r % 16 == 0)
        block = subject_aligned_alloc((size_t)16 << (r >> 8) % 10, size);
    else if (r % 16 == 1)
        block = subject_calloc(1, size);
    else
        block = subject_malloc(size);
    if (block == NULL) {
        damaged++;
        return NULL;
    }
    if (r % 16 == 1 && !bytes_hold(block, size, 0))
        damaged++;
    block->size = size;
    block->check = ~(uint64_t)(uintptr_t)block ^ size;
    fill_bytes(block + 1, size - sizeof *block, filling(block));
    return block;
}

static void check(const Header *block)
{
    if (block->check != (~(uint64_t)(uintptr_t)block ^ block->size) ||
        !bytes_hold(block + 1, block->size - sizeof *block, filling(block)))
        damaged++;
}

static void end(Header *block)
{
    if (block == NULL)
        return;
    check(block);
    subject_free(block);
}

static Header *resize(Header *block, uint64_t *seed)
{
    size_t size = random_size(seed);
    size_t kept = (size < block->size ? size : block->size) - sizeof *block;
    unsigned char fill = filling(block);
    check(block);
    block = subject_realloc(block, size);
    /* Of what was written only the two ends are known; the first one stays in any case. */
    if (block == NULL ||
        !bytes_hold(block + 1, kept < FILL_EDGE / 2 ? kept : FILL_EDGE / 2, fill)) {
        damaged++;
        return block;
    }
    block->size = size;
    block->check = ~(uint64_t)(uintptr_t)block ^ size;
    fill_bytes(block + 1, size - sizeof *block, filling(block));
    return block;
}

static void run_threads(size_t count, void *(*body)(void *))
{
    pthread_t threads[64];
    damaged = 0;
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, body, (void *)(i + 1)), 0);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(damaged, 0);
}

/* ---- Own: each thread frees what it allocates ---- */

static void *own(void *number)
{
    static _Thread_local Header *live[1000];
    uint64_t seed = (uintptr_t)number * 977;
    for (int i = 0; i < TURNS; i++) {
        Header **place = &live[random_next(&seed) % 1000];
        if (*place != NULL && random_next(&seed) % 8 == 0) {
            *place = resize(*place, &seed);
            continue;
        }
        end(*place);
        *place = make(&seed);
    }
    for (int i = 0; i < 1000; i++)
        end(live[i]);
    return NULL;
}

/* ---- All to all: blocks in shared places, freed by whoever replaces them ---- */

static _Atomic(Header *) shared[4000];

static void *all_to_all(void *number)
{
    uint64_t seed = (uintptr_t)number * 1571;
    for (int i = 0; i < TURNS; i++) {
        Header *mine = make(&seed);
        end(atomic_exchange(&shared[random_next(&seed) % 4000], mine));
    }
    return NULL;
}

static void end_shared(void)
{
    for (int i = 0; i < 4000; i++)
        end(atomic_exchange(&shared[i], NULL));
    assert_int_equal(damaged, 0);
}

/* ---- Queues: producers allocate, others free ---- */

#define QUEUE 1024
static _Atomic(Header *) queues[THREADS][QUEUE];

static void produce(size_t queue, uint64_t *seed)
{
    for (int i = 0; i < TURNS; i++) {
        Header *block = make(seed);
        Header *expected = NULL;
        _Atomic(Header *) *place = &queues[queue][(size_t)i % QUEUE];
        while (!atomic_compare_exchange_weak(place, &expected, block)) {
            expected = NULL;
            sched_yield();
        }
    }
}

static void consume(size_t queue, int at)
{
    _Atomic(Header *) *place = &queues[queue][(size_t)at % QUEUE];
    Header *block;
    while ((block = atomic_exchange(place, NULL)) == NULL)
        sched_yield();
    end(block);
}

static void *pairs(void *number)
{
    size_t n = (uintptr_t)number - 1;
    uint64_t seed = n + 31;
    if (n % 2 == 0)
        produce(n / 2, &seed);
    else
        for (int i = 0; i < TURNS; i++)
            consume(n / 2, i);
    return NULL;
}

/* The last thread only frees what all others make. */
static void *free_only(void *number)
{
    size_t n = (uintptr_t)number - 1;
    uint64_t seed = n + 77;
    if (n < THREADS - 1) {
        produce(n, &seed);
    } else {
        for (int i = 0; i < TURNS; i++)
            for (size_t queue = 0; queue < THREADS - 1; queue++)
                consume(queue, i);
    }
    return NULL;
}

/* ---- Threads that come and go, leaving blocks to others ---- */

static void *visitor(void *number)
{
    uint64_t seed = (uintptr_t)number;
    for (int i = 0; i < 300; i++)
        end(atomic_exchange(&shared[random_next(&seed) % 4000], make(&seed)));
    return NULL;
}

static void *host(void *number)
{
    for (uintptr_t i = 0; i < 200; i++) {
        pthread_t thread;
        uintptr_t seed = ((uintptr_t)number << 32) + i * 7919 + 1;
        if (pthread_create(&thread, NULL, visitor, (void *)seed) != 0 ||
            pthread_join(thread, NULL) != 0)
            damaged++;
    }
    return NULL;
}

/* ---- The tests ---- */

static void own_blocks(void **state)
{
    (void)state;
    run_threads(1, own);
    run_threads(THREADS, own);
}

static void all_to_all_blocks(void **state)
{
    (void)state;
    run_threads(THREADS, all_to_all);
    end_shared();
}

static void producers_and_consumers(void **state)
{
    (void)state;
    run_threads(THREADS, pairs);
}

static void a_thread_that_only_frees(void **state)
{
    (void)state;
    run_threads(THREADS, free_only);
}

static void threads_that_come_and_go(void **state)
{
    (void)state;
    run_threads(4, host);
    end_shared();
}

static void more_threads_than_cores(void **state)
{
    (void)state;
    run_threads(64, visitor);
    run_threads(32, all_to_all);
    end_shared();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_blocks),
        cmocka_unit_test(all_to_all_blocks),
        cmocka_unit_test(producers_and_consumers),
        cmocka_unit_test(a_thread_that_only_frees),
        cmocka_unit_test(threads_that_come_and_go),
        cmocka_unit_test(more_threads_than_cores),
    };
    return cmocka_run_group_tests_name("stress", tests, NULL, NULL);
}
