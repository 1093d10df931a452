/* crimes.c: crimes CRIME: one error, or none, that a tool has to see through the allocator. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "subject.h"

typedef struct Crime {
    const char *name;
    void (*commit)(void);
} Crime;

static volatile char sink;
static void *volatile kept;

static void *hide(void *pointer)
{
    void *volatile hidden = pointer;
    return hidden;
}

/* Every way to get memory and to be rid of it. */
static void no_crime(void)
{
    for (size_t size = 0; size < 100000; size = size * 2 + 1) {
        char *block = hide(subject_malloc(size));
        memset(block, 1, size);
        block = hide(subject_realloc(block, size * 2 + 1));
        for (size_t i = 0; i < size; i++)
            if (block[i] != 1)
                abort();
        memset(block, 2, subject_usable_size(block));
        subject_free(block);
        block = hide(subject_calloc(size + 1, 3));
        for (size_t i = 0; i < 3 * size; i++)
            if (block[i] != 0)
                abort();
        block = hide(subject_realloc(block, size / 2));
        subject_free(block);
        block = hide(subject_aligned_alloc(64, size + 1));
        block[size] = 1;
        subject_free_aligned_sized(block, 64, size + 1);
    }
}

static void *free_here(void *block)
{
    subject_free(block);
    return NULL;
}

static void leak(void)
{
    memset(hide(subject_malloc(1234)), 0, 1);
    memset(hide(subject_malloc((size_t)3 << 20)), 0, 1);
}

static void overrun(void)
{
    char *block = hide(subject_malloc(64)); /* fills its slot */
    block[64] = 1;
    subject_free(block);
}

static void overrun_in_the_slack(void)
{
    char *block = hide(subject_malloc(101));
    block[101] = 1;
    subject_free(block);
}

static void overrun_of_a_large(void)
{
    size_t size = (size_t)3 << 20;
    char *block = hide(subject_malloc(size));
    block[size] = 1;
    subject_free(block);
}

static void overrun_of_an_aligned(void)
{
    char *block = hide(subject_aligned_alloc(256, 300));
    sink = block[300];
    subject_free(block);
}

static void overrun_of_a_shrunk(void)
{
    char *block = hide(subject_malloc(100));
    memset(block, 1, 100);
    block = hide(subject_realloc(block, 99));
    sink = block[99];
    subject_free(block);
}

static void use_after_free(void)
{
    char *block = hide(subject_calloc(1, 100));
    subject_free(block);
    kept = hide(subject_malloc(100)); /* another one */
    sink = block[10];
    subject_free(kept);
}

static void use_after_a_free_elsewhere(void)
{
    pthread_t thread;
    char *block = hide(subject_calloc(1, 100));
    if (pthread_create(&thread, NULL, free_here, block) == 0)
        pthread_join(thread, NULL);
    sink = block[10];
}

static void use_after_realloc(void)
{
    char *block = hide(subject_calloc(1, 100));
    kept = hide(subject_realloc(block, 50000));
    sink = block[10];
    subject_free(kept);
}

static void use_of_the_undefined(void)
{
    char *block = hide(subject_calloc(1, 100));
    subject_free(block);
    block = hide(subject_malloc(100));
    if (block[10] != 0)
        sink = 1;
    subject_free(block);
}

static void free_twice(void)
{
    char *block = hide(subject_malloc(100));
    kept = hide(subject_malloc(100));
    subject_free(block);
    subject_free(kept);
    subject_free(hide(block));
}

static void free_of_the_middle(void)
{
    char *block = hide(subject_malloc(100));
    kept = block;
    subject_free(hide(block + 16));
}

#ifdef TEST_API
static MemoryAllocator allocator;

static void own_overrun(void)
{
    valloc_init(&allocator, 1, 4);
    char *block = hide(valloc_allocate(&allocator, 64));
    block[64] = 1;
    valloc_destroy(&allocator);
}

static void own_use_after_free(void)
{
    valloc_init(&allocator, 1, 4);
    char *block = hide(valloc_allocate_zeroed(&allocator, 10, 10));
    free_valloc(&allocator, block);
    sink = block[10];
    valloc_destroy(&allocator);
}

/* What is destroyed is no leak, and not to be used. */
static void own_use_after_destroy(void)
{
    valloc_init(&allocator, 1, 4);
    char *block = hide(valloc_allocate_zeroed(&allocator, 10, 10));
    valloc_destroy(&allocator);
    sink = block[10];
}

static void own_leak(void)
{
    valloc_init(&allocator, 1, 4);
    memset(hide(valloc_allocate(&allocator, 100)), 0, 1);
}
#endif

static const Crime crimes[] = {
    {"no_crime", no_crime},
    {"leak", leak},
    {"overrun", overrun},
    {"overrun_in_the_slack", overrun_in_the_slack},
    {"overrun_of_a_large", overrun_of_a_large},
    {"overrun_of_an_aligned", overrun_of_an_aligned},
    {"overrun_of_a_shrunk", overrun_of_a_shrunk},
    {"use_after_free", use_after_free},
    {"use_after_a_free_elsewhere", use_after_a_free_elsewhere},
    {"use_after_realloc", use_after_realloc},
    {"use_of_the_undefined", use_of_the_undefined},
    {"free_twice", free_twice},
    {"free_of_the_middle", free_of_the_middle},
#ifdef TEST_API
    {"own_overrun", own_overrun},
    {"own_use_after_free", own_use_after_free},
    {"own_use_after_destroy", own_use_after_destroy},
    {"own_leak", own_leak},
#endif
};

/* Overwrites what the crime left on the stack: an address there would make a leak reachable. */
__attribute__((noinline)) static void clear_stack(void)
{
    volatile char bytes[4096];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = 0;
}

int main(int count, char **arguments)
{
    for (size_t i = 0; i < sizeof crimes / sizeof *crimes; i++) {
        if (count == 2 && strcmp(crimes[i].name, arguments[1]) == 0) {
            crimes[i].commit();
            clear_stack();
            return 0;
        }
    }
    return 2;
}
