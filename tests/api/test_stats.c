/* test_stats.c: what statistics say against what the test itself knows (the usable sizes of its
 * blocks) and what the kernel says (/proc/self/smaps). */
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <unistd.h>

#include "table/block_table.h"
#include "table/meta.h"

#define BLOCKS 40000
#define THREADS 4
#define MIB ((size_t)1 << 20)

static unsigned char *blocks[BLOCKS];

/* While other threads run. */
static valloc_stats stats_in_motion(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    assert_int_equal(stats.lent,
                     stats.live + stats.cached + stats.free_slots + stats.spare + stats.slack);
    return stats;
}

static valloc_stats stats_now(void)
{
    valloc_stats stats = stats_in_motion();
    assert_true(stats.lent + stats.dirty <= stats.committed);
    assert_true(stats.committed <= stats.reserved && stats.threads <= stats.caches);
    return stats;
}

static size_t random_size(uint64_t *seed)
{
    uint64_t r = random_next(seed);
    size_t most = r % 2000 == 0 ? 5 * MIB : r % 200 == 0 ? 400000 : r % 10 == 0 ? 20000 : 1000;
    return 1 + (size_t)(r >> 20) % most;
}

/* Every byte is written to. */
static void make(size_t i, uint64_t *seed)
{
    size_t size = random_size(seed);
    blocks[i] = random_next(seed) % 16 == 0 ? valloc_aligned_alloc(256, size) : valloc_malloc(size);
    assert_non_null(blocks[i]);
    memset(blocks[i], 1, valloc_usable_size(blocks[i]));
}

static void end(size_t i)
{
    valloc_free(blocks[i]);
    blocks[i] = NULL;
}

/* Guard pages of runs up to 1 MiB are no part of their slots. */
static size_t slot_bytes(const void *block)
{
    size_t bytes = whole_bytes(valloc_usable_size(block));
    return bytes > (size_t)32 << 10 && bytes <= MIB ? bytes - SECURED_LARGE_BYTES : bytes;
}

static size_t live(void)
{
    size_t bytes = 0;
    for (size_t i = 0; i < BLOCKS; i++)
        bytes += blocks[i] == NULL ? 0 : slot_bytes(blocks[i]);
    return bytes;
}

/* ---- Live bytes ---- */

typedef struct Sums {
    size_t live_bytes, cached_bytes, free_bytes, smallest;
} Sums;

static int sum_class(const valloc_class_stats *row, void *context)
{
    Sums *sums = context;
    assert_int_equal(row->slots, row->live + row->cached + row->free_slots);
    assert_true(row->blocks * VALLOC_BLOCK_BYTES >= row->slots * row->slot_size);
    assert_true(row->slot_size == 0 || row->slot_size > sums->smallest);
    sums->smallest = row->slot_size;
    sums->live_bytes += row->live_bytes;
    sums->cached_bytes += row->cached * row->slot_size;
    sums->free_bytes += row->free_slots * row->slot_size;
    return 0;
}

static int sum_cache(const valloc_cache_stats *cache, void *context)
{
    assert_true(cache->id > 0);
    *(size_t *)context += cache->cached;
    return 0;
}

/* No other thread runs. */
static void check_quiet(size_t live_before)
{
    valloc_stats stats = stats_now();
    Sums sums = {0};
    size_t cached = 0;
    assert_int_equal(stats.live, live_before + live());
    assert_int_equal(valloc_stats_classes(NULL, sum_class, &sums), 0);
    assert_int_equal(sums.live_bytes, stats.live);
    assert_int_equal(sums.cached_bytes, stats.cached);
    assert_int_equal(sums.free_bytes, stats.free_slots);
    assert_int_equal(valloc_stats_caches(sum_cache, &cached), 0);
    assert_int_equal(cached, stats.cached);
    assert_true(cached <= stats.cache_limit + THREADS * VA_CACHE_MAX_BYTES);
}

