/* drain.c: see drain.h. */
#include "cache/drain.h"

#include "cache/delivery.h"
#include "slab/slab.h"

/* Lists a slab among those that drain, or among the others again. */
static VA_COLD void move_locked(ThreadCache *cache, Block *slab, bool draining)
{
    uint32_t entry = va_entry_make(cache->id, slab->class);
    va_slab_unlist_locked(cache, slab);
    slab->draining = draining;
    va_slab_list_locked(cache, slab);
    va_entry_store(va_block_entry(slab), draining ? entry | VA_ENTRY_DRAINING : entry);
}

/* Those that stay have room for half as much again as all have in use. An unused one stays: it
 * would drain for ever. */
VA_COLD void va_drain_look_locked(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    size_t count = 0;
    size_t slots = 0;
    size_t used = 0;
    for (const Block *slab = state->open.first; slab != NULL && count < VA_DRAIN_SLABS;
         slab = slab->next) {
        count++;
        slots += slab->slots;
        used += slab->slots - va_slab_available(slab);
    }
    size_t stay = slots;
    Block *next;
    for (Block *slab = state->open.first; 2 * used < slots && count > 0; slab = next, count--) {
        size_t mine = slab->slots - va_slab_available(slab);
        next = slab->next;
        if (stay - slab->slots < used + used / 2)
            break;
        if (mine == 0 || mine * slots > used * slab->slots)
            continue;
        stay -= slab->slots;
        move_locked(cache, slab, true);
    }
    state->until_look = (int32_t)va_max(stay / VA_DRAIN_PART, count);
}

VA_COLD Block *va_drain_end_locked(ThreadCache *cache, unsigned class)
{
    Block *slab = cache->classes[class].draining.first;
    move_locked(cache, slab, false);
    return slab;
}
