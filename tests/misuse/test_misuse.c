/* test_misuse.c: crimes, each in a process of its own: the line on stderr names the function and
 * what was wrong, and the process aborts. */
#include "support.h"

#include "child.h"

#define TEST_API 1
#include "subject.h"

typedef struct Crime {
    const char *name;
    void (*commit)(void);
    const char *message;
} Crime;

static char static_bytes[64];

/* Keeps the compiler from seeing what happens to a pointer. */
static void *hide(void *pointer)
{
    void *volatile hidden = pointer;
    return hidden;
}

/* Pushes what the thread freed out of its stacks and into the slabs. */
static void flush(void)
{
    valloc_purge();
}

static void free_static(void)
{
    valloc_free(hide(static_bytes));
}

static void free_stack(void)
{
    char local[32] = "";
    valloc_free(hide(local));
}

static void free_wild(void)
{
    valloc_free((void *)(uintptr_t)0x123456780);
}

static void free_of_never_allocated(void)
{
    char *block = valloc_malloc(100);
    valloc_free(hide((char *)((uintptr_t)block & ~(uintptr_t)0xffff) + ((size_t)1 << 30)));
}

static void free_twice_at_once(void)
{
    void *block = hide(valloc_malloc(64));
    valloc_free(block);
    valloc_free(hide(block));
}

static void free_twice_later(void)
{
    void *blocks[20];
    for (int i = 0; i < 20; i++)
        blocks[i] = hide(valloc_malloc(64));
    for (int i = 0; i < 20; i++)
        valloc_free(blocks[i]);
    valloc_free(hide(blocks[3]));
    flush();
}

static void free_large_twice(void)
{
    void *block = hide(valloc_malloc((size_t)8 << 20));
    valloc_free(block);
    valloc_free(hide(block));
}

static void free_run_twice(void)
{
    void *block = hide(valloc_malloc((size_t)100 << 10));
    valloc_free(block);
    valloc_free(hide(block));
}

static void free_inside_a_slot(void)
{
    char *block = valloc_malloc(100);
    valloc_free(hide(block + 16));
    flush();
}

static void free_inside_a_run(void)
{
    char *block = valloc_malloc((size_t)100 << 10);
    valloc_free(hide(block + 16));
    flush();
}

static void free_inside_a_large(void)
{
    char *block = valloc_malloc((size_t)8 << 20);
    valloc_free(hide(block + ((size_t)1 << 20)));
}

static void free_with_a_wrong_size(void)
{
    valloc_free_sized(hide(valloc_malloc(100)), 1000);
}

static void free_large_with_a_wrong_size(void)
{
    valloc_free_sized(hide(valloc_malloc((size_t)8 << 20)), (size_t)9 << 20);
}

static void free_with_a_wrong_alignment(void)
{
    valloc_free_aligned_sized(hide(valloc_aligned_alloc(64, 100)), 4096, 100);
}

static void realloc_of_a_freed_large(void)
{
    void *block = hide(valloc_malloc((size_t)8 << 20));
    valloc_free(block);
    block = valloc_realloc(hide(block), 10);
    valloc_free(block);
}

static void usable_size_of_static(void)
{
    if (valloc_usable_size(hide(static_bytes)) != 0)
        abort();
}

static MemoryAllocator allocator;

static void *allocate_from_own(size_t size)
{
    if (valloc_init(&allocator, 1, 4) != 0)
        _exit(1);
    return hide(valloc_allocate(&allocator, size));
}

static void allocate_from_uninitialised(void)
{
    if (hide(valloc_allocate(&allocator, 100)) == NULL)
        _exit(1);
}

static void allocate_from_a_copy(void)
{
    free_valloc(&allocator, allocate_from_own(100));
    MemoryAllocator copy = allocator;
    for (int i = 0; i < 2000; i++)
        if (valloc_allocate(&copy, 100) == NULL)
            _exit(1);
}

