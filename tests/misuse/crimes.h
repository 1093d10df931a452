/* crimes.h: what programs do wrong with memory, one function per crime, and what valloc makes of
 * it.
 *
 * A crime that is not stopped goes on like a program that does not know of it, and returns what
 * became of that: HARMLESS, or CORRUPT when memory is seen to have two owners, or an innocent
 * block's contents to have changed, or a dead one's to be readable. test_misuse.c holds valloc to
 * the table below; crimes.c commits one on whichever malloc the process has. */
#ifndef CRIMES_H
#define CRIMES_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "subject.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

typedef enum Outcome { HARMLESS, CORRUPT, REPORTED, ABSENT = 77 } Outcome;

/* Keeps the compiler from seeing what happens to a pointer. */
static void *hide(void *pointer)
{
    void *volatile hidden = pointer;
    return hidden;
}

/* What was freed goes on its way from the thread's cache. */
static void flush(void)
{
#ifdef TEST_API
    valloc_purge();
#else
    malloc_trim(0);
#endif
}

static void *get(size_t size)
{
    void *block = hide(subject_malloc(size));
    if (block == NULL)
        _Exit(2);
    return block;
}

static void release(void *block)
{
    subject_free(hide(block));
}

/* Asks for blocks of a size until two of them, or one and the block given, lie on each other. */
static Outcome look_for_overlap(size_t size, const char *block)
{
    enum { TRIES = 2000 };
    static char *blocks[TRIES];
    int count = size > 64 * KIB ? 20 : TRIES;
    for (int i = 0; i < count; i++) {
        blocks[i] = get(size);
        if (block != NULL && blocks[i] < block + size && block < blocks[i] + size)
            return CORRUPT;
        for (int k = i - 1; k >= 0 && k > i - 700; k--)
            if (blocks[k] < blocks[i] + size && blocks[i] < blocks[k] + size)
                return CORRUPT;
    }
    flush();
    return HARMLESS;
}

/* ---- Freed twice ---- */

static Outcome free_twice(size_t size, size_t others, bool reuses)
{
    static void *blocks[1000];
    for (size_t i = 0; i <= others; i++)
        blocks[i] = get(size);
    for (size_t i = 0; i <= others; i++)
        release(blocks[i]);
    release(blocks[0]);
    if (reuses)
        return look_for_overlap(size, NULL);
    flush();
    return HARMLESS;
}

#define DOUBLE_FREE(name, size, others, reuses)                                                    \
    static Outcome name(void)                                                                      \
    {                                                                                              \
        return free_twice(size, others, reuses);                                                   \
    }
DOUBLE_FREE(double_free_at_once, 64, 0, true)
DOUBLE_FREE(double_free_after_1_other, 64, 1, true)
DOUBLE_FREE(double_free_after_3_others, 64, 3, true)
DOUBLE_FREE(double_free_after_20_others, 64, 20, true)
DOUBLE_FREE(double_free_after_300_others, 64, 300, true)
DOUBLE_FREE(double_free_after_1_other_unused, 64, 1, false)
DOUBLE_FREE(double_free_after_20_others_unused, 64, 20, false)
DOUBLE_FREE(double_free_after_900_others_unused, 64, 900, false)
DOUBLE_FREE(double_free_of_run, 100 * KIB, 0, true)
DOUBLE_FREE(double_free_of_run_after_3_others_unused, 100 * KIB, 3, false)
DOUBLE_FREE(double_free_of_large, 8 * MIB, 0, true)
DOUBLE_FREE(double_free_of_large_after_3_others, 8 * MIB, 3, true)

static Outcome double_free_of_aligned(void)
{
    void *block = hide(subject_aligned_alloc(4096, 8192));
    release(block);
    release(block);
    return look_for_overlap(8192, NULL);
}

static void *release_in_thread(void *block)
{
    release(block);
    return NULL;
}

static void free_elsewhere(void *block)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, release_in_thread, block) != 0)
        _Exit(2);
    pthread_join(thread, NULL);
}

