/* large_cache.c: see large_cache.h. */
#include "cache/large_cache.h"

#include "slab/large.h"

static _Atomic size_t large_kept; /* bytes reserved by all caches; relaxed, only a bound */

/* Another thread only takes it while this one is away, see idle.h. */
VA_INLINE Block *exchange(ThreadCache *cache, Block *run)
{
    Block *old = cache->large.run;
    cache->large.run = run;
    return old;
}

VA_APART Block *va_large_cache_take(ThreadCache *cache, size_t blocks)
{
    Block *run = exchange(cache, NULL);
    if (run != NULL && run->run_blocks != blocks) {
        va_large_give_back(run); /* another size may need its place */
        return NULL;
    }
    cache->large.used |= run != NULL;
    return run;
}

VA_APART bool va_large_cache_reserve(ThreadCache *cache, size_t bytes)
{
    size_t others =
        atomic_fetch_sub_explicit(&large_kept, cache->large.room, memory_order_relaxed) -
        cache->large.room;
    cache->large.room = 0;
    if (bytes > VA_LARGE_KEEP_BYTES || others > VA_LARGE_KEEP_BYTES - bytes)
        return false;
    atomic_fetch_add_explicit(&large_kept, bytes, memory_order_relaxed);
    cache->large.room = bytes;
    return true;
}

VA_COLD size_t va_large_cache_kept(void)
{
    return atomic_load_explicit(&large_kept, memory_order_relaxed);
}

void va_large_cache_drop(ThreadCache *cache)
{
    Block *run = exchange(cache, NULL);
    if (run != NULL)
        va_large_give_back(run);
}

VA_APART void va_large_cache_put(ThreadCache *cache, Block *run)
{
    size_t bytes = (size_t)run->run_blocks << VA_BLOCK_SHIFT;
    bool again = run->run_blocks == cache->large.blocks;
    cache->large.blocks = run->run_blocks;
    cache->large.puts++;
    va_large_cache_drop(cache);
    if (again && !run->moved &&
        (bytes <= cache->large.room || va_large_cache_reserve(cache, bytes)))
        exchange(cache, run);
    else
        va_large_give_back(run);
    va_purge_visit(); /* a loop over one size comes by no other clock */
}
