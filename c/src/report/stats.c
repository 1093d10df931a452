/* stats.c: a walk over the block table tells what slabs have handed out, one over the thread caches
 * what of it is held there; the rest is live. */
#include "report/stats.h"

#include <string.h>

#include "heap/allocator.h"
#include "arena/arena.h"
#include "table/meta.h"
#include "os/os.h"
#include "slab/slab.h"
#include "cache/thread_cache.h"

#define VIEWS 64

/* ---- What slabs have handed out ---- */

/* The bytes of a slab's pages that may be resident: all but holes given back and, as far as that is
 * known, those of slots never used. */
static VA_COLD size_t slab_resident(const Block *slab)
{
    return VA_BLOCK_BYTES - ((size_t)__builtin_popcount(slab->absent) << VA_PIECE_SHIFT);
}

/* False if it is no slab by now. Its owner's mutex keeps it as it is: an owner that gives a slab up
 * changes the entry under it. */
static VA_COLD bool count_slab(Census *census, const RunView *view)
{
    ThreadCache *owner = va_registry_cache(va_entry_owner(view->entry));
    valloc_class_stats *row = &census->rows[va_entry_class(view->entry)];
    va_lock_acquire(&owner->mutex);
    const Block *slab = va_block_if(view->address, view->entry);
    if (slab != NULL) {
        row->slots += slab->slots;
        row->free_slots += va_slab_available(slab);
        census->slack += VA_BLOCK_BYTES - (size_t)slab->slots * slab->slot_bytes;
        census->resident += slab_resident(slab);
    }
    va_lock_release(&owner->mutex);
    return slab != NULL;
}

static VA_COLD void count_run(Census *census, const RunView *view)
{
    size_t bytes = view->blocks << VA_BLOCK_SHIFT;
    unsigned class = va_entry_class(view->entry);
    if (view->entry == 0) {
        census->free += bytes;
    } else if (class == VA_CLASS_SPARE) {
        census->spare += bytes;
        census->lent += bytes;
        census->resident += VA_PEEK(va_block_of(view->address)->zero) ? 0 : bytes;
    } else if (class >= VA_CLASSES_SMALL || count_slab(census, view)) {
        valloc_class_stats *row = &census->rows[class];
        census->lent += bytes;
        row->blocks += view->blocks;
        if (class >= VA_CLASSES_SMALL) {
            size_t guard = class < VA_CLASSES ? VA_RUN_GUARD_BYTES : 0;
            row->slots++;
            census->slack += guard;
            census->resident += bytes - guard;
        }
    }
}

/* ---- What thread caches hold of it ---- */

static VA_COLD size_t count_stack(ThreadCache *cache, unsigned class)
{
    const ClassState *state = &cache->classes[class];
    void **storage = state->storage;
    void **top = VA_PEEK(cache->front.stacks[class].top);
    if (storage == NULL)
        return 0;
    size_t count = (size_t)(top - storage);
    size_t gone = 0;
    while (cache->fences.place[class] != 0 && gone < count && VA_PEEK(storage[1 + gone]) == NULL)
        gone++;
    return count - gone + (cache->fences.slot[class] != NULL && gone >= cache->fences.place[class]);
}

/* Counts the slots of an array whose thread may write to it meanwhile. */
static VA_COLD void add_slots(void **array, size_t count, size_t *slots)
{
    for (size_t i = 0; i < count; i++) {
        void *slot = VA_PEEK(array[i]);
        const Arena *arena = va_arena_find(slot);
        if (arena == NULL)
            continue;
        uint32_t entry = va_entry_load(&arena->entries[va_block_index(arena, slot)]);
        if (entry != 0 && va_entry_class(entry) < VA_CLASSES)
            slots[va_entry_class(entry)]++;
    }
}

/* What slabs and the arena have handed to it. */
static VA_COLD void count_refilled(ThreadCache *cache, valloc_class_stats *rows)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        rows[class].refilled += VA_PEEK(cache->classes[class].refilled);
    rows[VA_CLASSES].refilled += VA_PEEK(cache->large.refilled);
}

static VA_COLD void count_refilled_before(Census *census, const Allocator *allocator)
{
    size_t refilled[VA_CLASSES + 1] = {0};
    if (allocator == NULL || allocator == &va_process)
        va_registry_add_ended(false, refilled);
    if (allocator == NULL)
        va_registry_add_ended(true, refilled);
    for (unsigned class = 0; class <= VA_CLASSES; class ++)
        census->rows[class].refilled = refilled[class];
}

/* Adds to the counts of slots by class. Stacks stay where they are while the mutex is held. */
static VA_COLD void count_cached(ThreadCache *cache, size_t *slots)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        slots[class] += count_stack(cache, class);
#if VALLOC_SECURE_QUARANTINE
    add_slots((void **)&cache->quarantine, VA_QUARANTINE_SLOTS, slots);
