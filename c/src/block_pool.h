/* block_pool.h: the blocks that an allocator holds.
 *
 * The allocator of the process takes its blocks from the arenas and gives them back, and only
 * counts them. Others keep a list of theirs as well, so that valloc_destroy finds them, and keep
 * `initial_blocks` of them for good; those without use are `idle`.
 *
 * Any thread. An allocator's mutex is taken inside; it comes before the registry's in the lock
 * order: nobody asks for blocks, or gives any back, with a cache's mutex held. */
#ifndef VA_BLOCK_POOL_H
#define VA_BLOCK_POOL_H

#include "arena.h"

/* The allocator of the process. */
extern MemoryAllocator va_process;

/* Fills a new allocator's idle blocks; false if there is no memory. */
bool va_pool_start(MemoryAllocator *allocator, size_t initial_blocks);

/* Gives every block of an allocator back to the arenas, also those in use. */
void va_pool_end(MemoryAllocator *allocator);

/* Lends runs like va_arena_lend and va_arena_lend_many. */
Block *va_pool_lend(MemoryAllocator *allocator, size_t blocks, size_t align_blocks);
size_t va_pool_lend_many(MemoryAllocator *allocator, size_t blocks, ZoneKind zone, Block **runs,
                         size_t count);

/* Takes runs of one allocator back, chained by next. */
void va_pool_reclaim(Block *runs);

/* The same, and their pages go at once: nobody has wanted them for long. */
void va_pool_purge(Block *runs);

/* va_arena_resize for a run in use. */
bool va_pool_resize(Block *run, size_t blocks);

/* Counts runs of one allocator as occupied; as free again, chained by next. */
void va_pool_occupy(Block *const *runs, size_t count);
void va_pool_vacate(const Block *runs);

/* An allocator's limits in blocks; 0 is none. */
void va_pool_limit(MemoryAllocator *allocator, size_t soft, size_t hard);

#endif
