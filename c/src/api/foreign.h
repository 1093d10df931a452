/* foreign.h: pointers that no arena has. A bug of the program, and reported, unless this is the
 * override library and VALLOC_FOREIGN says otherwise: a program that valloc was preloaded into may
 * hold memory of the allocator that would serve it else.
 *
 *   abort     reported (default)
 *   forward   the next library that has a function of this name gets it
 *   ignore    nothing is done, and the first time a line on stderr says so
 *
 * Called without locks, from slow paths. */
#ifndef VA_FOREIGN_H
#define VA_FOREIGN_H

#include "table/block_table.h"

#if defined(VALLOC_OVERRIDE) && VALLOC_OVERRIDE

/* Comes back if such pointers are forwarded or ignored. */
void va_foreign_check(const void *pointer, const char *function);

/* What free, realloc and malloc_usable_size do with one then. Ignored, it cannot be resized (its
 * size is unknown) and has no usable byte; nor can it be forwarded with an alignment above
 * malloc's. */
void va_foreign_free(void *pointer);
void *va_foreign_reallocate(void *pointer, size_t size, size_t alignment);
size_t va_foreign_usable_size(const void *pointer);

#else

VA_INLINE void va_foreign_check(const void *pointer, const char *function)
{
    va_fatal(function, "not a pointer of this allocator", pointer);
}

VA_INLINE void va_foreign_free(void *pointer)
{
    (void)pointer;
}

VA_INLINE void *va_foreign_reallocate(void *pointer, size_t size, size_t alignment)
{
    (void)pointer, (void)size, (void)alignment;
    return NULL;
}

VA_INLINE size_t va_foreign_usable_size(const void *pointer)
{
    (void)pointer;
    return 0;
}

#endif

#endif
