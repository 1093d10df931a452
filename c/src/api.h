/* api.h: malloc and free as both api.c and override.c define them: the fast path inline, the
 * slow half shared. */
#ifndef VA_API_H
#define VA_API_H

#include "watch.h"

#if VA_WATCHED
/* The API's route in builds that a tool watches: no fast path. */
#define va_allocate_fast(size) ((void)(size), NULL)
#define va_allocate_run_fast(size) ((void)(size), NULL)
#define va_allocate_kept(size) ((void)(size), NULL)
#define va_free_fast(pointer) ((void)(pointer), false)
#define va_is_large_fast(pointer) ((void)(pointer), false)
#define va_free_kept(pointer, size) ((void)(pointer), (void)(size), false)
#define va_free_foreign_fast(pointer) ((void)(pointer), false)
#define va_free_away_fast(pointer, from, to) ((void)(pointer), (void)(from), (void)(to), false)
#define va_free_sized_fast(pointer, size) ((void)(pointer), (void)(size), false)
#define va_allocate_aligned_fast(size, alignment) ((void)(size), (void)(alignment), NULL)
#define va_free_aligned_fast(pointer, size, ...) ((void)(pointer), (void)(size), false)
#define va_free_sized_foreign_fast(pointer, size) ((void)(pointer), (void)(size), false)
#define va_reallocate_fast(pointer, size) ((void)(pointer), (void)(size), NULL)
#define va_usable_size_fast(pointer) ((void)(pointer), (size_t)0)
#define va_free_to(front, pointer, ...) ((void)(front), (void)(pointer), false)
#undef VA_ALLOCATE_FROM
#define VA_ALLOCATE_FROM(front, size, ...) ((void)(front), (void)(size), NULL)
#define va_allocate va_watched_allocate
#define va_allocate_zeroed va_watched_allocate_zeroed
#define va_free va_watched_free
#define va_free_sized va_watched_free_sized
#define va_reallocate va_watched_reallocate
#define va_expand va_watched_expand
#define va_usable_size va_watched_usable_size
#define va_good_size va_watched_good_size
#define va_allocator_destroy va_watched_destroy
#define va_allocators_purge() (va_watched_settle(), va_allocators_purge())
#define va_inspect_blocks(...) (va_watched_settle(), va_inspect_blocks(__VA_ARGS__))
#endif

/* Sets errno to ENOMEM on failure. */
void *va_api_malloc_slow(size_t size);
void va_api_free_slow(void *pointer);

VA_INLINE void *va_api_malloc(size_t size)
{
    void *slot = va_allocate_fast(size);
    if (va_likely(slot != NULL))
        return slot;
    return va_api_malloc_slow(size);
}

VA_INLINE void va_api_free(void *pointer)
{
    if (va_unlikely(!va_free_fast(pointer)))
        va_api_free_slow(pointer);
}

#endif
