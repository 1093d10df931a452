/* allocator.c: see allocator.h. The founding names of what happens here: get_thread_id,
 * get_thread_cache. */
#include "heap/allocator.h"

#include <string.h>

#include "arena/arena.h"
#include "base/check.h"
#include "table/meta.h"
#include "profile/profile.h"
#include "os/os.h"
#include "cache/sweep.h"
#include "slab/sealed.h"

static struct {
    Lock lock; /* after what exited threads share, before every allocator's */
    Allocator *first;
} live;

/* ---- Life ---- */

static VA_COLD size_t table_bytes(size_t num_threads)
{
    size_t bytes = 64;
    while (bytes < (num_threads + 1) * sizeof(void *))
        bytes *= 2;
    return bytes;
}

/* The size is a power of two, as memory that comes back must have. */
#define ALLOCATOR_BYTES 512
static_assert(sizeof(Allocator) <= ALLOCATOR_BYTES, "there is room for an allocator");

static VA_COLD Allocator *make(MemoryAllocator *handle, size_t num_threads, const char *name)
{
    void **caches = va_meta_allocate(table_bytes(num_threads));
    Allocator *allocator = caches != NULL ? va_meta_allocate(ALLOCATOR_BYTES) : NULL;
    if (allocator == NULL) {
        if (caches != NULL)
            va_meta_release(caches, table_bytes(num_threads));
        return NULL;
    }
    for (size_t i = 0; i <= num_threads; i++)
        caches[i] = VA_NO_FRONT;
    allocator->handle = handle;
    allocator->shown = (MemoryAllocator){.num_threads = (int)num_threads,
                                         .thread_caches = caches,
                                         .thread_places = (uint32_t)num_threads + 1,
                                         .self = handle,
                                         .allocator = allocator};
    for (size_t i = 0; name != NULL && name[i] != '\0' && i < VALLOC_NAME_BYTES - 1; i++)
        allocator->shown.name[i] = name[i];
    return allocator;
}

static VA_COLD void discard(Allocator *allocator)
{
    va_pool_end(allocator);
    va_meta_release(allocator->shown.thread_caches,
                    table_bytes((size_t)allocator->shown.num_threads));
    va_meta_release(allocator, ALLOCATOR_BYTES);
}

VA_COLD bool va_allocator_init(MemoryAllocator *handle, size_t initial_blocks, size_t num_threads,
                               size_t soft_limit, size_t hard_limit, const char *name)
{
    Allocator *allocator = make(handle, num_threads, name);
    if (allocator == NULL)
        return false;
    allocator->soft_limit = soft_limit;
    allocator->hard_limit = hard_limit;
    if (!va_pool_start(allocator, initial_blocks)) {
        discard(allocator);
        return false;
    }
    va_lock_acquire(&live.lock); /* a fork waits: the allocator is on the list, or does not exist */
    *handle = allocator->shown;
    va_pool_follow(allocator);
    allocator->next = live.first;
    if (live.first != NULL)
        live.first->previous = allocator;
    live.first = allocator;
    va_lock_release(&live.lock);
    return true;
}

/* A fork waits for the lock: the child does not find half an allocator. */
VA_COLD void va_allocator_destroy(Allocator *allocator)
{
    MemoryAllocator *handle = allocator->handle;
    va_lock_acquire(&live.lock);
    if (allocator->previous != NULL)
        allocator->previous->next = allocator->next;
    else
        live.first = allocator->next;
    if (allocator->next != NULL)
        allocator->next->previous = allocator->previous;
    va_profile_forget_allocator(allocator);
    for (ThreadCache *cache = allocator->caches; cache != NULL;) {
        ThreadCache *next = cache->next;
        va_idle_forget(cache);
        va_cache_abandon(cache);
        cache = next;
    }
    discard(allocator);
    memset(handle, 0, sizeof *handle);
    va_lock_release(&live.lock);
}

/* ---- Thread caches ---- */

/* 0 after the thread's exit, or if there is no memory. */
static VA_APART uint32_t get_thread_id(void)
{
    return va_likely(va_thread_id != 0) ? va_thread_id : va_thread_attach();
}

/* A new cache for a thread, 0 for several. */
static VA_COLD ThreadCache *make_cache(Allocator *allocator, uint32_t thread)
{
    ThreadCache *cache = va_cache_make(allocator, thread);
    if (cache == NULL)
        return NULL;
    va_lock_acquire(&allocator->mutex);
    cache->next = allocator->caches;
    __atomic_store_n(&allocator->caches, cache, __ATOMIC_RELEASE); /* pairs with adoption's walk */
    va_lock_release(&allocator->mutex);
    return cache;
}

