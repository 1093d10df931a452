/* crimes_allocator.h: wrong uses of a MemoryAllocator, which only valloc has, and of valloc_expand.
 */
#ifndef CRIMES_ALLOCATOR_H
#define CRIMES_ALLOCATOR_H

#include "crimes.h"

static MemoryAllocator allocator;

static void *allocate_from_own(size_t size)
{
    if (valloc_init(&allocator, 1, 4) != 0)
        _Exit(2);
    return hide(valloc_allocate(&allocator, size));
}

static Outcome allocate_from_uninitialised(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    return hide(valloc_allocate(&allocator, 100)) == NULL ? UNHARMED : UNNOTICED;
}

static Outcome allocate_from_copy(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    free_valloc(&allocator, allocate_from_own(100));
    MemoryAllocator copy = allocator;
    for (int i = 0; i < 2000; i++)
        if (valloc_allocate(&copy, 100) == NULL)
            return UNHARMED;
    return UNNOTICED;
}

static Outcome allocate_from_null(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    MemoryAllocator *none = hide(NULL);
    return hide(valloc_allocate(none, 100)) == NULL ? UNHARMED : UNNOTICED;
}

static Outcome free_into_null(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    free_valloc(hide(NULL), get(100));
    return UNHARMED;
}

static void *allocate_in_thread(void *unused)
{
    (void)unused;
    return valloc_allocate(&allocator, 100);
}

static Outcome allocate_from_destroyed_elsewhere(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    pthread_t thread;
    void *block = NULL;
    free_valloc(&allocator, allocate_from_own(100));
    valloc_destroy(&allocator);
    valloc_destroy(&allocator); /* of one that is none: nothing */
    if (pthread_create(&thread, NULL, allocate_in_thread, NULL) != 0)
        _Exit(2);
    pthread_join(thread, &block);
    return block == NULL ? UNHARMED : UNNOTICED;
}

static Outcome init_of_initialised(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    char *block = allocate_from_own(100);
    memset(block, 'i', 100);
    if (valloc_init(&allocator, 1, 4) == 0)
        return UNNOTICED;
    char *other = hide(valloc_allocate(&allocator, 100));
    return other != block && block[50] == 'i' ? UNHARMED : UNNOTICED;
}

static Outcome expand_inside_slot(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    char *block = get(200);
    return valloc_expand(hide(block + 16), 100) == NULL ? UNHARMED : UNNOTICED;
}

static Outcome expand_of_freed_run(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    void *block = get(200 * KIB);
    release(block);
    return valloc_expand(hide(block), 300 * KIB) == NULL ? UNHARMED : UNNOTICED;
}

static Outcome free_into_destroyed(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    void *block = allocate_from_own(100);
    valloc_destroy(&allocator);
    free_valloc(&allocator, hide(block));
    return UNHARMED;
}

static Outcome free_of_destroyed(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    void *block = allocate_from_own(100);
    valloc_destroy(&allocator);
    release(block);
    return UNHARMED;
}

static Outcome destroy_the_process(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    valloc_destroy(valloc_process());
    return UNHARMED;
}

static Outcome double_free_in_allocator(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    void *block = allocate_from_own(100);
    free_valloc(&allocator, block);
    free_valloc(&allocator, hide(block));
    return UNHARMED;
}

static Outcome free_inside_slot_in_allocator(const Crime *crime, size_t size)
{
    (void)crime, (void)size;
    char *block = allocate_from_own(100);
    free_valloc(&allocator, hide(block + 16));
    valloc_purge(); /* flushes */
    return UNHARMED;
}

#endif
