/* test_sampling.c: a heap profile of known allocations tells the truth in the mean, whoever frees
 * them; what is sampled is allocated and freed as any other block, whenever a profile begins and
 * ends. The bounds leave one failure in about 10,000 runs to chance. */
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#define VALLOC_NO_SHORT_NAMES
#include "profile/weight.h"
#include "valloc.h"

#define OBJECTS 400
#define ROUNDS 100
#define ERRORS 4.5 /* standard errors */

static void *held[OBJECTS];
static MemoryAllocator heap;

/* ---- Sites ---- */

static void keep(size_t i, void *ptr)
{
    require(ptr != NULL);
    held[i] = ptr;
}

static __attribute__((noinline)) void by_malloc(size_t size)
{
    for (size_t i = 0; i < OBJECTS; i++)
        keep(i, valloc_malloc(size));
    __asm__ volatile("");
}

static void by_pairs(size_t size)
{
    for (size_t i = 0; i < OBJECTS; i++) {
        keep(i, valloc_malloc(size));
        valloc_free(valloc_malloc(size));
    }
}

static void by_calloc(size_t size)
{
    for (size_t i = 0; i < OBJECTS; i++)
        keep(i, valloc_calloc(2, size / 2));
}

static void by_alignment(size_t size)
{
    for (size_t i = 0; i < OBJECTS; i++) {
        void *ptr = valloc_aligned_alloc(64, size);
        if (i % 2 == 0) {
            valloc_free_aligned_sized(ptr, 64, size);
            require(valloc_posix_memalign(&ptr, 128, size) == 0);
        }
        keep(i, ptr);
    }
}

/* To twice the size in steps; some stay where they are. */
static void by_growth(size_t size)
{
    for (size_t i = 0; i < OBJECTS; i++) {
        void *ptr = valloc_malloc(size / 2);
        ptr = valloc_realloc(ptr, size / 2 + 1);
        keep(i, valloc_realloc(ptr, size));
    }
}

static void by_allocator(size_t size)
{
    for (size_t i = 0; i < OBJECTS; i++) {
        keep(i, valloc_allocate(&heap, size));
        free_valloc(&heap, valloc_allocate(&heap, size));
    }
}

static void *free_half(void *unused)
{
    for (size_t i = 0; i < OBJECTS; i += 2) {
        valloc_free(held[i]);
        held[i] = NULL;
    }
    return unused;
}

static void run_thread(void *(*run)(void *))
{
    pthread_t thread;
    require(pthread_create(&thread, NULL, run, NULL) == 0);
    pthread_join(thread, NULL);
}

/* Another thread frees every other one. */
static void by_threads(size_t size)
{
    by_malloc(size);
    run_thread(free_half);
}

static const struct Site {
    void (*run)(size_t size);
    size_t size, rate;
    double allocated, live; /* objects of this size for each that is kept; of others as bytes */
} sites[] = {{by_malloc, 16, 4096, 1, 1},          {by_malloc, 1000, 16384, 1, 1},
             {by_malloc, 10000, 16384, 1, 1},      {by_malloc, 100000, 524288, 1, 1},
             {by_malloc, 1 << 20, 4 << 20, 1, 1},  {by_malloc, 4 << 20, 4 << 20, 1, 1},
             {by_pairs, 24, 4096, 2, 1},           {by_pairs, 70000, 524288, 2, 1},
             {by_pairs, 3 << 20, 4 << 20, 2, 1},   {by_calloc, 600, 16384, 1, 1},
             {by_alignment, 512, 16384, 1.5, 1},   {by_growth, 4000, 16384, 2, 1},
             {by_growth, 3 << 20, 4 << 20, 2, 1},  {by_allocator, 200, 16384, 2, 1},
             {by_allocator, 100000, 524288, 2, 1}, {by_threads, 64, 4096, 1, 0.5},
             {by_threads, 200000, 524288, 1, 0.5}};

static void free_all(void)
{
    for (size_t i = 0; i < OBJECTS; i++) {
        valloc_free(held[i]);
        held[i] = NULL;
    }
}

/* ---- Estimates ---- */

static int add_live(const valloc_profile_sample *sample, void *context)
{
    *(double *)context += sample->bytes;
    require(sample->depth > 0 && sample->size > 0);
    require(valloc_usable_size(sample->ptr) >= sample->size);
    return 0;
}

static double live_bytes(void)
{
    double bytes = 0;
    assert_int_equal(valloc_profile_visit(add_live, &bytes), 0);
    return bytes;
}

/* The numbers at the lines' ends. */
static int add_lines(void *context, const void *bytes, size_t count)
{
    static char line[1 << 16];
    static size_t length;
    for (size_t i = 0; i < count; i++) {
        line[length++] = ((const char *)bytes)[i];
        require(length < sizeof line);
        if (line[length - 1] != '\n')
            continue;
        line[length - 1] = '\0';
        *(double *)context += atof(strrchr(line, ' '));
        length = 0;
    }
    return 0;
}