static VA_COLD ThreadCache *acquire_shared_cache(Allocator *allocator)
{
    va_lock_acquire(&allocator->shared_mutex);
    if (allocator->shared_cache == NULL)
        allocator->shared_cache = make_cache(allocator, 0);
    ThreadCache *cache = allocator->shared_cache; /* once released, another thread may make it */
    if (cache == NULL)
        va_lock_release(&allocator->shared_mutex);
    return cache;
}

static ThreadCache *get_thread_cache(Allocator *allocator, uint32_t thread_id)
{
    CacheFront **place = (CacheFront **)&allocator->shown.thread_caches[thread_id];
    CacheFront *front = __atomic_load_n(place, __ATOMIC_RELAXED);
    if (va_likely(front != VA_NO_FRONT))
        return (ThreadCache *)front;
    ThreadCache *cache = make_cache(allocator, thread_id);
    if (cache != NULL)
        __atomic_store_n(place, &cache->front, __ATOMIC_RELAXED);
    return cache;
}

VA_APART ThreadCache *va_allocator_acquire_own(Allocator *allocator)
{
    if (va_unlikely(va_thread_reports))
        return NULL;
    uint32_t thread_id = get_thread_id();
    bool has_place = thread_id != 0 && thread_id < allocator->shown.thread_places;
    ThreadCache *cache = va_likely(has_place) ? get_thread_cache(allocator, thread_id)
                                              : acquire_shared_cache(allocator);
    if (va_likely(cache != NULL))
        va_idle_enter(cache);
    return cache;
}

VA_APART void va_allocator_release_own(Allocator *allocator, ThreadCache *cache)
{
    if (va_unlikely(cache == NULL))
        return;
    va_idle_leave(cache);
    if (va_unlikely(cache->thread == 0))
        va_lock_release(&allocator->shared_mutex);
}

/* ---- Giving back ---- */

static VA_COLD void release_slabs(Allocator *allocator)
{
    ThreadCache *cache = __atomic_load_n(&allocator->caches, __ATOMIC_ACQUIRE);
    for (; cache != NULL; cache = cache->next)
        va_cache_release_slabs(cache);
}

/* Whose a cache is; those that no allocator has keep the last one's. */
static VA_COLD bool is_cache_of(ThreadCache *cache, const Allocator *allocator)
{
    va_lock_acquire(&cache->mutex);
    bool is = cache->allocator == allocator;
    va_lock_release(&cache->mutex);
    return is;
}

/* The thread's own cache in another allocator, which it has emptied itself: where there is no other
 * one nobody has to wait. */
static VA_COLD bool is_own(const ThreadCache *cache, Allocator *allocator)
{
    return allocator != NULL && allocator != &va_process &&
           &cache->front == va_allocator_front(&allocator->shown);
}

/* Gives back what lies in the caches of all threads but this one, in an allocator or (NULL) in all
 * of them: everything, or what has not been used since the last sweep. The list's lock held: no two
 * threads do this at a time, and no allocator is destroyed. Tells whether anything was there. */
static VA_COLD bool empty_caches_locked(Allocator *allocator, bool all)
{
    CacheStats stats;
    bool any = false;
    va_registry_stats(&stats);
    for (unsigned step = 0; step < 3; step++) {
        bool found = false;
        for (uint32_t i = 0; i < stats.all; i++) {
            ThreadCache *cache = va_registry_nth(stats.made, i);
            if (cache == va_thread_cache() || is_own(cache, allocator) ||
                (allocator != NULL && !is_cache_of(cache, allocator)))
                continue;
            if (step == 0)
                found |= va_idle_suspend(cache);
            else if (step == 1)
                va_idle_fence(cache, all);
            else
                any |= va_idle_empty(cache, all);
        }
        if ((step == 0 && !found) || (step != 2 && !va_os_barrier()))
            return false;
    }
    return any;
}

VA_COLD bool va_allocator_can_relieve(size_t bytes)
{
    CacheStats stats;
    if (bytes <= VA_LARGE_KEEP_BYTES || va_sealed_bytes() != 0)
        return true;
    va_registry_stats(&stats);
    return bytes / VA_RELIEF_RATIO <= stats.capacity_bytes + va_large_cache_kept();
}

