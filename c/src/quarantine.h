/* quarantine.h: freed slots wait before they can be used again, in secure builds: a stale pointer
 * then meets memory that is nobody's. A freed slot takes a random place in a pool; whoever had it
 * moves to the end of a queue; whoever leaves its head goes where freed slots go. So a slot waits
 * for as many frees as the queue is long, and then some. Slots that come in have been checked, and
 * zeroed if the build does that.
 *
 * Called by the thread that uses the cache. A fork finds no slot in two places. */
#ifndef VA_QUARANTINE_H
#define VA_QUARANTINE_H

#include "thread_cache.h"

#if VALLOC_SECURE_QUARANTINE

/* Do slots of this class wait? All that waits is then at most half of the thread's share of the
 * caches' budget. */
VA_INLINE bool va_quarantine_takes(const CacheFront *front, uint32_t class_offset)
{
    return va_size_classes[class_offset >> VA_CLASS_SHIFT].bytes <=
           va_min(VA_QUARANTINE_SLOT_BYTES,
                  ((const ThreadCache *)front)->share / VA_QUARANTINE_SHARE);
}

/* A slot of such a class, for the fast paths. */
void va_quarantine_free_fast(CacheFront *front, uint32_t class_offset, void *slot);

/* Frees a slot or run of a class by way of the quarantine; its entry was just read. */
void va_quarantine_free(ThreadCache *cache, void *slot, Block *block, uint32_t entry,
                        const char *function);

#else

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
