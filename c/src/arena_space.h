/* arena_space.h: the address space of arenas: reserves it, makes it and the tables accessible,
 * advises huge pages. All functions: under the arena lock, but va_space_remap. */
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

/* What is accessible at present shall not lie on huge pages any more: holes were given back, and
 * the kernel would fill them again. What becomes accessible later may. */
void va_space_refuse_huge(void);

/* Pages that were moved into a run brought a mapping of their own with them: puts it right.
 * The blocks then read as zero. */
bool va_space_remap(const Arena *arena, size_t first, size_t blocks);

#endif