static Outcome double_free_by_another_thread(void)
{
    void *block = get(200);
    release(block);
    free_elsewhere(block);
    flush();
    return look_for_overlap(200, NULL);
}

static Outcome double_free_by_two_other_threads(void)
{
    void *block = get(200);
    free_elsewhere(block);
    free_elsewhere(block);
    flush();
    return look_for_overlap(200, NULL);
}

/* By then the block is somebody else's. */
static Outcome double_free_of_anothers_block(void)
{
    void *block = get(64);
    release(block);
    char *anothers = get(64);
    release(block);
    return look_for_overlap(64, anothers);
}

/* ---- Frees of what is no block ---- */

static char static_bytes[64];

static Outcome free_static(void)
{
    release(static_bytes + 16);
    return HARMLESS;
}

static Outcome free_stack(void)
{
    char local[64] = "";
    release((char *)(((uintptr_t)local + 15) & ~(uintptr_t)15));
    return HARMLESS;
}

static void *lend_stack(void *place)
{
    char local[64] = "";
    *(void **)place = hide((char *)(((uintptr_t)local + 15) & ~(uintptr_t)15));
    for (;;)
        pause();
    return NULL;
}

static Outcome free_stack_of_another_thread(void)
{
    static void *volatile place;
    pthread_t thread;
    if (pthread_create(&thread, NULL, lend_stack, (void *)(uintptr_t)&place) != 0)
        _Exit(2);
    while (place == NULL)
        sched_yield();
    release(place);
    return HARMLESS;
}

static Outcome free_wild(void)
{
    release((void *)(uintptr_t)0x123456780);
    return HARMLESS;
}

/* Of another malloc, so to speak. */
static Outcome free_of_mapped_memory(void)
{
    char *map = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    release(map + 16);
    return HARMLESS;
}

static Outcome free_of_never_allocated(void)
{
    release((char *)((uintptr_t)get(100) & ~(uintptr_t)0xffff) + (1 << 30));
    return HARMLESS;
}

static Outcome free_inside(size_t size, size_t inside, bool reuses)
{
    char *block = get(size);
    release(block + inside);
    if (reuses)
        return look_for_overlap(size, block);
    flush();
    return HARMLESS;
}

#define INTERIOR_FREE(name, size, inside, reuses)                                                  \
    static Outcome name(void)                                                                      \
    {                                                                                              \
        return free_inside(size, inside, reuses);                                                  \
    }
INTERIOR_FREE(free_inside_slot, 100, 16, true)
INTERIOR_FREE(free_inside_slot_unused, 100, 16, false)
INTERIOR_FREE(free_inside_slot_unaligned, 100, 1, true)
INTERIOR_FREE(free_inside_run, 100 * KIB, 16, true)
INTERIOR_FREE(free_inside_run_unused, 100 * KIB, 16, false)
INTERIOR_FREE(free_page_inside_run, 200 * KIB, 128 * KIB, true)
INTERIOR_FREE(free_inside_large, 8 * MIB, 16, true)
INTERIOR_FREE(free_page_inside_large, 8 * MIB, MIB, true)

static Outcome realloc_inside_slot(void)
{
    char *block = get(100);
    char *moved = hide(subject_realloc(block + 16, 1000));
    flush();
    return moved == NULL ? HARMLESS : look_for_overlap(100, block);
}

static Outcome realloc_inside_run(void)
{
    char *block = get(200 * KIB);
    return subject_realloc(hide(block + 4096), 300 * KIB) == NULL
               ? HARMLESS
               : look_for_overlap(200 * KIB, block);
}

static Outcome realloc_static(void)
{
    return subject_realloc(hide(static_bytes + 16), 100) == NULL ? HARMLESS : CORRUPT;
}

static Outcome usable_size_of_static(void)
{
    return subject_usable_size(hide(static_bytes + 16)) == 0 ? HARMLESS : CORRUPT;
}

/* ---- Uses of what is freed ---- */

static Outcome usable_size_of_freed_large(void)
{
    void *block = get(8 * MIB);
    release(block);
    return subject_usable_size(hide(block)) == 0 ? HARMLESS : CORRUPT;
}

