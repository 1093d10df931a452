/* arena.c: lends runs of blocks and takes them back, resizes and moves them, looks at them. */
#include "arena/arena.h"

#include "arena/arena_space.h"
#include "table/bitmap.h"
#include "base/check.h"
#include "base/probe.h"
#include "os/options.h"
#include "os/os.h"
#include "arena/run_set.h"
#include "harden/memtag.h"
#include "harden/secure.h"

#define LARGE_BLOCKS (VA_HUGE_BYTES >> VA_BLOCK_SHIFT)

static _Atomic bool initialised;  /* written under the arena lock */
static _Atomic size_t moved_runs; /* relaxed, only a bound */

static void limit_locked(size_t soft, size_t hard)
{
    va_use.hard_limit = hard != 0 ? hard : SIZE_MAX;
    va_use.soft_limit = soft != 0 ? soft : va_use.hard_limit;
}

static VA_STARTUP void initialise(void)
{
    va_lock_acquire(&va_use.lock);
    if (!atomic_load_explicit(&initialised, memory_order_relaxed)) {
        va_options_read();
        va_secure_start();
        va_memtag_start();
        limit_locked(va_options.soft_limit_bytes >> VA_BLOCK_SHIFT,
                     va_options.hard_limit_bytes >> VA_BLOCK_SHIFT);
        /* Pairs with the acquire in va_arena_start. */
        atomic_store_explicit(&initialised, true, memory_order_release);
    }
    va_lock_release(&va_use.lock);
}

void va_arena_start(void)
{
    if (va_unlikely(!atomic_load_explicit(&initialised, memory_order_acquire)))
        initialise();
}

static size_t rest_of_limit_locked(void)
{
    return va_use.hard_limit - va_min(va_use.hard_limit, va_use.lent_blocks);
}

/* Gives back what is too much after blocks were lent or returned. */
VA_INLINE void unlock_and_purge(void)
{
    bool excess = va_purge_is_excess_locked();
    va_lock_release(&va_use.lock);
    if (va_unlikely(excess))
        va_purge_excess();
}

/* ---- Lending ---- */

/* The lowest free blocks where a run fits, else the first block of one that ends above top. */
static size_t find_place(const Arena *arena, const Zone *zone, size_t blocks, size_t align_blocks)
{
    size_t padded = blocks + align_blocks - 1;
    size_t first = SIZE_MAX;
    if (zone->free_blocks >= padded)
        first = va_runs_find(arena, zone, padded);
    if (first == SIZE_MAX)
        first = zone->top - va_runs_free_below(arena, zone, zone->top, false);
    /* The arena starts on a huge page, not on every alignment: align the address. */
    size_t base = (uintptr_t)arena->base >> VA_BLOCK_SHIFT;
    return va_align_up(base + first, align_blocks) - base;
}

/* With random order one of the next two free blocks, so that slabs do not lie in the order in which
 * size classes are first used. The other one is next: a larger choice would leave holes into which
 * runs of several blocks fit that could not grow there. */
VA_INLINE size_t choose_block(const Arena *arena, const Zone *zone, size_t first)
{
#if VALLOC_SECURE_RANDOM
    if (first + 2 <= zone->committed && va_runs_free_from(arena, zone, first, 2) == 2)
        first += va_random_shared() & 1;
#else
    (void)arena, (void)zone;
#endif
    return first;
}

/* Takes mapped blocks for a run; returns behind how many all bytes read as zero. */
static size_t borrow_locked(Arena *arena, Zone *zone, size_t first, size_t blocks)
{
    size_t dirty = 0;
    size_t top = zone->top;
    if (first < top) {
        size_t count = va_min(blocks, top - first);
        VA_FOR_EACH_GROUP(arena, first, count, group, mask)
            if ((group->dirty & mask) != 0)
                dirty = w_ * VA_GROUP_BLOCKS + va_highest_bit(group->dirty & mask) + 1 - first;
        va_runs_take(arena, first, count);
    }
    if (first + blocks > top)
        va_runs_raise_top(arena, zone, first + blocks);
    if (first > top) /* skipped for the alignment, or by choice */
        va_runs_return(arena, top, first - top, false);
    va_use_add(&va_use.lent_blocks, blocks);
    return dirty;
}

/* What is asked for: up to `count` runs, mixed or the lowest first. The kernel refused to grow by
 * `refused` blocks for them: it does not ask where, so that other zones spare the try. */