static void live_bytes_are_exact(void **state)
{
    (void)state;
    uint64_t seed = 3;
    size_t before = stats_now().live;
    for (size_t i = 0; i < BLOCKS; i++)
        make(i, &seed);
    check_quiet(before);
    for (size_t i = 0; i < BLOCKS; i++)
        if (random_next(&seed) % 10 != 0)
            end(i);
    check_quiet(before);
    valloc_purge();
    check_quiet(before);
    assert_int_equal(stats_now().dirty, 0);
    for (size_t i = 0; i < BLOCKS; i++)
        if (blocks[i] != NULL && random_next(&seed) % 2 == 0) {
            blocks[i] = valloc_realloc(blocks[i], random_size(&seed));
            assert_non_null(blocks[i]);
        }
    check_quiet(before);
    for (size_t i = 0; i < BLOCKS; i++)
        end(i);
    check_quiet(before);
}

static void allocators_are_counted_apart_and_with_all(void **state)
{
    (void)state;
    MemoryAllocator allocator = {0};
    Sums sums = {0};
    size_t before = stats_now().live;
    size_t lent = stats_now().lent;
    assert_int_equal(valloc_init(&allocator, 100, 2), 0);
    assert_int_equal(stats_now().live, before);
    assert_int_equal(stats_now().lent, lent + 100 * VALLOC_BLOCK_BYTES);
    void *small = valloc_allocate(&allocator, 100);
    void *large = valloc_allocate(&allocator, 3 * MIB);
    size_t large_bytes = slot_bytes(large);
    valloc_stats_classes(&allocator, sum_class, &sums);
    assert_int_equal(sums.live_bytes, 112 + large_bytes);
    assert_int_equal(stats_now().live, before + 112 + large_bytes);
    valloc_free(small);
    valloc_free(large);
    assert_int_equal(stats_now().live, before);
    valloc_destroy(&allocator);
    assert_int_equal(stats_now().lent, lent);
}

/* ---- Threads ---- */

static pthread_barrier_t barrier;
static _Atomic bool stopped;

/* Fills a quarter of the places, and frees half of what another thread has filled: slots of any
 * class stay in stacks and in batches. */
static void *cross(void *number)
{
    size_t own = (uintptr_t)number;
    size_t other = (own + 1) % THREADS;
    uint64_t seed = own + 5;
    for (size_t i = own; i < BLOCKS; i += THREADS)
        make(i, &seed);
    pthread_barrier_wait(&barrier);
    for (size_t i = other; i < BLOCKS; i += THREADS)
        if (random_next(&seed) % 2 == 0)
            end(i);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* is looked at */
    return NULL;
}

static void threads_that_rest_are_counted_exactly(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    size_t before = stats_now().live;
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, cross, (void *)i), 0);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    check_quiet(before);
    assert_true(stats_now().threads >= THREADS + 1);
    pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check_quiet(before);
    for (size_t i = 0; i < BLOCKS; i++)
        end(i);
    check_quiet(before);
    pthread_barrier_destroy(&barrier);
}

static void *replace_until_stopped(void *number)
{
    static _Atomic(unsigned char *) shared[5000];
    uint64_t seed = (uintptr_t)number + 5;
    while (!stopped) {
        size_t size = random_size(&seed);
        valloc_free(atomic_exchange(&shared[random_next(&seed) % 5000], valloc_malloc(size)));
    }
    if (number == NULL)
        for (size_t i = 0; i < 5000; i++)
            valloc_free(atomic_exchange(&shared[i], NULL));
    return NULL;
}

static void count_text(void *context, const char *text)
{
    *(size_t *)context += strlen(text);
}

