/* sweep.h: gives back what a cache has not used lately.
 *
 * Every slow path stamps its class with the cache's epoch, and the slabs from which it takes slots;
 * every sweep ends the epoch. A class without a slow path since the last sweep is unused: its stack
 * is flushed. Of a slab from which nothing was taken, the pages without a used slot are purged. A
 * thread sweeps its own cache on a slow path, once every VA_PURGE_DELAY_MS and whenever it has
 * taken many blocks. The background thread sweeps all others. */
#ifndef VA_SWEEP_H
#define VA_SWEEP_H

#include "cache/stack_size.h"

/* Whether a class was used since the last sweep. Any thread; a hint. */
VA_INLINE bool va_sweep_finds_used(const ThreadCache *cache, unsigned class)
{
    return atomic_load_explicit(&cache->classes[class].stamp, memory_order_relaxed) ==
           atomic_load_explicit(&cache->sweep.epoch, memory_order_relaxed);
}

/* What every slow path of a class does; sweeps the cache when it is time. The cache's thread. */
void va_sweep_visit(ThreadCache *cache, ClassState *state);

/* So many blocks more call for the next sweep. */
void va_sweep_later(ThreadCache *cache);

/* Purges the pages without a used slot in unused slabs, or in all, and ends the epoch.
 * Any thread. */
void va_sweep_purge(ThreadCache *cache, bool all);

/* Purges those of every slab of the process, also of slabs without a free slot. */
void va_sweep_purge_process(void);

#endif