static double allocated_bytes(void)
{
    double bytes = 0;
    assert_int_equal(valloc_profile_dump(VALLOC_PROFILE_FOLDED_ALL, add_lines, &bytes), 0);
    return bytes;
}

static void assert_near(const struct Site *site, const char *what, double mean, double objects)
{
    double size = (double)site->size;
    double p = va_weight_probability(site->size, site->rate);
    double truth = objects * size;
    /* Smaller objects on the way vary more: not more than as many bytes of half the size. */
    double small_p = site->run == by_growth ? va_weight_probability(site->size / 2, site->rate) : p;
    double error = size * va_weight_root(objects * (1 - small_p) / small_p / ROUNDS);
    double bound = ERRORS * error + truth * 1e-3;
    print_message("%s, %zu bytes: %.0f, truly %.0f, standard error %.0f\n", what, site->size, mean,
                  truth, error);
    assert_true(mean - truth <= bound && truth - mean <= bound);
}

static void sums_are_unbiased(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sites / sizeof *sites; i++) {
        double live = 0;
        double allocated = 0;
        for (int round = 0; round < ROUNDS; round++) {
            assert_int_equal(valloc_profile_start(sites[i].rate, VALLOC_PROFILE_ALL), 0);
            sites[i].run(sites[i].size);
            live += live_bytes();
            allocated += allocated_bytes();
            free_all();
            assert_true(live_bytes() == 0);
            valloc_profile_stop();
        }
        assert_near(&sites[i], "live", live / ROUNDS, OBJECTS * sites[i].live);
        assert_near(&sites[i], "allocated", allocated / ROUNDS, OBJECTS * sites[i].allocated);
    }
}

/* ---- Life ---- */

static int count_samples(const valloc_profile_sample *sample, void *context)
{
    (void)sample;
    ++*(size_t *)context;
    return 0;
}

static size_t samples(void)
{
    size_t count = 0;
    valloc_profile_visit(count_samples, &count);
    return count;
}

static void every_allocation_is_sampled_at_rate_1(void **state)
{
    static const size_t sizes[] = {50, 5000, 70000, 4 << 20};
    (void)state;
    assert_int_equal(valloc_profile_start(1, VALLOC_PROFILE_LIVE), 0);
    errno = 0;
    assert_int_equal(valloc_profile_start(1, VALLOC_PROFILE_LIVE), -1);
    assert_int_equal(errno, EBUSY);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        by_malloc(sizes[i]);
        assert_int_equal(samples(), OBJECTS);
        run_thread(free_half);
        assert_int_equal(samples(), OBJECTS / 2);
        /* A free after the stop ends a sample, too, be it in a thread that never joined. */
        valloc_profile_stop();
        valloc_free(valloc_malloc(sizes[i]));
        assert_int_equal(samples(), OBJECTS / 2);
        for (size_t k = 1; k < OBJECTS / 2; k += 2) {
            assert_true(valloc_usable_size(held[k]) >= sizes[i]);
            valloc_free(held[k]);
            held[k] = NULL;
        }
        assert_int_equal(samples(), OBJECTS / 4);
        free_all();
        assert_int_equal(samples(), 0);
        assert_int_equal(valloc_profile_start(1, VALLOC_PROFILE_LIVE), 0);
    }
    void *ptr = valloc_malloc(100);
    assert_ptr_equal(valloc_expand(ptr, 101), ptr);
    assert_int_equal(samples(), 1);
    valloc_free_sized(ptr, 100);
    assert_int_equal(samples(), 0);
    static const size_t runs[] = {100 << 10, 2 << 20};
    for (size_t i = 0; i < 2; i++) {
        assert_non_null(ptr = valloc_malloc(runs[i]));
        assert_null(valloc_expand(ptr, (size_t)1 << 46));
        assert_int_equal(samples(), 1);
        valloc_free(ptr);
        assert_int_equal(samples(), 0);
    }
    valloc_profile_stop();
}

/* Where jumps are calls, frames of valloc's come first. */
#if defined(NDEBUG) && !defined(SANITIZED)
#define FRAMES 1
#else
#define FRAMES 8
#endif

static int find_site(const valloc_profile_sample *sample, void *context)
{
    for (size_t i = 0; i < sample->depth && i < FRAMES; i++)
        *(bool *)context |= sample->stack[i] - (uintptr_t)by_malloc < 256;
    return 1;
}

static void a_stack_begins_at_the_programs_call(void **state)
{
    (void)state;
    bool found = false;
    assert_int_equal(valloc_profile_start(1, VALLOC_PROFILE_LIVE), 0);
    by_malloc(100);
    int result = valloc_profile_visit(find_site, &found);
    free_all();
    valloc_profile_stop();
    assert_int_equal(result, 1);
    assert_true(found);
}

