/* delivery.c: slots go home, in batches.
 *
 * A slab's owner may change between the look at its entry and the moment its slots arrive: under
 * the owner's mutex the entry is read again, and what has moved on is forwarded, slot by slot. */
#include "cache/delivery.h"

#include "table/meta.h"
#include "slab/slab.h"

/* ---- The list of slabs with slots to take: mutex held ---- */

void va_slab_list_locked(ThreadCache *cache, Block *slab)
{
    ClassState *state = &cache->classes[slab->class];
    Block *first = state->open;
    slab->listed = true;
    slab->next = first;
    if (first == NULL) {
        state->open = slab->prev = slab;
        if (!atomic_load_explicit(&cache->attached, memory_order_relaxed))
            va_registry_raise_open(slab->class);
        return;
    }
    slab->prev = first->prev;
    first->prev = slab;
    if (slab->draining) {
        slab->prev->next = slab;
        slab->next = NULL;
    } else {
        state->open = slab;
    }
}

void va_slab_unlist_locked(ThreadCache *cache, Block *slab)
{
    ClassState *state = &cache->classes[slab->class];
    Block *first = state->open;
    Block *next = slab->next;
    va_check(slab == first ? first->prev->next == NULL : slab->prev->next == slab);
    va_check((next != NULL ? next : first)->prev ==
             (next != NULL || slab == first->prev ? slab : NULL));
    if (slab == first)
        state->open = next;
    else
        slab->prev->next = next;
    if (next != NULL)
        next->prev = slab->prev;
    else if (slab != first)
        first->prev = slab->prev;
    slab->listed = false;
}

void va_slab_rotate_locked(ThreadCache *cache, unsigned class)
{
    Block *first = cache->classes[class].open;
    if (first->next == NULL)
        return;
    first->prev->next = first;
    cache->classes[class].open = first->next;
    first->next->prev = first;
    first->next = NULL;
}

VA_COLD void va_slab_drain_one_locked(ThreadCache *cache, Block *slab)
{
    slab->draining = true;
    va_slab_unlist_locked(cache, slab);
    va_slab_list_locked(cache, slab);
    va_entry_store(va_block_entry(slab), va_entry_make(cache->id, slab->class) | VA_ENTRY_DRAINING);
}

/* Those that stay have room for half as much again as all have in use. An unused one stays: it
 * would drain for ever. */
VA_COLD size_t va_slab_drain_locked(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    size_t count = 0;
    size_t slots = 0;
    size_t stay = 0;
    size_t used = 0;
    Block *next;
    for (const Block *slab = state->open; slab != NULL; slab = slab->next) {
        count++;
        slots += slab->slots;
        stay += slab->draining ? 0 : slab->slots;
        used += va_slab_used(slab);
    }
    Block *slab = state->open;
    for (size_t i = 0; 2 * used < slots && i < count; i++, slab = next) {
        size_t mine = va_slab_used(slab);
        next = slab->next;
        if (slab->draining || stay - slab->slots < used + used / 2)
            break;
        if (mine == 0 || mine * slots > used * slab->slots)
            continue;
        stay -= slab->slots;
        va_slab_drain_one_locked(cache, slab);
    }
    state->until_look = (uint32_t)va_max(stay / VA_DRAIN_PART, count);
    return count;
}

/* ---- Giving slots back to their slabs ---- */

VA_APART void va_slab_vacate_locked(ThreadCache *cache, Block *slab, Block **unused)
{
    va_entry_store(va_block_entry(slab), va_entry_make(0, VA_CLASS_SPARE));
    va_cache_count_blocks(cache, slab->class, -1);
    slab->next = *unused;
    *unused = slab;
}

/* An unused slab leaves, unless it is the only one of its class that a thread takes from: that
 * would come and go with every slot. */
static void settle_locked(ThreadCache *cache, Block *slab, Block **unused)
{
    const Block *open = cache->classes[slab->class].open;
    bool only = slab->listed ? open->next == NULL : open == NULL;
    if (va_slab_is_unused(slab) &&
        (!only || !atomic_load_explicit(&cache->attached, memory_order_relaxed))) {
        if (slab->listed)
            va_slab_unlist_locked(cache, slab);
        va_slab_vacate_locked(cache, slab, unused);
    } else if (!slab->listed) {
        va_slab_list_locked(cache, slab);
    }
}

/* Fetches what a slot of the same class, given back some turns later, will need: its slab's record
 * and the word of its bitmap. */
VA_INLINE void prefetch_slab(const Arena *arena, const void *slot, uint32_t reciprocal)
{
    size_t index = va_block_index(arena, slot);
    uint64_t number = (uint64_t)va_block_offset(slot) * reciprocal >> 32;
    if (index < arena->blocks) {
        __builtin_prefetch(&arena->records[index], 1);
        __builtin_prefetch(va_bitmap_of(arena, index) + number / 64, 1);
    }
}