static void free_into_a_destroyed_allocator(void)
{
    void *block = allocate_from_own(100);
    valloc_destroy(&allocator);
    free_valloc(&allocator, hide(block));
}

static void free_of_a_destroyed_allocator(void)
{
    void *block = allocate_from_own(100);
    valloc_destroy(&allocator);
    valloc_free(hide(block));
}

static void destroy_the_process(void)
{
    valloc_destroy(valloc_process());
}

static void free_own_twice(void)
{
    void *block = allocate_from_own(100);
    free_valloc(&allocator, block);
    free_valloc(&allocator, hide(block));
}

static void free_inside_an_own_slot(void)
{
    char *block = allocate_from_own(100);
    free_valloc(&allocator, hide(block + 16));
    flush();
}

static const Crime crimes[] = {
    {"allocate_from_uninitialised", allocate_from_uninitialised,
     "valloc: valloc_allocate: not an initialised MemoryAllocator"},
    {"allocate_from_a_copy", allocate_from_a_copy,
     "valloc: valloc_allocate: not an initialised MemoryAllocator"},
    {"free_into_a_destroyed_allocator", free_into_a_destroyed_allocator,
     "valloc: free_valloc: not an initialised MemoryAllocator"},
    {"free_of_a_destroyed_allocator", free_of_a_destroyed_allocator, "valloc: free: freed already"},
    {"destroy_the_process", destroy_the_process,
     "valloc: valloc_destroy: the allocator of the process cannot be destroyed"},
    {"free_own_twice", free_own_twice, "valloc: free_valloc: freed already"},
    {"free_inside_an_own_slot", free_inside_an_own_slot, "not the start of an allocation"},
    {"free_static", free_static, "valloc: free: not a pointer of this allocator"},
    {"free_stack", free_stack, "valloc: free: not a pointer of this allocator"},
    {"free_wild", free_wild, "valloc: free: not a pointer of this allocator"},
    {"free_of_never_allocated", free_of_never_allocated, "valloc: free: "},
    {"free_twice_at_once", free_twice_at_once, "valloc: free: freed already"},
    {"free_twice_later", free_twice_later, "freed already"},
    {"free_large_twice", free_large_twice, "valloc: free: freed already"},
    {"free_run_twice", free_run_twice, "valloc: free: freed already"},
    {"free_inside_a_slot", free_inside_a_slot, "not the start of an allocation"},
    {"free_inside_a_run", free_inside_a_run, "not the start of an allocation"},
    {"free_inside_a_large", free_inside_a_large, "not the start of an allocation"},
    {"free_with_a_wrong_size", free_with_a_wrong_size,
     "valloc: free_sized: the size is not the allocation's"},
    {"free_large_with_a_wrong_size", free_large_with_a_wrong_size,
     "valloc: free_sized: the size is not the allocation's"},
    {"free_with_a_wrong_alignment", free_with_a_wrong_alignment,
     "valloc: free_aligned_sized: the size is not the allocation's"},
    {"realloc_of_a_freed_large", realloc_of_a_freed_large, "valloc: realloc: freed already"},
    {"usable_size_of_static", usable_size_of_static,
     "valloc: usable_size: not a pointer of this allocator"},
};

static void commit(void *crime)
{
    ((const Crime *)crime)->commit();
}

static void every_crime_is_reported(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof crimes / sizeof *crimes; i++) {
        Child child = child_run(commit, (void *)(uintptr_t)&crimes[i]);
        if (!WIFSIGNALED(child.status) || WTERMSIG(child.status) != SIGABRT)
            fail_msg("%s did not abort: status %d, said '%s'", crimes[i].name, child.status,
                     child.text);
        if (strstr(child.text, crimes[i].message) == NULL)
            fail_msg("%s said '%s', not '%s'", crimes[i].name, child.text, crimes[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_crime_is_reported)};
    return cmocka_run_group_tests_name("misuse", tests, NULL, NULL);
}
