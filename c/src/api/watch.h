/* watch.h: builds whose allocations a tool sees: Valgrind's memcheck by its client requests
 * (VALLOC_VALGRIND), AddressSanitizer by poisoning (-fsanitize=address).
 *
 *   slot:  | the bytes asked for | slack | their number |
 *            accessible            not: 16 bytes at least, 8 of them the number
 *
 * The API then takes this route instead of the fast paths. Exactly the bytes asked for are
 * accessible, and they are the usable size, so that a write past them is seen, be it by one byte. A
 * free slot is not accessible, and small ones of the allocator of the process wait before they are
 * used again. A second free and a free of the middle of a slot are reported at once.
 *
 * The API calls the functions va_route_*; in other builds these are the core's. A thread that has
 * reported an error is served by emergency.c. Any thread. */
#ifndef VA_WATCH_H
#define VA_WATCH_H

#include "api/alloc.h"
#include "api/emergency.h"
#include "report/inspect.h"

/* As the functions of alloc.h and allocator.h without `watched`. In watched builds only. */
void *va_watched_allocate(Allocator *allocator, size_t size, size_t alignment);
void *va_watched_allocate_zeroed(Allocator *allocator, size_t size, size_t alignment);
void va_watched_free(void *pointer, const char *function);
void va_watched_free_sized(void *pointer, size_t size, size_t alignment, const char *function);
void *va_watched_reallocate(Allocator *allocator, void *pointer, size_t size, size_t alignment,
                            const char *function);
bool va_watched_expand(void *pointer, size_t size, const char *function);
size_t va_watched_usable_size(const void *pointer, const char *function);
size_t va_watched_good_size(size_t size);
void va_watched_destroy(Allocator *allocator);

/* Frees for good what waits. */
void va_watched_settle(void);

VA_INLINE void *va_route_allocate(Allocator *allocator, size_t size, size_t alignment)
{
    return VA_WATCHED ? va_watched_allocate(allocator, size, alignment)
                      : va_allocate(allocator, size, alignment);
}

VA_INLINE void *va_route_allocate_zeroed(Allocator *allocator, size_t size, size_t alignment)
{
    return VA_WATCHED ? va_watched_allocate_zeroed(allocator, size, alignment)
                      : va_allocate_zeroed(allocator, size, alignment);
}

VA_INLINE void va_route_free(void *pointer, const char *function)
{
    if (va_unlikely(va_thread_reports))
        return;
    if (VA_WATCHED)
        va_watched_free(pointer, function);
    else
        va_free(pointer, function);
}

VA_INLINE void va_route_free_sized(void *pointer, size_t size, size_t alignment,
                                   const char *function)
{
    if (va_unlikely(va_thread_reports))
        return;
    if (VA_WATCHED)
        va_watched_free_sized(pointer, size, alignment, function);
    else
        va_free_sized(pointer, size, alignment, function);
}

VA_INLINE void *va_route_reallocate(Allocator *allocator, void *pointer, size_t size,
                                    size_t alignment, const char *function)
{
    if (va_unlikely(va_thread_reports))
        return va_emergency_reallocate(pointer, size, alignment);
    return VA_WATCHED ? va_watched_reallocate(allocator, pointer, size, alignment, function)
                      : va_reallocate(allocator, pointer, size, alignment, function);
}

VA_INLINE bool va_route_expand(void *pointer, size_t size, const char *function)
{
    if (va_unlikely(va_thread_reports))
        return false;
    return VA_WATCHED ? va_watched_expand(pointer, size, function)
                      : va_expand(pointer, size, function);
}

VA_INLINE size_t va_route_usable_size(const void *pointer, const char *function)
{
    if (va_unlikely(va_thread_reports))
        return va_emergency_usable_size(pointer);
    return VA_WATCHED ? va_watched_usable_size(pointer, function)
                      : va_usable_size(pointer, function);
}

VA_INLINE size_t va_route_good_size(size_t size)
{
    if (va_unlikely(va_thread_reports))
        return size;
    return VA_WATCHED ? va_watched_good_size(size) : va_good_size(size);
}

VA_INLINE void va_route_destroy(Allocator *allocator)
{
    if (VA_WATCHED)
        va_watched_destroy(allocator);
    else
        va_allocator_destroy(allocator);
}

VA_INLINE size_t va_route_purge(void)
{
    if (va_unlikely(va_thread_reports))
        return 0;
    if (VA_WATCHED)
        va_watched_settle();
    return va_allocators_purge();
}

VA_INLINE int va_route_blocks(Allocator *allocator, int (*visit)(const MemoryBlock *, void *),
                              void *context)
{
    if (VA_WATCHED)
        va_watched_settle();
    return va_inspect_blocks(allocator, visit, context);
}

#endif