static Outcome realloc_of_freed(void)
{
    void *block = get(100);
    release(block);
    if (subject_realloc(hide(block), 1000) == NULL)
        return HARMLESS;
    return look_for_overlap(100, NULL);
}

static Outcome realloc_of_freed_same_size(void)
{
    void *block = get(100);
    release(block);
    char *again = hide(subject_realloc(hide(block), 101));
    return again == NULL ? HARMLESS : look_for_overlap(101, again);
}

static Outcome realloc_of_freed_elsewhere(void)
{
    void *block = get(300);
    free_elsewhere(block);
    char *again = hide(subject_realloc(hide(block), 400));
    return again == NULL ? HARMLESS : look_for_overlap(300, NULL);
}

static Outcome realloc_of_run_freed_elsewhere(void)
{
    void *block = get(200 * KIB);
    free_elsewhere(block);
    return subject_realloc(hide(block), 400 * KIB) == NULL ? HARMLESS
                                                           : look_for_overlap(200 * KIB, NULL);
}

static Outcome realloc_of_freed_large(void)
{
    void *block = get(8 * MIB);
    release(block);
    return subject_realloc(hide(block), 10) == NULL ? HARMLESS : CORRUPT;
}

static Outcome read_after_free(void)
{
    char *block = get(200);
    memset(block, 's', 200);
    release(block);
    const volatile char *dead = hide(block);
    return dead[100] == 's' ? CORRUPT : HARMLESS;
}

/* A block's next owner finds what its last one writes. */
static Outcome write_after_free(void)
{
    char *block = get(200);
    release(block);
    char *anothers = get(200);
    memset(anothers, 'a', 200);
    memset(hide(block), 'w', 200);
    bool changed = ((volatile char *)anothers)[100] != 'a';
    release(anothers);
    return changed ? CORRUPT : HARMLESS;
}

/* ---- Writes beyond a block ---- */

/* The block with the nearest one before it; of several the first in turn from the middle on. */
static int closely_preceded(char *const *blocks, int count)
{
    int best = count / 2;
    uintptr_t least = UINTPTR_MAX;
    for (int turn = 0; turn < count; turn++) {
        int i = (count / 2 + turn) % count;
        for (int j = 0; j < count; j++) {
            uintptr_t between = (uintptr_t)blocks[i] - (uintptr_t)blocks[j];
            if (i != j && blocks[j] < blocks[i] && between < least) {
                least = between;
                best = i;
            }
        }
    }
    return best;
}

/* Blocks side by side, if there are: one that follows another is written to from `from` on. */
static Outcome write_beyond(size_t size, ptrdiff_t from, size_t length)
{
    enum { COUNT = 64 };
    char *blocks[COUNT];
    bool changed = false;
    for (int i = 0; i < COUNT; i++)
        memset(blocks[i] = get(size), 'b', size);
    int guilty = closely_preceded(blocks, COUNT);
    memset((char *)hide(blocks[guilty]) + from, 'w', length);
    for (int i = 0; i < COUNT; i++)
        changed |= memchr(blocks[i], 'w', size) != NULL && i != guilty;
    for (int i = 0; i < COUNT; i++)
        release(blocks[i]);
    flush();
    return changed ? CORRUPT : look_for_overlap(size, NULL);
}

static Outcome write_one_byte_beyond_the_request(void)
{
    return write_beyond(40, 40, 1);
}

static Outcome write_into_the_next_block(void)
{
    return write_beyond(64, 64, 24);
}

static Outcome write_into_the_block_before(void)
{
    return write_beyond(64, -24, 24);
}

static Outcome write_over_several_blocks(void)
{
    return write_beyond(48, 48, 600);
}

#ifndef TEST_API
static Outcome write_beyond_large(void)
{
    char *block = get(8 * MIB);
    char *next = get(8 * MIB);
    memset(next, 'b', 64);
    memset((char *)hide(block) + 8 * MIB, 'w', 64);
    return next[0] == 'w' || next[20] == 'w' ? CORRUPT : HARMLESS;
}
#endif

/* ---- Wrong sizes ---- */