typedef struct Wanted {
    size_t blocks, align_blocks, count, refused;
    bool mixed;
} Wanted;

/* Lends up to so many runs that lie side by side in a zone, which may have to grow for the first
 * one; returns how many. */
static size_t lend_from(Arena *arena, Zone *zone, Wanted *wanted, bool grow, Block **runs)
{
    size_t blocks = wanted->blocks;
    size_t count = 1;
    if (!grow && zone->free_blocks < blocks)
        return 0;
    size_t first = find_place(arena, zone, blocks, wanted->align_blocks);
    if (wanted->mixed)
        first = choose_block(arena, zone, first);
    size_t end = first + blocks;
    size_t growth = end - va_min(end, zone->committed);
    if (end > zone->end || (end > zone->top && !grow) || growth >= wanted->refused)
        return 0;
    bool stated = blocks < VA_STATED_BLOCKS;
    MapResult result = va_space_commit(arena, zone, end, stated);
    if (VALLOC_CHECKS && va_unlikely(result == MAP_REFUSED && !stated)) {
        va_space_drop_states(arena, first, va_min(end, va_max(first, zone->tabled)) - first);
        result = va_space_commit(arena, zone, end, stated);
    }
    if (va_unlikely(result != MAP_DONE)) {
        va_use.refused |= result == MAP_REFUSED;
        if (result == MAP_REFUSED && !stated) /* where it is small, tables decide */
            wanted->refused = growth;
        return 0;
    }
    if (wanted->count > 1) {
        size_t most = va_min(wanted->count * blocks, zone->committed - first);
        count = va_runs_free_from(arena, zone, first, most) / blocks;
    }
    if (VALLOC_CHECKS && stated)
        result = va_space_states(arena, first, count * blocks);
    if (va_unlikely(result != MAP_DONE)) {
        va_use.refused |= result == MAP_REFUSED;
        return 0;
    }
    size_t dirty = borrow_locked(arena, zone, first, count * blocks);
    for (size_t i = 0; i < count; i++) {
        Block *run = runs[i] = &arena->records[first + i * blocks];
        run->arena = (uint8_t)(arena - va_arenas);
        run->run_blocks = (uint32_t)blocks;
        run->next = NULL;
        run->zero = dirty == 0;
        run->dirty_blocks = (uint32_t)(dirty - va_min(dirty, i * blocks));
        run->special = 0;
    }
    return count;
}

static size_t lend_of_kind(Wanted *wanted, ZoneKind kind, bool grow, Block **runs)
{
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    size_t count = 0;
    for (unsigned i = 0; i < arenas && count == 0; i++)
        count = lend_from(&va_arenas[i], &va_arenas[i].zones[kind], wanted, grow, runs);
    return count;
}

/* From a zone of this kind if it can be. Before one grows the other kind's free blocks serve, but
 * not for a large run, which would take many of them. A small heap has one kind. */
static size_t lend_locked(Wanted wanted, ZoneKind kind, Block **runs)
{
    wanted.count = va_min(wanted.count, rest_of_limit_locked() / wanted.blocks);
    if (wanted.count == 0) {
        VA_PROBE2(valloc, limit, NULL, wanted.blocks);
        return 0;
    }
    if (va_use.lent_blocks + wanted.blocks * wanted.count <= VA_HUGE_AFTER_BYTES >> VA_BLOCK_SHIFT)
        kind = ZONE_SPARSE;
    size_t count = lend_of_kind(&wanted, kind, false, runs);
    if (count == 0 && wanted.blocks < LARGE_BLOCKS)
        count = lend_of_kind(&wanted, 1 - kind, false, runs);
    if (count == 0)
        count = lend_of_kind(&wanted, kind, true, runs);
    if (count == 0)
        count = lend_of_kind(&wanted, 1 - kind, true, runs);
    if (va_unlikely(count == 0) && wanted.blocks < wanted.refused &&
        va_space_add(wanted.blocks + wanted.align_blocks - 1) != NULL) {
        count = lend_of_kind(&wanted, ZONE_SPARSE, true, runs);
        if (count == 0) /* the tables leave less of the sparse zone */
            count = lend_of_kind(&wanted, ZONE_DENSE, true, runs);
    }
    return count;
}