/* Under ThreadSanitizer: nothing is read that it calls a race. */
static void threads_that_run_are_looked_at(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    size_t characters = 0;
    stopped = false;
    for (size_t i = 1; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, replace_until_stopped, (void *)i), 0);
    for (int i = 0; i < 100; i++) {
        MemoryAllocator allocator = {0};
        assert_int_equal(valloc_init(&allocator, 2, 1), 0);
        valloc_free(valloc_allocate(&allocator, 100));
        assert_true(stats_in_motion().caches >= THREADS);
        valloc_stats_print(i % 2 ? VALLOC_STATS_TEXT : VALLOC_STATS_JSON, count_text, &characters);
        valloc_dump(valloc_process(), count_text, &characters);
        valloc_destroy(&allocator);
    }
    assert_true(characters > 100000);
    stopped = true;
    for (size_t i = 1; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    replace_until_stopped(NULL);
}

/* ---- Resident memory ---- */

/* What the kernel counts of the arenas, and of it what lies on huge pages, in KiB. */
static size_t resident_kib(size_t *huge_kib)
{
    char line[512];
    size_t kib = 0;
    bool ours = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    assert_non_null(file);
    *huge_kib = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        uintptr_t start;
        uintptr_t stop;
        size_t number;
        if (sscanf(line, "%lx-%lx ", &start, &stop) == 2) {
            ours = false;
            for (unsigned i = 0; i < va_arena_count; i++)
                ours |=
                    start >= (uintptr_t)va_arenas[i].base &&
                    start < (uintptr_t)va_arenas[i].base + (va_arenas[i].blocks << VA_BLOCK_SHIFT);
        } else if (ours && sscanf(line, "Rss: %zu", &number) == 1) {
            kib += number;
        } else if (ours && sscanf(line, "AnonHugePages: %zu", &number) == 1) {
            *huge_kib += number;
        }
    }
    fclose(file);
    return kib;
}

static void check_resident(const char *when)
{
    static size_t most;
    static bool huge_seen; /* parts of them can be left */
    size_t huge;
    valloc_stats stats = stats_now();
    size_t told = (stats.resident - va_meta_used()) >> 10;
    size_t kernel = resident_kib(&huge);
    const char *choice = getenv("VALLOC_HUGE_PAGES");
    /* A guard page splits a huge page, all of which stays resident. */
    huge_seen |= huge != 0 || (SECURED && choice != NULL && strcmp(choice, "never") != 0);
    size_t more = huge_seen ? 2048 * ZONES * va_arena_count : 0;
    print_message("%s: %zu KiB by the statistics, %zu by the kernel, %zu on huge pages\n", when,
                  told, kernel, huge);
    assert_true(kernel <= told + 64 + more);
    most = kernel > most ? kernel : most;
    /* Free large blocks of a secure build have no pages, but count as if they had. */
    size_t cleared = SECURED ? stats.dirty + stats.spare : 0;
    size_t unused = stats.dirty / 8; /* fetched by the caches, and given back as it came */
    assert_true(told <=
                kernel + most / 50 + 256 + ((stats.cached + stats.slack + cleared + unused) >> 10));
}

static void *visit_thread(void *unused)
{
    (void)unused;
    uint64_t seed = 8;
    for (size_t i = 0; i < 2000; i++) {
        make(0, &seed);
        end(0);
    }
    return NULL;
}

static void the_estimate_is_what_the_kernel_counts(void **state)
{
    (void)state;
    uint64_t seed = 3;
    check_resident("at first");
    for (size_t i = 0; i < BLOCKS; i++)
        make(i, &seed);
    check_resident("filled");
    for (size_t i = 0; i < BLOCKS; i++)
        if (random_next(&seed) % 20 != 0)
            end(i);
    check_resident("95 % freed");
    valloc_purge();
    check_resident("purged");
    for (size_t i = 0; i < BLOCKS; i++)
        if (blocks[i] == NULL)
            make(i, &seed);
    check_resident("filled again");
    for (size_t i = 0; i < BLOCKS; i++)
        end(i);
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, visit_thread, NULL), 0);
        pthread_join(thread, NULL);
    }
    check_resident("after threads");
    valloc_purge();
    check_resident("empty");
}

/* ---- In a signal handler ---- */

static int pipe_ends[2];
static _Atomic int signals;

