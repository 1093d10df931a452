/* arena_purge.c: which dirty memory goes back to the kernel, and when.
 *
 * Age: once per purge delay a pass purges the blocks that have been dirty since the pass before,
 * then marks those that are dirty now. So a block is purged after one to two delays without use,
 * and never while it is used again and again. Whoever calls va_purge_visit does a part of the pass.
 *
 * Ceiling: dirty memory above it goes at once, the highest blocks first, since the lowest are lent
 * next. A program that has freed nearly everything may never call us again; and a heap that grows
 * should first give back what it does not use. A program may fill and free a heap in a loop: such
 * purges are limited to the size of the heap within VA_PURGE_AGAIN_MS. Limits lower the ceiling,
 * and are kept at any time.
 *
 * System calls are made with the arena lock held, for at most a group of 64 blocks at a time. So
 * every block is always free or lent, and nobody has to wait for purges that are under way. A
 * longer run most of which is above the ceiling is purged before it is returned, by one call: what
 * that costs depends on the pages touched, not on the run's length. */
#include "arena/arena_purge.h"

#include "arena/arena_space.h"
#include "os/lock.h"
#include "os/options.h"
#include "os/os.h"

#define BLOCKS(bytes) ((size_t)(bytes) >> VA_BLOCK_SHIFT)

/* When the next pass starts; 0 before the first look at the clock. Written under the arena lock,
 * read without it as a hint, hence on a cache line that stays shared. */
static _Alignas(64) _Atomic uint64_t next_pass_ms;

_Atomic uint32_t va_purge_helper;

VA_STARTUP void va_purge_call_helper(void)
{
    uint32_t state = atomic_load_explicit(&va_purge_helper, memory_order_relaxed);
    if (va_likely(state != HELPER_RESTS && state != HELPER_SLEEPS))
        return;
    uint32_t next = state == HELPER_RESTS ? HELPER_CALLED : HELPER_RUNS;
    if (atomic_compare_exchange_strong_explicit(&va_purge_helper, &state, next,
                                                memory_order_release, memory_order_relaxed) &&
        next == HELPER_RUNS)
        va_os_wake_all(&va_purge_helper);
}

/* ---- Purging ---- */

typedef enum Which { WHICH_OLD, WHICH_ANY } Which;

/* Purges up to `most` blocks of a group, the highest first; returns how many. What the kernel
 * refuses stays dirty, and a later pass tries again. */
static VA_COLD size_t purge_group(Arena *arena, size_t number, Which which, size_t most)
{
    BlockGroup *group = va_group(arena, number);
    uint64_t rest = which == WHICH_OLD ? group->dirty & group->old : group->dirty;
    size_t purged = 0;
    while (rest != 0 && purged < most) {
        unsigned top = va_highest_bit(rest);
        uint64_t others = ~(rest << (63 - top));
        size_t row = others == 0 ? VA_GROUP_BLOCKS : 63 - va_highest_bit(others);
        size_t count = va_min(row, most - purged);
        size_t first = number * VA_GROUP_BLOCKS + top + 1 - count;
        uint64_t mask = va_bitmap_mask(number, first, count);
        rest &= ~mask;
        group->old &= ~mask;
        if (!va_os_purge(arena->base + (first << VA_BLOCK_SHIFT), count << VA_BLOCK_SHIFT))
            continue;
        group->dirty &= ~mask;
        purged += count;
        va_space_purge_states(arena, first, count);
        va_space_purged_locked(arena, first, count);
    }
    va_use_add(&va_use.dirty_blocks, (size_t)0 - purged);
    return purged;
}

/* Purges up to `most` blocks, of one group. False if there was nothing to purge. */
static VA_COLD bool purge_dirty_locked(Which which, size_t most, size_t *bytes)
{
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = ZONES * arenas; i-- > 0;) {
        Arena *arena = &va_arenas[i / ZONES];
        Zone *zone = &arena->zones[i % ZONES];
        while (zone->purge_end > zone->first / VA_GROUP_BLOCKS) {
            size_t purged = purge_group(arena, zone->purge_end - 1, which, most);
            zone->purge_end -= purged < most;
            *bytes += purged << VA_BLOCK_SHIFT;
            if (purged != 0) {
                va_space_trim(arena, zone);
                return true;
            }
        }
    }
    return false;
}

