/* large_cache.h: the large run that a thread freed last stays with it for a moment, so that a loop
 * over one size makes no system call. All threads together keep VA_LARGE_KEEP_BYTES at most.
 * Called by the cache's thread, but va_large_cache_drop, by any. */
#ifndef VA_LARGE_CACHE_H
#define VA_LARGE_CACHE_H

#include "cache.h"

/* The run kept, if it has this length; else NULL. */
Block *va_large_cache_take(ThreadCache *cache, size_t blocks);

/* Takes a run that is no allocation any more: keeps it, or gives it back to its allocator. */
void va_large_cache_put(ThreadCache *cache, Block *run);

/* Gives back the run kept, whose pages go at once if wanted. */
void va_large_cache_drop(ThreadCache *cache, bool purge);

/* Changes the bytes reserved for what the cache keeps; false if all caches together have too
 * many. The room stays reserved while the run is in use, so that a loop over one size touches
 * nothing shared. */
bool va_large_cache_reserve(ThreadCache *cache, size_t bytes);

#endif
