/* test_space.c: address space and memory are claimed as they are used: limits that come late, sizes
 * that cannot be had, memory that is not touched, blocks that shrink without memory. Each case in a
 * process of its own. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "child.h"

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static size_t figure(const char *name)
{
    return (size_t)status_kib(name);
}

static void limit_address_space(size_t more)
{
    size_t bytes = figure("VmSize:") * KIB + more;
    struct rlimit limit = {bytes, bytes};
    require(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void *return_it(void *argument)
{
    return argument;
}

static void a_small_heap_takes_little_address_space(void)
{
    size_t before = figure("VmSize:");
    for (int i = 0; i < 1000; i++)
        require(valloc_malloc(1000) != NULL);
    require(figure("VmSize:") - before < 16 * KIB);
}

static void a_limit_that_comes_late_is_kept(void)
{
    pthread_t thread;
    require(valloc_malloc(1000) != NULL);
    limit_address_space(256 * MIB);
    errno = 0;
    require(valloc_malloc(300 * MIB) == NULL && errno == ENOMEM);
    void *mapped = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(mapped != MAP_FAILED);
    require(pthread_create(&thread, NULL, return_it, NULL) == 0 && pthread_join(thread, NULL) == 0);
    void *block = valloc_malloc(150 * MIB);
    require(block != NULL);
    valloc_free(block);
}

/* Wherever the limit lies, and however the heap came there. */
static void fill_and_start_threads(void *more)
{
    pthread_attr_t attributes;
    pthread_t threads[4];
    require(valloc_malloc(1000) != NULL);
    limit_address_space(64 * MIB + (uintptr_t)more);
    while (valloc_malloc(2000) != NULL)
        ;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * KIB);
    for (int i = 0; i < 4; i++)
        require(pthread_create(&threads[i], &attributes, return_it, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

static void a_full_heap_leaves_room_for_threads(void)
{
    for (size_t more = 0; more < 2 * MIB; more += 200 * KIB) {
        Child child = child_run(fill_and_start_threads, (void *)more);
        if (child.status != 0) {
            fprintf(stderr, "%zu KiB more: '%s'\n", more / KIB, child.text);
            require(0);
        }
    }
}

/* When nothing more is granted, what was freed serves, in every class and thread. */
static void free_slots_serve_at_a_limit(void)
{
    static void *blocks[72][400];
    require(valloc_malloc(1000) != NULL);
    limit_address_space(40 * MIB);
    for (size_t class = 0; class < 72; class ++)
        for (size_t i = 0; i < 400; i++)
            blocks[class][i] = valloc_malloc(16 + class * 40);
    while (valloc_malloc(100 * KIB) != NULL)
        ;
    for (size_t class = 0; class < 72; class ++)
        for (size_t i = 0; i < 400; i++)
            valloc_free(blocks[class][i]);
    for (size_t class = 0; class < 72; class ++)
        for (size_t i = 0; i < 100; i++)
            require(blocks[class][i] == NULL || valloc_malloc(16 + class * 40) != NULL);
}

static void what_memory_cannot_hold_is_refused(void)
{
    struct sysinfo info;
    char setting = '1';
    FILE *file = fopen("/proc/sys/vm/overcommit_memory", "r");
    if (file != NULL && fread(&setting, 1, 1, file) == 1 && setting == '0') {
        require(sysinfo(&info) == 0);
        size_t most = (info.totalram + info.totalswap) * info.mem_unit;
        for (int i = 0; i < 3; i++) {
            valloc_free(valloc_malloc(most / 2));
            errno = 0;
            require(valloc_malloc(most + most / 4) == NULL && errno == ENOMEM);
            require(valloc_calloc(4, most) == NULL);
        }
        valloc_free(valloc_malloc(most / 10 * 9)); /* and does not count any more */
        require(valloc_malloc(most / 2) != NULL);
        pid_t pid = fork();
        require(pid >= 0);
        if (pid == 0)
            _exit(0);
        int status = -1;
        require(waitpid(pid, &status, 0) == pid && status == 0);
    }
    if (file != NULL)
        fclose(file);
}

/* Of each buffer a hundredth is used, at its start. */
static void memory_that_is_not_touched_is_not_resident(void)
{
    static const size_t sizes[] = {5000,   8000,      20000,      40000,
                                   100000, 400 * KIB, 1500 * KIB, 4 * MIB};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t count = 160 * MIB / sizes[k];
        size_t touched = sizes[k] / 100;
        size_t before = figure("VmRSS:");
        for (size_t i = 0; i < count; i++) {
            char *block = valloc_malloc(sizes[k]);
            require(block != NULL);
            memset(block, 1, touched);
        }
        /* A secure build writes behind the request, and to the end of each block. */
        size_t pages = (touched + page - 1) / page + 1 + 2 * (SECURED != 0);
        size_t most = count * pages * page / KIB + 4 * KIB;
        size_t more = figure("VmRSS:") - before;
        if (more > most) {
            fprintf(stderr, "%zu bytes: %zu KiB resident, not %zu\n", sizes[k], more, most);
            require(0);
        }
    }
}

static void shrinking_never_fails(void)
{
    static const size_t from[] = {64, 256, 1000, 5000, 30000, 60000, 200000, 900000, 20000000};
    enum { COUNT = sizeof from / sizeof *from };
    unsigned char *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        require((blocks[i] = valloc_malloc(from[i])) != NULL);
        memset(blocks[i], (int)i + 1, from[i]);
    }
    limit_address_space(30 * MIB);
    for (size_t size = MIB; size >= 16; size /= 2)
        while (valloc_malloc(size) != NULL)
            ;
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = from[i] / 3;
        unsigned char *block = valloc_realloc(blocks[i], size);
        require(block != NULL);
        for (size_t k = 0; k < size; k++)
            require(block[k] == i + 1);
        valloc_free_sized(block, size); /* its size is what was asked for */
    }
}

