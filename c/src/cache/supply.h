/* supply.h: where a cache's next slab comes from: a slab with free slots of an owner whose thread
 * has exited, else a spare block of its own, else the allocator's pool, which is asked for several
 * at a time. Called by the cache's thread, without its mutex. */
#ifndef VA_SUPPLY_H
#define VA_SUPPLY_H

#include "cache/registry.h"

/* Up to `count` slabs of the class with slots to take, marked as arriving: the caller lists them.
 * Returns how many; none when there is no memory. Before memory is asked for, slots of other owners
 * go home. */
size_t va_supply_slabs(ThreadCache *cache, unsigned class, Block **slabs, size_t count);

/* Keeps blocks that are no slabs any more, chained by next, as spare ones; some go back. */
void va_supply_put_blocks(ThreadCache *cache, Block *chain);

/* Gives the spare blocks of a zone back to the pool. Any thread. */
void va_supply_drop_blocks(ThreadCache *cache, ZoneKind zone);

/* Lets the front see the first arena's table as it is now. */
void va_cache_update_view(ThreadCache *cache);

#endif
