/* arena_purge.c: decay. Every purge delay a tick marks the blocks that have been free and dirty
 * since the last tick as due, so a block is purged after one to two delays of disuse and never
 * while it is in use again and again. Due runs are purged a few at a time by whoever comes through
 * here, taken out of the free set meanwhile so that the lock is not held across system calls.
 *
 * A heap that shrinks until more is free than in use does not wait for the clock, since no slow
 * path may follow. Nor does one that grows beyond its recent peak: for blocks lent that were not
 * resident, as many that are free and dirty go, but no more than a part of the heap in a time.
 */
#include "arena_purge.h"

#include "arena_space.h"
#include "lock.h"
#include "options.h"
#include "os.h"
#include "run_set.h"

/* The purge clock: written under va_use.lock, read without it as a hint, hence on a cache line
 * that stays shared. */
static struct {
    _Alignas(64) _Atomic uint64_t next_tick_ms;
    _Atomic bool purging;  /* something is due */
    uint64_t last_tick_ms; /* or first look; 0 before it */
} purge_clock;

/* Purges whose blocks are in no set while the kernel works; who needs them waits. Arena lock. */
static struct {
    uint32_t count;
    uint32_t waiting;
    _Atomic uint32_t ended; /* ever: changes for those who sleep on it */
} in_flight;

_Atomic uint32_t va_purge_helper;

VA_STARTUP void va_purge_call_helper(void)
{
    uint32_t rests = HELPER_RESTS;
    if (va_unlikely(atomic_load_explicit(&va_purge_helper, memory_order_relaxed) == HELPER_RESTS))
        atomic_compare_exchange_strong_explicit(&va_purge_helper, &rests, HELPER_CALLED,
                                                memory_order_relaxed, memory_order_relaxed);
}

VA_COLD void va_purge_begin_locked(void)
{
    in_flight.count++;
    va_lock_release(&va_use.lock);
}

VA_COLD void va_purge_end_locking(void)
{
    va_lock_acquire(&va_use.lock);
    in_flight.count--;
    atomic_store_explicit(&in_flight.ended, in_flight.ended + 1, memory_order_relaxed);
    if (va_unlikely(in_flight.waiting != 0))
        va_os_wake_one(&in_flight.ended);
}

VA_COLD bool va_purge_wait_locked(void)
{
    uint32_t seen = atomic_load_explicit(&in_flight.ended, memory_order_relaxed);
    if (in_flight.count == 0 || va_lock_forks != 0) /* they end after the fork */
        return false;
    in_flight.waiting++;
    va_lock_release(&va_use.lock);
    va_os_wait(&in_flight.ended, seen);
    va_lock_acquire(&va_use.lock);
    if (--in_flight.waiting != 0) /* one wakes the next */
        va_os_wake_one(&in_flight.ended);
    return true;
}

VA_COLD void va_purge_fork(void)
{
    in_flight.count = in_flight.waiting = 0;
}

static VA_COLD bool next_due(const Arena *arena, Zone *zone, size_t *first, size_t *count)
{
    size_t end = va_runs_group_end(zone);
    for (size_t group = zone->purge_group; group < end; group++) {
        uint64_t due = va_group(arena, group)->due;
        if (due == 0)
            continue;
        unsigned bit = va_lowest_bit(due);
        uint64_t ended = ~(due >> bit);
        zone->purge_group = group;
        *first = group * VA_GROUP_BLOCKS + bit;
        *count = ended == 0 ? VA_GROUP_BLOCKS : va_min(va_lowest_bit(ended), VA_GROUP_BLOCKS - bit);
        return true;
    }
    zone->purge_group = end;
    return false;
}

typedef struct DueRuns {
    size_t count, bytes;
    struct {
        Arena *arena;
        Zone *zone;
        size_t first, blocks;
        bool purged;
    } runs[VA_PURGE_RUNS];
} DueRuns;

/* Takes due runs out of the free set, up to about max_bytes and as many as there is room for. */
static VA_COLD void take_due_locked(DueRuns *due, Arena *arena, Zone *zone, size_t max_bytes)
{
    size_t first;
    size_t blocks;
    while (due->bytes < max_bytes && next_due(arena, zone, &first, &blocks)) {
        size_t last = due->count - 1;
        bool joins = due->count > 0 && due->runs[last].zone == zone &&
                     due->runs[last].first + due->runs[last].blocks == first;
        if (!joins && due->count == VA_PURGE_RUNS)
            return;
        va_runs_take(arena, first, blocks);
        if (!joins) {
            last = due->count++;
            due->runs[last].arena = arena;
            due->runs[last].zone = zone;
            due->runs[last].first = first;
            due->runs[last].blocks = 0;
        }
        due->runs[last].blocks += blocks;
        due->bytes += blocks << VA_BLOCK_SHIFT;
    }
}

