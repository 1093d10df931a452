/* test_purging.c: memory is given back in every way while threads use it in every way. Workers
 * allocate, clear, resize and free, also what others allocated; threads come and go; allocators are
 * made and destroyed; others purge, limit, start and stop the background thread; and some fork
 * children, which check and free all that they inherit and must find no memory lost.
 *
 *   test_purging [SECONDS]
 *
 * A block knows its size and what it is filled with. Blocks stand in one table; who takes one out
 * has it alone, who puts one in has filled it: so a child finds none half made. */
#include "support.h"

#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define HAS_BACKTRACE 1
#endif
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena/arena.h"
#include "arena/block_pool.h"
#include "child.h"

#define MIB ((size_t)1 << 20)
#define PLACES 3000
#define LARGE_MAX (6 * MIB)

#ifdef __SANITIZE_THREAD__
#define FORKERS 0 /* it cannot follow a fork of a threaded process */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FORKERS 0
#endif
#endif
#ifndef FORKERS
#define FORKERS 2
#endif
#ifdef __SANITIZE_ADDRESS__
#define CHILDREN_START_THREADS 0 /* they would meet locks of its own that nobody releases */
#else
#define CHILDREN_START_THREADS 1
#endif
enum { WORKERS = 3, OTHERS = 3, THREADS = WORKERS + OTHERS + FORKERS };

typedef struct Header {
    size_t size;
    uint64_t check;
} Header;

static _Atomic(Header *) places[PLACES];
static atomic_bool stop;
static atomic_size_t forks, purges, turns;
static bool is_child;
static long seconds = 4;

/* ---- Blocks ---- */

static size_t random_size(uint64_t *seed)
{
    uint64_t r = random_next(seed);
    size_t most = r % 1500 == 0 ? LARGE_MAX : r % 60 == 0 ? 300000 : r % 8 == 0 ? 9000 : 300;
    return sizeof(Header) + (size_t)(r >> 20) % (most - sizeof(Header));
}

static unsigned char filling(const Header *block)
{
    return (unsigned char)(block->size * 31 + ((uintptr_t)block >> 4));
}

static Header *fill(Header *block, size_t size)
{
    if (block == NULL)
        return NULL;
    block->size = size;
    block->check = ~(uint64_t)(uintptr_t)block ^ size;
    fill_bytes(block + 1, size - sizeof *block, filling(block));
    return block;
}

static void check(const Header *block)
{
    require(block->check == (~(uint64_t)(uintptr_t)block ^ block->size));
    require(bytes_hold(block + 1, block->size - sizeof *block, filling(block)));
}

/* NULL only while there is a limit. */
static Header *make(uint64_t *seed)
{
    size_t size = random_size(seed);
    switch (random_next(seed) % 8) {
    case 0: {
        unsigned char *block = valloc_calloc(1, size);
        for (size_t i = 0; block != NULL && i < size; i++)
            require(block[i] == 0);
        return fill((Header *)(void *)block, size);
    }
    case 1:
        return fill(valloc_aligned_alloc((size_t)16 << random_next(seed) % 10, size), size);
    default:
        return fill(valloc_malloc(size), size);
    }
}

static Header *resize(Header *block, uint64_t *seed)
{
    size_t size = random_size(seed);
    size_t kept = (size < block->size ? size : block->size) - sizeof *block;
    unsigned char old = filling(block);
    check(block);
    Header *moved = valloc_realloc(block, size);
    if (moved == NULL)
        return block;
    /* Of what was written only the two ends are known; the first one stays in any case. */
    require(bytes_hold(moved + 1, kept < FILL_EDGE / 2 ? kept : FILL_EDGE / 2, old));
    return fill(moved, size);
}

static void end(Header *block)
{
    if (block == NULL)
        return;
    check(block);
    valloc_free(block);
}

static void turn(uint64_t *seed)
{
    _Atomic(Header *) *place = &places[random_next(seed) % PLACES];
    Header *block = atomic_exchange(place, NULL);
    if (block == NULL)
        block = make(seed);
    else if (random_next(seed) % 3 == 0)
        block = resize(block, seed);
    else
        end(block), block = NULL;
    end(atomic_exchange(place, block));
    turns++;
}

static void end_all(void)
{
    for (size_t i = 0; i < PLACES; i++)
        end(atomic_exchange(&places[i], NULL));
}

/* ---- Threads ---- */

static void *work(void *seed_given)
{
    uint64_t seed = (uintptr_t)seed_given;
    while (!stop)
        turn(&seed);
    return NULL;
}