static void handle(int signal)
{
    (void)signal;
    valloc_stats_write(pipe_ends[1]);
    signals++;
}

static size_t number_after(const char *line, const char *name)
{
    const char *found = strstr(line, name);
    assert_non_null(found);
    return strtoul(found + strlen(name), NULL, 10);
}

static void counters_are_told_in_a_signal_handler(void **state)
{
    (void)state;
    char line[4096];
    uint64_t seed = 5;
    struct sigaction action = {.sa_handler = handle};
    struct itimerval often = {{0, 500}, {0, 500}};
    struct itimerval never = {{0, 0}, {0, 0}};
    assert_int_equal(pipe(pipe_ends), 0);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int turn = 0; signals < 100; turn++) {
        make((size_t)turn % 100, &seed);
        end((size_t)turn % 100);
        if (turn % 50 == 0)
            valloc_purge();
    }
    setitimer(ITIMER_REAL, &never, NULL);
    for (int i = 0; i < signals; i++) {
        size_t length = 0;
        do
            assert_int_equal(read(pipe_ends[0], line + length, 1), 1);
        while (line[length++] != '\n');
        line[length] = '\0';
        assert_int_equal(strncmp(line, "valloc: reserved=", 17), 0);
        size_t committed = number_after(line, " committed=");
        assert_true(number_after(line, " lent=") + number_after(line, " dirty=") <=
                    committed + 16 * MIB);
        assert_true(committed <= number_after(line, " reserved="));
        assert_true(number_after(line, " metadata=") > 0 && number_after(line, " threads=") > 0);
    }
    valloc_stats stats = stats_now();
    errno = 77;
    valloc_stats_write(pipe_ends[1]);
    assert_int_equal(errno, 77);
    ssize_t length = read(pipe_ends[0], line, sizeof line - 1);
    assert_true(length > 0);
    line[length] = '\0';
    assert_int_equal(number_after(line, " reserved="), stats.reserved);
    assert_int_equal(number_after(line, " committed="), stats.committed);
    assert_int_equal(number_after(line, " lent="), stats.lent);
    assert_int_equal(number_after(line, " dirty="), stats.dirty);
    assert_int_equal(number_after(line, " purged="), stats.purged);
    assert_int_equal(number_after(line, " metadata="), stats.metadata);
    valloc_stats_write(-1); /* no file: nothing happens */
}

/* ---- Refills ---- */

typedef struct Refilled {
    size_t slot_size, refilled, kept; /* kept: live or cached */
} Refilled;

static int find_refilled(const valloc_class_stats *row, void *context)
{
    Refilled *wanted = context;
    if (row->slot_size != wanted->slot_size)
        return 0;
    wanted->refilled = row->refilled;
    wanted->kept = row->live + row->cached;
    return 1;
}

static Refilled refilled(const MemoryAllocator *allocator, size_t slot_size)
{
    Refilled wanted = {.slot_size = slot_size};
    valloc_stats_classes(allocator, find_refilled, &wanted);
    return wanted;
}

#define REFILLED_SLOT 5120                  /* no test's own */
#define REFILLED_BYTES (REFILLED_SLOT - 16) /* with room for a canary */
enum { REFILLED = 1000, SLEEPERS = 300 };

static void *refill(void *count)
{
    void *blocks[REFILLED];
    for (size_t i = 0; i < *(size_t *)count; i++)
        assert_non_null(blocks[i] = valloc_malloc(REFILLED_BYTES));
    for (size_t i = 0; i < *(size_t *)count; i++)
        valloc_free(blocks[i]);
    return NULL;
}

static pthread_barrier_t all_run;

static void *refill_together(void *unused)
{
    size_t count = 1;
    pthread_barrier_wait(&all_run); /* each has a thread cache of its own */
    refill(&count);
    pthread_barrier_wait(&all_run);
    return unused;
}

