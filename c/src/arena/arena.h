/* arena.h: lends and reclaims runs of blocks, from address space that it reserves and commits.
 *
 * A run is a number of adjacent blocks. Each block is free, or in one lent run, or never used.
 * The lowest address that fits is lent first: a dense heap is what huge pages and purging need.
 * Any thread. One lock, va_use.lock, taken inside; it is the last but one in the lock order
 * (registry, owners, arena, metadata). System calls are made under it, each for a bounded part of
 * the memory. */
#ifndef VA_ARENA_H
#define VA_ARENA_H

#include "os/options.h"

#include "arena/arena_purge.h"

/* Lends a run whose first block's address is a multiple of align_blocks blocks (a power of two).
 * The record's run_blocks is set, and zero if all its bytes read as zero; next is NULL, the entry
 * 0. NULL when there is no memory. */
Block *va_arena_lend(size_t blocks, size_t align_blocks);

/* Lends up to `count` runs at once, from the zone if it can be; with random order single blocks are
 * mixed with their neighbours. Returns how many. */
size_t va_arena_lend_many(size_t blocks, ZoneKind zone, Block **runs, size_t count);

/* Takes whole runs back, chained by next, and clears their entries. A run's zero tells whether all
 * its bytes read as zero. */
void va_arena_reclaim(Block *runs);

/* Grows a lent run in place by taking the free blocks behind it, or shrinks it. False if it cannot
 * grow: the run is as it was. */
bool va_arena_resize(Block *run, size_t blocks);

/* Reads the options, unless that was done. */
void va_arena_start(void);

/* Makes sure that each block of a run can be a slab some time. False if there is no memory. */
bool va_arena_add_states(const Block *run);

/* The last `count` blocks of a lent run are about to become runs of one block, whose contents do
 * not matter. False if they are lost: they leave the run all the same. */
bool va_arena_split(Block *run, size_t count);

/* Moves the pages of the first `bytes` bytes from one lent run to another, without copying; the
 * former then reads as zero. False if that is impossible: then only the latter may have changed,
 * and has to be returned. Both are moved runs then, mappings of their own until they are returned.
 * A moved run does not grow in place, but moves again. */
bool va_arena_move(Block *from, Block *to, size_t bytes);

/* Whether a pointer leads into mapped blocks or tables: elsewhere in an arena's range others may
 * have memory of theirs. */
bool va_arena_holds(const void *pointer);

/* Bounds in blocks, 0 for none. Above the soft one nothing free is kept resident; above the hard
 * one nothing is lent. */
void va_arena_limit(size_t soft, size_t hard);

/* For what is mapped from now on. HUGE_PAGES_NEVER also takes earlier advice back. */
void va_arena_set_huge_pages(HugePages choice);

/* A run as va_arena_scan found it. */
typedef struct RunView {
    void *address;
    size_t blocks;
    Allocator *allocator; /* NULL if it is free */
    uint32_t entry;
} RunView;

/* Stores up to `most` runs, neighbouring free blocks as one, from *cursor on in the order of the
 * arenas and their addresses; returns how many and moves the cursor, which starts as {0}. Blocks
 * just changing hands are left out. */
typedef struct ScanCursor {
    unsigned arena;
    size_t block;
} ScanCursor;
size_t va_arena_scan(ScanCursor *cursor, RunView *views, size_t most);

/* Each figure as of the moment it is read. Takes no lock: may be called by a signal handler. */
typedef struct ArenaStats {
    size_t reserved, committed, lent, dirty, metadata; /* bytes */
} ArenaStats;
void va_arena_stats(ArenaStats *stats);

/* Bytes of the tables' pages that belong to blocks ever lent: at least what is resident. */
size_t va_arena_tables_used(void);

#endif
