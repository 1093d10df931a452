/* quarantine.c: see quarantine.h. thread_cache.c gives up what waits with everything else that a
 * cache holds. */
#include "cache/quarantine.h"

#if VALLOC_SECURE_QUARANTINE

void va_quarantine_free(ThreadCache *cache, void *slot, Block *block, uint32_t entry,
                        const char *function)
{
    uint32_t class_offset = va_entry_class(entry) << VA_CLASS_SHIFT;
    if (cache != NULL && va_quarantine_takes(&cache->front, class_offset)) {
        slot = va_quarantine_exchange(cache, class_offset, slot);
        if (slot == NULL)
            return;
        block = va_block_of(slot);
        entry = va_entry_load(va_block_entry(block));
    }
    va_cache_free(cache, slot, block, entry, function);
}

#endif
