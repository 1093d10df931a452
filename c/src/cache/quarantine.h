/* quarantine.h: freed slots and runs wait before they can be used again, in secure builds: a stale
 * pointer then meets memory that is nobody's. A freed slot takes a random place in a pool; whoever
 * had it moves to the end of a queue; whoever leaves its head goes where freed slots go. So a slot
 * waits for as many frees as the queue is long, and then some. Slots that come in have been
 * checked, and zeroed if the build does that.
 *
 * Called by the thread that uses the cache. A fork finds no slot in two places. */
#ifndef VA_QUARANTINE_H
#define VA_QUARANTINE_H

#include "cache/idle.h"

#if VALLOC_SECURE_QUARANTINE

/* Do slots, or runs, of this class wait? Those that are at most a part of the thread's share of the
 * caches' budget. */
VA_INLINE bool va_quarantine_takes(const CacheFront *front, uint32_t class_offset)
{
    uint32_t bytes = va_size_classes[class_offset >> VA_CLASS_SHIFT].bytes;
    size_t part = bytes <= VA_QUARANTINE_FINE_BYTES ? VA_QUARANTINE_FINE_PART
                  : bytes <= VA_SMALL_MAX           ? VA_QUARANTINE_COARSE_PART
                                                    : VA_QUARANTINE_RUN_PART;
    return bytes <= ((const ThreadCache *)front)->share / part;
}

/* Who leaves the pool and then the queue for this one; NULL while there is room. */
VA_INLINE void *va_quarantine_move(ThreadCache *cache, void **pool, uint32_t slots, uint32_t *turn,
                                   void *slot)
{
    void **place = &pool[va_random_below(&cache->front.secure, slots)];
    void *queued = *place;
    *place = slot;
    if (queued == NULL)
        return NULL;
    void **head = &pool[slots + (*turn)++ % slots];
    slot = *head;
    *head = queued;
    return slot;
}

/* Who leaves for this one, of a class of which slots wait. */
VA_INLINE void *va_quarantine_exchange(ThreadCache *cache, uint32_t class_offset, void *slot)
{
    Quarantine *waiting = &cache->quarantine;
    uint32_t bytes = va_size_classes[class_offset >> VA_CLASS_SHIFT].bytes;
    if (bytes <= VA_QUARANTINE_FINE_BYTES)
        return va_quarantine_move(cache, *waiting->fine, VA_QUARANTINE_FINE_SLOTS,
                                  &waiting->fine_turn, slot);
    if (bytes <= VA_QUARANTINE_MIDDLE_BYTES)
        return va_quarantine_move(cache, *waiting->middle, VA_QUARANTINE_MIDDLE_SLOTS,
                                  &waiting->middle_turn, slot);
    if (bytes <= VA_SMALL_MAX)
        return va_quarantine_move(cache, *waiting->coarse, VA_QUARANTINE_COARSE_SLOTS,
                                  &waiting->coarse_turn, slot);
    return va_quarantine_move(cache, *waiting->runs, VA_QUARANTINE_RUNS, &waiting->runs_turn, slot);
}

/* Frees a slot of such a class, for the fast paths. Inline: the call took a tenth of the time of a
 * pair. */
VA_INLINE void va_quarantine_free_fast(CacheFront *front, uint32_t class_offset, void *slot)
{
    slot = va_quarantine_exchange((ThreadCache *)front, class_offset, slot);
    if (slot == NULL)
        return;
    uint32_t offset = va_entry_fast(front, va_index_fast(front, slot)) ^ front->tag;
    SlotStack *stack = va_front_stack(front, offset);
    if (va_likely(offset < VA_CLASSES << VA_CLASS_SHIFT && !va_slot_stack_is_full(stack))) {
        va_slot_stack_push(stack, slot);
        return;
    }
    Block *block = va_block_of(slot);
    va_idle_enter((ThreadCache *)front);
    va_cache_free((ThreadCache *)front, slot, block, va_entry_load(va_block_entry(block)), "free");
    va_idle_leave((ThreadCache *)front);
}

/* Frees a slot or run of a class by way of the quarantine; its entry was just read. */
void va_quarantine_free(ThreadCache *cache, void *slot, Block *block, uint32_t entry,
                        const char *function);

/* Frees all that waits. */
void va_quarantine_end(ThreadCache *cache);

#else

VA_INLINE void va_quarantine_end(ThreadCache *cache)
{
    (void)cache;
}

VA_INLINE bool va_quarantine_takes(const CacheFront *front, uint32_t class_offset)
{
    (void)front, (void)class_offset;
    return false;
}

VA_INLINE void va_quarantine_free_fast(CacheFront *front, uint32_t class_offset, void *slot)
{
    (void)front, (void)class_offset, (void)slot;
}

VA_INLINE void va_quarantine_free(ThreadCache *cache, void *slot, Block *block, uint32_t entry,
                                  const char *function)
{
    va_cache_free(cache, slot, block, entry, function);
}

#endif

#endif