/* Takes the highest dirty runs out of the free set: the lowest are lent next. */
static VA_COLD void take_highest_locked(DueRuns *due, Arena *arena, Zone *zone, size_t blocks)
{
    for (; zone->dirty_end > zone->first / VA_GROUP_BLOCKS; zone->dirty_end--) {
        const BlockGroup *group = va_group(arena, zone->dirty_end - 1);
        uint64_t dirty;
        while ((dirty = group->free & group->dirty) != 0) {
            size_t rest = blocks - (due->bytes >> VA_BLOCK_SHIFT);
            if (rest == 0 || due->count == VA_PURGE_RUNS)
                return;
            unsigned top = va_highest_bit(dirty);
            uint64_t other = ~(dirty << (63 - top));
            size_t count = va_min(other == 0 ? VA_GROUP_BLOCKS : 63 - va_highest_bit(other), rest);
            size_t first = (zone->dirty_end - 1) * VA_GROUP_BLOCKS + top + 1 - count;
            va_runs_take(arena, first, count);
            due->runs[due->count].arena = arena;
            due->runs[due->count].zone = zone;
            due->runs[due->count].first = first;
            due->runs[due->count++].blocks = count;
            due->bytes += count << VA_BLOCK_SHIFT;
        }
    }
}

/* Purges what was taken, puts it back, and adds what was given back to *purged. The arena lock is
 * held, but not meanwhile. */
static VA_COLD void purge_taken_locked(DueRuns *due, size_t *purged)
{
    va_purge_begin_locked();
    for (size_t i = 0; i < due->count; i++)
        due->runs[i].purged =
            va_os_purge(due->runs[i].arena->base + (due->runs[i].first << VA_BLOCK_SHIFT),
                        due->runs[i].blocks << VA_BLOCK_SHIFT);
    for (size_t i = 0; i < due->count; i++)
        va_space_purge_bitmaps(due->runs[i].arena, due->runs[i].first, due->runs[i].blocks);
    va_purge_end_locking();
    for (size_t i = 0; i < due->count; i++) {
        size_t bytes = due->runs[i].purged ? due->runs[i].blocks << VA_BLOCK_SHIFT : 0;
        va_runs_return(due->runs[i].arena, due->runs[i].first, due->runs[i].blocks, bytes == 0);
        *purged += bytes;
    }
    for (size_t i = 0; i < due->count; i++)
        if (due->runs[i].purged)
            va_space_settle_huge(due->runs[i].arena, due->runs[i].first, due->runs[i].blocks);
    for (size_t i = 0; i < due->count; i++)
        va_space_trim_free(due->runs[i].arena, due->runs[i].zone);
}

/* Purges due runs, up to about max_bytes, and adds what was given back to *purged. False when
 * nothing is due. */
static VA_COLD bool purge_due(size_t max_bytes, size_t *purged)
{
    DueRuns due;
    due.count = due.bytes = 0;
    va_lock_acquire(&va_use.lock);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = 0; i < arenas; i++)
        for (unsigned kind = 0; kind < ZONES; kind++)
            take_due_locked(&due, &va_arenas[i], &va_arenas[i].zones[kind], max_bytes);
    if (due.count == 0) {
        atomic_store_explicit(&purge_clock.purging, false, memory_order_relaxed);
        va_lock_release(&va_use.lock);
        return false;
    }
    purge_taken_locked(&due, purged);
    va_lock_release(&va_use.lock);
    return true;
}

/* Gives back what was made resident in advance and is not in use yet. */
static VA_COLD void purge_populated_locked(void)
{
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = 0; i < ZONES * arenas; i++) {
        const Arena *arena = &va_arenas[i / ZONES];
        Zone *zone = &va_arenas[i / ZONES].zones[i % ZONES];
        if (zone->populated > zone->top)
            va_os_purge(arena->base + (zone->top << VA_BLOCK_SHIFT), (zone->populated - zone->top)
                                                                         << VA_BLOCK_SHIFT);
        zone->populated = 0;
    }
}

/* Which free and dirty blocks become due; all of them count as there at this tick. */
typedef enum Due { DUE_NONE, DUE_AGED, DUE_ALL } Due;

