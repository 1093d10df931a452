/* delivery.h: the slabs that a cache owns, and how freed slots come back to them: its own ones
 * directly, those of other owners in bounded batches.
 *
 * `function` is for the report of a bad pointer: what a free cannot see at once shows when its
 * slot leaves the thread's stores. Any thread, unless said otherwise; the owner's mutex is taken
 * inside, or held where a name ends in _locked. Lock order: cache.h. */
#ifndef VA_DELIVERY_H
#define VA_DELIVERY_H

#include "cache/registry.h"

/* By then the function in the report may be an innocent one. */
#define VA_FREED_ALREADY_LATE "freed already, noticed when freed memory left the thread's cache"

/* The list of a class's slabs with slots to take. */
void va_slab_list_locked(ThreadCache *cache, Block *slab);
void va_slab_unlist_locked(ThreadCache *cache, Block *slab);

/* Moves the first slab of a list to its end. */
void va_slab_rotate_locked(ThreadCache *cache, unsigned class);

/* Of a class with more than half of its slots free, slabs that are less used than the average
 * drain: nothing is taken from them as long as others have slots, and what is freed there skips the
 * stacks, so that they become unused. Without it a class that shrinks keeps all its slabs, a few
 * used slots in each: a stack hands out what was freed last, wherever it lies. Returns how many
 * slabs have slots to take. */
size_t va_slab_drain_locked(ThreadCache *cache, unsigned class);

/* A listed slab drains. */
void va_slab_drain_one_locked(ThreadCache *cache, Block *slab);

/* Counts slots taken or put. After enough of them slabs may drain. */
VA_INLINE void va_slab_count_locked(ThreadCache *cache, unsigned class, uint32_t slots)
{
    uint32_t *until_look = &cache->classes[class].until_look;
    *until_look -= (uint32_t)va_min(*until_look, slots);
}

/* An unused slab is none any more: it joins the chain, to be counted by va_pool_vacate. */
void va_slab_vacate_locked(ThreadCache *cache, Block *slab, Block **unused);

/* Gives slots to the slabs of this cache, and chains the slabs that this leaves unused. Slots
 * whose slab has another owner by now move to the front of the array; returns how many. */
uint32_t va_deliver_own_locked(ThreadCache *cache, void **slots, uint32_t count, Block **unused,
                               const char *function);

/* The owner of a slot's slab. */
uint32_t va_slot_owner(void *slot, const char *function);

/* Gives one slot to whoever owns it. */
void va_deliver(void *slot, const char *function);

/* Gives slots to an owner, who had their slabs when they were freed. The array is used up. */
void va_deliver_batch(uint32_t owner, void **slots, uint32_t count, const char *function);

/* Puts a slot of another owner into the batch for it, which is delivered first if it is full. The
 * cache's thread only. */
void va_collect(ThreadCache *cache, void *slot, uint32_t owner, size_t bytes, const char *function);

/* The same where the batch has room and no other owner's slots; else false, with nothing done. */
VA_INLINE bool va_collect_fast(ThreadCache *cache, void *slot, uint32_t owner, size_t bytes)
{
    size_t all_bytes = cache->outgoing.bytes + bytes;
    if (cache->outgoing.batches == NULL || all_bytes >= cache->share >> VA_OUTGOING_SHARE_SHIFT)
        return false;
    Outgoing *outgoing = &cache->outgoing.batches[owner % VA_OUTGOING_BATCHES];
    uint32_t count = outgoing->count;
    if (outgoing->owner != owner || count == VA_OUTGOING_SLOTS)
        return false;
    outgoing->slots[count] = slot;
    /* Pairs with empty_batch: slot and state come first. A fork may come between, too. */
    __atomic_store_n(&outgoing->count, count + 1, __ATOMIC_RELEASE);
    atomic_signal_fence(memory_order_seq_cst); /* before the thread's next operation */
    cache->outgoing.bytes = all_bytes;
    return true;
}

/* Delivers all batches. The cache's thread only. */
void va_deliver_collected(ThreadCache *cache, const char *function);

#endif
