/* test_lifetimes.c: memory after threads are gone, memory that crosses threads, a thread that
 * blocks: resident memory stays flat. Each test prints its series in KiB. */
#include "support.h"

#include <pthread.h>
#include <semaphore.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "subject.h"

#ifdef SANITIZED
#define SHORT_THREADS 4000 /* sanitizers make threads dear */
#else
#define SHORT_THREADS 100000
#endif
#if defined(VALLOC_SECURE) &&                                                                      \
    VALLOC_SECURE /* slots in random order: every turn touches new pages */
#define SLACK_KIB (32 << 10)
#else
#define SLACK_KIB (8 << 10) /* 256 caches of exited threads, or four huge pages */
#endif

/* Resident memory; under sanitizers, whose shadow memory grows with ours, what the allocator says
 * of itself. */
static long resident_kib(void)
{
#ifdef SANITIZED
    valloc_stats stats;
    valloc_get_stats(&stats);
    return (long)((stats.lent + stats.dirty + stats.metadata) >> 10);
#else
    return status_kib("VmRSS:");
#endif
}

static void must_be_flat(const char *what, const long *series, size_t count)
{
    printf("%s, KiB:", what);
    for (size_t i = 0; i < count; i++)
        printf(" %ld", series[i]);
    printf("\n");
    /* How many threads meet in the first turn is up to the scheduler. */
    long start = count > 2 && series[1] > series[0] ? series[1] : series[0];
    for (size_t i = 1; i < count; i++)
        if (series[i] > start + SLACK_KIB)
            fail_msg("%s: from %ld to %ld KiB", what, start, series[i]);
}

static void *short_life(void *left)
{
    void *blocks[20];
    for (size_t i = 0; i < 20; i++) {
        blocks[i] = subject_malloc(10 + i * i * 20);
        if (blocks[i] != NULL)
            memset(blocks[i], 1, 10);
    }
    for (size_t i = 0; i < 20; i++)
        subject_free(blocks[i]);
    *(void **)left = subject_malloc(100); /* freed by the starter, after this thread's end */
    return NULL;
}

static void many_short_threads(void **state)
{
    (void)state;
    long series[10];
    int done = 0;
    for (int point = 0; point < 10; point++) {
        for (; done < SHORT_THREADS / 10 * (point + 1); done++) {
            pthread_t thread;
            void *left = NULL;
            assert_int_equal(pthread_create(&thread, NULL, short_life, &left), 0);
            pthread_join(thread, NULL);
            assert_non_null(left);
            subject_free(left);
        }
        series[point] = resident_kib();
    }
    must_be_flat("short threads, one after another", series, 10);
}

static sem_t arrived;
static sem_t leave;

static void *guest(void *unused)
{
    (void)unused;
    void *block = subject_malloc(1000);
    sem_post(&arrived);
    sem_wait(&leave);
    subject_free(block);
    return NULL;
}

static void many_threads_at_once(void **state)
{
    (void)state;
#ifdef SANITIZED
    enum { GUESTS = 500 };
#else
    enum { GUESTS = 2000 };
#endif
    static pthread_t threads[GUESTS];
    long series[4];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    sem_init(&arrived, 0, 0);
    sem_init(&leave, 0, 0);
    for (int turn = -1; turn < 4; turn++) { /* the first one leaves caches that others go on with */
        for (int i = 0; i < GUESTS; i++)
            assert_int_equal(pthread_create(&threads[i], &attributes, guest, NULL), 0);
        for (int i = 0; i < GUESTS; i++)
            sem_wait(&arrived);
        for (int i = 0; i < GUESTS; i++)
            sem_post(&leave);
        for (int i = 0; i < GUESTS; i++)
            pthread_join(threads[i], NULL);
        if (turn >= 0)
            series[turn] = resident_kib();
    }
    must_be_flat("many threads at once, again and again", series, 4);
}

/* Memory freed into owners that have exited serves whoever allocates next. */
#define LEFT_BLOCKS 20000
static void *left_blocks[LEFT_BLOCKS];

static void *leaver(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < LEFT_BLOCKS; i++) {
        left_blocks[i] = subject_malloc(500);
        if (left_blocks[i] != NULL)
            memset(left_blocks[i], 1, 500);
    }
    return NULL;
}

static void memory_of_exited_owners_is_used(void **state)
{
    (void)state;
    long series[10];
    for (int turn = -1; turn < 10; turn++) { /* in the first one what others freed may go */
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, leaver, NULL), 0);
        pthread_join(thread, NULL);
        for (size_t i = 0; i < LEFT_BLOCKS; i++)
            subject_free(left_blocks[i]);
        if (turn >= 0)
            series[turn] = resident_kib();
    }
    must_be_flat("freed into exited owners", series, 10);
}

/* A one-way stream of blocks through a thread that only frees. */
#define RING 4096
static _Atomic(void *) ring[RING];
static _Atomic long ring_bad;

static void *drain(void *rounds)
{
    for (size_t i = 0; i < (uintptr_t)rounds; i++) {
        void *block;
        while ((block = atomic_exchange(&ring[i % RING], NULL)) == NULL)
            sched_yield();
        if (*(size_t *)block != i)
            ring_bad++;
        subject_free(block);
    }
    return NULL;
}

