/* arena_space.h: the address space of arenas: reserves it, makes it and the tables accessible,
 * advises huge pages. All functions: under the arena lock, unless they say otherwise. */
#ifndef VA_ARENA_SPACE_H
#define VA_ARENA_SPACE_H

#include "block_table.h"

/* Reserves address space for a run of this many blocks, behind an arena or as a new one; its dense
 * zone can lend it then. */
Arena *va_space_add(size_t blocks);

/* Reserves more behind an arena, so that its dense zone reaches up to block `end`; false if that
 * cannot be. */
bool va_space_extend(Arena *arena, size_t end);

/* Makes blocks below `end` accessible, and some more; at least these if more is refused. */
bool va_space_commit(Arena *arena, Zone *zone, size_t end);

/* Holes of a slab were given back: the huge page that it lies on, if it does, is split, and shall
 * stay so, or the kernel would fill them again. Under the mutex of the slab's owner; takes the
 * arena lock. */
void va_space_refuse_huge(const Block *slab);

/* Free blocks were purged. A huge page of which others are in use is split by this and stays so, as
 * around holes, unless runs are moved or many are split, and what is free of it goes as well; split
 * pages of which nothing is left may be huge again. */
void va_space_settle_huge(Arena *arena, size_t first, size_t blocks);

/* Pages that were moved into a run brought a mapping of their own with them: puts it right.
 * The blocks then read as zero. Without the lock. */
bool va_space_remap(const Arena *arena, size_t first, size_t blocks);

#endif
