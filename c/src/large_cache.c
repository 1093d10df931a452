/* large_cache.c: see large_cache.h. */
#include "large_cache.h"

#include "large.h"

static _Atomic size_t large_kept; /* bytes reserved by all caches; relaxed, only a bound */

Block *va_large_cache_take(ThreadCache *cache, size_t blocks)
{
    Block *run = cache->large;
    if (run == NULL || run->run_blocks != blocks)
        return NULL;
    cache->large = NULL;
    cache->large_active = true;
    return run;
}

bool va_large_cache_reserve(ThreadCache *cache, size_t bytes)
{
    size_t others =
        atomic_fetch_sub_explicit(&large_kept, cache->large_room, memory_order_relaxed) -
        cache->large_room;
    cache->large_room = 0;
    if (bytes > VA_LARGE_KEEP_BYTES || others > VA_LARGE_KEEP_BYTES - bytes)
        return false;
    atomic_fetch_add_explicit(&large_kept, bytes, memory_order_relaxed);
    cache->large_room = bytes;
    return true;
}

void va_large_cache_drop(ThreadCache *cache)
{
    Block *run = cache->large;
    cache->large = NULL;
    if (run != NULL)
        va_large_give_back(run);
}

void va_large_cache_put(ThreadCache *cache, Block *run)
{
    size_t bytes = (size_t)run->run_blocks << VA_BLOCK_SHIFT;
    va_large_cache_drop(cache);
    if (!run->moved && (bytes <= cache->large_room || va_large_cache_reserve(cache, bytes)))
        cache->large = run;
    else
        va_large_give_back(run);
}