static void a_stream_through_a_freeing_thread(void **state)
{
    (void)state;
    const size_t rounds = 400000;
    long series[8];
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, drain, (void *)rounds), 0);
    for (size_t i = 0; i < rounds; i++) {
        size_t *block = subject_malloc(16 + i % 500);
        void *expected = NULL;
        *block = i;
        while (!atomic_compare_exchange_weak(&ring[i % RING], &expected, (void *)block)) {
            expected = NULL;
            sched_yield();
        }
        if ((i + 1) % (rounds / 8) == 0)
            series[(i + 1) / (rounds / 8) - 1] = resident_kib();
    }
    pthread_join(thread, NULL);
    assert_int_equal(ring_bad, 0);
    must_be_flat("a stream through a thread that only frees", series, 8);
}

/* A thread that sleeps for ever on its cache: what others free of its blocks is used again. */
static void *sleeper(void *unused)
{
    leaver(unused);
    sem_post(&arrived);
    sem_wait(&leave);
    leaver(unused); /* fits into what was freed meanwhile */
    sem_post(&arrived);
    sem_wait(&leave);
    return NULL;
}

static void a_sleeping_owner_gets_its_slots_back(void **state)
{
    (void)state;
    long series[2];
    pthread_t thread;
    sem_init(&arrived, 0, 0);
    sem_init(&leave, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, sleeper, NULL), 0);
    for (int turn = 0; turn < 2; turn++) {
        sem_wait(&arrived);
        series[turn] = resident_kib();
        for (size_t i = 0; i < LEFT_BLOCKS; i++)
            subject_free(left_blocks[i]);
        sem_post(&leave);
    }
    pthread_join(thread, NULL);
    must_be_flat("freed while the owner slept", series, 2);
}

/* ---- Ends that nobody tells of ---- */

#ifdef SANITIZED /* their own destructors end the thread for them before the last one */
#define LAST_ROUND 2
#else
#define LAST_ROUND PTHREAD_DESTRUCTOR_ITERATIONS
#endif
static pthread_key_t late_key;

/* Uses memory in every round of destructors. */
static void use_late(void *round)
{
    void *block = subject_malloc(24);
    memset(block, 1, 24);
    subject_free(block);
    if ((uintptr_t)round < LAST_ROUND)
        pthread_setspecific(late_key, (void *)((uintptr_t)round + 1));
}

/* Uses memory for the first time in the last round. */
static void use_last(void *round)
{
    if ((uintptr_t)round == LAST_ROUND)
        use_late(round);
    else
        pthread_setspecific(late_key, (void *)((uintptr_t)round + 1));
}

static void *end_late(void *unused)
{
    pthread_setspecific(late_key, (void *)1);
    return unused;
}

/* Each on a stack of its own, with its thread-local memory, which is gone before the purge. The
 * threads that follow go on with what they had. */
static void threads_vanish(void *(*body)(void *))
{
    enum { STACK_BYTES = 256 << 10, VANISHED = 200 };
    valloc_stats stats;
    for (int i = 0; i < VANISHED; i++) {
        pthread_t thread;
        pthread_attr_t attributes;
        char *stack =
            mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(stack != MAP_FAILED);
        pthread_attr_init(&attributes);
        assert_int_equal(pthread_attr_setstack(&attributes, stack, STACK_BYTES), 0);
        assert_int_equal(pthread_create(&thread, &attributes, body, NULL), 0);
        pthread_join(thread, NULL);
        munmap(stack, STACK_BYTES);
        if (i % 50 == 0)
            valloc_purge();
    }
    valloc_purge();
    valloc_get_stats(&stats);
    assert_in_range(stats.threads, 0, 2);
}

static void destructors_use_memory_in_every_round(void **state)
{
    (void)state;
    pthread_key_create(&late_key, use_late);
    threads_vanish(end_late);
    pthread_key_delete(late_key);
}

static void the_first_use_is_in_the_last_round(void **state)
{
    (void)state;
    pthread_key_create(&late_key, use_last);
    threads_vanish(end_late);
    pthread_key_delete(late_key);
}

#ifndef SANITIZED /* which want to be told, too */
static void *end_by_system_call(void *unused)
{
    for (size_t i = 0; i < 1000; i++)
        subject_free(subject_malloc(i));
    syscall(SYS_exit, 0);
    return unused;
}

static void threads_end_by_a_system_call(void **state)
{
    (void)state;
    threads_vanish(end_by_system_call);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_short_threads),
        cmocka_unit_test(many_threads_at_once),
        cmocka_unit_test(memory_of_exited_owners_is_used),
        cmocka_unit_test(a_stream_through_a_freeing_thread),
        cmocka_unit_test(a_sleeping_owner_gets_its_slots_back),
        cmocka_unit_test(destructors_use_memory_in_every_round),
        cmocka_unit_test(the_first_use_is_in_the_last_round),
#ifndef SANITIZED
        cmocka_unit_test(threads_end_by_a_system_call),
#endif
    };
    return cmocka_run_group_tests_name("lifetimes", tests, NULL, NULL);
}