/* From now on all that is dirty counts as old. */
static VA_COLD void mark_locked(void)
{
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = 0; i < ZONES * arenas; i++) {
        const Arena *arena = &va_arenas[i / ZONES];
        Zone *zone = &va_arenas[i / ZONES].zones[i % ZONES];
        zone->purge_end = va_runs_group_end(zone);
        for (size_t g = zone->first / VA_GROUP_BLOCKS; g < zone->purge_end; g++)
            va_group(arena, g)->old = va_group(arena, g)->dirty;
    }
}

static void let_others_in(void)
{
    va_lock_release(&va_use.lock);
    va_lock_acquire(&va_use.lock);
}

/* ---- The ceiling ---- */

/* All of these: as if `returned` more blocks were free and dirty. */
static size_t excess_above(size_t ceiling, size_t returned)
{
    size_t dirty = va_use.dirty_blocks + returned;
    return dirty - va_min(dirty, ceiling);
}

/* What limits leave for dirty memory. Where the kernel refuses to let the heap grow, what is free
 * may be needed elsewhere. */
static size_t hard_excess_locked(size_t returned)
{
    size_t lent = va_use.lent_blocks - returned;
    size_t rest = va_use.soft_limit - va_min(va_use.soft_limit, lent);
    return excess_above(va_use.refused ? 0 : va_min(rest, BLOCKS(VA_DIRTY_MAX_BYTES)), returned);
}

static bool is_mostly_free_locked(size_t returned)
{
    return va_use.dirty_blocks + returned >
           va_use.lent_blocks - returned + BLOCKS(VA_SHRINK_KEEP_BYTES);
}

/* A heap of which most is free gives up all that is dirty. One that grows beyond its recent peak
 * gives up a dirty block for each fresh one. */
static size_t soft_excess_locked(size_t returned)
{
    size_t lent = va_use.lent_blocks - returned;
    size_t least = va_max(BLOCKS(VA_DIRTY_LEAST_BYTES), lent >> VA_DIRTY_LEAST_SHIFT);
    size_t grown = va_use.peak_blocks - va_min(va_use.peak_blocks, lent);
    return excess_above(is_mostly_free_locked(returned) ? 0 : va_max(least, grown), returned);
}

bool va_purge_is_excess_locked(void)
{
    size_t excess = soft_excess_locked(0);
    size_t resident = va_use.lent_blocks + va_use.dirty_blocks;
    va_use.peak_blocks = va_max(va_use.peak_blocks, resident - excess);
    return excess >= BLOCKS(VA_PURGE_STEP_BYTES) || hard_excess_locked(0) != 0;
}

/* How much to purge now. Of the soft excess no more than the heap's recent peak in
 * VA_PURGE_AGAIN_MS, or half of it while it grows: holes between large blocks are filled again. */
static VA_COLD size_t wanted_locked(size_t returned)
{
    size_t soft = soft_excess_locked(returned);
    size_t most = is_mostly_free_locked(returned) ? va_use.peak_blocks : va_use.peak_blocks / 2;
    if (va_use.purged_blocks == 0 || va_use.purged_blocks + soft > most) {
        uint64_t now = va_os_clock_ms();
        if (now - va_use.purged_ms >= VA_PURGE_AGAIN_MS) {
            va_use.purged_ms = now;
            va_use.purged_blocks = 0;
        }
    }
    soft = va_min(soft, most - va_min(most, va_use.purged_blocks));
    return va_max(hard_excess_locked(returned), soft);
}

VA_COLD bool va_purge_run_locking(const Block *run)
{
    size_t blocks = run->run_blocks;
    Arena *arena = &va_arenas[run->arena];
    size_t first = va_block_number(run);
    va_lock_acquire(&va_use.lock);
    va_use.peak_blocks = va_max(va_use.peak_blocks, va_use.lent_blocks + va_use.dirty_blocks);
    if (wanted_locked(blocks) <= blocks / 2)
        return false;
    va_use.purged_blocks += blocks;
    va_use_add(&va_use.lent_blocks, (size_t)0 - blocks); /* meanwhile others may ask for as much */
    va_lock_release(&va_use.lock);
    bool purged = va_os_purge(va_block_address(run), blocks << VA_BLOCK_SHIFT);
    va_lock_acquire(&va_use.lock);
    va_use_add(&va_use.lent_blocks, blocks);
    if (purged)
        va_space_purged_locked(arena, first, blocks);
    return purged;
}

