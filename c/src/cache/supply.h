/* supply.h: where a cache's next slabs come from: from an owner whose thread has exited, else from
 * its allocator's free blocks. Called by the cache's thread, without its mutex. */
#ifndef VA_SUPPLY_H
#define VA_SUPPLY_H

#include "cache/registry.h"

/* Adds slabs with slots to take to the cache's list of the class, about `count` of them. False when
 * there is no memory. Slots collected for other owners are delivered before. */
bool va_supply_slabs(ThreadCache *cache, unsigned class, size_t count);

/* Lets the front see the first arena's table as it is now. */
void va_cache_update_view(ThreadCache *cache);

#endif