/* What left the slabs is counted, whatever becomes of the thread caches and allocators. */
static void refills_are_counted(void **state)
{
    (void)state;
    size_t count = REFILLED;
    void *kept = valloc_malloc(REFILLED_BYTES); /* a class without blocks is not told */
    Refilled before = refilled(NULL, REFILLED_SLOT);
    refill(&count);
    Refilled after = refilled(NULL, REFILLED_SLOT);
    assert_true(after.refilled >= before.refilled + count - before.kept);
    assert_true(after.refilled >= after.kept);
    for (int i = 0; i < 1000; i++) /* from the thread's stack */
        valloc_free(valloc_malloc(REFILLED_BYTES));
    assert_true(refilled(NULL, REFILLED_SLOT).refilled <= after.refilled + 1);

    MemoryAllocator allocator = {0};
    before = refilled(NULL, REFILLED_SLOT);
    assert_int_equal(valloc_init(&allocator, 10, 2), 0);
    for (int i = 0; i < 100; i++)
        assert_non_null(valloc_allocate(&allocator, REFILLED_BYTES));
    assert_true(refilled(&allocator, REFILLED_SLOT).refilled >= 100);
    valloc_destroy(&allocator);
    assert_true(refilled(NULL, REFILLED_SLOT).refilled >= before.refilled + 100);

    before = refilled(NULL, REFILLED_SLOT);
    pthread_t threads[SLEEPERS];
    pthread_barrier_init(&all_run, NULL, SLEEPERS);
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, refill_together, NULL), 0);
    for (int i = 0; i < SLEEPERS; i++)
        pthread_join(threads[i], NULL);
    valloc_purge();
    assert_true(refilled(NULL, REFILLED_SLOT).refilled >= before.refilled + SLEEPERS);
    pthread_barrier_destroy(&all_run);
    valloc_free(kept);
}

/* ---- Text ---- */

static void collect(void *context, const char *text)
{
    strncat(context, text, 60000 - strlen(context));
}

static int stop_at_once(const valloc_class_stats *row, void *context)
{
    (void)row;
    ++*(int *)context;
    return 42;
}

static void people_and_programs_can_read_it(void **state)
{
    (void)state;
    static char text[65536];
    char expected[64];
    void *block = valloc_malloc(3 * MIB);
    valloc_stats stats = stats_now();
    valloc_stats_print(VALLOC_STATS_TEXT, collect, text);
    snprintf(expected, sizeof expected, "\nlive%22zu KiB\n", stats.live >> 10);
    assert_non_null(strstr(text, expected));
    assert_non_null(strstr(text, "\n slot size    blocks       slots        live    cached"));
    assert_non_null(strstr(text, "\n    larger"));
    assert_non_null(strstr(text, "\nthread cache 1: "));
    text[0] = '\0';
    valloc_stats_print(VALLOC_STATS_JSON, collect, text);
    snprintf(expected, sizeof expected, "\n\"live\":%zu,\n", stats.live);
    assert_non_null(strstr(text, expected));
    int visited = 0;
    assert_int_equal(valloc_stats_classes(NULL, stop_at_once, &visited), 42);
    assert_int_equal(visited, 1);
    valloc_free(block);
}

int main(int argc, char **argv) /* any argument: resident memory */
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_bytes_are_exact),
        cmocka_unit_test(allocators_are_counted_apart_and_with_all),
        cmocka_unit_test(threads_that_rest_are_counted_exactly),
        cmocka_unit_test(threads_that_run_are_looked_at),
        cmocka_unit_test(refills_are_counted),
        cmocka_unit_test(counters_are_told_in_a_signal_handler),
        cmocka_unit_test(people_and_programs_can_read_it),
    };
    (void)argv;
    const struct CMUnitTest resident[] = {cmocka_unit_test(the_estimate_is_what_the_kernel_counts)};
    if (argc > 1) {
        return cmocka_run_group_tests_name("resident", resident, NULL, NULL);
    }
    return cmocka_run_group_tests_name("statistics", tests, NULL, NULL);
}