/* free_sized is young: not every malloc has it. */
#pragma weak free_sized
#pragma weak free_aligned_sized

static bool has_sized_frees(void)
{
#ifdef TEST_API
    return true;
#else
    return free_sized != NULL && free_aligned_sized != NULL;
#endif
}

static Outcome free_with_wrong_size(void)
{
    if (!has_sized_frees())
        return ABSENT;
    subject_free_sized(get(100), 1000);
    return HARMLESS;
}

/* Sizes that no block can have; a few bytes more and they would wrap round to small ones. */
static Outcome free_with_impossible_size(void)
{
    if (!has_sized_frees())
        return ABSENT;
    subject_free_sized(get(1), SIZE_MAX - 7);
    return HARMLESS;
}

static Outcome free_large_with_wrong_size(void)
{
    if (!has_sized_frees())
        return ABSENT;
    subject_free_sized(get(8 * MIB), 9 * MIB);
    return HARMLESS;
}

static Outcome free_with_wrong_alignment(void)
{
    if (!has_sized_frees())
        return ABSENT;
    subject_free_aligned_sized(hide(subject_aligned_alloc(64, 128)), 4096, 128);
    return HARMLESS;
}

static Outcome calloc_overflow(void)
{
    volatile size_t count = SIZE_MAX / 16 + 2;
    return subject_calloc(count, 16) == NULL ? HARMLESS : CORRUPT;
}

static Outcome reallocarray_overflow(void)
{
    volatile size_t count = SIZE_MAX / 16 + 2;
    return subject_reallocarray(NULL, count, 16) == NULL ? HARMLESS : CORRUPT;
}

/* ---- Allocators, which only valloc has ---- */

#ifdef TEST_API

static MemoryAllocator allocator;

static void *allocate_from_own(size_t size)
{
    if (valloc_init(&allocator, 1, 4) != 0)
        _Exit(2);
    return hide(valloc_allocate(&allocator, size));
}

static Outcome allocate_from_uninitialised(void)
{
    return hide(valloc_allocate(&allocator, 100)) == NULL ? HARMLESS : CORRUPT;
}

static Outcome allocate_from_copy(void)
{
    free_valloc(&allocator, allocate_from_own(100));
    MemoryAllocator copy = allocator;
    for (int i = 0; i < 2000; i++)
        if (valloc_allocate(&copy, 100) == NULL)
            return HARMLESS;
    return CORRUPT;
}

static Outcome allocate_from_null(void)
{
    MemoryAllocator *none = hide(NULL);
    return hide(valloc_allocate(none, 100)) == NULL ? HARMLESS : CORRUPT;
}

static Outcome free_into_null(void)
{
    free_valloc(hide(NULL), get(100));
    return HARMLESS;
}

static void *allocate_in_thread(void *unused)
{
    (void)unused;
    return valloc_allocate(&allocator, 100);
}

static Outcome allocate_from_destroyed_elsewhere(void)
{
    pthread_t thread;
    void *block = NULL;
    free_valloc(&allocator, allocate_from_own(100));
    valloc_destroy(&allocator);
    valloc_destroy(&allocator); /* of one that is none: nothing */
    if (pthread_create(&thread, NULL, allocate_in_thread, NULL) != 0)
        _Exit(2);
    pthread_join(thread, &block);
    return block == NULL ? HARMLESS : CORRUPT;
}

static Outcome init_of_initialised(void)
{
    char *block = allocate_from_own(100);
    memset(block, 'i', 100);
    if (valloc_init(&allocator, 1, 4) == 0)
        return CORRUPT;
    char *other = hide(valloc_allocate(&allocator, 100));
    return other != block && block[50] == 'i' ? HARMLESS : CORRUPT;
}

static Outcome expand_inside_slot(void)
{
    char *block = get(200);
    return valloc_expand(hide(block + 16), 100) == NULL ? HARMLESS : CORRUPT;
}

static Outcome expand_of_freed_run(void)
{
    void *block = get(200 * KIB);
    release(block);
    return valloc_expand(hide(block), 300 * KIB) == NULL ? HARMLESS : CORRUPT;
}

