/* quarantine.c: see quarantine.h. thread_cache.c gives up what waits with everything else that a
 * cache holds. */
#include "quarantine.h"

#if VALLOC_SECURE_QUARANTINE

/* Who leaves for this one; NULL while there is room. */
static void *change_places(ThreadCache *cache, void *slot)
{
    Quarantine *waiting = &cache->quarantine;
    void **place = &waiting->pool[va_random_below(&cache->front.secure, VA_QUARANTINE_POOL_SLOTS)];
    void *queued = *place;
    *place = slot;
    if (queued == NULL)
        return NULL;
    place = &waiting->queue[waiting->turn++ % VA_QUARANTINE_QUEUE_SLOTS];
    slot = *place;
    *place = queued;
    return slot;
}

/* All that waits is then at most half of the thread's share of the caches' budget. */
static bool may_wait(const ThreadCache *cache, uint32_t entry)
{
    return va_size_classes[va_entry_class(entry)].bytes <=
           va_min(VA_QUARANTINE_SLOT_BYTES, cache->share / VA_QUARANTINE_SHARE);
}

void va_quarantine_free(ThreadCache *cache, void *slot, Block *block, uint32_t entry,
                        const char *function)
{
    if (cache != NULL && may_wait(cache, entry)) {
        slot = change_places(cache, slot);
        if (slot == NULL)
            return;
        block = va_block_of(slot);
        entry = va_entry_load(va_block_entry(block));
    }
    va_cache_free(cache, slot, block, entry, function);
}

void va_quarantine_free_fast(CacheFront *front, uint32_t entry, void *slot)
{
    if (va_likely(may_wait((ThreadCache *)front, entry))) {
        slot = change_places((ThreadCache *)front, slot);
        if (slot == NULL)
            return;
    }
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
