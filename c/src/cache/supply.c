/* supply.c: spare blocks, so that slabs come and go without the arena's lock; adoption. */
#include "cache/supply.h"

#include <string.h>

#include "arena/arena_space.h"
#include "cache/delivery.h"
#include "os/os.h"
#include "slab/slab.h"

/* ---- Spare blocks, so that slabs come and go without the arena's lock ---- */

/* How many blocks a store may hold: a part of what is in use, two at least. Mutex held. */
static uint32_t spare_locked(const ThreadCache *cache)
{
    size_t blocks = va_min(cache->share >> VA_SPARE_SHARE_SHIFT >> VA_BLOCK_SHIFT,
                           cache->slabs >> VA_SPARE_USE_SHIFT);
    return (uint32_t)va_max(va_max(2, VA_SPARE_LEAST), va_min(blocks, VA_SPARE_BLOCKS));
}

/* How many blocks the next batch may be. A thread that asks for them again and again uses them
 * soon, so its share does not bound them. */
static uint32_t batch_locked(const ThreadCache *cache, uint32_t last)
{
    size_t most = va_max(spare_locked(cache) / 2, cache->slabs >> VA_SPARE_BATCH_SHIFT);
    return (uint32_t)va_min(va_min((size_t)last * 2 + 1, most), VA_SPARE_BLOCKS);
}

static void push_locked(BlockStore *store, Block *block)
{
    va_entry_store(va_block_entry(block), va_entry_make(0, VA_CLASS_SPARE));
    store->blocks[store->count++] = block;
}

/* Up to `count` blocks for slabs; returns how many, none when there is no memory. */
static size_t take_blocks(ThreadCache *cache, ZoneKind zone, Block **blocks, size_t count)
{
    BlockStore *store = &cache->stores[zone];
    Block *lent[VA_SPARE_BLOCKS];
    size_t taken = 0;
    va_lock_acquire(&cache->mutex);
    if (store->count == 0) {
        va_lock_release(&cache->mutex);
        size_t wanted = va_max(va_max(store->batch, VA_SPARE_LEAST), count);
        size_t lent_count = va_pool_lend_many(cache->allocator, 1, zone, lent, wanted);
        store->active = true;
        va_lock_acquire(&cache->mutex);
        store->batch = batch_locked(cache, store->batch);
        while (lent_count > 0) /* the lowest address leaves first */
            push_locked(store, lent[--lent_count]);
    }
#if VALLOC_SECURE_RANDOM
    va_shuffle((void **)store->blocks, store->count);
#endif
    while (taken < count && store->count != 0)
        blocks[taken++] = store->blocks[--store->count];
    va_lock_release(&cache->mutex);
    return taken;
}

/* Takes the `count` blocks that were kept longest, as a chain. */
static VA_APART Block *drop_locked(BlockStore *store, uint32_t count, Block *chain)
{
    for (uint32_t i = 0; i < count; i++) {
        store->blocks[i]->next = chain;
        chain = store->blocks[i];
    }
    store->count -= count;
    memmove(store->blocks, store->blocks + count, store->count * sizeof *store->blocks);
    return chain;
}

VA_APART void va_supply_drop_blocks(ThreadCache *cache, ZoneKind zone)
{
    BlockStore *store = &cache->stores[zone];
    va_lock_acquire(&cache->mutex);
    Block *chain = drop_locked(store, store->count, NULL);
    va_lock_release(&cache->mutex);
    if (chain != NULL)
        va_pool_reclaim(chain);
}

void va_supply_put_blocks(ThreadCache *cache, Block *chain)
{
    Block *dropped = NULL;
    if (chain == NULL)
        return;
    va_pool_vacate(chain);
    va_lock_acquire(&cache->mutex);
    uint32_t most = spare_locked(cache);
    while (chain != NULL) {
        Block *next = chain->next;
        BlockStore *store =
            &cache->stores[va_zone_of(&va_arenas[chain->arena], va_block_number(chain))];
        if (store->count >= most)
            dropped = drop_locked(store, store->count - most / 2, dropped);
        chain->zero = false;
        push_locked(store, chain);
        chain = next;
    }
    va_lock_release(&cache->mutex);
    if (dropped != NULL)
        va_pool_reclaim(dropped);
}

/* ---- Slabs ---- */

/* Takes a slab with slots from another cache, if it has one of this class. */
static VA_COLD Block *take_over(ThreadCache *cache, ThreadCache *from, unsigned class)
{
    uint64_t bit = (uint64_t)1 << (class % 64);
    if ((atomic_load_explicit(&from->open[class / 64], memory_order_relaxed) & bit) == 0)
        return NULL;
    va_lock_acquire(&from->mutex);
    Block *slab = from->classes[class].open.first;
    if (slab == NULL)
        slab = from->classes[class].draining.first;
    if (slab != NULL) {
        va_slab_unlist_locked(from, slab);
        from->slabs--;
        slab->draining = false;
        slab->arriving = true;
        va_entry_store(va_block_entry(slab), va_entry_make(cache->id, class));
    }
    va_lock_release(&from->mutex);
    return slab;
}

