/* run_set.h: the free blocks of an arena's zones as bits, and runs among them. Makes no system
 * call, keeps no lock. All functions: under the arena lock. */
#ifndef VA_RUN_SET_H
#define VA_RUN_SET_H

#include "table/bitmap.h"
#include "table/block_table.h"
#include "os/lock.h"

/* The blocks of all arenas, and the arena lock. Under it; the atomic ones are also read without it,
 * for statistics, also by signal handlers: each by itself, so nothing has to be published. Cache
 * lines of their own: who only looks an address up does not wait for them. */
typedef struct ArenaUse {
    _Alignas(64) Lock lock;
    _Atomic size_t committed_blocks;
    _Atomic size_t lent_blocks;
    _Atomic size_t dirty_blocks; /* free and dirty */
    _Atomic size_t table_bytes;  /* mapped, of all tables */
    size_t peak_blocks;          /* lent and dirty at most, lately */
    size_t purged_blocks;        /* for the soft ceiling, since purged_ms */
    uint64_t purged_ms;
    bool refused;      /* growth, by the kernel, since the last pass */
    size_t soft_limit; /* blocks lent and dirty; SIZE_MAX for none */
    size_t hard_limit; /* blocks lent; SIZE_MAX for none */
} ArenaUse;
extern ArenaUse va_use;

/* Adds to one of these: the lock makes a plain addition of it. `more` may wrap, to subtract. */
VA_INLINE void va_use_add(_Atomic size_t *counter, size_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

/* Calls for each group that [first, first + count) touches, with the mask of its blocks. */
#define VA_FOR_EACH_GROUP(arena, first, count, group, mask)                                        \
    for (size_t w_ = (first) / VA_GROUP_BLOCKS; w_ * VA_GROUP_BLOCKS < (first) + (count); w_++)    \
        for (uint64_t mask = va_bitmap_mask(w_, first, count), once_ = 1; once_; once_ = 0)        \
            for (BlockGroup *group = va_group(arena, w_); once_; once_ = 0)

VA_INLINE Zone *va_zone_at(Arena *arena, size_t block)
{
    return &arena->zones[va_zone_of(arena, block)];
}

/* Free blocks leave the set: they are lent. */
void va_runs_take(Arena *arena, size_t first, size_t count);

/* Blocks join the set. */
void va_runs_return(Arena *arena, size_t first, size_t count, bool dirty);

/* Moves top up to `end`: what lies between counts as lent. Takes O(log n) time, however long it is,
 * since all bits of lent blocks are 0. */
void va_runs_raise_top(Arena *arena, Zone *zone, size_t end);

/* The end of the groups that hold blocks below top. */
VA_INLINE size_t va_runs_group_end(const Zone *zone)
{
    return (zone->top + VA_GROUP_BLOCKS - 1) / VA_GROUP_BLOCKS;
}

/* The lowest run of `count` free blocks below top, or SIZE_MAX. */
size_t va_runs_find(const Arena *arena, const Zone *zone, size_t count);

/* How many free blocks, up to `most`, follow from `first` on. All from top on are free. */
size_t va_runs_free_from(const Arena *arena, const Zone *zone, size_t first, size_t most);

/* How many free blocks lie directly below `end`, which is top at most; if so wanted, clean ones. */
size_t va_runs_free_below(const Arena *arena, const Zone *zone, size_t end, bool clean);

#endif
