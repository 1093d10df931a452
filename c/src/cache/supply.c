/* supply.c: see supply.h.
 *
 * Adoption moves a slab from one cache's list to another's under both mutexes, so that whoever
 * delivers slots to it finds it on the list of the owner that its entry names. The registry lock
 * orders adopters among each other. */
#include "cache/supply.h"

#include "arena/arena_space.h"
#include "cache/delivery.h"
#include "os/os.h"
#include "slab/slab.h"

/* ---- Adoption ---- */

/* Takes a slab with slots from another cache, if it has one of this class. Registry lock held. */
static VA_COLD bool take_over_locked(ThreadCache *cache, ThreadCache *from, unsigned class)
{
    va_lock_acquire(&from->mutex);
    Block *slab = from->classes[class].open;
    if (slab != NULL) {
        va_slab_unlist_locked(from, slab);
        slab->draining = false;
        va_cache_count_blocks(from, class, -1);
        va_lock_acquire(&cache->mutex);
        va_entry_store(va_block_entry(slab), va_entry_make(cache->id, class));
        va_slab_list_locked(cache, slab);
        va_cache_count_blocks(cache, class, 1);
        va_lock_release(&cache->mutex);
    }
    va_lock_release(&from->mutex);
    return slab != NULL;
}

/* From an owner of the process whose thread has exited. */
static VA_STARTUP bool adopt_of_exited(ThreadCache *cache, unsigned class)
{
    bool found = false;
    _Atomic uint64_t *hint = &va_exited_open[class / 64];
    uint64_t bit = (uint64_t)1 << (class % 64);
    if ((atomic_load_explicit(hint, memory_order_relaxed) & bit) == 0)
        return false;
    va_lock_acquire(&va_registry_lock);
    /* The acquire pairs with the releases that raise it. */
    atomic_fetch_and_explicit(hint, ~bit, memory_order_acquire);
    ThreadCache *exited = va_registry_exited_locked(); /* who exited last comes first */
    for (unsigned i = 0; i < VA_ADOPT_LOOKS && exited != NULL && !found; i++, exited = exited->next)
        found = take_over_locked(cache, exited, class);
    if (found || exited != NULL)
        atomic_fetch_or_explicit(hint, bit, memory_order_relaxed);
    va_lock_release(&va_registry_lock);
    return found;
}

/* Within another allocator: from a cache whose thread has exited, or from any. */
static VA_COLD bool adopt_within(ThreadCache *cache, unsigned class, bool any)
{
    bool found = false;
    va_lock_acquire(&va_registry_lock);
    ThreadCache *other = __atomic_load_n(&cache->allocator->caches, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; (any || i < VA_ADOPT_LOOKS) && other != NULL && !found;
         i++, other = other->next) {
        if (other == cache)
            continue;
        if (any || (other->thread != 0 &&
                    !atomic_load_explicit(&va_registry_cache(other->thread)->attached,
                                          memory_order_relaxed)))
            found = take_over_locked(cache, other, class);
    }
    va_lock_release(&va_registry_lock);
    return found;
}

static bool adopt(ThreadCache *cache, unsigned class)
{
    return va_is_other(cache->id) ? adopt_within(cache, class, false)
                                  : adopt_of_exited(cache, class);
}

/* ---- Fresh slabs ---- */

/* Until its entry names an owner the slab is nobody's, and a fork returns its block. */
static void start_slab(ThreadCache *cache, Block *slab, unsigned class, bool fills)
{
    va_slab_start(slab, class);
    if (fills && slab->zero) {
        va_space_populate(slab,
                          va_align_up((size_t)slab->slots * slab->slot_bytes, va_os_page_bytes()));
        slab->absent = 0;
    }
    va_guard_slab(slab);
    va_lock_acquire(&cache->mutex);
    va_entry_store(va_block_entry(slab), va_entry_make(cache->id, class));
    va_slab_list_locked(cache, slab);
    va_cache_count_blocks(cache, class, 1);
    va_lock_release(&cache->mutex);
}

/* Blocks for slabs; in random order if the build has that. */
static size_t lend_blocks(ThreadCache *cache, ZoneKind zone, Block **blocks, size_t count)
{
    size_t found = va_pool_lend_many(cache->allocator, 1, zone, blocks, count);
#if VALLOC_SECURE_RANDOM
    va_shuffle((void **)blocks, (uint32_t)found);
#endif
    va_pool_occupy(blocks, found);
    return found;
}

/* The first slabs of a class are sparse: it may never fill them. */
static bool start_slabs(ThreadCache *cache, unsigned class, size_t count)
{
    Block *slabs[VA_REFILL_SLABS];
    int32_t blocks = atomic_load_explicit(&cache->classes[class].blocks, memory_order_relaxed);
    bool grows = blocks >= VA_POPULATE_AFTER_BLOCKS;
    bool fills = grows && va_size_classes[class].bytes <= VA_FILLED_BYTES;
    size_t found = lend_blocks(cache, fills ? ZONE_DENSE : ZONE_SPARSE, slabs, grows ? count : 1);
    for (size_t i = 0; i < found; i++)
        start_slab(cache, slabs[i], class, fills);
    if (grows) /* it may be freed without a slow path that starts the background thread */
        va_purge_count_freed(&cache->flushed_bytes, found << VA_BLOCK_SHIFT);
    return found != 0;
}

/* Where the states of each class's slots are in the first arena. */
static VA_STARTUP void find_states(ThreadCache *cache)
{
#if VALLOC_CHECKS
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        StateTable table = va_state_table(class);
        cache->front.stacks[class].states = va_arenas[0].states[table];
        cache->front.stacks[class].shift = va_state_shift(table);
    }
#else
    (void)cache;
#endif
}

void va_cache_update_view(ThreadCache *cache)
{
    if (atomic_load_explicit(&va_arena_count, memory_order_acquire) == 0)
        return;
    if (va_unlikely(cache->front.blocks == 0))
        find_states(cache);
    cache->front.entries = va_arenas[0].entries;
    cache->front.blocks = atomic_load_explicit(&va_arenas[0].tabled, memory_order_relaxed);
}

bool va_supply_slabs(ThreadCache *cache, unsigned class, size_t count)
{
    va_deliver_collected(cache, "malloc");
    bool found = adopt(cache, class) || start_slabs(cache, class, count);
    if (!found && va_is_other(cache->id)) /* at a limit others may have what is free */
        found = adopt_within(cache, class, true);
    return found;
}
