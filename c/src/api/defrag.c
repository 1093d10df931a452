/* defrag.c: see defrag.h. A slab is worth emptying if it is less used than those that copies go to,
 * and these have room for what it holds: the first ones of the list that slots are taken from. A
 * mean over all slabs of the class would take a walk, or a counter in every refill and flush.
 *
 * Slabs of other threads are left alone, unless they drain anyway: their threads take from them. */
#include "api/defrag.h"

#include "api/alloc.h"
#include "cache/delivery.h"
#include "slab/slab.h"

static VA_COLD bool is_worth_it_locked(const ThreadCache *cache, const Block *slab)
{
    size_t slots = 0;
    size_t used = 0;
    size_t mine = va_slab_used(slab);
    const Block *other = cache->classes[slab->class].open;
    for (unsigned i = 0; i < VA_DEFRAG_LOOKS && other != NULL; i++, other = other->next) {
        if (other == slab || other->draining)
            continue;
        slots += other->slots;
        used += va_slab_used(other);
    }
    return mine * slots < used * slab->slots && slots - used >= mine;
}

/* The owner's thread is here: the slab stays its own, unless another thread frees its last slot. */
static VA_COLD bool drain_if_worth_it(ThreadCache *cache, Block *slab, uint32_t entry)
{
    va_lock_acquire(&cache->mutex);
    bool is_slab = (va_entry_load(va_block_entry(slab)) & ~VA_ENTRY_DRAINING) == entry;
    bool drains = is_slab && slab->draining;
    if (is_slab && !drains && slab->listed && is_worth_it_locked(cache, slab)) {
        va_slab_drain_one_locked(cache, slab);
        drains = true;
    }
    va_lock_release(&cache->mutex);
    return drains;
}

VA_COLD bool va_defrag_hint(const void *pointer)
{
    Block *slab;
    bool drains = false;
    uint32_t entry = va_find_entry(pointer, &slab);
    if (entry == 0 || va_entry_class(entry) >= VA_CLASSES_SMALL)
        return false;
    if ((entry & VA_ENTRY_DRAINING) != 0)
        return true;
    Allocator *allocator = va_is_other(va_entry_owner(entry)) ? slab->allocator : &va_process;
    ThreadCache *cache = va_allocator_acquire(allocator);
    if (cache != NULL && cache->id == va_entry_owner(entry))
        drains = drain_if_worth_it(cache, slab, entry);
    va_allocator_release(allocator, cache);
    return drains;
}
