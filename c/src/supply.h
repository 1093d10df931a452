/* supply.h: where a cache's next slab comes from: a slab with free slots of an owner whose thread
 * has exited, else a spare block of its own, else the allocator's pool, which is asked for several
 * at a time. Called by the cache's thread, without its mutex. */
#ifndef VA_SUPPLY_H
#define VA_SUPPLY_H

#include "registry.h"

/* A slab of the class with slots to take, marked as arriving: the caller lists it. NULL when there
 * is no memory. Before memory is asked for, slots of other owners go home. */
Block *va_supply_slab(ThreadCache *cache, unsigned class);

/* Keeps blocks that are no slabs any more, chained by next, as spare ones; some go back. */
void va_supply_put_blocks(ThreadCache *cache, Block *chain);

/* Gives the spare blocks of a zone back to the pool. Any thread. */
void va_supply_drop_blocks(ThreadCache *cache, ZoneKind zone);

/* Lets the front see the first arena's table as it is now. */
void va_cache_update_view(ThreadCache *cache);

#endif