static size_t lend_some(Wanted wanted, ZoneKind kind, Block **runs)
{
    size_t lent = 0;
    size_t some;
    va_arena_start();
    va_lock_acquire(&va_use.lock);
    while (wanted.count != 0 && (some = lend_locked(wanted, kind, runs + lent)) != 0) {
        lent += some;
        wanted.count -= some;
    }
    if (va_unlikely(va_use.lent_blocks >= VA_HELPER_HEAP_BYTES >> VA_BLOCK_SHIFT))
        va_purge_call_helper();
    unlock_and_purge();
    VA_PROBE2(valloc, refill_from_arena, wanted.blocks, lent);
    return lent;
}

VA_APART Block *va_arena_lend(size_t blocks, size_t align_blocks)
{
    Block *run;
    return lend_some((Wanted){blocks, align_blocks, 1, SIZE_MAX, false}, ZONE_SPARSE, &run) == 0
               ? NULL
               : run;
}

size_t va_arena_lend_many(size_t blocks, ZoneKind zone, Block **runs, size_t count)
{
    return lend_some((Wanted){blocks, 1, count, SIZE_MAX, VALLOC_SECURE_RANDOM && blocks == 1},
                     zone, runs);
}

/* ---- Taking back ---- */

static void return_locked(Arena *arena, size_t first, size_t blocks, bool dirty)
{
    va_use_add(&va_use.lent_blocks, (size_t)0 - blocks);
    va_runs_return(arena, first, blocks, dirty);
    if (va_unlikely(!dirty))
        va_space_trim(arena, va_zone_at(arena, first));
    if (va_use.dirty_blocks >= VA_HELPER_BYTES >> VA_BLOCK_SHIFT)
        va_purge_call_helper();
}

static VA_COLD void set_moved(Block *run, bool moved)
{
    size_t more = (size_t)moved - run->moved; /* may wrap; so does the sum */
    run->moved = moved;
    atomic_fetch_add_explicit(&moved_runs, more, memory_order_relaxed);
}

/* Makes blocks of a moved run plain memory. If that fails, they may be unmapped: they are a run of
 * their own, which is lost. */
static VA_COLD bool renew(const Block *run, size_t first, size_t blocks)
{
    Arena *arena = &va_arenas[run->arena];
    if (va_space_remap(arena, first, blocks))
        return true;
    Block *lost = &arena->records[first];
    lost->arena = run->arena;
    lost->run_blocks = (uint32_t)blocks;
    va_entry_store(va_block_entry(lost), va_entry_make(0, VA_CLASS_LOST));
    return false;
}

/* Before a run is returned. False if it is lost. */
static VA_COLD bool end_moved(Block *run)
{
    run->zero = renew(run, va_block_number(run), run->run_blocks);
    set_moved(run, false);
    return run->zero;
}

/* Whether a run may go back as one with its neighbour. */
static bool joins(const Block *run, const Block *other)
{
    return run->arena == other->arena && run->zero == other->zero && !other->moved &&
           va_zone_of(&va_arenas[run->arena], va_block_number(run)) ==
               va_zone_of(&va_arenas[run->arena], va_block_number(other));
}

/* The first runs of a chain that are neighbours go back as one; returns the rest. */
static Block *return_first_locked(Block *run)
{
    Block *start = run;
    size_t blocks = run->run_blocks;
    Block *next = run->next;
    for (; next != NULL && joins(run, next); next = next->next) {
        if (next + next->run_blocks == start)
            start = next;
        else if (next != start + blocks)
            break;
        blocks += next->run_blocks;
        va_entry_store(va_block_entry(next), 0);
        va_guard_end(next); /* a slab may have one */
    }
    return_locked(&va_arenas[run->arena], va_block_number(start), blocks, !run->zero);
    return next;
}

void va_arena_reclaim(Block *runs)
{
    if (va_unlikely(runs->run_blocks > VA_GROUP_BLOCKS && !runs->zero && !runs->moved))
        runs->zero = va_purge_run_locking(runs);
    else
        va_lock_acquire(&va_use.lock);
    while (runs != NULL) {
        Block *run = runs;
        va_entry_store(va_block_entry(run), 0);
        va_guard_end(run);
        if (va_unlikely(run->moved) && !end_moved(run))
            runs = run->next;
        else
            runs = return_first_locked(run);
    }
    unlock_and_purge();
    va_purge_visit();
}

/* ---- Resizing and moving ---- */