#endif
    Outgoing *outgoing = VA_PEEK(cache->outgoing.batches);
    for (unsigned i = 0; outgoing != NULL && i < VA_OUTGOING_BATCHES; i++) {
        uint32_t count = (uint32_t)va_min(VA_PEEK(outgoing[i].count), VA_OUTGOING_SLOTS);
        add_slots(outgoing[i].slots, count, slots);
    }
}

static VA_COLD valloc_cache_stats describe_cache(ThreadCache *cache)
{
    size_t slots[VA_CLASSES] = {0};
    valloc_cache_stats stats = {.id = cache->id, .of_process = !va_is_other(cache->id)};
    va_lock_acquire(&cache->mutex);
    stats.in_use = atomic_load_explicit(&cache->attached, memory_order_relaxed);
    stats.limit = atomic_load_explicit(&cache->capacity_bytes, memory_order_relaxed);
    count_cached(cache, slots);
    va_lock_release(&cache->mutex);
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        stats.cached += slots[class] * va_size_classes[class].bytes;
    return stats;
}

VA_COLD int va_stats_caches(int (*visit)(const valloc_cache_stats *, void *), void *context)
{
    CacheStats caches;
    int result = 0;
    va_registry_stats(&caches);
    for (uint32_t i = 0; i < caches.all && result == 0; i++) {
        valloc_cache_stats stats = describe_cache(va_registry_nth(caches.made, i));
        if (stats.id == 0) { /* it sleeps */
            stats.id = i + 1;
            stats.of_process = true;
        }
        result = visit(&stats, context);
    }
    return result;
}

/* ---- Sums ---- */

/* What threads did between the two walks shall not turn into huge numbers. */
static VA_COLD void finish_row(Census *census, valloc_class_stats *row, size_t cached)
{
    size_t used = row->slots - row->free_slots;
    row->cached = va_min(cached, used);
    row->live = used - row->cached;
    row->live_bytes =
        row->slot_size == 0 ? row->blocks << VA_BLOCK_SHIFT : row->live * row->slot_size;
    census->live += row->live_bytes;
    census->cached += row->cached * row->slot_size;
    census->free_slots += row->free_slots * row->slot_size;
}

/* Free blocks count as the allocator's of the process. */
static VA_COLD bool is_of(const RunView *view, const Allocator *allocator)
{
    return (view->allocator != NULL ? view->allocator : &va_process) == allocator;
}

VA_COLD void va_stats_count(Census *census, const Allocator *allocator)
{
    RunView views[VIEWS];
    ScanCursor cursor = {0};
    CacheStats caches;
    size_t count;
    size_t slots[VA_CLASSES + 1] = {0};
    memset(census, 0, sizeof *census);
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        census->rows[class].slot_size = va_size_classes[class].bytes;
    va_allocators_hold();
    while ((count = va_arena_scan(&cursor, views, VIEWS)) != 0)
        for (size_t i = 0; i < count; i++)
            if (allocator == NULL || is_of(&views[i], allocator))
                count_run(census, &views[i]);
    va_allocators_let_go();
    count_refilled_before(census, allocator);
    va_registry_stats(&caches);
    for (uint32_t i = 0; i < caches.all; i++) {
        ThreadCache *cache = va_registry_nth(caches.made, i);
        va_lock_acquire(&cache->mutex);
        if (allocator == NULL || cache->allocator == allocator) {
            count_cached(cache, slots);
            count_refilled(cache, census->rows);
        }
        va_lock_release(&cache->mutex);
    }
    for (unsigned class = 0; class <= VA_CLASSES; class ++)
        finish_row(census, &census->rows[class], slots[class]);
}

VA_COLD void va_stats_collect(valloc_stats *stats, const Census *census)
{
    ArenaStats arena;
    CacheStats caches;
    va_arena_stats(&arena);
    va_registry_stats(&caches);
    *stats = (valloc_stats){.reserved = arena.reserved,
                            .committed = arena.committed,
                            .lent = census->lent,
                            .live = census->live,
                            .cached = census->cached,
                            .free_slots = census->free_slots,
                            .spare = census->spare,
                            .slack = census->slack,
                            .dirty = arena.dirty,
                            .purged = va_os_purged(),
                            .metadata = arena.metadata + va_meta_bytes(),
                            .cache_limit = caches.capacity_bytes,
                            .threads = caches.attached,
                            .caches = caches.all};
    stats->resident = census->resident + arena.dirty + va_arena_tables_used() + va_meta_used() -
                      caches.asleep * VA_CACHE_PAGES_BYTES;
}
