/* stats.c: see stats.h. */
#include "stats.h"

#include "arena.h"
#include "meta.h"
#include "thread_cache.h"

VA_COLD void va_stats_collect(valloc_stats *stats)
{
    ArenaStats arena;
    va_arena_stats(&arena);
    CacheStats caches;
    va_registry_stats(&caches);
    stats->caches = caches.all;
    stats->threads = caches.attached;
    stats->cached = caches.capacity_bytes;
    stats->reserved = arena.reserved;
    stats->committed = arena.committed;
    stats->lent = arena.lent;
    stats->dirty = arena.dirty;
    stats->purged = arena.purged;
    stats->metadata = arena.metadata + va_meta_bytes();
}