static Outcome free_into_destroyed(void)
{
    void *block = allocate_from_own(100);
    valloc_destroy(&allocator);
    free_valloc(&allocator, hide(block));
    return HARMLESS;
}

static Outcome free_of_destroyed(void)
{
    void *block = allocate_from_own(100);
    valloc_destroy(&allocator);
    release(block);
    return HARMLESS;
}

static Outcome destroy_the_process(void)
{
    valloc_destroy(valloc_process());
    return HARMLESS;
}

static Outcome double_free_in_allocator(void)
{
    void *block = allocate_from_own(100);
    free_valloc(&allocator, block);
    free_valloc(&allocator, hide(block));
    return HARMLESS;
}

static Outcome free_inside_slot_in_allocator(void)
{
    char *block = allocate_from_own(100);
    free_valloc(&allocator, hide(block + 16));
    valloc_purge(); /* flushes */
    return HARMLESS;
}

#endif

/* ---- The table ---- */

typedef struct Expectation {
    Outcome outcome;
    const char *message; /* what the line on stderr has to contain */
} Expectation;

typedef struct Crime {
    const char *name;
    Outcome (*commit)(void);
    Expectation normal;
    Expectation secure; /* VALLOC_SECURE: all that is freed wrongly is reported at once */
} Crime;

#define NOT_OURS "not a pointer of this allocator"
#define TWICE "freed already"
#define INSIDE "not the start of an allocation"
#define SIZE "the size or alignment is not the allocation's"
#define NO_ALLOCATOR "not an initialised MemoryAllocator"

#define BOTH(outcome, message)                                                                     \
    {outcome, message},                                                                            \
    {                                                                                              \
        outcome, message                                                                           \
    }
#define REPORTS(message) BOTH(REPORTED, "valloc: " message)
#define IS(normal, secure)                                                                         \
    {normal, ""},                                                                                  \
    {                                                                                              \
        secure, secure == REPORTED ? "valloc: " : ""                                               \
    }
#define CRIME(name, ...)                                                                           \
    {                                                                                              \
#name, name, __VA_ARGS__                                                                   \
    }

