/* test_huge.c: where huge pages are asked for and where not: slabs of a class that grows, past the
 * first MiBs, if the kernel allows them; not around holes; and a child of a fork that writes here
 * and there does not copy what lies on them. Each case has a process of its own, with options of
 * its own. */
#include "support.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "child.h"

#define TEST_API 1
#include "arena/arena_space.h"
#include "arena/run_set.h"
#include "simulated.h"
#include "subject.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define MIB ((size_t)1 << 20)
#define CHUNK_BLOCKS (VA_HUGE_BYTES >> VA_BLOCK_SHIFT)
#define SLOT_BYTES ((size_t)4096)
#define SLOTS_MAX (400 * MIB / SLOT_BYTES)

static char *slots[SLOTS_MAX];

/* The sum of the lines of smaps that begin so, in KiB. */
static size_t smaps_kib(const char *name)
{
    char line[512];
    size_t kib = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    require(file != NULL);
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib += strtoul(line + strlen(name), NULL, 10);
    fclose(file);
    return kib;
}

static size_t huge_kib(void)
{
    return smaps_kib("AnonHugePages:");
}

/* Does the kernel give this process any? */
static bool kernel_gives(void)
{
    char *start =
        mmap(NULL, 2 * VA_HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(start != MAP_FAILED);
    char *page = start + (-(uintptr_t)start & (VA_HUGE_BYTES - 1));
    bool given = madvise(page, VA_HUGE_BYTES, MADV_HUGEPAGE) == 0;
    *page = 1;
    given = given && huge_kib() != 0;
    munmap(start, 2 * VA_HUGE_BYTES);
    return given;
}

/* Slots [from, to), in so many MiB of them, written. */
static void fill(size_t from_mib, size_t to_mib)
{
    for (size_t i = from_mib * MIB / SLOT_BYTES; i < to_mib * MIB / SLOT_BYTES; i++) {
        require((slots[i] = valloc_malloc(SLOT_BYTES - 8 * SECURED)) != NULL);
        memset(slots[i], 1, 64);
    }
}

/* Frees all slots there but every `keep`th (0: none). */
static void empty(size_t from_mib, size_t to_mib, size_t keep)
{
    for (size_t i = from_mib * MIB / SLOT_BYTES; i < to_mib * MIB / SLOT_BYTES; i++) {
        if (keep != 0 && i % keep == 0)
            continue;
        valloc_free(slots[i]);
        slots[i] = NULL;
    }
}

/* Blocks of the dense zone that lie on no new huge pages. */
static size_t small_blocks(void)
{
    const Zone *zone = &va_arenas[0].zones[ZONE_DENSE];
    size_t pages = 0;
    for (size_t g = zone->first / VA_GROUP_BLOCKS; g * VA_GROUP_BLOCKS < zone->committed; g++)
        pages += (size_t)__builtin_popcount(va_group(&va_arenas[0], g)->small);
    require(pages == zone->small_pages);
    return zone->huge_from - zone->first + pages * CHUNK_BLOCKS;
}

static void always_from_the_first_byte(void)
{
    fill(0, 16);
    require(huge_kib() >= 4096);
}

static void never(void)
{
    fill(0, 200);
    require(huge_kib() == 0 && test_advised == 0);
}

static void dense_memory_alone(void)
{
    fill(0, 32);
    require(huge_kib() == 0 && test_advised == 0);
    fill(32, 200);
    require(huge_kib() >= 100 << 10);
    require(small_blocks() == 0);
    /* Not so larger slots, runs and large blocks. */
    size_t advised = test_advised;
    for (size_t size = 10000; size < 100 * MIB; size *= 2) {
        for (int i = 0; i < 10; i++) {
            size_t block = va_block_index(&va_arenas[0], valloc_malloc(size));
            require(va_zone_of(&va_arenas[0], block) == ZONE_SPARSE ||
                    block < va_arenas[0].zones[ZONE_DENSE].huge_from);
        }
    }
    require(test_advised == advised);
}

/* Resident pages of the dense zone that were never lent. */
static size_t pages_in_advance(void)
{
    static unsigned char present[2 * VA_HUGE_BYTES / 4096];
    const Arena *arena = &va_arenas[0];
    const Zone *zone = &arena->zones[ZONE_DENSE];
    size_t bytes = (zone->committed - zone->top) << VA_BLOCK_SHIFT;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t count = 0;
    require(bytes / page <= sizeof present);
    require(mincore(arena->base + (zone->top << VA_BLOCK_SHIFT), bytes, present) == 0);
    for (size_t i = 0; i < bytes / page; i++)
        count += present[i] & 1u;
    return count;
}

/* As the kernel gives none then, none is counted on. */
static void none_where_prctl_forbids_them(void)
{
    require(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    for (size_t mib = 0; mib < 100; mib++) {
        fill(mib, mib + 1);
        require(pages_in_advance() <= 1);
    }
    require(huge_kib() == 0);
}

/* Pages with holes are split, others stay. The parts of a split page that were purged lie on small
 * pages from then on, what comes behind it on huge ones. */
static void pages_with_holes_are_split(void)
{
    fill(0, 300);
    size_t before = huge_kib();
    require(small_blocks() == 0);
    empty(100, 200, 200);
    valloc_purge();
    require(small_blocks() >= 90 * MIB / VA_BLOCK_BYTES);
    require(small_blocks() <= 110 * MIB / VA_BLOCK_BYTES);
    require(huge_kib() >= (before - (110 << 10)));
    before = huge_kib();
    fill(100, 400);
    require(huge_kib() >= before + (80 << 10));
}

/* A page that is free as a whole is huge when it is used again, also below others with holes. */
static void free_pages_are_huge_again(void)
{
    fill(0, 300);
    size_t before = huge_kib();
    empty(80, 150, 0);
    empty(200, 220, 200);
    valloc_purge();
    require(small_blocks() >= 16 * MIB / VA_BLOCK_BYTES);
    empty(200, 220, 0);
    valloc_purge();
    require(small_blocks() <= 10 * MIB / VA_BLOCK_BYTES);
    fill(80, 150);
    fill(200, 220);
    require(huge_kib() >= before - (40 << 10)); /* Linux before 6.14 keeps some small */
}

/* The number of mappings stays bounded. */
static void too_many_holes_refuse_all(void)
{
    fill(0, 400);
    empty(60, 380, 200);
    valloc_purge();
    const Zone *zone = &va_arenas[0].zones[ZONE_DENSE];
    require(zone->small_pages == 0);
    require(zone->huge_from - zone->first >= VA_HUGE_HOLES * CHUNK_BLOCKS);
}

/* A zone that was purged as a whole starts anew. */
static void memory_mapped_anew_is_huge_again(void)
{
    fill(0, 300);
    size_t before = huge_kib();
    empty(0, 300, 0);
    valloc_purge();
    require(huge_kib() <= 8 << 10);
    fill(0, 300);
    require(huge_kib() >= before - (32 << 10));
}

/* Resident pages of the dense zone's chunks that hold a live block, or of those that hold none. */
static size_t pages_of_chunks(bool live, bool collapse)
{
    static unsigned char present[VA_HUGE_BYTES / 4096];
    const Arena *arena = &va_arenas[0];
    const Zone *zone = &arena->zones[ZONE_DENSE];
    size_t pages = 0;
    for (size_t block = zone->first; block + CHUNK_BLOCKS <= zone->top; block += CHUNK_BLOCKS) {
        char *chunk = arena->base + (block << VA_BLOCK_SHIFT);
        uint64_t all = va_bitmap_mask(block / VA_GROUP_BLOCKS, block, CHUNK_BLOCKS);
        uint64_t free = va_group(arena, block / VA_GROUP_BLOCKS)->free & all;
        if (free == 0 || (free != all) != live)
            continue;
        if (collapse)
            madvise(chunk, VA_HUGE_BYTES, MADV_COLLAPSE);
        require(mincore(chunk, VA_HUGE_BYTES, present) == 0);
        for (size_t i = 0; i < VA_HUGE_BYTES / (size_t)sysconf(_SC_PAGESIZE); i++)
            pages += present[i] & 1u;
    }
    return pages;
}

#define RUNS 1000
#define RUN_BYTES ((size_t)150 << 10)

static char *runs[RUNS];

static void fill_runs(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        require((runs[i] = valloc_malloc(RUN_BYTES)) != NULL);
        memset(runs[i], 1, RUN_BYTES);
    }
}

/* The kernel collects pages of what is advised to huge ones, with time: what was free comes back
 * with them. Here it is asked to, at once. */
static void what_was_purged_stays_so(void)
{
    fill(0, 300);
    for (size_t i = 0; i < 300 * MIB / SLOT_BYTES; i++) {
        memset(slots[i], 1, SLOT_BYTES - 8 * SECURED);
        uint64_t block = (uintptr_t)slots[i] >> VA_BLOCK_SHIFT;
        if ((block * 0x9e3779b97f4a7c15u >> 60) % 8 != 0) /* whole blocks */
            valloc_free(slots[i]);
    }
    valloc_purge();
    size_t pages = pages_of_chunks(true, false);
    require(pages > 1000);
    require(pages_of_chunks(true, true) == pages);
    require(pages_of_chunks(false, false) == 0);
}

/* One byte makes a huge page resident, also the blocks of it that are free. */
static void what_came_in_with_a_byte_goes(void)
{
    require(valloc_malloc(64 * MIB) != NULL); /* else it were too small a heap */
    for (size_t count = 1; count < 40; count++) {
        /* Purged in one, they lose the kernel's tables of small pages. */
        char *large = valloc_malloc(100 * MIB);
        require(large != NULL);
        memset(large, 1, 100 * MIB);
        valloc_free(large);
        valloc_purge();
        fill_runs(count);
        for (size_t i = 0; i < count; i++)
            valloc_free(runs[i]);
        valloc_purge();
        /* What is cleared by giving it back keeps a page, and the block before it, with its guard.
         */
        require(pages_of_chunks(false, false) <= 16 * SECURED);
    }
}

static void a_child_copies_what_it_writes(void)
{
    fill(0, 200);
    size_t huge = huge_kib();
    require(huge >= 100 << 10);
    int status = -1;
    pid_t pid = fork();
    require(pid >= 0);
    if (pid == 0) {
        for (size_t mib = 0; mib < 200; mib += 20)
            memset(slots[mib * MIB / SLOT_BYTES], 2, 64);
        for (size_t mib = 10; mib < 200; mib += 20)
            valloc_free(slots[mib * MIB / SLOT_BYTES]);
        require(smaps_kib("Private_Dirty:") < 30 << 10);
        fill(300, 330); /* and works on */
        _exit(0);
    }
    require(waitpid(pid, &status, 0) == pid && status == 0);
    require(huge_kib() >= huge / 2);
}

/* Where they take long most of the memory has none, until much more of it is needed. */
static void slow_ones_are_not_asked_for(void)
{
    test_slow = 1000000;
    fill(0, 200);
    require(test_huge_bytes <= 16 * MIB);
    test_slow = 0;
    fill(200, 400);
    require(VALLOC_SECURE_GUARD || test_huge_bytes >= 32 * MIB);
}

/* A populating call may be interrupted for a while: half of a window is no reason. */
static void some_slow_ones_are_no_reason(void)
{
    fill(0, 52);
    test_slow = VA_HUGE_WINDOW / 2;
    fill(52, 200);
    require(test_slow == 0 && test_huge_bytes >= 100 * MIB);
}

/* By the API, in a heap that has grown. */
static void switched_at_run_time(void)
{
    fill(0, 100);
    require(test_advised != 0);
    unsigned advised = test_advised;
    valloc_set_huge_pages(VALLOC_HUGE_PAGES_NEVER);
    fill(100, 200);
    require(test_advised == advised && small_blocks() > 200 * MIB >> VA_BLOCK_SHIFT);
    valloc_set_huge_pages(VALLOC_HUGE_PAGES_AUTO);
    fill(200, 300);
    require(test_advised > advised && va_arenas[0].zones[ZONE_SPARSE].huge_from == SIZE_MAX);
    valloc_set_huge_pages(VALLOC_HUGE_PAGES_ALWAYS);
    advised = test_advised;
    require(valloc_malloc(200 * MIB) != NULL && test_advised > advised);
}

typedef struct Case {
    void (*body)(void);
    const char *mode;
    bool wants_huge; /* nothing to be seen where the kernel gives none */
} Case;

static Case cases[] = {
    {always_from_the_first_byte, "always", true},
    {never, "never", false},
    {dense_memory_alone, "auto", true},
    {none_where_prctl_forbids_them, "auto", false},
    {none_where_prctl_forbids_them, "always", false},
    {pages_with_holes_are_split, "auto", true},
    {memory_mapped_anew_is_huge_again, "auto", true},
    {what_was_purged_stays_so, "auto", false},
    {what_came_in_with_a_byte_goes, "auto", false},
    {what_came_in_with_a_byte_goes, "always", false},
    {a_child_copies_what_it_writes, "auto", true},
    {a_child_copies_what_it_writes, "always", true},
    {slow_ones_are_not_asked_for, "auto", false},
    {some_slow_ones_are_no_reason, "auto", false},
    {never, NULL, false}, /* a real-time process */
    {free_pages_are_huge_again, "auto", true},
    {too_many_holes_refuse_all, "auto", true},
    {switched_at_run_time, "auto", false},
};

static bool become_real_time(void)
{
    const struct sched_param lowest = {.sched_priority = 1};
    return sched_setscheduler(0, SCHED_FIFO, &lowest) == 0;
}

/* Options are read when a program starts. */
static void start_anew(void *test)
{
    char number[] = {(char)('a' + ((Case *)test - cases)), '\0'};
    if (((Case *)test)->mode != NULL)
        setenv("VALLOC_HUGE_PAGES", ((Case *)test)->mode, 1);
    else if (unsetenv("VALLOC_HUGE_PAGES") != 0 || !become_real_time())
        exit(0); /* no right to it */
    execl("/proc/self/exe", "huge", number, (char *)NULL);
    require(false);
}

static void in_a_child(void **state)
{
    const Case *test = *state;
    if (test->wants_huge && (VALLOC_SECURE_GUARD || !kernel_gives())) {
        print_message(VALLOC_SECURE_GUARD ? "guard pages split every huge page\n"
                                          : "the kernel gives this process no huge pages\n");
        skip();
    }
    Child child = child_run(start_anew, *state);
    if (child.status != 0)
        fail_msg("status %x, said '%s'", child.status, child.text);
}

int main(int argc, char **argv)
{
    stop_clock();
    if (argc > 1) {
        alarm(CHILD_SECONDS);
        cases[argv[1][0] - 'a'].body();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        {"always_from_the_first_byte", in_a_child, NULL, NULL, &cases[0]},
        {"never", in_a_child, NULL, NULL, &cases[1]},
        {"dense_memory_alone", in_a_child, NULL, NULL, &cases[2]},
        {"none_where_prctl_forbids_them", in_a_child, NULL, NULL, &cases[3]},
        {"none_where_prctl_forbids_them, always", in_a_child, NULL, NULL, &cases[4]},
        {"pages_with_holes_are_split", in_a_child, NULL, NULL, &cases[5]},
        {"memory_mapped_anew_is_huge_again", in_a_child, NULL, NULL, &cases[6]},
        {"what_was_purged_stays_so", in_a_child, NULL, NULL, &cases[7]},
        {"what_came_in_with_a_byte_goes", in_a_child, NULL, NULL, &cases[8]},
        {"what_came_in_with_a_byte_goes, always", in_a_child, NULL, NULL, &cases[9]},
        {"a_child_copies_what_it_writes", in_a_child, NULL, NULL, &cases[10]},
        {"a_child_copies_what_it_writes, always", in_a_child, NULL, NULL, &cases[11]},
        {"slow_ones_are_not_asked_for", in_a_child, NULL, NULL, &cases[12]},
        {"some_slow_ones_are_no_reason", in_a_child, NULL, NULL, &cases[13]},
        {"none in a real-time process", in_a_child, NULL, NULL, &cases[14]},
        {"free_pages_are_huge_again", in_a_child, NULL, NULL, &cases[15]},
        {"too_many_holes_refuse_all", in_a_child, NULL, NULL, &cases[16]},
        {"switched_at_run_time", in_a_child, NULL, NULL, &cases[17]},
    };
    return cmocka_run_group_tests_name("huge pages", tests, NULL, NULL);
}
