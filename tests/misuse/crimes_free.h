/* crimes_free.h: wrong pointers and sizes for free, realloc, malloc_usable_size and delete. */
#ifndef CRIMES_FREE_H
#define CRIMES_FREE_H

#include "crimes.h"

static void *release_in_thread(void *block)
{
    release(block);
    return NULL;
}

/* It has a cache before. */
static void *release_wrongly_in_thread(void *block)
{
    release(get(100));
    release_wrongly(block);
    return NULL;
}

static void *get_in_thread(void *size)
{
    *(void **)size = get(*(size_t *)size);
    return NULL;
}

/* ---- Freed twice ---- */

typedef enum When {
    SAME_THREAD,
    FLUSHED,
    OTHER_THREAD,
    OTHER_THREADS,
    OWNER_ENDED,
    REUSED,
    ALIGNED,
} When;

/* Somebody else gets the block, if the allocator lets it. */
static char *reuse(const char *freed, size_t size)
{
    char *block = NULL;
    for (int i = at_most(2000, size); i > 0 && block != freed; i--)
        block = get(size);
    return block;
}

/* count: others freed in between; at: whether allocations follow. */
static Outcome free_twice(const Crime *crime, size_t size)
{
    static void *blocks[1000];
    int others = at_most(crime->count, size);
    char *anothers = NULL;
    void *hole = get(2 * MIB); /* for what threads need: not at the old place of a block */
    keep_company(size);
    for (int i = 0; i <= others; i++)
        blocks[i] = get(size);
    keep_company(size);
    release(hole);
    if (crime->how == ALIGNED)
        blocks[0] = hide(subject_aligned_alloc(4 * KIB, size));
    if (crime->how == OWNER_ENDED) {
        blocks[0] = (void *)size;
        in_thread(get_in_thread, blocks);
    }
    if (crime->how == OTHER_THREADS)
        in_thread(release_in_thread, blocks[0]);
    else
        for (int i = 0; i <= others; i++)
            release(blocks[i]);
    if (crime->how == FLUSHED)
        flush();
    if (crime->how == REUSED)
        anothers = reuse(blocks[0], size);
    if (crime->how == OTHER_THREAD || crime->how == OTHER_THREADS)
        in_thread(release_wrongly_in_thread, blocks[0]);
    else
        release_wrongly(blocks[0]);
    return go_on(crime->at, size, anothers);
}

/* ---- Frees of what is no block ---- */

enum { HALF = -1, LAST = -2, BLOCKS = -3 };

/* How far inside a block; 0: not at this size. */
static size_t offset_inside(int at, size_t size)
{
    if (at == HALF)
        return size / 2;
    if (at == LAST)
        return size - 16;
    if (at == BLOCKS)
        return size >= 256 * KIB ? 128 * KIB : 0;
    return (size_t)at < size ? (size_t)at : 0;
}

static Outcome free_inside(const Crime *crime, size_t size)
{
    size_t offset = offset_inside(crime->at, size);
    if (offset == 0)
        return ABSENT;
    keep_company(size);
    char *block = get(size);
    release_wrongly(block + offset);
    return go_on(crime->count, size, block);
}

static char static_bytes[64];

static void *lend_stack(void *place)
{
    char local[64] = "";
    *(_Atomic(char *) *)place = hide((char *)(((uintptr_t)local + 15) & ~(uintptr_t)15));
    for (;;)
        pause();
    return NULL;
}

static char *stack_of_thread(void)
{
    static _Atomic(char *) place;
    pthread_t thread;
    if (pthread_create(&thread, NULL, lend_stack, (void *)(uintptr_t)&place) != 0)
        _exit(2);
    while (place == NULL)
        sched_yield();
    return place;
}

typedef enum Foreign {
    STATIC,
    STATIC_ODD,
    STACK,
    STACK_OF_THREAD,
    MAPPED,
    NEVER,
    FAR,
    WILD,
    TINY
} Foreign;

static void *foreign_pointer(Foreign which, char *stack)
{
    char *block = get(100);
    switch (which) {
    case STATIC:
        return static_bytes + 16;
    case STATIC_ODD:
        return static_bytes + 17;
    case STACK:
        return (char *)(((uintptr_t)stack + 15) & ~(uintptr_t)15);
    case STACK_OF_THREAD:
        return stack_of_thread();
    case MAPPED:
        return (char *)mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                            0) +
               16;
    case NEVER:
        return block + 16 * MIB;
    case FAR:
        return (char *)((uintptr_t)block & ~(uintptr_t)0xffff) + ((size_t)1 << 30);
    case WILD:
        return (char *)(uintptr_t)0x123456780;
    case TINY:
        break;
    }
    return (char *)(uintptr_t)16;
}

typedef enum Use { FREE, REALLOC, USABLE_SIZE } Use;

/* how: which pointer; count: what is done with it. */
static Outcome use_foreign(const Crime *crime, size_t size)
{
    char stack[64] = "";
    void *pointer = foreign_pointer((Foreign)crime->how, stack);
    (void)size;
    if (crime->count == FREE) {
        release_wrongly(pointer);
        return look_for_overlap(100, NULL);
    }
    bool served = crime->count == REALLOC ? subject_realloc(hide(pointer), 100) != NULL
                                          : subject_usable_size(hide(pointer)) != 0;
    return served ? UNNOTICED : UNHARMED;
}

/* ---- Of freed blocks, and of pointers into them ---- */

/* how: when it was freed; count: what is done; at: how far inside it, or 0. */
static Outcome use_freed(const Crime *crime, size_t size)
{
    keep_company(size);
    char *block = get(size);
    if (crime->how == OTHER_THREAD)
        in_thread(release_in_thread, block);
    else
        release(block);
    if (crime->count == USABLE_SIZE)
        return subject_usable_size(hide(block)) == 0 ? UNHARMED : UNNOTICED;
    size_t wanted = crime->at ? size : 2 * size + 100;
    char *again = hide(subject_realloc(hide(block), wanted));
    committed = 1;
    return again == NULL ? UNHARMED : look_for_overlap(size, again);
}