static VA_COLD bool mark_zone_locked(Arena *arena, Zone *zone, Due which)
{
    bool due = false;
    size_t end = va_runs_group_end(zone);
    for (size_t g = va_runs_next_group(arena, zone, zone->lowest_group); g < end;
         g = va_runs_next_group(arena, zone, g + 1)) {
        BlockGroup *group = va_group(arena, g);
        uint64_t dirty = group->free & group->dirty;
        if (which != DUE_NONE)
            group->due |= which == DUE_ALL ? dirty : dirty & group->aged;
        group->aged = dirty;
        if (group->due != 0)
            due = true;
    }
    zone->purge_group = zone->first / VA_GROUP_BLOCKS;
    return due;
}

/* Marks what is free and dirty as due: all of it, or what was so at the last tick already. */
static VA_COLD void mark_due_locked(Due which)
{
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    bool due = false;
    for (unsigned i = 0; i < arenas; i++)
        for (unsigned kind = 0; kind < ZONES; kind++)
            due |= mark_zone_locked(&va_arenas[i], &va_arenas[i].zones[kind], which);
    atomic_store_explicit(&purge_clock.purging, due, memory_order_relaxed);
}

/* How many blocks may still be purged for growth. */
static VA_COLD size_t may_purge_locked(void)
{
    size_t most = va_use.lent_blocks >> VA_GROWTH_PURGE_SHIFT;
    if (va_use.growth_purged >= most) {
        uint64_t now = va_os_clock_ms();
        if (now - va_use.growth_ms >= VA_GROWTH_PURGE_MS) {
            va_use.growth_ms = now;
            va_use.growth_purged = 0;
        }
    }
    return most - va_min(most, va_use.growth_purged);
}

void va_purge_count_growth_locked(void)
{
    size_t resident = va_use.lent_blocks + va_use.dirty_blocks;
    size_t peak = va_max(va_use.peak_blocks, va_use.last_peak_blocks);
    va_use.surplus_blocks = 0;
    if (va_unlikely(resident > peak && va_use.dirty_blocks != 0)) {
        size_t keep = va_max(VA_GROWTH_KEEP_BYTES >> VA_BLOCK_SHIFT,
                             va_use.lent_blocks >> VA_GROWTH_KEEP_SHIFT);
        size_t more = va_use.dirty_blocks - va_min(va_use.dirty_blocks, keep);
        va_use.surplus_blocks = va_min(va_min(resident - peak, more), may_purge_locked());
    }
    va_use.peak_blocks = va_max(va_use.peak_blocks, resident - va_use.surplus_blocks);
}

VA_COLD void va_purge_surplus(void)
{
    DueRuns due;
    size_t purged = 0;
    due.count = due.bytes = 0;
    va_lock_acquire(&va_use.lock);
    size_t blocks = va_use.surplus_blocks;
    va_use.surplus_blocks = 0;
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = ZONES * arenas; i-- > 0;)
        take_highest_locked(&due, &va_arenas[i / ZONES], &va_arenas[i / ZONES].zones[i % ZONES],
                            blocks);
    va_use.growth_purged += due.bytes >> VA_BLOCK_SHIFT;
    if (due.count != 0)
        purge_taken_locked(&due, &purged);
    /* What could not go need not be asked for again and again. */
    va_use.peak_blocks = va_max(va_use.peak_blocks, va_use.lent_blocks + va_use.dirty_blocks);
    va_lock_release(&va_use.lock);
}

/* Whether so many blocks may be purged because the heap shrinks. */
static VA_COLD bool may_shrink_locked(size_t blocks)
{
    if (va_use.shrink_rest < blocks) {
        uint64_t now = va_os_clock_ms();
        if (now - va_use.shrink_ms < VA_SHRINK_MS)
            return false;
        va_use.shrink_ms = now;
        va_use.shrink_rest = va_use.lent_blocks + va_use.dirty_blocks;
    }
    va_use.shrink_rest -= va_min(va_use.shrink_rest, blocks);
    return true;
}

VA_COLD void va_purge_shrink_locked(void)
{
    if (may_shrink_locked(va_use.dirty_blocks))
        mark_due_locked(DUE_ALL);
}

