/* foreign.c: forwards or ignores pointers of other allocators, in the override library alone.
 *
 * The next allocator's functions are looked for when the first such pointer comes: dlsym may
 * allocate, which ends up here like any allocation of the program. */
#include "api/foreign.h"

#if defined(VALLOC_OVERRIDE) && VALLOC_OVERRIDE

#include <dlfcn.h>

#include "arena/arena.h"
#include "os/options.h"

VA_COLD void va_foreign_check(const void *pointer, const char *function)
{
    static _Atomic uint32_t warned;
    va_arena_start(); /* this may be the program's first call: options come with it */
    if (va_options.foreign == FOREIGN_ABORT || va_arena_holds(pointer))
        va_fatal(function, "not a pointer of this allocator", pointer);
    if (va_options.foreign == FOREIGN_IGNORE)
        va_warn_once(&warned, function, "not a pointer of this allocator", pointer);
}

/* The next library's function of this name; without one the pointer cannot be served. */
static VA_COLD void *find_next(const char *function, void *_Atomic *found, const void *pointer)
{
    void *address = atomic_load_explicit(found, memory_order_relaxed);
    if (address != NULL)
        return address;
    address = dlsym(RTLD_NEXT, function);
    if (address == NULL)
        va_fatal(function, "not a pointer of this allocator, and there is no other", pointer);
    atomic_store_explicit(found, address, memory_order_relaxed); /* the same whoever looks */
    return address;
}

VA_COLD void va_foreign_free(void *pointer)
{
    static void *_Atomic found;
    if (va_options.foreign == FOREIGN_FORWARD)
        ((void (*)(void *))find_next("free", &found, pointer))(pointer);
}

VA_COLD void *va_foreign_reallocate(void *pointer, size_t size, size_t alignment)
{
    static void *_Atomic found;
    if (va_options.foreign != FOREIGN_FORWARD || alignment > VA_MIN_ALIGN)
        return NULL;
    return ((void *(*)(void *, size_t))find_next("realloc", &found, pointer))(pointer, size);
}

VA_COLD size_t va_foreign_usable_size(const void *pointer)
{
    static void *_Atomic found;
    if (va_options.foreign != FOREIGN_FORWARD)
        return 0;
    return ((size_t(*)(const void *))find_next("malloc_usable_size", &found, pointer))(pointer);
}

#endif
