/* registry.h: owner ids and the caches behind them; which have a thread.
 *
 * Caches of the allocator of the process get the ids from 1 on; when their threads exit, others
 * continue them. Caches of other allocators get those from VA_OWNERS_HALF + 1 on; when their
 * allocator is destroyed, another one may have them. No cache ever ceases to exist. */
#ifndef VA_REGISTRY_H
#define VA_REGISTRY_H

#include "cache/cache.h"

extern Lock va_registry_lock;

/* Bit per class: an exited owner may have a slab with slots to take. Raised under the owner's mutex
 * once it has one; an adopter lowers it before it looks, and raises it again unless it looked at
 * all in vain: so no slab is overlooked for good. */
extern _Atomic uint64_t va_exited_open[2];

/* The release pairs with the adopter's acquire. */
VA_INLINE void va_registry_raise_open(unsigned class)
{
    atomic_fetch_or_explicit(&va_exited_open[class / 64], (uint64_t)1 << (class % 64),
                             memory_order_release);
}

/* The cache of an owner that a table entry named: it exists. */
ThreadCache *va_registry_cache(uint32_t owner);

/* The same for one that may not exist: then NULL. */
ThreadCache *va_registry_find(uint32_t owner);

/* Does an owner belong to another allocator than that of the process? */
VA_INLINE bool va_is_other(uint32_t owner)
{
    return (owner & VA_OWNERS_HALF) != 0;
}

/* A cache for a thread: of an exited one, else a new one. NULL when there is no memory. */
ThreadCache *va_registry_attach(void);

/* The cache's thread is done. A cache that owns nothing, and whose stacks are dropped, may sleep:
 * it then has no pages until the next thread wakes it. */
void va_registry_detach(ThreadCache *cache, bool may_sleep);

/* Lets the exited caches sleep that can. The lock held. */
void va_registry_sleep_exited_locked(void);

/* A cache whose thread has vanished without that, which is the caller's now: of the next ones, at
 * most *looks, from which it counts down. NULL if there is none. */
ThreadCache *va_registry_find_vanished(uint32_t *looks);

/* A cache for another allocator, empty, and back. */
ThreadCache *va_registry_take(void);
void va_registry_give(ThreadCache *cache);

/* The exited caches, the most recent first: linked by next. The lock held. */
ThreadCache *va_registry_exited_locked(void);
/* How many these are at present; takes no lock. */
size_t va_registry_exited_count(void);
/* Are there caches, none of which has exited? A hint; takes no lock. */
bool va_registry_all_in_use(void);

/* Does any thread use a cache of the process? A hint; takes no lock. */
bool va_registry_has_threads(void);

/* Caches among which the budget is shared: with a thread, or of other allocators. */
size_t va_registry_sharers(void);

/* Caches made so far: those of the process, and all. */
typedef struct CacheStats {
    uint32_t made, all;
    size_t attached, asleep;
    size_t capacity_bytes; /* that the stacks of all may hold */
} CacheStats;
void va_registry_stats(CacheStats *stats);

/* Adds how much of each class (VA_CLASSES: large runs) the caches were refilled with that sleep or
 * whose allocator has ended: those of the process, or others. */
void va_registry_add_ended(bool others, size_t *refilled);
/* Such a cache, under its mutex; it starts anew. */
void va_registry_end_counts(ThreadCache *cache);

/* The caches in the order of their ids, n from 0 to stats.all - 1: for one that sleeps an empty one
 * without an id. */
ThreadCache *va_registry_nth(uint32_t made, uint32_t n);

/* Around fork: all locks of the registry and the caches; in the child every cache of the process
 * but the caller's (which may be NULL) counts as exited. */
void va_registry_lock_all(void);
void va_registry_unlock_all(void);
void va_registry_reset_all(const ThreadCache *survivor);
/* Gives every cache new random numbers. */
void va_registry_draw(void);

#endif