/* Takes the blocks from `first` on into the run before them; false if they are not all free. */
static bool grow_locked(Block *run, size_t first, size_t more)
{
    Arena *arena = &va_arenas[run->arena];
    Zone *zone = va_zone_at(arena, first - 1);
    size_t end = first + more;
    if (run->moved || more > rest_of_limit_locked() || end > zone->end ||
        va_runs_free_from(arena, zone, first, more) < more ||
        va_space_commit(arena, zone, end, false) != MAP_DONE)
        return false;
    run->zero &= borrow_locked(arena, zone, first, more) == 0;
    return true;
}

VA_COLD bool va_arena_resize(Block *run, size_t blocks)
{
    size_t first = va_block_number(run);
    size_t old = run->run_blocks;
    bool done = true;
    va_lock_acquire(&va_use.lock);
    if (blocks > old)
        done = grow_locked(run, first + old, blocks - old);
    else if (blocks < old && !run->moved)
        return_locked(&va_arenas[run->arena], first + blocks, old - blocks, true);
    else if (blocks < old && renew(run, first + blocks, old - blocks))
        return_locked(&va_arenas[run->arena], first + blocks, old - blocks, false);
    if (done)
        run->run_blocks = (uint32_t)blocks;
    unlock_and_purge();
    va_purge_visit();
    return done;
}

VA_COLD bool va_arena_add_states(const Block *run)
{
    va_lock_acquire(&va_use.lock);
    bool done = !VALLOC_CHECKS || va_space_states(&va_arenas[run->arena], va_block_number(run),
                                                  run->run_blocks) == MAP_DONE;
    va_lock_release(&va_use.lock);
    return done;
}

VA_COLD bool va_arena_split(Block *run, size_t count)
{
    if (!run->moved)
        return true;
    bool usable = renew(run, va_block_number(run) + run->run_blocks - count, count);
    if (count == run->run_blocks)
        set_moved(run, false);
    return usable;
}

VA_COLD bool va_arena_move(Block *from, Block *to, size_t bytes)
{
    Arena *arena = &va_arenas[from->arena];
    size_t first = va_block_number(from);
    va_lock_acquire(&va_use.lock);
    bool is_last = first + from->run_blocks == va_zone_at(arena, first)->committed;
    va_lock_release(&va_use.lock);
    if (is_last || atomic_load_explicit(&moved_runs, memory_order_relaxed) >= VA_MOVED_RUNS_MAX)
        return false;
    bool done = va_os_move(va_block_address(from), va_block_address(to), bytes,
                           (size_t)to->run_blocks << VA_BLOCK_SHIFT);
    set_moved(to, true); /* also if it was refused: the target may be unmapped */
    if (done)
        set_moved(from, true);
    return done;
}

VA_COLD void va_arena_limit(size_t soft, size_t hard)
{
    va_arena_start();
    va_lock_acquire(&va_use.lock);
    limit_locked(soft, hard);
    unlock_and_purge();
}

VA_COLD void va_arena_set_huge_pages(HugePages choice)
{
    va_arena_start();
    va_lock_acquire(&va_use.lock);
    va_space_set_huge_pages_locked(choice);
    va_lock_release(&va_use.lock);
}

/* ---- Looking around ---- */

VA_COLD bool va_arena_holds(const void *pointer)
{
    const Arena *arena = va_arena_of(pointer);
    if (arena == NULL)
        return false;
    size_t index = va_block_index(arena, pointer);
    va_lock_acquire(&va_use.lock);
    bool holds = index < arena->first;
    for (unsigned kind = 0; kind < ZONES; kind++)
        holds |= index >= arena->zones[kind].first && index < arena->zones[kind].committed;
    va_lock_release(&va_use.lock);
    return holds;
}

/* The run at a block below the zone's top; false if it is changing hands. */
static VA_COLD bool view_locked(Arena *arena, const Zone *zone, size_t block, RunView *view)
{
    *view = (RunView){.address = arena->base + (block << VA_BLOCK_SHIFT), .blocks = 1};
    if (va_bitmap_test(&va_group(arena, block / VA_GROUP_BLOCKS)->free, block % VA_GROUP_BLOCKS)) {
        size_t end = va_min(zone->top, zone->committed);
        view->blocks = va_runs_free_from(arena, zone, block, end - block);
        return true;
    }
    view->entry = atomic_load_explicit(&arena->entries[block], memory_order_acquire);
    if (view->entry == 0 || va_entry_class(view->entry) == VA_CLASS_LOST)
        return false;
    view->blocks = arena->records[block].run_blocks;
    view->allocator = arena->records[block].allocator;
    return true;
}

