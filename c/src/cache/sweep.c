/* sweep.c: see sweep.h. */
#include "cache/sweep.h"

#include "cache/delivery.h"
#include "cache/large_cache.h"
#include "os/options.h"
#include "os/os.h"
#include "slab/slab.h"

/* ---- Pages without a used slot ---- */

/* Slots are taken from slabs at the head of a list: the pages of others are not wanted soon. A slab
 * that was looked at is the same until slots are taken or the number of free ones changes. */
static VA_COLD void purge_unless_used_locked(const ThreadCache *cache, Block *slab, bool all)
{
    uint8_t epoch = atomic_load_explicit(&cache->sweep.epoch, memory_order_relaxed);
    if (!all && (slab->stamp == epoch || slab->swept == slab->free_count))
        return;
    slab->swept = slab->free_count;
    va_slab_purge(slab);
}

/* Purges up to `count` slabs, each of which moves to the end of the list: once all had their turn
 * the order is what it was. */
static VA_COLD void purge_some_locked(ThreadCache *cache, unsigned class, size_t count, bool all)
{
    for (Block *slab; count > 0 && (slab = cache->classes[class].open) != NULL; count--) {
        purge_unless_used_locked(cache, slab, all);
        va_slab_rotate_locked(cache, class);
    }
}

/* The slabs of a class, VA_SWEEP_SLABS at a time, so that the mutex is not held for long. */
static VA_COLD void sweep_class(ThreadCache *cache, unsigned class, bool all)
{
    va_lock_acquire(&cache->mutex);
    size_t count = va_slab_drain_locked(cache, class);
    for (; count > 0; count -= va_min(count, VA_SWEEP_SLABS)) {
        purge_some_locked(cache, class, va_min(count, VA_SWEEP_SLABS), all);
        va_lock_release(&cache->mutex);
        va_lock_acquire(&cache->mutex);
    }
    va_lock_release(&cache->mutex);
}

void va_sweep_later(ThreadCache *cache)
{
    int32_t blocks = atomic_load_explicit(&cache->blocks, memory_order_relaxed);
    int32_t part = blocks >> VA_SWEEP_GROWTH_SHIFT;
    blocks += part > VA_SWEEP_GROWTH_BLOCKS ? part : VA_SWEEP_GROWTH_BLOCKS;
    atomic_store_explicit(&cache->sweep.blocks, blocks, memory_order_relaxed);
}

VA_COLD void va_sweep_purge(ThreadCache *cache, bool all)
{
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class ++)
        sweep_class(cache, class, all);
    va_lock_acquire(&cache->mutex);
    uint8_t epoch = atomic_load_explicit(&cache->sweep.epoch, memory_order_relaxed);
    atomic_store_explicit(&cache->sweep.epoch, (uint8_t)(epoch + 1), memory_order_relaxed);
    va_lock_release(&cache->mutex);
    va_sweep_later(cache);
}

/* A slab of a cache of the process, unless it is none any more: under its owner's mutex it stays
 * one. */
static VA_COLD void purge_slab(const RunView *view)
{
    ThreadCache *owner = va_registry_cache(va_entry_owner(view->entry));
    va_lock_acquire(&owner->mutex);
    Block *slab = va_block_if(view->address, view->entry);
    if (slab != NULL)
        va_slab_purge(slab);
    va_lock_release(&owner->mutex);
}

VA_COLD void va_sweep_purge_process(void)
{
    ScanCursor cursor = {0};
    RunView views[64];
    size_t count;
    while ((count = va_arena_scan(&cursor, views, sizeof views / sizeof *views)) != 0)
        for (size_t i = 0; i < count; i++) {
            uint32_t owner = va_entry_owner(views[i].entry);
            if (owner != 0 && !va_is_other(owner) &&
                va_entry_class(views[i].entry) < VA_CLASSES_SMALL)
                purge_slab(&views[i]);
        }
}

/* ---- The thread's own sweep ---- */

/* Unused stacks are emptied; the others shrink if the thread has more than its share. */
static VA_COLD void sweep_stack(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    if (!va_sweep_finds_used(cache, class)) {
        state->batch = class < VA_CLASSES_SMALL;
        va_stack_shrink(cache, class, 0);
    }
    if (va_stack_is_over_share(cache))
        va_stack_shrink(cache, class, va_stack_capacity(cache, class));
}

static VA_COLD void sweep(ThreadCache *cache)
{
    va_stack_update_share(cache);
    va_deliver_collected(cache, "sweep");
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        if (cache->classes[class].capacity != 0)
            sweep_stack(cache, class);
    if (!cache->large.used) {
        va_large_cache_drop(cache);
        va_large_cache_reserve(cache, 0);
    }
    cache->large.used = false;
    va_sweep_purge(cache, false);
    va_purge_visit();
}

void va_sweep_visit(ThreadCache *cache, ClassState *state)
{
    uint8_t epoch = atomic_load_explicit(&cache->sweep.epoch, memory_order_relaxed);
    atomic_store_explicit(&state->stamp, epoch, memory_order_relaxed);
    bool grown = atomic_load_explicit(&cache->blocks, memory_order_relaxed) >=
                 atomic_load_explicit(&cache->sweep.blocks, memory_order_relaxed);
    if (cache->sweep.visits < VA_SWEEP_VISITS && !grown) {
        cache->sweep.visits++;
        return;
    }
    uint64_t now = va_os_clock_ms();
    if (va_likely(now < cache->sweep.due_ms && !grown))
        return;
    uint64_t delay = atomic_load_explicit(&va_options.purge_delay_ms, memory_order_relaxed);
    cache->sweep.due_ms = now + va_max(delay, VA_SWEEP_MIN_MS);
    sweep(cache);
    epoch = atomic_load_explicit(&cache->sweep.epoch, memory_order_relaxed);
    atomic_store_explicit(&state->stamp, epoch, memory_order_relaxed);
}
