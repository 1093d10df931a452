/* test_failure.c: whatever the kernel refuses, valloc returns NULL with ENOMEM or does without;
 * nothing is damaged, and afterwards all is as if it had not happened.
 *
 * Every scenario runs once for every kind of call and every n: in a fresh process the n-th call
 * fails, alone or with all that follow, until a run is through before the n-th call came. The same
 * process then runs the scenario again, in which now nothing may fail, and gives back all it has.
 */
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>

#include "child.h"
#include "inject.h"

#define VALLOC_NO_SHORT_NAMES
#include "api/profile_file.h"
#include "profile/profile.h"
#include "valloc.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define BLOCKS_MAX 1500
#define NTH_MAX 2000
#define INJECTED 10 /* exit status of a child in which something failed, and all was well */

static bool refusable; /* something may fail at present */

#define must(condition)                                                                            \
    ((condition) ? (void)0 : (fprintf(stderr, "line %d: %s\n", __LINE__, #condition), _exit(1)))

/* A result that may be NULL only while something fails. */
static void *check(void *result)
{
    must(result != NULL || (refusable && errno == ENOMEM));
    errno = 0;
    return result;
}

/* ---- Sets of blocks that know what they hold ---- */

typedef struct Set {
    unsigned char *blocks[BLOCKS_MAX];
    size_t sizes[BLOCKS_MAX];
} Set;

static unsigned char fill_of(const Set *set, size_t i)
{
    return (unsigned char)(set->sizes[i] * 7 + i);
}

static void put(Set *set, size_t i, void *block, size_t size)
{
    set->blocks[i] = check(block);
    set->sizes[i] = size;
    if (block != NULL)
        fill_bytes(block, size, fill_of(set, i));
}

static void check_set(const Set *set, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (set->blocks[i] != NULL)
            must(bytes_hold(set->blocks[i], set->sizes[i], fill_of(set, i)));
}

static void drop(Set *set, size_t first, size_t count, size_t step)
{
    check_set(set, count);
    for (size_t i = first; i < count; i += step) {
        errno = 5;
        valloc_free(set->blocks[i]);
        must(errno == 5);
        set->blocks[i] = NULL;
    }
}

/* ---- Scenarios ---- */

static void fill_and_free(size_t count, size_t (*size_of)(size_t))
{
    static _Thread_local Set set;
    for (size_t i = 0; i < count; i++)
        put(&set, i, valloc_malloc(size_of(i)), size_of(i));
    drop(&set, 0, count, 2);
    for (size_t i = 0; i < count; i += 2) {
        void *block = valloc_calloc(1, size_of(i));
        if (block != NULL)
            must(bytes_hold(block, size_of(i), 0));
        put(&set, i, block, size_of(i));
    }
    drop(&set, 0, count, 1);
}

static size_t small_size(size_t i)
{
    return 1 + i * 37 % 3000;
}

static size_t run_size(size_t i)
{
    return 40 * KIB + i * 71 * KIB % (900 * KIB);
}

static size_t large_size(size_t i)
{
    return 2 * MIB + i * 3 * MIB;
}

static void small(void)
{
    fill_and_free(BLOCKS_MAX, small_size);
}

static void runs(void)
{
    fill_and_free(40, run_size);
}

static void large(void)
{
    fill_and_free(8, large_size);
}

/* More than the first tables describe; what is written to is little. */
static void vast(void)
{
    static Set set;
    for (size_t i = 0; i < 5; i++)
        put(&set, i, valloc_malloc(300 * MIB), 300 * MIB);
    drop(&set, 0, 5, 1);
}

/* Large blocks under a limit of the address space, and one for which the first arena has to grow,
 * if it can: half of the limit may have been lost by an unmap that failed. */
static void limited(void)
{
    static Set set;
    struct rlimit limit = {1024 * MIB, 1024 * MIB};
    must(setrlimit(RLIMIT_AS, &limit) == 0);
    for (size_t i = 0; i < 5; i++)
        put(&set, i, valloc_malloc(60 * MIB), 60 * MIB);
    drop(&set, 0, 5, 1);
    unsigned char *block = valloc_malloc(700 * MIB);
    must(block != NULL || errno == ENOMEM);
    if (block != NULL)
        fill_bytes(block, 700 * MIB, 1);
    valloc_free(block);
}

/* Each grows into the way of the other, so that they move, by copy and by page. */
static void growing(void)
{
    Set set;
    memset(&set, 0, sizeof set);
    for (size_t size = 100; size < 24 * MIB; size = size * 7 / 4) {
        for (size_t i = 0; i < 2; i++) {
            size_t kept = set.blocks[i] == NULL ? 0 : set.sizes[i];
            void *block = check(valloc_realloc(set.blocks[i], size));
            must(block == NULL || kept == 0 ||
                 bytes_hold(block, kept < FILL_EDGE ? kept : FILL_EDGE, fill_of(&set, i)));
            if (block != NULL)
                put(&set, i, block, size);
            else
                check_set(&set, 2);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        for (size_t size = set.sizes[i] / 3; set.blocks[i] != NULL && size > 1000; size /= 3) {
            void *block = check(valloc_realloc(set.blocks[i], size));
            if (block == NULL)
                break;
            must(((unsigned char *)block)[0] == fill_of(&set, i));
            put(&set, i, block, size);
        }
    }
    drop(&set, 0, 2, 1);
}

static void aligned(void)
{
    Set set;
    memset(&set, 0, sizeof set);
    for (size_t i = 0; i < 60; i++) {
        size_t alignment = (size_t)16 << i % 20;
        size_t size = 1 + i * 5000;
        void *block = i % 2 == 0 ? valloc_aligned_alloc(alignment, size)
                                 : valloc_aligned_calloc(alignment, size);
        must((uintptr_t)block % alignment == 0);
        put(&set, i, block, size);
    }
    drop(&set, 0, 60, 1);
}

static void instances(void)
{
    static MemoryAllocator allocators[3];
    static Set sets[3];
    for (size_t k = 0; k < 3; k++) {
        errno = 0;
        if (valloc_init(&allocators[k], 1 + k * 70, 2) != 0) {
            must(refusable && errno == ENOMEM && allocators[k].total_blocks == 0);
            continue;
        }
        for (size_t i = 0; i < 150; i++) {
            size_t size = i % 30 == 7 ? 3 * MIB : i % 10 == 3 ? 100 * KIB : small_size(i);
            put(&sets[k], i, valloc_allocate(&allocators[k], size), size);
        }
    }
    for (size_t k = 0; k < 3; k++) {
        if (allocators[k].total_blocks == 0)
            continue;
        for (size_t i = 0; i < 150; i++) {
            unsigned char *block = sets[k].blocks[i];
            void *moved = NULL;
            if (i % 3 == 0 && block != NULL)
                moved = check(valloc_reallocate(&allocators[k], block, sets[k].sizes[i] * 2));
            if (moved != NULL)
                put(&sets[k], i, moved, sets[k].sizes[i] * 2);
        }
        check_set(&sets[k], 150);
        for (size_t i = 0; i < 150; i += 2)
            free_valloc(&allocators[k], sets[k].blocks[i]);
        memset(&sets[k], 0, sizeof sets[k]);
        valloc_destroy(&allocators[k]);
    }
}

static void purges(void)
{
    fill_and_free(300, small_size);
    valloc_purge();
    fill_and_free(4, large_size);
    must(valloc_set_limits(valloc_process(), 2 * MIB, 0) == 0);
    fill_and_free(12, run_size);
    must(valloc_set_limits(valloc_process(), 0, 0) == 0);
}

static void forks(void)
{
    static Set set;
    for (size_t i = 0; i < 50; i++)
        put(&set, i, valloc_malloc(small_size(i)), small_size(i));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        check_set(&set, 50);
        small();
        drop(&set, 0, 50, 1);
        runs();
        _exit(0);
    }
    int status = -1;
    must(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    drop(&set, 0, 50, 1);
}

/* ---- Scenarios with threads ---- */

#define THREADS 3

static Set crossing[THREADS];

static bool start_thread(pthread_t *thread, void *(*body)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (inject_hits(CALL_THREAD)) /* more stack than there is address space */
        pthread_attr_setstacksize(&attributes, (size_t)1 << 46);
    int error = pthread_create(thread, &attributes, body, argument);
    pthread_attr_destroy(&attributes);
    must(error == 0 || (refusable && error == EAGAIN));
    return error == 0;
}

/* Runs body(0), body(1), ... at the same time; here what no thread can be had for. */
static void in_threads(void *(*body)(void *))
{
    pthread_t threads[THREADS];
    bool started[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        started[i] = start_thread(&threads[i], body, (void *)i);
    for (size_t i = 0; i < THREADS; i++) {
        if (started[i])
            pthread_join(threads[i], NULL);
        else
            body((void *)i);
    }
}

static void *allocate_own(void *number)
{
    Set *own = &crossing[(size_t)number];
    for (size_t i = 0; i < 400; i++) {
        size_t size = i % 50 == 9 ? run_size(i) : 16 + small_size(i) % 500;
        put(own, i, valloc_malloc(size), size);
    }
    return NULL;
}

/* What the neighbour's cache lent, while the neighbour frees as well, and allocates. */
static void *free_others(void *number)
{
    drop(&crossing[((size_t)number + 1) % THREADS], 0, 400, 1);
    fill_and_free(300, small_size);
    return NULL;
}

static void threads(void)
{
    for (int turn = 0; turn < 2; turn++) {
        in_threads(allocate_own);
        in_threads(free_others);
    }
}

/* Data of a thread whose destructor allocates, after valloc's own exit handler has run. */
static pthread_key_t late_key;

static void use_late(void *turn)
{
    void *block = check(valloc_malloc(500));
    valloc_free(block);
    if ((size_t)turn > 1)
        must(pthread_setspecific(late_key, (char *)turn - 1) == 0);
}

static void *leave_late(void *number)
{
    valloc_free(check(valloc_malloc(100 + (size_t)number)));
    must(pthread_setspecific(late_key, (void *)3) == 0);
    return NULL;
}

static void late_uses(void)
{
    must(pthread_key_create(&late_key, use_late) == 0);
    for (int turn = 0; turn < 3; turn++)
        in_threads(leave_late);
    must(pthread_key_delete(late_key) == 0);
}

/* Threads that wait, with slots on their stacks, while memory is purged, and then go on. */
static atomic_uint asleep;
static atomic_bool awake;

static void wait_until(bool (*done)(unsigned), unsigned argument)
{
    struct timespec moment = {0, 100000};
    while (!done(argument))
        nanosleep(&moment, NULL);
}

static bool is_awake(unsigned unused)
{
    (void)unused;
    return awake;
}

static bool are_asleep(unsigned count)
{
    return asleep == count;
}

static void *allocate_and_sleep(void *number)
{
    allocate_own(number);
    drop(&crossing[(size_t)number], 0, 400, 3);
    asleep++;
    wait_until(is_awake, 0);
    fill_and_free(300, small_size);
    drop(&crossing[(size_t)number], 0, 400, 1);
    return NULL;
}

static void sleepers(void)
{
    pthread_t threads[THREADS];
    bool started[THREADS];
    unsigned count = 0;
    asleep = 0;
    awake = false;
    for (size_t i = 0; i < THREADS; i++)
        count += started[i] = start_thread(&threads[i], allocate_and_sleep, (void *)i);
    wait_until(are_asleep, count);
    valloc_purge();
    awake = true;
    for (size_t i = 0; i < THREADS; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
}

static bool take_bytes(void *length, const void *bytes, size_t count)
{
    (void)bytes;
    *(size_t *)length += count;
    return true;
}

/* Samples of what was not allocated are as good as others. */
static void profiled(void)
{
    if (!va_profile_start(1000, PROFILE_ALL, 0)) {
        must(refusable);
        return;
    }
    for (uintptr_t i = 1; i <= 100; i++) {
        ProfileAllocation allocation = {.pointer = (void *)(i * 16), .size = i, .probability = 0.5};
        must(va_profile_sample(&allocation, VA_STACK_CALLER));
    }
    for (int format = PROFILE_PPROF; format <= PROFILE_TEXT; format++) {
        size_t length = 0;
        bool done = va_profile_dump((ProfileFormat)format, take_bytes, &length);
        must(done ? length != 0 : refusable && length == 0);
    }
    for (uintptr_t i = 1; i <= 100; i++)
        must(va_profile_forget((void *)(i * 16)));
    va_profile_stop();
}

/* A profile of this process that VALLOC_PROFILE has started: one more file is wanted. It may be
 * missing or short where something failed, and the program goes on. */
static void dumped(void)
{
    bool written = false;
    if (va_profile_rate() == 0)
        return;
    in_threads(allocate_own); /* each draws its own points */
    va_profile_file_wanted = true;
    for (size_t i = 0; i < THREADS; i++)
        drop(&crossing[i], 0, 400, 1);
    valloc_free(check(valloc_malloc(100)));
    for (int number = 1; number <= 2; number++) { /* one for each turn, or the last for both */
        char path[64];
        snprintf(path, sizeof path, "failure-%d.pb.%d", (int)getpid(), number);
        written |= unlink(path) == 0;
    }
    must(written || refusable);
}

/* ---- All of them ---- */

typedef struct Scenario {
    const char *name;
    void (*run)(void);
    bool keeps; /* a shared cache keeps some of it for good */
} Scenario;

static const Scenario scenarios[] = {
    {"small", small, false},         {"runs", runs, false},         {"large", large, false},
    {"vast", vast, false},           {"growing", growing, false},   {"aligned", aligned, false},
    {"instances", instances, false}, {"purges", purges, false},     {"forks", forks, false},
    {"threads", threads, false},     {"sleepers", sleepers, false}, {"late_uses", late_uses, true},
    {"limited", limited, false},     {"profiled", profiled, false}, {"dumped", dumped, false},
};

typedef struct Run {
    const Scenario *scenario;
    Call call;
    unsigned nth;
    bool onward;
} Run;

static void run_one(void *argument)
{
    const Run *run = argument;
    valloc_stats stats;
    signal(SIGSEGV, SIG_DFL); /* not cmocka's */
    inject(run->call, run->nth, run->onward);
    refusable = true;
    run->scenario->run();
    bool happened = inject_end();
    refusable = false;
    run->scenario->run();
    valloc_purge();
    valloc_get_stats(&stats);
    /* Without a key caches of exited threads keep what they have. */
    must(run->scenario->keeps || run->call == CALL_KEY || stats.lent == 0);
    _exit(happened ? INJECTED : 0);
}

static void every_call_may_fail(void **state)
{
    const Scenario *scenario = *state;
    unsigned total = 0;
    for (Call call = 0; call < CALLS; call++) {
#ifdef __SANITIZE_THREAD__ /* few addresses: those that cannot be unmapped are soon all of them */
        if (call == CALL_UNMAP)
            continue;
#endif
        for (int onward = 0; onward <= 1; onward++) {
            unsigned nth = 0;
            int status;
            do {
#ifdef SANITIZED
                nth += nth; /* not every one */
#endif
                Run run = {scenario, call, ++nth, onward};
                Child child = child_run(run_one, &run);
                status = child.status;
                if (!WIFEXITED(status) ||
                    (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != INJECTED))
                    fail_msg("%s, call %d, number %u%s: status %x, '%s'", scenario->name, call, nth,
                             onward ? " and all after it" : "", status, child.text);
                total++;
            } while (WEXITSTATUS(status) == INJECTED && nth < NTH_MAX);
            assert_true(nth < NTH_MAX);
        }
    }
    print_message("%s: %u runs\n", scenario->name, total);
}

/* test_failure [SCENARIO] */
int main(int argc, char **argv)
{
    struct CMUnitTest tests[sizeof scenarios / sizeof *scenarios];
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tests[i] = (struct CMUnitTest){scenarios[i].name, every_call_may_fail, NULL, NULL,
                                       (void *)(uintptr_t)&scenarios[i]};
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    int failed = cmocka_run_group_tests_name("failure", tests, NULL, NULL);
    fflush(NULL);
    _exit(failed); /* without a profile */
}