static void *visit(void *seed_given)
{
    uint64_t seed = (uintptr_t)seed_given;
    for (int i = 0; i < 200; i++)
        turn(&seed);
    return NULL;
}

static void *let_visit(void *seed_given)
{
    uint64_t seed = (uintptr_t)seed_given;
    while (!stop) {
        pthread_t visitors[2];
        for (int i = 0; i < 2; i++)
            require(pthread_create(&visitors[i], NULL, visit, (void *)random_next(&seed)) == 0);
        for (int i = 0; i < 2; i++)
            pthread_join(visitors[i], NULL);
    }
    return NULL;
}

typedef struct Instance {
    MemoryAllocator allocator;
    Header *blocks[200];
    uint64_t seed;
} Instance;

static void *use_instance(void *argument)
{
    Instance *instance = argument;
    for (size_t i = 0; i < 100; i++) {
        size_t size = random_size(&instance->seed);
        instance->blocks[i] = fill(valloc_allocate(&instance->allocator, size), size);
    }
    return NULL;
}

static void use_and_destroy(Instance *instance)
{
    pthread_t thread;
    Header *own[100];
    uint64_t seed = instance->seed + 99;
    if (valloc_init(&instance->allocator, 1 + random_next(&seed) % 40, 4) != 0)
        return;
    bool alone = is_child && !CHILDREN_START_THREADS;
    if (alone)
        use_instance(instance);
    else
        require(pthread_create(&thread, NULL, use_instance, instance) == 0);
    for (size_t i = 0; i < 100; i++) {
        size_t size = random_size(&seed);
        own[i] = fill(valloc_allocate(&instance->allocator, size), size);
    }
    if (!alone)
        pthread_join(thread, NULL);
    for (size_t i = 0; i < 100; i++) {
        if (own[i] != NULL)
            check(own[i]);
        end(instance->blocks[i]); /* the other thread's */
    }
    valloc_destroy(&instance->allocator);
}

static Instance shared_instance;

static void *make_instances(void *seed)
{
    shared_instance.seed = (uintptr_t)seed;
    while (!stop)
        use_and_destroy(&shared_instance);
    return NULL;
}

static valloc_stats stats_now(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats;
}

static int count(const MemoryBlock *block, void *bytes)
{
    *(size_t *)bytes += block->size;
    return 0;
}

static void look_around(void)
{
    size_t bytes = 0;
    size_t before = stats_now().reserved; /* what others unmap meanwhile may have been counted */
    require(valloc_blocks(valloc_process(), count, &bytes) == 0);
    require(bytes <= before + stats_now().reserved);
}

/* Limits are such that whoever asks for little gets it. */
static void *give_back(void *seed_given)
{
    uint64_t seed = (uintptr_t)seed_given;
    struct timespec moment = {0, 0};
    while (!stop) {
        MemoryAllocator *process = valloc_process();
        switch (random_next(&seed) % 8) {
        case 0:
            require(!CHILDREN_START_THREADS || valloc_background_purge(1) == 0);
            break;
        case 1:
            require(valloc_background_purge(0) == 0);
            break;
        case 2:
            require(valloc_set_limits(process, 8 * MIB, 0) == 0);
            break;
        case 3:
            require(valloc_set_limits(process, 0, 0) == 0);
            break;
        case 4:
            look_around();
            break;
        default:
            valloc_purge();
            purges++;
        }
        moment.tv_nsec = (long)(random_next(&seed) % 3000000);
        nanosleep(&moment, NULL);
    }
    require(valloc_background_purge(0) == 0);
    require(valloc_set_limits(valloc_process(), 0, 0) == 0);
    return NULL;
}

/* ---- Children ---- */

/* After a purge by the only thread every block is free or in use, and blocks that are kept without
 * use are another allocator's. A front of a large block in secure builds counts as such. */
static void nothing_is_lost(void)
{
    ScanCursor cursor = {0};
    RunView views[64];
    size_t seen = 0;
    size_t all = 0;
    for (size_t count; (count = va_arena_scan(&cursor, views, 64)) != 0;)
        for (size_t i = 0; i < count; i++) {
            seen += views[i].blocks;
            require(SECURED_BYTES != 0 || views[i].allocator != &va_process ||
                    va_entry_class(views[i].entry) != VA_CLASS_SPARE);
        }
    for (unsigned i = 0; i < va_arena_count * ZONES; i++) {
        const Zone *zone = &va_arenas[i / ZONES].zones[i % ZONES];
        all += va_min(zone->top, zone->committed) - zone->first;
    }
    require(seen == all);
}