VA_STARTUP bool va_purge_is_excess(size_t blocks, bool large)
{
    size_t dirty = va_use.dirty_blocks + blocks;
    size_t lent = va_use.lent_blocks - blocks;
    /* Where the kernel refuses to let the heap grow what is free may be wanted elsewhere. */
    if (va_unlikely(va_use.lent_blocks + va_use.dirty_blocks > va_use.soft_limit || va_use.refused))
        return true;
    return large &&
           (dirty > VA_DIRTY_KEEP_MAX_BYTES >> VA_BLOCK_SHIFT ||
            (dirty > lent + (VA_SHRINK_KEEP_BYTES >> VA_BLOCK_SHIFT) && may_shrink_locked(blocks)));
}

/* ---- The purge clock ---- */

static VA_COLD void tick_locked(Due due)
{
    purge_populated_locked();
    va_use.refused = false;
    if (va_use.dirty_blocks != 0)
        mark_due_locked(due);
    va_use.last_peak_blocks = va_use.peak_blocks;
    va_use.peak_blocks = va_use.lent_blocks + va_use.dirty_blocks;
}

void va_purge_visit(void)
{
    uint64_t now = va_os_clock_ms();
    if (va_unlikely(now >= atomic_load_explicit(&purge_clock.next_tick_ms, memory_order_relaxed))) {
        va_lock_acquire(&va_use.lock);
        if (now >= atomic_load_explicit(&purge_clock.next_tick_ms, memory_order_relaxed)) {
            uint64_t delay = va_options.purge_delay_ms;
            uint64_t before = purge_clock.last_tick_ms;
            atomic_store_explicit(&purge_clock.next_tick_ms, now + delay, memory_order_relaxed);
            purge_clock.last_tick_ms = now;
            if (before != 0 || delay == 0) /* the first look at the clock is no tick */
                tick_locked(delay == 0 || now - before >= 2 * delay ? DUE_ALL : DUE_AGED);
        }
        va_lock_release(&va_use.lock);
    }
    size_t purged = 0;
    if (va_unlikely(atomic_load_explicit(&purge_clock.purging, memory_order_relaxed)))
        purge_due(VA_PURGE_VISIT_BYTES, &purged);
}

VA_COLD uint64_t va_arena_decay(uint64_t since_ms, bool *dirty)
{
    size_t purged = 0;
    va_purge_visit();
    while (atomic_load_explicit(&purge_clock.purging, memory_order_relaxed) &&
           purge_due(VA_PURGE_VISIT_BYTES, &purged))
        ;
    va_lock_acquire(&va_use.lock);
    if (purge_clock.last_tick_ms >= since_ms)
        mark_due_locked(DUE_NONE);
    *dirty = va_use.dirty_blocks != 0;
    va_lock_release(&va_use.lock);
    uint64_t next = atomic_load_explicit(&purge_clock.next_tick_ms, memory_order_relaxed);
    return next - va_min(next, va_os_clock_ms());
}

VA_COLD void va_purge_after_exit(void)
{
    size_t purged = 0;
    va_lock_acquire(&va_use.lock);
    bool excess =
        va_use.dirty_blocks > va_max(va_use.lent_blocks, VA_EXIT_KEEP_BYTES >> VA_BLOCK_SHIFT);
    if (excess)
        mark_due_locked(DUE_ALL);
    va_lock_release(&va_use.lock);
    while (excess && purge_due(SIZE_MAX, &purged))
        ;
}

/* The bitmaps of blocks that were purged in shorter runs. */
static VA_COLD void purge_bitmaps_locked(const Arena *arena, const Zone *zone)
{
    size_t end = va_runs_group_end(zone);
    size_t from = SIZE_MAX;
    for (size_t g = zone->first / VA_GROUP_BLOCKS; g <= end; g++) {
        bool is_free = g < end && va_group(arena, g)->free == UINT64_MAX;
        if (is_free && from == SIZE_MAX)
            from = g;
        if (is_free || from == SIZE_MAX)
            continue;
        va_space_purge_bitmaps(arena, from * VA_GROUP_BLOCKS, (g - from) * VA_GROUP_BLOCKS);
        from = SIZE_MAX;
    }
}

VA_COLD size_t va_arena_purge_all(void)
{
    size_t purged = 0;
    va_lock_acquire(&va_use.lock);
    purge_populated_locked();
    mark_due_locked(DUE_ALL);
    va_lock_release(&va_use.lock);
    while (purge_due(SIZE_MAX, &purged))
        ;
    va_lock_acquire(&va_use.lock);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = 0; i < ZONES * arenas; i++)
        purge_bitmaps_locked(&va_arenas[i / ZONES], &va_arenas[i / ZONES].zones[i % ZONES]);
    va_lock_release(&va_use.lock);
    return purged;
}
