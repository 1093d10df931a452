/* large_cache.h: the large run that a thread freed last stays with it for a moment, so that a loop
 * over one size makes no system call. All threads together keep VA_LARGE_KEEP_BYTES at most.
 * Called by the cache's thread; others take the run by va_idle_empty. */
#ifndef VA_LARGE_CACHE_H
#define VA_LARGE_CACHE_H

#include "cache/cache.h"

/* The run kept, if it has this length; else NULL. */
Block *va_large_cache_take(ThreadCache *cache, size_t blocks);

/* Keeps a run that is freed, in the place of the last one, which had its length and is in use; else
 * false, with nothing changed. */
VA_INLINE bool va_large_cache_keep(ThreadCache *cache, Block *run)
{
    if (cache->large.run != NULL || run->run_blocks != cache->large.blocks ||
        (size_t)run->run_blocks << VA_BLOCK_SHIFT > cache->large.room)
        return false;
    uint32_t entry = va_entry_make(0, VA_CLASS_LARGE); /* two threads may free it at once */
    if (va_unlikely(!atomic_compare_exchange_strong_explicit(
            va_block_entry(run), &entry, va_entry_make(0, VA_CLASS_SPARE), memory_order_release,
            memory_order_relaxed)))
        return false;
    run->zero = false;
    cache->large.run = run;
    cache->large.puts++;
    return true;
}

/* Takes a run that is no allocation any more: keeps it, or gives it back to its allocator. */
void va_large_cache_put(ThreadCache *cache, Block *run);

/* Gives back the run kept. */
void va_large_cache_drop(ThreadCache *cache);

/* The bytes reserved for what all caches keep. */
size_t va_large_cache_kept(void);

/* Changes the bytes reserved for what the cache keeps; false if all caches together have too
 * many. The room stays reserved while the run is in use, so that a loop over one size touches
 * nothing shared. */
bool va_large_cache_reserve(ThreadCache *cache, size_t bytes);

#endif