/* Everything up to a hard limit can be had, and had again, and cleared. */
static void fill_to_the_limit(size_t bytes)
{
    static Header *blocks[4000];
    size_t counts[2];
    size_t base = stats_now().lent;
    require(valloc_set_limits(valloc_process(), 0, base + bytes) == 0);
    for (int i = 0; i < 2; i++) {
        size_t count = 0;
        while (count < 4000 && (blocks[count] = valloc_calloc(1, 60000)) != NULL) {
            require(bytes_hold(blocks[count], 60000, 0));
            fill(blocks[count++], 60000);
        }
        require(count < 4000);
        for (counts[i] = count; count > 0;)
            end(blocks[--count]);
        valloc_purge();
    }
    require(counts[0] * 60000 + bytes / 8 >= bytes * 7 / 8 && counts[1] * 8 >= counts[0] * 7);
    require(valloc_set_limits(valloc_process(), 0, 0) == 0);
}

static void be_child(uint64_t seed)
{
    is_child = true;
    for (int i = 0; i < 500; i++) /* before anything is put right by a purge */
        turn(&seed);
    if (CHILDREN_START_THREADS && seed % 4 == 0) {
        pthread_t thread;
        require(pthread_create(&thread, NULL, visit, (void *)(seed | 1)) == 0);
        visit((void *)(seed | 2));
        pthread_join(thread, NULL);
    }
    require(valloc_background_purge(0) == 0);
    end_all();
    if (seed % 2 == 0)
        valloc_destroy(&shared_instance.allocator); /* nobody uses it any more */
    valloc_purge();
    nothing_is_lost();
    if (seed % 3 == 0)
        fill_to_the_limit(16 * MIB);
    Instance instance = {.seed = seed};
    use_and_destroy(&instance);
}

/* Says where the child hangs or crashes. */
static void on_signal(int number)
{
    static const char hangs[] = "a child hangs here:\n", crashes[] = "a child crashes here:\n";
    const char *text = number == SIGALRM ? hangs : crashes;
    if (write(STDERR_FILENO, text, strlen(text)) > 0) {
#ifdef HAS_BACKTRACE
        void *frames[64];
        backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
#endif
    }
    _exit(2);
}

static void *fork_children(void *seed_given)
{
    uint64_t seed = (uintptr_t)seed_given;
    while (!stop) {
        int status = -1;
        for (int i = 0; i < 100; i++)
            turn(&seed);
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGABRT, SIG_DFL); /* not cmocka's */
            signal(SIGSEGV, on_signal);
            signal(SIGBUS, on_signal);
            alarm(CHILD_SECONDS);
            be_child(random_next(&seed));
            if (seed % 5 == 0 && (pid = fork()) != 0)
                _exit(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 3);
            if (pid == 0 && seed % 5 == 0)
                be_child(seed);
            _exit(0);
        }
        require(pid > 0 && waitpid(pid, &status, 0) == pid);
        require(status == 0);
        forks++;
    }
    return NULL;
}

/* ---- All of it ---- */

static void everything_at_once(void **state)
{
    static void *(*const bodies[])(void *) = {let_visit, make_instances, give_back};
    pthread_t threads[THREADS];
    struct timespec while_away = {seconds, 0};
    (void)state;
#ifdef HAS_BACKTRACE
    void *frame;
    backtrace(&frame, 1); /* loads what it needs now */
#endif
    signal(SIGALRM, on_signal);
    for (uintptr_t i = 0; i < THREADS; i++) {
        void *(*body)(void *) = i < WORKERS            ? work
                                : i < WORKERS + OTHERS ? bodies[i - WORKERS]
                                                       : fork_children;
        assert_int_equal(pthread_create(&threads[i], NULL, body, (void *)(i * 7919 + 1)), 0);
    }
    nanosleep(&while_away, NULL);
    stop = true;
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    end_all();
    valloc_purge();
    print_message("%zu turns, %zu purges, %zu forks; %zu bytes lent at the end\n", (size_t)turns,
                  (size_t)purges, (size_t)forks, stats_now().lent);
    assert_true(stats_now().lent <= 2 * MIB);
    assert_int_equal(stats_now().live, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(everything_at_once)};
    if (argc > 1)
        seconds = strtol(argv[1], NULL, 10);
    return cmocka_run_group_tests_name("purging", tests, NULL, NULL);
}
