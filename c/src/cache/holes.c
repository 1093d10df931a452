/* holes.c: see holes.h. */
#include "cache/holes.h"

#include "cache/delivery.h"
#include "slab/slab.h"

/* Purges up to `count` slabs at the head of a list and moves them to its end. */
static VA_COLD size_t purge_some_locked(ThreadCache *cache, const SlabList *list, size_t count)
{
    size_t bytes = 0;
    for (Block *slab; count > 0 && (slab = list->first) != NULL; count--) {
        bytes += va_slab_purge(slab);
        va_slab_unlist_locked(cache, slab);
        va_slab_list_locked(cache, slab);
    }
    return bytes;
}

static VA_COLD size_t count_slabs_locked(const SlabList *list, size_t most)
{
    size_t count = 0;
    for (const Block *slab = list->first; slab != NULL && count < most; slab = slab->next)
        count++;
    return count;
}

/* Up to `most` slabs of a list, VA_HOLES_SLABS at a time, so that the mutex is not held for long.
 */
static VA_COLD size_t purge_list(ThreadCache *cache, const SlabList *list, size_t most,
                                 size_t max_bytes)
{
    size_t bytes = 0;
    va_lock_acquire(&cache->mutex);
    size_t count = count_slabs_locked(list, most);
    while (count > 0 && bytes < max_bytes) {
        size_t some = va_min(count, VA_HOLES_SLABS);
        bytes += purge_some_locked(cache, list, some);
        count -= some;
        va_lock_release(&cache->mutex);
        va_lock_acquire(&cache->mutex);
    }
    va_lock_release(&cache->mutex);
    return bytes;
}

static VA_COLD size_t purge_class(ThreadCache *cache, unsigned class, size_t max_bytes)
{
    const ClassState *state = &cache->classes[class];
    size_t bytes = purge_list(cache, &state->draining, SIZE_MAX, max_bytes);
    return bytes + purge_list(cache, &state->open, SIZE_MAX, max_bytes - va_min(bytes, max_bytes));
}

VA_COLD size_t va_holes_purge(ThreadCache *cache)
{
    size_t bytes = 0;
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class ++)
        bytes += purge_class(cache, class, SIZE_MAX);
    return bytes;
}

/* A slab of a cache of the process, unless it is none any more: under its owner's mutex it stays
 * one. */
static VA_COLD size_t purge_slab(const RunView *view)
{
    ThreadCache *owner = va_registry_cache(va_entry_owner(view->entry));
    size_t bytes = 0;
    va_lock_acquire(&owner->mutex);
    Block *slab = va_block_if(view->address, view->entry);
    if (slab != NULL)
        bytes = va_slab_purge(slab);
    va_lock_release(&owner->mutex);
    return bytes;
}

VA_COLD size_t va_holes_purge_process(void)
{
    ScanCursor cursor = {0};
    RunView views[64];
    size_t bytes = 0;
    size_t count;
    while ((count = va_arena_scan(&cursor, views, sizeof views / sizeof *views)) != 0)
        for (size_t i = 0; i < count; i++) {
            uint32_t owner = va_entry_owner(views[i].entry);
            if (owner != 0 && !va_is_other(owner) &&
                va_entry_class(views[i].entry) < VA_CLASSES_SMALL)
                bytes += purge_slab(&views[i]);
        }
    return bytes;
}

/* ---- Decay ---- */

static VA_COLD size_t free_slots_locked(const ThreadCache *cache, unsigned class)
{
    size_t slots = 0;
    for (const Block *slab = cache->classes[class].open.first; slab != NULL; slab = slab->next)
        slots += slab->free_count;
    return slots;
}

/* What a class has taken from its slabs since the last look it may well take again, and more: the
 * slabs that come first keep their pages. */
static VA_COLD size_t purge_beyond_locked(ThreadCache *cache, unsigned class, size_t keep)
{
    size_t kept = 0;
    size_t bytes = 0;
    size_t excess = free_slots_locked(cache, class);
    excess -= va_min(excess, keep);
    if (excess * va_size_classes[class].bytes < VA_HOLES_MIN_BYTES)
        return 0;
    for (Block *slab = cache->classes[class].open.first;
         slab != NULL && bytes < VA_HOLES_VISIT_BYTES; slab = slab->next) {
        if (kept < keep)
            kept += slab->free_count;
        else
            bytes += va_slab_purge(slab);
    }
    return bytes;
}

VA_COLD size_t va_holes_decay(ThreadCache *cache, size_t max_bytes)
{
    size_t bytes = 0;
    for (unsigned class = 0; class < VA_CLASSES_SMALL && bytes < max_bytes; class ++) {
        va_lock_acquire(&cache->mutex);
        size_t taken = cache->classes[class].taken;
        cache->classes[class].taken = 0;
        if (taken != 0)
            bytes += purge_beyond_locked(cache, class, 2 * taken);
        va_lock_release(&cache->mutex);
        const SlabList *rest = &cache->classes[class].draining;
        if (taken == 0)
            bytes += purge_class(cache, class, max_bytes - va_min(bytes, max_bytes));
        else
            bytes += purge_list(cache, rest, SIZE_MAX, max_bytes - va_min(bytes, max_bytes));
    }
    return bytes;
}

VA_COLD size_t va_holes_purge_draining(ThreadCache *cache, unsigned class, size_t max_bytes)
{
    const SlabList *draining = &cache->classes[class].draining;
    return purge_list(cache, draining, VA_DRAIN_VISIT_SLABS, max_bytes);
}