VA_COLD void va_allocator_relieve(Allocator *allocator)
{
    va_thread_reap(UINT32_MAX);
    ThreadCache *cache = va_allocator_acquire(allocator);
    if (cache != NULL)
        va_cache_flush_all(cache);
    va_allocator_release(allocator, cache);
    va_lock_acquire(&live.lock);
    empty_caches_locked(allocator, true);
    va_lock_release(&live.lock);
    if (allocator == &va_process) {
        va_sealed_end();
        va_cache_release_unused();
    } else {
        release_slabs(allocator);
    }
}

/* What the calling thread holds in another allocator, and what others share. */
static VA_COLD void flush_own(Allocator *allocator)
{
    va_lock_acquire(&allocator->shared_mutex);
    if (allocator->shared_cache != NULL)
        va_cache_flush_slots(allocator->shared_cache);
    va_lock_release(&allocator->shared_mutex);
    CacheFront *front = va_allocator_front(&allocator->shown);
    if (front == NULL || front == VA_NO_FRONT)
        return;
    ThreadCache *own = (ThreadCache *)front;
    va_idle_enter(own);
    va_cache_flush_slots(own);
    va_idle_leave(own);
}

/* What lies in the caches of another allocator. */
static VA_COLD void purge_other(const Allocator *allocator)
{
    for (ThreadCache *cache = __atomic_load_n(&allocator->caches, __ATOMIC_ACQUIRE); cache != NULL;
         cache = cache->next) {
        va_cache_release_slabs(cache);
        va_sweep_purge(cache, true);
    }
}

VA_COLD size_t va_allocators_purge(void)
{
    size_t purged = va_os_purged();
    va_allocator_relieve(&va_process);
    va_thread_flush_shared();
    va_cache_release_unused();
    va_sweep_purge_process();
    /* Nobody destroys an allocator that is looked at: it would have to leave the list first. */
    va_lock_acquire(&live.lock);
    for (Allocator *allocator = live.first; allocator != NULL; allocator = allocator->next)
        flush_own(allocator);
    empty_caches_locked(NULL, true); /* of all at once, with one barrier */
    for (Allocator *allocator = live.first; allocator != NULL; allocator = allocator->next)
        purge_other(allocator);
    va_lock_release(&live.lock);
    va_purge_all();
    return va_os_purged() - purged;
}

VA_COLD uint64_t va_allocators_decay(bool *changed)
{
    CacheStats stats;
    va_thread_reap(UINT32_MAX);
    va_lock_acquire(&live.lock);
    *changed = empty_caches_locked(NULL, false);
    va_lock_release(&live.lock);
    va_cache_flush_exited();
    va_registry_stats(&stats);
    for (uint32_t i = 0; i < stats.made; i++)
        va_sweep_purge(va_registry_nth(stats.made, i), false);
    va_lock_acquire(&live.lock);
    for (Allocator *allocator = live.first; allocator != NULL; allocator = allocator->next)
        for (ThreadCache *cache = __atomic_load_n(&allocator->caches, __ATOMIC_ACQUIRE);
             cache != NULL; cache = cache->next)
            va_sweep_purge(cache, false);
    va_lock_release(&live.lock);
    bool dirty;
    uint64_t rest_ms = va_purge_decay(&dirty);
    *changed |= dirty;
    return rest_ms;
}

VA_COLD void va_allocators_hold(void)
{
    va_lock_acquire(&live.lock);
}

VA_COLD void va_allocators_let_go(void)
{
    va_lock_release(&live.lock);
}

/* ---- Fork ---- */

VA_COLD Allocator *va_allocators_first(void)
{
    return live.first;
}

VA_COLD void va_allocators_lock_all(void)
{
    va_lock_acquire_for_fork(&live.lock);
    for (Allocator *allocator = live.first; allocator != NULL; allocator = allocator->next)
        va_lock_acquire_for_fork(&allocator->shared_mutex);
    for (Allocator *allocator = live.first; allocator != NULL; allocator = allocator->next)
        va_lock_acquire_for_fork(&allocator->mutex);
}

VA_COLD void va_allocators_unlock_all(void)
{
    for (Allocator *allocator = live.first; allocator != NULL; allocator = allocator->next) {
        va_lock_release_after_fork(&allocator->mutex);
        va_lock_release_after_fork(&allocator->shared_mutex);
    }
    va_lock_release_after_fork(&live.lock);
}

/* No user's MemoryAllocator is sure to be there until it is used. */
VA_COLD void va_allocators_reset_all(void)
{
    for (Allocator *allocator = live.first; allocator != NULL; allocator = allocator->next) {
        va_lock_reset(&allocator->mutex);
        va_lock_reset(&allocator->shared_mutex);
        allocator->followed = NULL;
    }
    va_lock_reset(&live.lock);
}
