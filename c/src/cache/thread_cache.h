/* thread_cache.h: what a thread does with its cache: refill, flush, frees.
 *
 * Called by the thread that uses the cache, unless said otherwise. */
#ifndef VA_THREAD_CACHE_H
#define VA_THREAD_CACHE_H

#include "cache/delivery.h"
#include "cache/large_cache.h"
#include "cache/supply.h"

/* A cache for the calling thread: one whose thread has exited, else a new one; NULL when there
 * is no memory for it. */
ThreadCache *va_cache_attach(void);

/* A cache of another allocator for the thread with this id, 0 for several; NULL when there is no
 * memory. And the end of one whose allocator takes all its blocks itself. */
ThreadCache *va_cache_make(Allocator *allocator, uint32_t thread);
void va_cache_abandon(ThreadCache *cache);

/* The thread is done: gives back what it holds, all but a little, and lets others have the cache.
 */
void va_cache_retire(ThreadCache *cache);

/* A slot of a class whose stack is empty, and more into the stack; NULL when there is no
 * memory. *zero tells whether the slot should read as zero, then whether it is known to. */
void *va_cache_refill(ThreadCache *cache, unsigned class, bool *zero);

/* Does the thread keep slots of this class that others own? Not those smaller than a cache line,
 * and not what it only frees: it would keep them and flush them for nothing. */
VA_INLINE bool va_cache_keeps(const ThreadCache *cache, unsigned class)
{
    return class >= VA_CLASS_KEPT && (!va_slot_stack_is_full(&cache->front.stacks[class]) ||
                                      cache->classes[class].turns == VA_STACK_TURNS);
}

/* Frees a slot or run whose entry was just read; cache may be NULL. */
void va_cache_free(ThreadCache *cache, void *slot, Block *block, uint32_t entry,
                   const char *function);

/* Gives back everything that the cache holds, and the slabs that this leaves unused. */
void va_cache_flush_all(ThreadCache *cache);

/* Puts the slots that the cache holds into their slabs, and gives back its runs. One unused slab of
 * each class stays. */
void va_cache_flush_slots(ThreadCache *cache);

/* Gives back the unused slabs. Any thread. */
void va_cache_release_slabs(ThreadCache *cache);
/* Adds the unused slabs of a class to a chain. Mutex held; any thread. */
void va_cache_vacate_slabs_locked(ThreadCache *cache, unsigned class, Block **unused);

/* For the allocator of the process: gives back all that caches without a thread hold; also the
 * unused slabs of every cache. Any thread. */
void va_cache_flush_exited(void);
void va_cache_release_unused(void);

#endif
