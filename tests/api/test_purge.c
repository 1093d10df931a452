/* test_purge.c: what stays resident after free memory was given back. After valloc_purge these are
 * the pages that hold a live slot, whatever the pattern of frees; the exact number is computed from
 * the live addresses and compared with mincore. */
#include "support.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "simulated.h"
#include "subject.h"

#define FILL_BYTES ((size_t)48 << 20)
#define SLOTS_MAX (FILL_BYTES / 16)

typedef struct Slot {
    unsigned char *address; /* NULL if it was freed */
    size_t size;
} Slot;

static Slot slots[SLOTS_MAX];
static size_t slot_count;
static uintptr_t lowest, highest;

#if !defined(TEST_API) && !defined(__GLIBC__)
int malloc_trim(size_t pad); /* the override library's; this libc has none */
#endif

/* Did anything go? */
static bool purge(void)
{
#ifdef TEST_API
    return valloc_purge() != 0;
#else
    return malloc_trim(0) != 0;
#endif
}

/* Sizes from 16 bytes to 128 KiB, most of them small. */
static size_t random_size(uint64_t *seed)
{
    uint64_t r = random_next(seed);
    return 16 + r % ((size_t)1 << (6 + (r >> 32) % 12));
}

static void fill(uint64_t seed, size_t size)
{
    size_t bytes = 0;
    lowest = UINTPTR_MAX;
    highest = 0;
    for (slot_count = 0; bytes < FILL_BYTES && slot_count < SLOTS_MAX; slot_count++) {
        Slot *slot = &slots[slot_count];
        slot->size = size != 0 ? size : random_size(&seed);
        slot->address = subject_malloc(slot->size);
        assert_non_null(slot->address);
        memset(slot->address, (int)(slot_count & 0xff), slot->size);
        bytes += slot->size;
        uintptr_t start = (uintptr_t)slot->address;
        lowest = start < lowest ? start : lowest;
        highest = start + slot->size > highest ? start + slot->size : highest;
    }
}

/* Frees all but one in `keep_one_in`, at random. */
static void thin_out(uint64_t seed, uint64_t keep_one_in)
{
    for (size_t i = 0; i < slot_count; i++) {
        if (random_next(&seed) % keep_one_in == 0)
            continue;
        subject_free(slots[i].address);
        slots[i].address = NULL;
    }
}

static void free_rest(void)
{
    for (size_t i = 0; i < slot_count; i++) {
        if (slots[i].address == NULL)
            continue;
        for (size_t byte = 0; byte < slots[i].size; byte += 61)
            assert_int_equal(slots[i].address[byte], i & 0xff);
        subject_free(slots[i].address);
    }
}

/* Pages of [lowest, highest): how many there are, hold bytes that were asked for, hold a live slot,
 * are resident. */
typedef struct Pages {
    size_t all, asked, live, resident;
} Pages;

static void mark(unsigned char *map, size_t first, size_t last, unsigned char bits)
{
    for (size_t i = first; i <= last; i++)
        map[i] |= bits;
}