/* What another thread keeps makes room for growth in place, too. */
static pthread_barrier_t barrier;

static void *keep_a_large_run(void *unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++)
        valloc_free(valloc_malloc(30 * MIB));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void caches_make_room_at_a_hard_limit(void)
{
    pthread_t thread;
    require(valloc_set_limits(valloc_process(), 0, 100 * MIB) == 0);
    pthread_barrier_init(&barrier, NULL, 2);
    require(pthread_create(&thread, NULL, keep_a_large_run, NULL) == 0);
    pthread_barrier_wait(&barrier);
    void *block = valloc_malloc(60 * MIB);
    require(block != NULL);
    block = valloc_realloc(block, 75 * MIB);
    require(block != NULL);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

/* Only the dirty part of a large zeroed block is cleared. */
static void a_large_zeroed_block_is_not_touched(void)
{
    void *blocks[30];
    for (int i = 0; i < 30; i++)
        memset(blocks[i] = valloc_malloc(2 * MIB), 1, 2 * MIB);
    for (int i = 0; i < 30; i++)
        valloc_free(blocks[i]);
    char *block = valloc_calloc(1, 1500 * MIB);
    require(block != NULL && figure("VmRSS:") < 120 * KIB);
    for (size_t i = 0; i < 80 * MIB; i += 1000)
        require(block[i] == 0);
}

typedef struct Case {
    void (*body)(void);
} Case;

static void run_case(void *test)
{
    signal(SIGSEGV, SIG_DFL); /* not cmocka's */
    ((Case *)test)->body();
    _exit(0);
}

static void in_a_child(void **state)
{
    Child child = child_run(run_case, *state);
    if (child.status != 0)
        fail_msg("status %x, said '%s'", child.status, child.text);
}

#define CASE(name)                                                                                 \
    {                                                                                              \
#name, in_a_child, NULL, NULL, &(Case)                                                     \
        {                                                                                          \
            name                                                                                   \
        }                                                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_small_heap_takes_little_address_space),
        CASE(a_limit_that_comes_late_is_kept),
        CASE(a_full_heap_leaves_room_for_threads),
        CASE(free_slots_serve_at_a_limit),
        CASE(what_memory_cannot_hold_is_refused),
        CASE(memory_that_is_not_touched_is_not_resident),
        CASE(shrinking_never_fails),
        CASE(caches_make_room_at_a_hard_limit),
        CASE(a_large_zeroed_block_is_not_touched),
    };
    return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
