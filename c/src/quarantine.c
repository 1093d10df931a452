/* quarantine.c: see quarantine.h. thread_cache.c gives up what waits with everything else that a
 * cache holds. */
#include "quarantine.h"

#if VALLOC_SECURE_QUARANTINE

/* Who leaves the pool and then the queue for this one; NULL while there is room. */
VA_INLINE void *pass_through(ThreadCache *cache, void **pool, uint32_t pool_slots, void **queue,
                             uint32_t place_in_queue, void *slot)
{
    void **place = &pool[va_random_below(&cache->front.secure, pool_slots)];
    void *queued = *place;
    *place = slot;
    if (queued == NULL)
        return NULL;
    slot = queue[place_in_queue];
    queue[place_in_queue] = queued;
    return slot;
}

/* Who leaves for this one, of a class of which slots wait. */
static void *change_places(ThreadCache *cache, uint32_t class_offset, void *slot)
{
    Quarantine *waiting = &cache->quarantine;
    if (va_size_classes[class_offset >> VA_CLASS_SHIFT].bytes <= VA_QUARANTINE_FINE_BYTES)
        return pass_through(cache, waiting->pool, VA_QUARANTINE_POOL_SLOTS, waiting->queue,
                            waiting->turn++ % VA_QUARANTINE_QUEUE_SLOTS, slot);
    return pass_through(cache, waiting->coarse_pool, VA_QUARANTINE_COARSE_SLOTS,
                        waiting->coarse_queue, waiting->coarse_turn++ % VA_QUARANTINE_COARSE_SLOTS,
                        slot);
}

void va_quarantine_free(ThreadCache *cache, void *slot, Block *block, uint32_t entry,
                        const char *function)
{
    uint32_t class_offset = va_entry_class(entry) << VA_CLASS_SHIFT;
    if (cache != NULL && va_quarantine_takes(&cache->front, class_offset)) {
        slot = change_places(cache, class_offset, slot);
        if (slot == NULL)
            return;
        block = va_block_of(slot);
        entry = va_entry_load(va_block_entry(block));
    }
    va_cache_free(cache, slot, block, entry, function);
}

void va_quarantine_free_fast(CacheFront *front, uint32_t class_offset, void *slot)
{
    slot = change_places((ThreadCache *)front, class_offset, slot);
    if (slot == NULL)
        return;
    uint32_t offset = va_entry_fast(front, va_index_fast(front, slot)) ^ front->tag;
    SlotStack *stack = (SlotStack *)((char *)front + offset);
    if (va_likely(offset < VA_CLASSES << VA_CLASS_SHIFT && !va_slot_stack_is_full(stack))) {
        va_slot_stack_push(stack, slot);
        return;
    }
    Block *block = va_block_of(slot);
    va_cache_free((ThreadCache *)front, slot, block, va_entry_load(va_block_entry(block)), "free");
}

#endif