static void a_destroyed_allocators_samples_end(void **state)
{
    MemoryAllocator own;
    (void)state;
    assert_int_equal(valloc_init(&own, 1, 4), 0);
    assert_int_equal(valloc_profile_start(1, VALLOC_PROFILE_LIVE), 0);
    require(valloc_allocate(&own, 10) != NULL && valloc_allocate(&own, 5 << 20) != NULL);
    assert_int_equal(samples(), 2);
    valloc_destroy(&own);
    assert_int_equal(samples(), 0);
    by_malloc(5 << 20);
    assert_int_equal(samples(), OBJECTS);
    free_all();
    assert_int_equal(samples(), 0);
    valloc_profile_stop();
}

/* In a child: cmocka cannot catch it. Returns the signal that ended it. */
static int signal_of(void (*run)(void))
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        close(STDERR_FILENO);
        run();
        _exit(0);
    }
    require(child > 0 && waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void free_twice(void)
{
    void *volatile ptr = valloc_malloc(100);
    valloc_profile_start(1, VALLOC_PROFILE_LIVE);
    ptr = valloc_malloc(100);
    valloc_free(ptr);
    valloc_free(ptr);
}

static void free_inside(void)
{
    valloc_profile_start(1, VALLOC_PROFILE_LIVE);
    char *volatile ptr = valloc_malloc(100);
    valloc_free(ptr + 1);
}

static void misuse_of_a_sampled_slot_is_reported(void **state)
{
    (void)state;
    assert_int_equal(signal_of(free_twice), SIGABRT);
    assert_int_equal(signal_of(free_inside), SIGABRT);
}

static void go_on(void)
{
    require(samples() == OBJECTS);
    free_all();
    require(samples() == 0);
    by_malloc(100);
    require(samples() == OBJECTS);
    valloc_profile_stop();
}

static void a_profile_survives_a_fork(void **state)
{
    (void)state;
    assert_int_equal(valloc_profile_start(1, VALLOC_PROFILE_LIVE), 0);
    by_malloc(100);
    assert_int_equal(signal_of(go_on), 0);
    assert_int_equal(samples(), OBJECTS);
    free_all();
    valloc_profile_stop();
}

/* ---- Threads ---- */

#define SHARED 64
static void *_Atomic shared[SHARED];
static atomic_bool done;

static void *work(void *number)
{
    uint64_t random = (uintptr_t)number + 1;
    while (!atomic_load(&done)) {
        size_t size = (size_t)1 << random_next(&random) % 20;
        void *ptr =
            random_next(&random) % 4 != 0 ? valloc_malloc(size) : valloc_allocate(&heap, size);
        require(ptr != NULL);
        if (random_next(&random) % 4 == 0)
            require((ptr = valloc_realloc(ptr, size * 3 / 2)) != NULL);
        *(char *)ptr = 1;
        valloc_free(atomic_exchange(&shared[random_next(&random) % SHARED], ptr));
    }
    return NULL;
}

static int drop(void *context, const void *bytes, size_t count)
{
    (void)bytes;
    *(size_t *)context += count;
    return 0;
}

static void profiles_start_and_stop_while_threads_run(void **state)
{
    pthread_t threads[3];
    size_t written = 0;
    (void)state;
    for (uintptr_t i = 0; i < 3; i++)
        require(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (int round = 0; round < 20; round++) {
        assert_int_equal(valloc_profile_start(round % 2 == 0 ? 100 : 10000, VALLOC_PROFILE_ALL), 0);
        usleep(3000);
        assert_int_equal(valloc_profile_dump(VALLOC_PROFILE_PPROF, drop, &written), 0);
        valloc_profile_stop();
        samples();
        usleep(3000);
    }
    assert_int_equal(valloc_profile_start(1, VALLOC_PROFILE_ALL), 0);
    usleep(10000);
    atomic_store(&done, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < SHARED; i++)
        valloc_free(atomic_exchange(&shared[i], NULL));
    assert_int_equal(samples(), 0);
    assert_true(written > 0);
    valloc_profile_stop();
}

static int start_heap(void **state)
{
    (void)state;
    return valloc_init(&heap, 1, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_unbiased),
        cmocka_unit_test(every_allocation_is_sampled_at_rate_1),
        cmocka_unit_test(a_stack_begins_at_the_programs_call),
        cmocka_unit_test(a_destroyed_allocators_samples_end),
        cmocka_unit_test(misuse_of_a_sampled_slot_is_reported),
        cmocka_unit_test(a_profile_survives_a_fork),
        cmocka_unit_test(profiles_start_and_stop_while_threads_run),
    };
    return cmocka_run_group_tests(tests, start_heap, NULL);
}
