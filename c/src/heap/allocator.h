/* allocator.h: an Allocator beside that of the process: its life and its thread caches.
 *
 * Its caches hold slots of its blocks only, and no other cache ever does: that is what makes
 * valloc_destroy safe whichever threads have used it. They are found by the thread's id, a small
 * number; threads with an id above num_threads use the shared one, under its mutex. A thread that
 * exits leaves its cache to the next thread with its id. */
#ifndef VA_ALLOCATOR_H
#define VA_ALLOCATOR_H

#include "thread/thread.h"

/* Limits in blocks, 0 for none. False if there is no memory; then nothing is changed. */
bool va_allocator_init(MemoryAllocator *handle, size_t initial_blocks, size_t num_threads,
                       size_t soft_limit, size_t hard_limit, const char *name);
void va_allocator_destroy(Allocator *allocator);

/* The front of the calling thread's cache, an empty one if it has none yet; NULL if the thread has
 * no place in this allocator. */
VA_INLINE CacheFront *va_allocator_front(const MemoryAllocator *handle)
{
    uint32_t id = va_thread_id;
    if (va_unlikely(handle == NULL || id >= handle->thread_places)) /* NULL: to be reported */
        return NULL;
    return __atomic_load_n(&handle->thread_caches[id], __ATOMIC_RELAXED);
}

VA_INLINE bool va_allocator_is_live(const MemoryAllocator *handle)
{
    return handle->self == handle;
}

/* The allocator of a live handle, which may be the copy of one in the child after fork. */
VA_INLINE Allocator *va_allocator_of(const MemoryAllocator *handle)
{
    Allocator *allocator = handle->allocator;
    if (va_unlikely(allocator->followed == NULL && allocator != &va_process))
        va_pool_follow(allocator);
    return allocator;
}

ThreadCache *va_allocator_acquire_own(Allocator *allocator);
void va_allocator_release_own(Allocator *allocator, ThreadCache *cache);

/* A cache of any allocator that the caller may use until va_allocator_release, NULL if there is
 * no memory for one. */
VA_INLINE ThreadCache *va_allocator_acquire(Allocator *allocator)
{
    if (va_likely(allocator == &va_process))
        return va_thread_acquire();
    return va_allocator_acquire_own(allocator);
}

VA_INLINE void va_allocator_release(Allocator *allocator, ThreadCache *cache)
{
    if (va_likely(allocator == &va_process))
        va_thread_release(cache);
    else
        va_allocator_release_own(allocator, cache);
}

/* Gives back what is free: what the calling thread's cache holds, and unused slabs of the others.
 * For the process: of all allocators, and free pages. Returns the bytes purged meanwhile. */
void va_allocator_relieve(Allocator *allocator);
/* Whether that can make room for a request: not if it is many times what caches hold. */
bool va_allocator_can_relieve(size_t bytes);
size_t va_allocators_purge(void);

/* What the background thread does every purge delay: gives back what nobody has wanted lately.
 * Returns the milliseconds until there is more to do, and tells whether anything is in use or left
 * that calls for it. */
uint64_t va_allocators_decay(bool *changed);

/* While held no allocator is destroyed: what its slabs are can be read under their owners' mutexes.
 */
void va_allocators_hold(void);
void va_allocators_let_go(void);

/* The allocators beside that of the process, chained by next. Under the lock of their list: in the
 * child after fork. */
Allocator *va_allocators_first(void);

/* Around fork: every allocator's locks. */
void va_allocators_lock_all(void);
void va_allocators_unlock_all(void);
void va_allocators_reset_all(void);

#endif
