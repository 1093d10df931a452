/* test_handlers.c: what else runs at a fork. Handlers of other libraries, registered before
 * valloc's and after, allocate, free, and (override library) join threads, which do the same and
 * exit; signal handlers that fork; allocators whose MemoryAllocator vanishes. A deadlock ends by
 * the watchdog. */
#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "subject.h"

#define SECONDS 100
#define KINDS 34
#if defined(TEST_API) || !defined(__GLIBC__)
#define VALLOC_IS_FIRST 0
#else
#define VALLOC_IS_FIRST 1
#endif
#define FORKS 25

typedef struct Kept {
    unsigned char *block;
    size_t size;
} Kept;

static bool armed; /* the handlers do what is tested */
static pthread_t helper;
static pthread_barrier_t in_handler;
static Kept by_helper[KINDS], for_helper[KINDS], by_handler[KINDS];
static _Atomic int wrong;

static size_t size_of(size_t kind)
{
    return kind < 30 ? 1 + kind * kind * 40 : (kind - 29) * (kind - 29) * 100000;
}

static void expect(bool condition)
{
    wrong += !condition;
}

static void keep(Kept *kept, size_t kind, unsigned char *block)
{
    *kept = (Kept){.block = block, .size = size_of(kind)};
    expect(block != NULL && subject_usable_size(block) >= kept->size);
    if (block != NULL)
        fill_bytes(block, kept->size, (unsigned char)kind);
}

static void allocate_all(Kept *kept)
{
    for (size_t kind = 0; kind < KINDS; kind++) {
        unsigned char *block = NULL;
        if (kind % 4 == 0) {
            block = subject_malloc(size_of(kind));
        } else if (kind % 4 == 1) {
            block = subject_calloc(1, size_of(kind));
            expect(block != NULL && bytes_hold(block, size_of(kind), 0));
        } else if (kind % 4 == 2) {
            block = subject_realloc(subject_malloc(5), size_of(kind));
        } else {
            expect(subject_posix_memalign((void **)&block, (size_t)8 << kind % 14, size_of(kind)) ==
                   0);
            expect(((uintptr_t)block & (((size_t)8 << kind % 14) - 1)) == 0);
        }
        keep(&kept[kind], kind, block);
    }
}

static void grow_and_free_all(Kept *kept)
{
    for (size_t kind = 0; kind < KINDS; kind++) {
        size_t size = kept[kind].size;
        expect(bytes_hold(kept[kind].block, size, (unsigned char)kind));
        if (kind % 2 == 0)
            kept[kind].block = subject_realloc(kept[kind].block, size * 2);
        expect(bytes_hold(kept[kind].block, size, (unsigned char)kind));
        subject_free(kept[kind].block);
    }
}

/* ---- Handlers ---- */

static void *help(void *unused)
{
    (void)unused;
    subject_free(subject_malloc(100)); /* it has its cache before the fork */
    pthread_barrier_wait(&in_handler);
    pthread_barrier_wait(&in_handler);
    allocate_all(by_helper);
    grow_and_free_all(for_helper);
    return NULL;
}

/* Registered before valloc's, so that it runs after it, unless valloc's comes first at any rate:
 * then the thread can end meanwhile. */
static void late_prepare(void)
{
    if (!armed)
        return;
    pthread_barrier_wait(&in_handler);
    allocate_all(by_handler);
    if (VALLOC_IS_FIRST)
        pthread_join(helper, NULL);
}

static void early_after(void)
{
    if (armed)
        grow_and_free_all(by_handler);
}

static void either(void)
{
    if (armed) {
        Kept kept[KINDS];
        allocate_all(kept);
        grow_and_free_all(kept);
    }
}

__attribute__((constructor(101))) static void register_early(void)
{
    pthread_atfork(late_prepare, early_after, early_after);
}