static Pages count_pages(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = lowest & ~(page - 1);
    Pages pages = {.all = (highest - start + page - 1) / page};
    unsigned char *map =
        mmap(NULL, pages.all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    for (size_t i = 0; i < slot_count; i++) {
        if (slots[i].address == NULL)
            continue;
        size_t offset = (uintptr_t)slots[i].address - start;
        size_t usable = subject_usable_size(slots[i].address);
        size_t end = offset + usable < pages.all * page ? offset + usable : pages.all * page;
        mark(map, offset / page, (offset + slots[i].size - 1) / page, 1);
        mark(map, offset / page, (end - 1) / page, 2);
    }
    for (size_t i = 0; i < pages.all; i++) {
        pages.asked += map[i] & 1u;
        pages.live += map[i] >> 1;
    }
    /* Zones lie far apart: between them nothing is mapped. */
    for (size_t done = 0; done < pages.all;) {
        unsigned char present[4096];
        size_t some = pages.all - done < sizeof present ? pages.all - done : sizeof present;
        if (mincore((void *)(start + done * page), some * page, present) == 0) {
            for (size_t i = 0; i < some; i++)
                pages.resident += present[i] & 1u;
        } else { /* the end of a zone, or nothing */
            for (size_t i = 0; i < some && (i == 0 || present[0] != 2); i++) {
                present[0] = 2;
                if (mincore((void *)(start + (done + i) * page), page, present) == 0)
                    pages.resident += present[0] & 1u;
            }
            if (mincore((void *)(start + (done + some - 1) * page), page, present) == 0)
                for (size_t i = some;
                     i-- > 0 && mincore((void *)(start + (done + i) * page), page, present) == 0;)
                    pages.resident += present[0] & 1u;
        }
        done += some;
    }
    munmap(map, pages.all);
    return pages;
}

/* At most 2 % and a few pages more than those that hold a live slot. */
static void assert_at_the_limit(const char *what, Pages pages)
{
    print_message("%s: %zu pages, %zu hold a live slot, %zu are resident\n", what, pages.all,
                  pages.live, pages.resident);
    assert_true(pages.resident >= pages.asked);
    assert_true(pages.resident <= pages.live + pages.live / 50 + 64);
}

static void purge_leaves_pages_with_a_live_slot(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 64, 1000, 4096, 9000, 40000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (uint64_t keep = 2; keep <= 50; keep *= 5) {
            char what[64];
            snprintf(what, sizeof what, "size %zu, 1 in %d kept", sizes[i], (int)keep);
            fill(7 + keep, sizes[i]);
            thin_out(3 + keep, keep);
            assert_true(purge());
            assert_at_the_limit(what, count_pages());
            free_rest();
        }
    }
}

static void what_was_purged_is_used_again(void **state)
{
    (void)state;
    fill(5, 500);
    thin_out(5, 20);
    purge();
    for (size_t i = 0; i < slot_count; i++) {
        if (slots[i].address != NULL)
            continue;
        slots[i].address = subject_calloc(1, 500);
        for (size_t byte = 0; byte < 500; byte++)
            assert_int_equal(slots[i].address[byte], 0);
        memset(slots[i].address, (int)(i & 0xff), 500);
    }
    uintptr_t end = highest;
    for (size_t i = 0; i < slot_count; i++)
        assert_true((uintptr_t)slots[i].address < end + ((size_t)1 << 20));
    free_rest();
}

static pthread_barrier_t filled, purged;

static void *fill_and_wait(void *unused)
{
    (void)unused;
    fill(11, 700);
    thin_out(11, 20);
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&purged);
    free_rest();
    return NULL;
}

static void any_thread_purges_for_all(void **state)
{
    (void)state;
    pthread_t thread;
    pthread_barrier_init(&filled, NULL, 2);
    pthread_barrier_init(&purged, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, fill_and_wait, NULL), 0);
    pthread_barrier_wait(&filled);
    purge();
    Pages pages = count_pages();
    pthread_barrier_wait(&purged);
    pthread_join(thread, NULL);
    assert_at_the_limit("another thread's", pages);
}

static void blocks_of_other_allocators_too(void **state)
{
    (void)state;
    static MemoryAllocator allocator;
    static unsigned char *own[20000];
    assert_int_equal(valloc_init(&allocator, 1, 4), 0);
    lowest = UINTPTR_MAX;
    highest = 0;
    for (slot_count = 0; slot_count < 20000; slot_count++) {
        own[slot_count] = valloc_allocate(&allocator, 2000);
        memset(own[slot_count], 1, 2000);
        uintptr_t start = (uintptr_t)own[slot_count];
        lowest = start < lowest ? start : lowest;
        highest = start + 2000 > highest ? start + 2000 : highest;
    }
    for (size_t i = 0; i < slot_count; i++) {
        bool live = i % 10 == 0;
        slots[i] = (Slot){live ? own[i] : NULL, 2000};
        if (!live)
            free_valloc(&allocator, own[i]);
    }
    purge();
    assert_at_the_limit("an allocator's", count_pages());
    valloc_destroy(&allocator);
}

