/* arena_space.h: the address space of arenas: finds it, maps blocks and tables, advises huge pages.
 * All functions: under the arena lock, unless they say otherwise. */
#ifndef VA_ARENA_SPACE_H
#define VA_ARENA_SPACE_H

#include "os/options.h"
#include "table/block_table.h"

/* A new arena, with room for a run of so many blocks; NULL if there is no memory or no place. */
Arena *va_space_add(size_t blocks);

/* Makes blocks of a zone below `end` accessible, and some more if that is granted; with states of
 * their slots, if these are wanted. Blocked: something else is mapped there, and the zone ends
 * before it from now on. */
MapResult va_space_commit(Arena *arena, Zone *zone, size_t end, bool stated);

/* Unmaps the free and clean blocks at the end of what a zone has mapped, if they are many. What was
 * freed then counts no more for limits, for the kernel's decision what it can grant, and for how
 * large a process it can copy at a fork. */
void va_space_trim(Arena *arena, Zone *zone);

/* Maps the states of the slots of these blocks. Unmaps those of the groups within free blocks that
 * are about to be one run without slots. Purges those of
 * blocks of one group that are free and clean. */
MapResult va_space_states(const Arena *arena, size_t first, size_t count);
void va_space_drop_states(const Arena *arena, size_t first, size_t count);
void va_space_purge_states(const Arena *arena, size_t first, size_t count);

/* Makes the first bytes of a new slab resident. Without the lock. */
void va_space_populate(const Block *slab, size_t bytes);

/* These blocks were purged, or a part of a slab. Huge pages that also have blocks in use are
 * refused from now on, since the kernel would fill the hole again; those that are free and clean
 * are allowed again. The latter: under the mutex of the slab's owner, takes the arena lock. */
void va_space_purged_locked(const Arena *arena, size_t first, size_t count);
void va_space_purged(const Block *slab);

/* Changes the option, also for memory of the arenas that is yet to be mapped; none takes earlier
 * advice back. */
void va_space_set_huge_pages_locked(HugePages choice);

/* Maps the place of a moved run anew, see va_arena_move. The blocks then read as zero. False if the
 * kernel refuses: they may be unmapped. Without the lock. */
bool va_space_remap(const Arena *arena, size_t first, size_t blocks);

#endif