/* Flattened: the calls would cost as much as the work. */
__attribute__((flatten)) uint32_t va_deliver_own_locked(ThreadCache *cache, void **slots,
                                                        uint32_t count, Block **unused,
                                                        const char *function)
{
    Arena *arena = &va_arenas[0];
    uint32_t id = cache->id != 0 ? cache->id : UINT32_MAX; /* one that sleeps has none */
    uint32_t strays = 0;
    uint32_t i = 0;
    while (i < count) {
        size_t index = va_block_index(arena, slots[i]);
        if (va_unlikely(index >= atomic_load_explicit(&arena->tabled, memory_order_relaxed))) {
            arena = va_arena_find(slots[i]); /* it has one: its entry led here */
            continue;
        }
        /* Whoever adopted the slab released what its old owner's mutex had ordered. */
        uint32_t owner =
            va_entry_owner(atomic_load_explicit(&arena->entries[index], memory_order_acquire));
        if (va_unlikely(owner != id)) {
            if (owner == 0)
                va_fatal(function, VA_FREED_ALREADY_LATE, slots[i]);
            slots[strays++] = slots[i++];
            continue;
        }
        Block *slab = &arena->records[index];
        if (count - i > VA_PREFETCH_SLOTS)
            prefetch_slab(arena, slots[i + VA_PREFETCH_SLOTS], slab->reciprocal);
        uint32_t n;
        SlabError error = va_slab_give(slab, va_bitmap_of(arena, index), slots + i, count - i, &n);
        if (va_unlikely(error != SLAB_OK))
            va_fatal(function,
                     error == SLAB_FREE_ALREADY ? VA_FREED_ALREADY_LATE
                                                : "not the start of an allocation",
                     slots[i]);
        if (va_unlikely(!slab->listed || va_slab_is_unused(slab)))
            settle_locked(cache, slab, unused);
        i += n;
    }
    return strays;
}

/* Gives slots to an owner and forwards what has moved on. The array is used up; it counts as such
 * under the mutex, so that a fork finds none of them in two places, or in none. */
static VA_APART void give(ThreadCache *cache, void **slots, uint32_t *count, const char *function)
{
    Block *unused = NULL;
    va_lock_acquire(&cache->mutex);
    uint32_t strays = va_deliver_own_locked(cache, slots, *count, &unused, function);
    *count = 0;
    va_lock_release(&cache->mutex);
    if (unused != NULL) {
        va_pool_vacate(unused);
        va_pool_reclaim(unused);
    }
    for (uint32_t i = 0; i < strays; i++)
        va_deliver(slots[i], function);
}

VA_APART uint32_t va_slot_owner(void *slot, const char *function)
{
    uint32_t owner = va_entry_owner(va_entry_load(va_block_entry(va_block_of(slot))));
    if (va_unlikely(owner == 0))
        va_fatal(function, VA_FREED_ALREADY_LATE, slot);
    return owner;
}

VA_APART void va_deliver(void *slot, const char *function)
{
    uint32_t count = 1;
    give(va_registry_cache(va_slot_owner(slot, function)), &slot, &count, function);
}

VA_COLD void va_deliver_batch(uint32_t owner, void **slots, uint32_t count, const char *function)
{
    give(va_registry_cache(owner), slots, &count, function);
}

/* ---- Outgoing ---- */

static VA_APART void deliver(Outgoing *outgoing, const char *function)
{
    uint32_t count = outgoing->count;
    if (count != 0)
        give(va_registry_cache(outgoing->owner), outgoing->slots, &outgoing->count, function);
    va_slots_forget(outgoing->slots, count);
}

void va_deliver_collected(ThreadCache *cache, const char *function)
{
    if (cache->outgoing.bytes == 0)
        return;
    for (unsigned i = 0; i < VA_OUTGOING_BATCHES; i++)
        deliver(&cache->outgoing.batches[i], function);
    cache->outgoing.bytes = 0;
}

VA_APART void va_collect(ThreadCache *cache, void *slot, uint32_t owner, size_t bytes,
                         const char *function)
{
    if (va_unlikely(cache->outgoing.batches == NULL)) {
        cache->outgoing.batches =
            va_meta_allocate_apart(VA_OUTGOING_BATCHES * sizeof *cache->outgoing.batches);
        if (cache->outgoing.batches == NULL) {
            va_deliver(slot, function);
            return;
        }
    }
    Outgoing *outgoing = &cache->outgoing.batches[owner % VA_OUTGOING_BATCHES];
    if (cache->outgoing.bytes >= cache->share >> VA_OUTGOING_SHARE_SHIFT)
        va_deliver_collected(cache, function);
    if (outgoing->owner != owner || outgoing->count == VA_OUTGOING_SLOTS) {
        deliver(outgoing, function);
        outgoing->owner = owner;
    }
    outgoing->slots[outgoing->count] = slot;
    /* Pairs with empty_batch, as in va_collect_fast. */
    __atomic_store_n(&outgoing->count, outgoing->count + 1, __ATOMIC_RELEASE);
    cache->outgoing.bytes += bytes;
}
