/* quarantine.c: see quarantine.h. */
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

VA_COLD void va_quarantine_end(ThreadCache *cache)
{
    void **slots = (void **)&cache->quarantine;
    for (size_t i = 0; i < VA_QUARANTINE_SLOTS; i++) {
        void *slot = slots[i];
        slots[i] = NULL;
        if (slot != NULL) {
            Block *block = va_block_of(slot);
            va_cache_free(cache, slot, block, va_entry_load(va_block_entry(block)), "flush");
        }
    }
}

#endif