/* Views runs of a zone from the cursor on; stops when there is no more room. */
static VA_COLD size_t scan_zone_locked(ScanCursor *cursor, const Zone *zone, RunView *views,
                                       size_t most)
{
    Arena *arena = &va_arenas[cursor->arena];
    size_t count = 0;
    cursor->block = va_max(cursor->block, zone->first);
    size_t end = va_min(zone->top, zone->committed); /* above all is free, and not mapped */
    while (cursor->block < end && count < most) {
        RunView *view = &views[count];
        count += view_locked(arena, zone, cursor->block, view);
        cursor->block += view->blocks;
    }
    return count;
}

VA_COLD size_t va_arena_scan(ScanCursor *cursor, RunView *views, size_t most)
{
    size_t count = 0;
    va_lock_acquire(&va_use.lock);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    while (cursor->arena < arenas && count < most) {
        const Arena *arena = &va_arenas[cursor->arena];
        for (unsigned kind = 0; kind < ZONES && count < most; kind++)
            count += scan_zone_locked(cursor, &arena->zones[kind], views + count, most - count);
        if (count < most)
            *cursor = (ScanCursor){.arena = cursor->arena + 1};
    }
    va_lock_release(&va_use.lock);
    return count;
}

VA_COLD void va_arena_stats(ArenaStats *stats)
{
    *stats = (ArenaStats){.committed = va_use.committed_blocks << VA_BLOCK_SHIFT,
                          .lent = va_use.lent_blocks << VA_BLOCK_SHIFT,
                          .dirty = va_use.dirty_blocks << VA_BLOCK_SHIFT,
                          .metadata = va_use.table_bytes};
    stats->reserved = stats->committed + stats->metadata;
}

/* Bytes of whole pages that a table's part for some blocks touches. */
static VA_COLD size_t touched(size_t first, size_t count, size_t entry_bytes)
{
    size_t page = va_os_page_bytes();
    return va_align_up((first + count) * entry_bytes, page) -
           va_align_down(first * entry_bytes, page);
}

/* Bytes of the pages with states that were written, as far as the last use of each block tells. */
static VA_COLD size_t states_used_locked(const Arena *arena, const Zone *zone)
{
    size_t bytes = 0;
    for (size_t g = zone->first / VA_GROUP_BLOCKS; g < va_runs_group_end(zone); g++) {
        const Block *records = &arena->records[g * VA_GROUP_BLOCKS];
        uint64_t rest = atomic_load_explicit(&va_group(arena, g)->states, memory_order_relaxed);
        size_t counted[STATE_TABLES] = {0}; /* bytes of the group's part of each table */
        for (; rest != 0; rest &= rest - 1) {
            unsigned n = va_lowest_bit(rest);
            StateTable table = va_state_table(VA_PEEK(records[n].class));
            size_t block_bytes = VA_BLOCK_BYTES >> va_state_shift(table);
            size_t start =
                va_max(va_align_down(n * block_bytes, va_os_page_bytes()), counted[table]);
            counted[table] = va_align_up((n + 1) * block_bytes, va_os_page_bytes());
            bytes += counted[table] - start;
        }
    }
    return bytes;
}

VA_COLD size_t va_arena_tables_used(void)
{
    size_t bytes = 0;
    va_lock_acquire(&va_use.lock);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = 0; i < arenas; i++) {
        for (unsigned kind = 0; kind < ZONES; kind++) {
            const Zone *zone = &va_arenas[i].zones[kind];
            size_t blocks = zone->top - zone->first;
            if (blocks != 0)
                bytes += touched(zone->first, blocks, sizeof(uint32_t)) +
                         touched(zone->first / VA_GROUP_BLOCKS, blocks / VA_GROUP_BLOCKS + 1,
                                 sizeof(BlockGroup)) +
                         touched(zone->first, blocks, sizeof(Block)) +
                         touched(zone->first, blocks, VA_SLAB_WORDS * sizeof(uint64_t));
            if (VALLOC_CHECKS)
                bytes += states_used_locked(&va_arenas[i], zone);
        }
    }
    va_lock_release(&va_use.lock);
    return bytes;
}
