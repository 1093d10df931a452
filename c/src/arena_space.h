/* arena_space.h: the address space of arenas: finds it, maps blocks and tables, advises huge pages.
 * All functions: under the arena lock, unless they say otherwise. */
#ifndef VA_ARENA_SPACE_H
#define VA_ARENA_SPACE_H

#include "block_table.h"

/* A new arena, with room for a run of so many blocks; NULL if there is no memory or no place. */
Arena *va_space_add(size_t blocks);

/* Makes blocks of a zone below `end` accessible, and some more if that is granted. Blocked:
 * something else is mapped there, and the zone ends before it from now on. */
MapResult va_space_commit(Arena *arena, Zone *zone, size_t end);

/* Unmaps what is free and purged at the end of a zone, if it is much. So what was freed
 * counts no more for limits, and for the kernel's decision what it can grant and how large a
 * process it can copy at a fork. The former: of blocks that were lent and are in no set; false if
 * it did nothing. */
bool va_space_trim(Arena *arena, size_t first, size_t blocks);
void va_space_trim_free(Arena *arena, Zone *zone);

/* Makes the first bytes of a new slab resident. Without the lock. */
void va_space_populate(const Block *slab, size_t bytes);

/* Holes of a slab were given back: the huge page that it lies on, if it does, is split, and shall
 * stay so, or the kernel would fill them again. Under the mutex of the slab's owner; takes the
 * arena lock. */
void va_space_refuse_huge(const Block *slab);

/* Free blocks were purged. A huge page of which others are in use is split by this and stays so, as
 * around holes, unless runs are moved or many are split, and what is free of it goes as well; split
 * pages of which nothing is left may be huge again. */
void va_space_settle_huge(Arena *arena, size_t first, size_t blocks);

/* Free blocks are purged: so are their bitmaps, which hold nothing. Without the lock if they are in
 * no set meanwhile. */
void va_space_purge_bitmaps(const Arena *arena, size_t first, size_t blocks);

/* Pages that were moved into a run brought a mapping of their own with them: puts it right.
 * The blocks then read as zero. Without the lock. */
bool va_space_remap(const Arena *arena, size_t first, size_t blocks);

#endif