/* A thread that goes on with something else gives back what it has no use for. */
static void holes_go_with_time(void **state)
{
    (void)state;
    fill(13, 700);
    thin_out(13, 20);
    size_t before = count_pages().resident;
    Pages pages = {0};
    for (int i = 0; i < 2000; i++) {
        void *blocks[2000];
        for (int k = 0; k < 2000; k++)
            blocks[k] = subject_malloc(32);
        for (int k = 0; k < 2000; k++)
            subject_free(blocks[k]);
        pass_ms(50);
        pages = count_pages();
        if (pages.resident <= pages.live + pages.live / 20 + 128)
            break;
    }
    print_message("%zu pages resident at first, then %zu; %zu hold a live slot\n", before,
                  pages.resident, pages.live);
    assert_true(pages.resident <= pages.live + pages.live / 20 + 128);
    free_rest();
}

/* What other threads leave on a thread's stacks, in pages: the newest slot of each class; with
 * random order sixteen, and what waits in its quarantine. On other processors than x86-64 also the
 * newest run of each class, here of 64 and 128 KiB. */
#ifdef __x86_64__
#define NEWEST_RUN_PAGES 0
#else
#define NEWEST_RUN_PAGES 48
#endif
#define NEWEST_PAGES ((size_t)(SECURED ? 2500 : 130) + NEWEST_RUN_PAGES)

/* Waits until only pages with a live slot are resident, and the newest of some threads' stacks. */
static void assert_idle_process_shrinks(const char *what, size_t threads)
{
    Pages pages = {0};
    for (int i = 0; i < PATIENCE / 25; i++) {
        pages = count_pages();
        if (pages.resident <= pages.live + threads * NEWEST_PAGES)
            break;
        pass_ms(25);
        let_others_run();
    }
    print_message("%s: %zu pages, %zu hold a live slot, %zu are resident\n", what, pages.all,
                  pages.live, pages.resident);
    assert_true(pages.resident <= pages.live + threads * NEWEST_PAGES);
}

static void the_background_thread_shrinks_an_idle_process(void **state)
{
    (void)state;
    assert_int_equal(valloc_background_purge(1), 0);
    assert_int_equal(valloc_background_purge(1), 0);
    fill(17, 0);
    thin_out(17, 20);
    assert_idle_process_shrinks("idle", 1);
    free_rest();
    assert_int_equal(valloc_background_purge(0), 0);
    assert_int_equal(valloc_background_purge(0), 0);
}

/* Each frees a part of what the first thread filled, more of it than a stack holds. */
#define IDLE_THREADS ((size_t)6)
static pthread_barrier_t all_freed, all_done;

static void *free_a_part(void *number)
{
    uint64_t seed = 23;
    for (size_t i = 0; i < slot_count; i++) {
        if (random_next(&seed) % 20 == 0 || i * IDLE_THREADS / slot_count != (uintptr_t)number)
            continue;
        subject_free(slots[i].address);
        slots[i].address = subject_malloc(slots[i].size); /* a slab of its own */
        subject_free(slots[i].address);
        slots[i].address = NULL;
    }
    pthread_barrier_wait(&all_freed);
    pthread_barrier_wait(&all_done);
    subject_free(subject_malloc(100));
    return NULL;
}