static const Crime crimes[] = {
    CRIME(double_free_at_once, REPORTS("free: " TWICE)),
    CRIME(double_free_after_1_other, REPORTS("free: " TWICE)),
    CRIME(double_free_after_3_others, REPORTS("free: " TWICE)),
    CRIME(double_free_after_20_others, REPORTS("free: " TWICE)),
    CRIME(double_free_after_300_others, REPORTS("free: " TWICE)),
    CRIME(double_free_after_1_other_unused, REPORTS("free: " TWICE)),
    CRIME(double_free_after_20_others_unused, REPORTS("free: " TWICE)),
    CRIME(double_free_after_900_others_unused, REPORTS("free: " TWICE)),
    CRIME(double_free_of_run, REPORTS("free: " TWICE)),
    CRIME(double_free_of_run_after_3_others_unused, REPORTS("free: " TWICE)),
    CRIME(double_free_of_large, REPORTS("free: " TWICE)),
    CRIME(double_free_of_large_after_3_others, REPORTS("free: " TWICE)),
    CRIME(double_free_of_aligned, REPORTS("free: " TWICE)),
    CRIME(double_free_by_another_thread, REPORTS("free: " TWICE)),
    CRIME(double_free_by_two_other_threads, REPORTS("free: " TWICE)),
    CRIME(double_free_of_anothers_block, IS(CORRUPT, REPORTED)),
    CRIME(free_static, REPORTS("free: " NOT_OURS)),
    CRIME(free_stack, REPORTS("free: " NOT_OURS)),
    CRIME(free_stack_of_another_thread, REPORTS("free: " NOT_OURS)),
    CRIME(free_wild, REPORTS("free: " NOT_OURS)),
    CRIME(free_of_mapped_memory, REPORTS("free: " NOT_OURS)),
    CRIME(free_of_never_allocated, REPORTS("free: ")),
    CRIME(free_inside_slot, REPORTS("free: " INSIDE)),
    CRIME(free_inside_slot_unused, REPORTS("free: " INSIDE)),
    CRIME(free_inside_slot_unaligned, REPORTS("free: " INSIDE)),
    CRIME(free_inside_run, REPORTS("free: " INSIDE)),
    CRIME(free_inside_run_unused, REPORTS("free: " INSIDE)),
    CRIME(free_page_inside_run, REPORTS("free: " TWICE ", or " INSIDE)),
    CRIME(free_inside_large, REPORTS("free: " INSIDE)),
    CRIME(free_page_inside_large, REPORTS("free: " TWICE ", or " INSIDE)),
    CRIME(realloc_inside_slot, REPORTS("realloc: " INSIDE)),
    CRIME(realloc_inside_run, REPORTS("realloc: " INSIDE)),
    CRIME(realloc_static, REPORTS("realloc: " NOT_OURS)),
    CRIME(usable_size_of_static, REPORTS("usable_size: " NOT_OURS)),
    CRIME(usable_size_of_freed_large, REPORTS("usable_size: " TWICE)),
    CRIME(realloc_of_freed, REPORTS("realloc: " TWICE)),
    CRIME(realloc_of_freed_same_size, REPORTS("realloc: " TWICE)),
    CRIME(realloc_of_freed_elsewhere, REPORTS("realloc: " TWICE)),
    CRIME(realloc_of_run_freed_elsewhere, REPORTS("realloc: " TWICE)),
    CRIME(realloc_of_freed_large, REPORTS("realloc: " TWICE)),
    CRIME(read_after_free, IS(CORRUPT, HARMLESS)),
    CRIME(write_after_free, IS(CORRUPT, HARMLESS)),
    CRIME(write_one_byte_beyond_the_request, IS(HARMLESS, REPORTED)),
    CRIME(write_into_the_next_block, IS(CORRUPT, REPORTED)),
    CRIME(write_into_the_block_before, IS(CORRUPT, REPORTED)),
    CRIME(write_over_several_blocks, IS(CORRUPT, REPORTED)),
    CRIME(free_with_wrong_size, REPORTS("free_sized: " SIZE)),
    CRIME(free_with_impossible_size, REPORTS("free_sized: " SIZE)),
    CRIME(free_large_with_wrong_size, REPORTS("free_sized: " SIZE)),
    CRIME(free_with_wrong_alignment, REPORTS("free_aligned_sized: " SIZE)),
    CRIME(calloc_overflow, BOTH(HARMLESS, "")),
    CRIME(reallocarray_overflow, BOTH(HARMLESS, "")),
#ifdef TEST_API
    CRIME(allocate_from_uninitialised, REPORTS("valloc_allocate: " NO_ALLOCATOR)),
    CRIME(allocate_from_copy, REPORTS("valloc_allocate: " NO_ALLOCATOR)),
    CRIME(allocate_from_null, REPORTS("valloc_allocate: " NO_ALLOCATOR)),
    CRIME(free_into_null, BOTH(HARMLESS, "")),
    CRIME(allocate_from_destroyed_elsewhere, REPORTS("valloc_allocate: " NO_ALLOCATOR)),
    CRIME(init_of_initialised, BOTH(HARMLESS, "")),
    CRIME(expand_inside_slot, REPORTS("expand: " INSIDE)),
    CRIME(expand_of_freed_run, REPORTS("expand: " TWICE)),
    CRIME(free_into_destroyed, REPORTS("free_valloc: " NO_ALLOCATOR)),
    CRIME(free_of_destroyed, REPORTS("free: " TWICE)),
    CRIME(destroy_the_process,
          REPORTS("valloc_destroy: the allocator of the process cannot be destroyed")),
    CRIME(double_free_in_allocator, REPORTS("free_valloc: " TWICE)),
    CRIME(free_inside_slot_in_allocator, BOTH(REPORTED, INSIDE)),
#else
    CRIME(write_beyond_large, BOTH(CORRUPT, "")), /* a guard page stops it: a crash */
#endif
};

#define CRIMES (sizeof crimes / sizeof *crimes)

#endif
