/* holes.h: gives back the holes of a cache's slabs: the pages that hold no used slot.
 *
 * The bitmaps lie apart from the slots, so any page without one can go at any time, and reads as
 * zero when it is used again. Any thread; the cache's mutex is taken inside. Slots in the stacks of
 * other threads count as used. */
#ifndef VA_HOLES_H
#define VA_HOLES_H

#include "cache/registry.h"

/* Gives back every hole of a cache's slabs that have free slots. Returns the bytes. */
size_t va_holes_purge(ThreadCache *cache);

/* Gives back every hole of the allocator of the process, also what lies behind the last slot of a
 * slab without free ones. Returns the bytes. */
size_t va_holes_purge_process(void);

/* Gives back the holes of classes that took nothing from their slabs since the last look, up to
 * about max_bytes, and of the others those beyond what they are likely to want soon. Returns the
 * bytes. */
size_t va_holes_decay(ThreadCache *cache, size_t max_bytes);

/* Gives back the holes of a class's slabs that drain, of some of them, until it is about max_bytes.
 * Returns the bytes. */
size_t va_holes_purge_draining(ThreadCache *cache, unsigned class, size_t max_bytes);

#endif