static void wait_for(pid_t child)
{
    int status = -1;
    expect(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void end_child(void)
{
    _exit(wrong == 0 ? 0 : 1);
}

static size_t live_bytes(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats.live;
}

static void handlers_allocate_and_join_threads(void **state)
{
    (void)state;
    size_t live = 0;
    pthread_atfork(either, either, either);
    for (int i = 0; i < FORKS; i++) {
        pthread_barrier_init(&in_handler, NULL, 2);
        allocate_all(for_helper);
        assert_int_equal(pthread_create(&helper, NULL, help, NULL), 0);
        pthread_barrier_wait(&in_handler);
        armed = true;
        pid_t child = fork();
        armed = false;
        if (child != 0 && !VALLOC_IS_FIRST)
            pthread_join(helper, NULL);
        if (child != 0 || VALLOC_IS_FIRST)
            grow_and_free_all(by_helper);
        if (child == 0) {
            pid_t grandchild = fork();
            if (grandchild != 0)
                wait_for(grandchild);
            end_child();
        }
        wait_for(child);
        pthread_barrier_destroy(&in_handler);
        assert_int_equal(wrong, 0);
        if (i == 2)
            live = live_bytes();
    }
    assert_true(live_bytes() <= live + ((size_t)1 << 20));
}

/* ---- Signal handlers ---- */

static volatile int forks_left;

static void fork_here(int number)
{
    (void)number;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    wait_for(child);
    if (--forks_left == 0) {
        struct itimerval none = {0};
        setitimer(ITIMER_REAL, &none, NULL);
    }
}

static void fork_in_handlers(void)
{
    static void *blocks[5000];
    struct itimerval often = {{0, 700}, {0, 700}};
    uint64_t seed = 1;
    forks_left = 5 * FORKS;
    signal(SIGALRM, fork_here);
    setitimer(ITIMER_REAL, &often, NULL);
    while (forks_left > 0) { /* one more signal may be pending then */
        void **place = &blocks[random_next(&seed) % 5000];
        subject_free(*place);
        *place = subject_malloc(random_next(&seed) % 30000 + 1);
    }
    for (size_t i = 0; i < 5000; i++) {
        subject_free(blocks[i]);
        blocks[i] = NULL;
    }
    signal(SIGALRM, SIG_IGN);
    signal(SIGALRM, SIG_DFL);
    alarm(SECONDS);
    assert_int_equal(wrong, 0);
}

static void a_signal_handler_forks(void **state)
{
    (void)state;
    fork_in_handlers();
}

static void a_signal_handler_forks_beside_the_background_thread(void **state)
{
    (void)state;
    assert_int_equal(valloc_background_purge(1), 0);
    fork_in_handlers();
    assert_int_equal(valloc_background_purge(0), 0);
}

/* ---- Allocators ---- */

static pthread_barrier_t made;

static void *use_allocator(void *memory)
{
    MemoryAllocator *allocator = memory;
    expect(valloc_init(allocator, 4, 8) == 0);
    for (int i = 0; i < 1000; i++)
        expect(valloc_allocate(allocator, 3000) != NULL);
    pthread_barrier_wait(&made);
    pthread_barrier_wait(&made);
    valloc_destroy(allocator);
    return NULL;
}

static void allocators_vanish_with_their_threads(void **state)
{
    (void)state;
    pthread_t thread;
    MemoryAllocator own;
    MemoryAllocator *allocator =
        mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(&own, 0, sizeof own);
    assert_int_equal(valloc_init(&own, 1, 8), 0);
    pthread_barrier_init(&made, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, use_allocator, allocator), 0);
    pthread_barrier_wait(&made);
    size_t used = own.used_blocks;
    pid_t child = fork();
    if (child == 0) {
        munmap(allocator, 65536);
        valloc_purge();
        live_bytes();
        void *block = valloc_allocate(&own, 300000);
        expect(block != NULL && own.used_blocks > used && valloc_owner(block) == &own);
        free_valloc(&own, block);
        pid_t grandchild = fork();
        if (grandchild != 0)
            wait_for(grandchild);
        valloc_purge();
        valloc_destroy(&own);
        end_child();
    }
    wait_for(child);
    pthread_barrier_wait(&made);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&made);
    munmap(allocator, 65536);
    valloc_destroy(&own);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_handler_forks), /* the first: before there are threads */
        cmocka_unit_test(a_signal_handler_forks_beside_the_background_thread),
        cmocka_unit_test(handlers_allocate_and_join_threads),
        cmocka_unit_test(allocators_vanish_with_their_threads),
    };
    fflush(NULL);
    alarm(SECONDS);
    return cmocka_run_group_tests_name("fork handlers", tests, NULL, NULL);
}