static void idle_threads_keep_next_to_nothing(void **state)
{
    (void)state;
    pthread_t threads[IDLE_THREADS];
    pthread_barrier_init(&all_freed, NULL, IDLE_THREADS + 1);
    pthread_barrier_init(&all_done, NULL, IDLE_THREADS + 1);
    for (int by_background = 0; by_background <= 1; by_background++) {
        fill(23, 0);
        for (uintptr_t i = 0; i < IDLE_THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, free_a_part, (void *)i), 0);
        pthread_barrier_wait(&all_freed);
        if (by_background)
            assert_int_equal(valloc_background_purge(1), 0);
        else
            purge();
        assert_idle_process_shrinks(by_background ? "idle threads" : "purged", IDLE_THREADS);
        assert_int_equal(valloc_background_purge(0), 0);
        pthread_barrier_wait(&all_done);
        for (size_t i = 0; i < IDLE_THREADS; i++)
            pthread_join(threads[i], NULL);
        free_rest();
    }
}

static int count_exited(const valloc_cache_stats *cache, void *sum)
{
    if (!cache->in_use)
        *(size_t *)sum += cache->cached;
    return 0;
}

/* Threads that exit leave warm caches to the next ones: not for ever. */
static void *fill_a_little(void *unused)
{
    void *blocks[60];
    for (size_t i = 0; i < 60; i++)
        memset(blocks[i] = subject_malloc(1500), 1, 1500);
    for (size_t i = 0; i < 60; i++)
        subject_free(blocks[i]);
    return unused;
}

static void caches_of_exited_threads_are_emptied(void **state)
{
    (void)state;
    pthread_t threads[6];
    size_t cached = 0;
    assert_int_equal(valloc_background_purge(1), 0);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fill_a_little, NULL), 0);
    for (size_t i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    fill(17, 0); /* enough to start it */
    free_rest();
    for (int i = 0; i < PATIENCE / 25; i++) {
        cached = 0;
        valloc_stats_caches(count_exited, &cached);
        if (cached == 0)
            break;
        pass_ms(25);
        let_others_run();
    }
    assert_int_equal(cached, 0);
    assert_int_equal(valloc_background_purge(0), 0);
}

#if !defined(SANITIZED)
/* Long enough for the background thread to find nothing to do several times. */
static void idle(void)
{
#ifdef TEST_SIMULATED
    for (int i = 0; i < 200; i++) {
        pass_ms(100);
        let_others_run();
    }
#endif
}

static void the_background_thread_survives_fork(void **state)
{
    (void)state;
#ifdef EMULATED
    print_message("qemu's user mode fails an assertion of its own where a child starts a thread\n");
    skip();
#endif
    assert_int_equal(valloc_background_purge(1), 0);
    purge();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        fill(19, 700);
        idle();
        thin_out(19, 20); /* nothing but frees of small slots */
        assert_idle_process_shrinks("idle child", 1);
        free_rest();
        _exit(valloc_background_purge(0) == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(valloc_background_purge(0), 0);
}
#endif

/* A process that frees nearly everything and sleeps then has no other chance. */
static void what_is_freed_goes_with_the_last_frees(void **state)
{
    (void)state;
    fill(7, 0);
    thin_out(7, 50);
    Pages pages = count_pages();
    print_message("freed: %zu pages, %zu hold a live slot, %zu are resident\n", pages.all,
                  pages.live, pages.resident);
    assert_true(pages.resident < FILL_BYTES / (size_t)sysconf(_SC_PAGESIZE) / 3 + pages.live);
    free_rest();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* The first, since it does so once in a while only. */
        cmocka_unit_test(what_is_freed_goes_with_the_last_frees),
        cmocka_unit_test(purge_leaves_pages_with_a_live_slot),
        cmocka_unit_test(what_was_purged_is_used_again),
        cmocka_unit_test(any_thread_purges_for_all),
        cmocka_unit_test(blocks_of_other_allocators_too),
        cmocka_unit_test(holes_go_with_time),
        cmocka_unit_test(the_background_thread_shrinks_an_idle_process),
        cmocka_unit_test(idle_threads_keep_next_to_nothing),
        cmocka_unit_test(caches_of_exited_threads_are_emptied),
#if !defined(SANITIZED)
        cmocka_unit_test(the_background_thread_survives_fork),
#endif
    };
    stop_clock();
    return cmocka_run_group_tests_name("purge", tests, NULL, NULL);
}
