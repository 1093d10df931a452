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

#include "arena/arena.h"
#include "os/lock.h"

/* Lies in valloc's own memory: a user's MemoryAllocator, on a stack for example, may have vanished
 * in the child after fork. That is a handle, and gets a copy of the counters. */
struct Allocator {
    MemoryAllocator shown;     /* what the user's one shows; of the process: that itself */
    MemoryAllocator *handle;   /* the user's; const */
    MemoryAllocator *followed; /* the same while it is sure to be there, else NULL */
    Lock mutex;                /* of the blocks */
    Lock shared_mutex;
    struct ThreadCache *caches;       /* linked by next; written under the mutex */
    struct ThreadCache *shared_cache; /* for threads with an id above num_threads; its mutex */
    Block *idle;                      /* mutex, down to initial_blocks */
    size_t idle_blocks;
    uint32_t first_block;
    size_t initial_blocks; /* const */
    size_t soft_limit;     /* blocks; atomic */
    size_t hard_limit;
    Allocator *next, *previous; /* lock of the list */
};

/* The allocator of the process. */
extern Allocator va_process;

/* The user's MemoryAllocator is sure to be there: it gets the counters, now and from now on. */
void va_pool_follow(Allocator *allocator);

/* Fills a new allocator's idle blocks; false if there is no memory. */
bool va_pool_start(Allocator *allocator, size_t initial_blocks);

/* Gives every block of an allocator back to the arenas, also those in use. */
void va_pool_end(Allocator *allocator);

/* Lends runs like va_arena_lend and va_arena_lend_many. */
Block *va_pool_lend(Allocator *allocator, size_t blocks, size_t align_blocks);
size_t va_pool_lend_many(Allocator *allocator, size_t blocks, ZoneKind zone, Block **runs,
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
void va_pool_limit(Allocator *allocator, size_t soft, size_t hard);

#endif