/* Takes a slab of this class over from an owner whose thread has exited. Threads that start
 * together leave each other's caches alone at first, if they may: the next of them is about to go
 * on with one, and two that have slots of each other's slabs would send them home for ever. */
static VA_STARTUP Block *adopt_of_exited(ThreadCache *cache, unsigned class, bool any)
{
    static VA_ARRAY_LAST _Atomic uint64_t next_ms[VA_CLASSES_SMALL]; /* relaxed, only saves time */
    Block *slab = NULL;
    _Atomic uint64_t *hint = &va_exited_open[class / 64];
    uint64_t bit = (uint64_t)1 << (class % 64);
    if ((atomic_load_explicit(hint, memory_order_relaxed) & bit) == 0)
        return NULL;
    uint64_t now = va_os_clock_ms();
    any |= now >= cache->young_until_ms;
    if (!any && now < atomic_load_explicit(&next_ms[class], memory_order_relaxed))
        return NULL;
    uint64_t next = 0;
    va_lock_acquire(&va_registry_lock);
    /* The acquire pairs with the releases that raise it. */
    atomic_fetch_and_explicit(hint, ~bit, memory_order_acquire);
    ThreadCache *exited = va_registry_exited_locked(); /* who exited last comes first */
    for (unsigned i = 0; i < VA_ADOPT_LOOKS && exited != NULL && slab == NULL;
         i++, exited = exited->next) {
        if (!any && now < exited->kept_until_ms)
            next = exited->kept_until_ms;
        else
            slab = take_over(cache, exited, class);
    }
    if (slab != NULL || exited != NULL || next != 0)
        atomic_fetch_or_explicit(hint, bit, memory_order_relaxed);
    if (slab == NULL && !any)
        atomic_store_explicit(&next_ms[class], next, memory_order_relaxed);
    va_lock_release(&va_registry_lock);
    return slab;
}

/* The same within another allocator: from a cache whose thread has exited, or from any. */
static VA_COLD Block *adopt_within(ThreadCache *cache, unsigned class, bool any)
{
    Block *slab = NULL;
    ThreadCache *other = __atomic_load_n(&cache->allocator->caches, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; (any || i < VA_ADOPT_LOOKS) && other != NULL && slab == NULL;
         i++, other = other->next) {
        if (other == cache)
            continue;
        if (any || (other->thread != 0 &&
                    !atomic_load_explicit(&va_registry_cache(other->thread)->attached,
                                          memory_order_relaxed)))
            slab = take_over(cache, other, class);
    }
    return slab;
}

static Block *adopt(ThreadCache *cache, unsigned class)
{
    return va_is_other(cache->id) ? adopt_within(cache, class, false)
                                  : adopt_of_exited(cache, class, false);
}

static void start_slab(ThreadCache *cache, Block *slab, unsigned class, bool fills)
{
    va_slab_start(slab, class);
    slab->arriving = true;
    if (fills && slab->zero) {
        va_space_populate(slab,
                          va_align_up((size_t)slab->slots * slab->slot_bytes, va_os_page_bytes()));
        slab->absent = 0;
    }
    va_guard_slab(slab);
    va_entry_store(va_block_entry(slab), va_entry_make(cache->id, class));
}

static size_t start_slabs(ThreadCache *cache, unsigned class, Block **slabs, size_t count)
{
    ClassState *state = &cache->classes[class];
    size_t found = 0;
    while (found < count) {
        bool grows = state->new_blocks >= VA_POPULATE_AFTER_BLOCKS;
        bool fills = grows && va_size_classes[class].bytes <= VA_FILLED_BYTES;
        size_t more = take_blocks(cache, fills ? ZONE_DENSE : ZONE_SPARSE, slabs + found,
                                  grows ? count - found : 1);
        if (more == 0)
            break;
        for (size_t i = 0; i < more; i++)
            start_slab(cache, slabs[found++], class, fills);
        if (!grows)
            state->new_blocks++;
    }
    va_pool_occupy(slabs, found);
    return found;
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

size_t va_supply_slabs(ThreadCache *cache, unsigned class, Block **slabs, size_t count)
{
    size_t adopted = 0;
    va_deliver_collected(cache, "malloc");
    while (adopted < count && (slabs[adopted] = adopt(cache, class)) != NULL)
        adopted++;
    size_t found = adopted + start_slabs(cache, class, slabs + adopted, count - adopted);
    if (found == 0) { /* at a limit others may have what is free */
        slabs[0] = va_is_other(cache->id) ? adopt_within(cache, class, true)
                                          : adopt_of_exited(cache, class, true);
        found = slabs[0] != NULL;
    }
    return found;
}