static Outcome use_inside(const Crime *crime, size_t size)
{
    size_t offset = offset_inside(crime->at, size);
    if (offset == 0)
        return ABSENT;
    char *block = get(size);
    if (crime->count == USABLE_SIZE)
        return subject_usable_size(hide(block + offset)) == 0 ? UNHARMED : UNNOTICED;
    char *moved = hide(subject_realloc(hide(block + offset), 2 * size + 100));
    committed = 1;
    return moved == NULL ? UNHARMED : look_for_overlap(size, block);
}

/* ---- Sizes ---- */

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

typedef enum Wrong { SMALLER, LARGER, IMPOSSIBLE, ALIGNMENT, UNALIGNED } Wrong;

static Outcome free_sized_wrongly(const Crime *crime, size_t size)
{
    if (!has_sized_frees())
        return ABSENT;
    switch ((Wrong)crime->how) {
    case SMALLER:
        subject_free_sized(get(size), size / 3);
        break;
    case LARGER:
        subject_free_sized(get(size), 3 * size);
        break;
    case IMPOSSIBLE:
        subject_free_sized(get(size), SIZE_MAX - 7);
        break;
    case ALIGNMENT:
        subject_free_aligned_sized(hide(subject_aligned_alloc(64, size)), 128 * KIB, size);
        break;
    case UNALIGNED:
        subject_free_aligned_sized(get(size), 128 * KIB, size);
        break;
    }
    committed = 1;
    return look_for_overlap(size, NULL);
}

typedef enum Product { CALLOC, REALLOCARRAY, MALLOC } Product;

static Outcome overflow_product(const Crime *crime, size_t size)
{
    volatile size_t count = SIZE_MAX / 16 + 2;
    (void)size;
    void *block = crime->how == CALLOC ? subject_calloc(count, 16)
                  : crime->how == REALLOCARRAY
                      ? subject_reallocarray(NULL, count, 16)
                      : subject_malloc(hide((void *)(SIZE_MAX - 7)) != NULL ? SIZE_MAX - 7 : 0);
    return hide(block) == NULL ? UNHARMED : UNNOTICED;
}

#ifndef TEST_API

/* ---- new and delete ---- */

typedef size_t Alignment;
#pragma weak _Znwm
#pragma weak _Znam
#pragma weak _ZnwmSt11align_val_t
#pragma weak _ZdlPv
#pragma weak _ZdaPv
#pragma weak _ZdlPvm
#pragma weak _ZdaPvm
#pragma weak _ZdlPvSt11align_val_t
#pragma weak _ZdlPvmSt11align_val_t
void *_Znwm(size_t size);
void *_Znam(size_t size);
void *_ZnwmSt11align_val_t(size_t size, Alignment alignment);
void _ZdlPv(void *block);
void _ZdaPv(void *block);
void _ZdlPvm(void *block, size_t size);
void _ZdaPvm(void *block, size_t size);
void _ZdlPvSt11align_val_t(void *block, Alignment alignment);
void _ZdlPvmSt11align_val_t(void *block, size_t size, Alignment alignment);

typedef enum Pair {
    MALLOC_DELETE,
    NEW_FREE,
    NEW_DELETE_ARRAY,
    ARRAY_DELETE,
    ALIGNED_DELETE,
    NEW_DELETE_ALIGNED,
    DELETE_SMALLER,
    DELETE_LARGER,
    DELETE_ARRAY_LARGER,
    DELETE_OTHER_ALIGNMENT,
    DELETE_TWICE,
    DELETE_INSIDE,
} Pair;

static void commit_pair(Pair pair, size_t size)
{
    char *block = pair == MALLOC_DELETE            ? get(size)
                  : pair == ALIGNED_DELETE         ? _ZnwmSt11align_val_t(size, 4 * KIB)
                  : pair == DELETE_OTHER_ALIGNMENT ? _ZnwmSt11align_val_t(size, 64)
                  : pair == ARRAY_DELETE || pair == DELETE_ARRAY_LARGER ? _Znam(size)
                                                                        : _Znwm(size);
    block = hide(block);
    switch (pair) {
    case NEW_FREE:
        release(block);
        break;
    case MALLOC_DELETE:
    case ARRAY_DELETE:
    case ALIGNED_DELETE:
        _ZdlPv(block);
        break;
    case NEW_DELETE_ARRAY:
        _ZdaPv(block);
        break;
    case NEW_DELETE_ALIGNED:
        _ZdlPvSt11align_val_t(block, 4 * KIB);
        break;
    case DELETE_SMALLER:
        _ZdlPvm(block, size / 3);
        break;
    case DELETE_LARGER:
        _ZdlPvm(block, 3 * size);
        break;
    case DELETE_ARRAY_LARGER:
        _ZdaPvm(block, 3 * size);
        break;
    case DELETE_OTHER_ALIGNMENT:
        _ZdlPvmSt11align_val_t(block, size, 128 * KIB);
        break;
    case DELETE_TWICE:
        _ZdlPv(block);
        _ZdlPv(hide(block));
        break;
    case DELETE_INSIDE:
        _ZdlPv(block + 8);
        break;
    }
}

static Outcome delete_wrongly(const Crime *crime, size_t size)
{
    if (_ZdlPvmSt11align_val_t == NULL)
        return ABSENT;
    commit_pair((Pair)crime->how, size);
    committed = 1;
    return look_for_overlap(size, NULL);
}

#endif

#endif