VA_COLD void va_purge_excess(void)
{
    va_lock_acquire(&va_use.lock);
    size_t wanted = wanted_locked(0);
    while (wanted != 0) {
        size_t bytes = 0;
        bool more = purge_dirty_locked(WHICH_ANY, va_min(wanted, VA_GROUP_BLOCKS), &bytes);
        va_use.purged_blocks += BLOCKS(bytes);
        wanted -= BLOCKS(bytes);
        if (!more)
            break;
        let_others_in();
    }
    /* What could not go now need not be asked for again with every block. */
    va_use.peak_blocks = va_max(va_use.peak_blocks, va_use.lent_blocks + va_use.dirty_blocks);
    va_lock_release(&va_use.lock);
}

/* ---- Age ---- */

static VA_COLD void end_pass_locked(uint64_t now)
{
    size_t resident = va_use.lent_blocks + va_use.dirty_blocks;
    mark_locked();
    va_use.refused = false;
    size_t less = (va_use.peak_blocks - va_min(va_use.peak_blocks, resident)) / 2;
    va_use.peak_blocks -= less; /* what may still be purged stays the same */
    va_use.purged_blocks -= va_min(va_use.purged_blocks, less);
    uint64_t delay = atomic_load_explicit(&va_options.purge_delay_ms, memory_order_relaxed);
    atomic_store_explicit(&next_pass_ms, now + delay, memory_order_relaxed);
}

/* A pass, or a part of it if it would purge more than max_bytes: the next visit goes on. */
static VA_COLD void pass(uint64_t now, size_t max_bytes)
{
    size_t bytes = 0;
    va_lock_acquire(&va_use.lock);
    uint64_t delay = atomic_load_explicit(&va_options.purge_delay_ms, memory_order_relaxed);
    uint64_t due = atomic_load_explicit(&next_pass_ms, memory_order_relaxed);
    if (due == 0 && delay != 0) /* the first look at the clock */
        atomic_store_explicit(&next_pass_ms, now + delay, memory_order_relaxed);
    else if (now >= due && now - due >= delay) /* no blocks have come or gone since */
        mark_locked();
    /* Until the pass is over: then another thread may have marked what is not old. */
    while (now >= atomic_load_explicit(&next_pass_ms, memory_order_relaxed)) {
        if (!purge_dirty_locked(WHICH_OLD, VA_GROUP_BLOCKS, &bytes)) {
            end_pass_locked(now);
            break;
        }
        if (bytes >= max_bytes) {
            atomic_store_explicit(&next_pass_ms, now, memory_order_relaxed);
            break;
        }
        let_others_in();
    }
    va_lock_release(&va_use.lock);
}

VA_COLD void va_purge_set_delay(uint64_t ms)
{
    ms = va_min(ms, INT64_MAX); /* sums with the clock do not wrap */
    va_lock_acquire(&va_use.lock);
    atomic_store_explicit(&va_options.purge_delay_ms, ms, memory_order_relaxed);
    uint64_t due = va_os_clock_ms() + ms; /* the next pass may be far off by the old delay */
    if (due < atomic_load_explicit(&next_pass_ms, memory_order_relaxed))
        atomic_store_explicit(&next_pass_ms, due, memory_order_relaxed);
    va_lock_release(&va_use.lock);
}

void va_purge_visit(void)
{
    uint64_t now = va_os_clock_ms();
    if (va_unlikely(now >= atomic_load_explicit(&next_pass_ms, memory_order_relaxed)))
        pass(now, VA_PURGE_VISIT_BYTES);
}

VA_COLD uint64_t va_purge_decay(bool *dirty)
{
    uint64_t now = va_os_clock_ms();
    pass(now, SIZE_MAX);
    va_lock_acquire(&va_use.lock);
    mark_locked();
    *dirty = va_use.dirty_blocks != 0;
    va_lock_release(&va_use.lock);
    uint64_t next = atomic_load_explicit(&next_pass_ms, memory_order_relaxed);
    return next - va_min(next, now);
}

VA_COLD size_t va_purge_all(void)
{
    size_t bytes = 0;
    va_lock_acquire(&va_use.lock);
    mark_locked();
    while (purge_dirty_locked(WHICH_OLD, VA_GROUP_BLOCKS, &bytes))
        let_others_in();
    va_lock_release(&va_use.lock);
    return bytes;
}
