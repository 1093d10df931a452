/* arena.c: lends and reclaims runs of blocks, resizes them, looks around. */
#include "arena.h"

#include "arena_space.h"
#include "bitmap.h"
#include "check.h"
#include "os.h"
#include "options.h"
#include "run_set.h"
#include "secure.h"

static bool initialised; /* arena lock */
static bool refused; /* the last search met a limit of the kernel's, not a zone's end; arena lock */
/* Mappings that moves have made, of runs lent: `moved` of a run's record are its own. Relaxed, only
 * a bound. */
static _Atomic size_t moved_mappings;

/* ---- Lending ---- */

/* A place for a run in this zone: below top if there is one, else from top on. */
static size_t find_place(const Arena *arena, Zone *zone, size_t blocks, size_t align_blocks)
{
    size_t padded = blocks + align_blocks - 1;
    size_t first = SIZE_MAX;
    if (zone->free_blocks >= padded)
        first = padded == 1 ? va_runs_find_block(arena, zone) : va_runs_find(arena, zone, padded);
    if (first == SIZE_MAX)
        first = zone->top - (zone->free_blocks != 0 ? va_runs_free_below_top(arena, zone) : 0);
    /* The arena starts on a huge page, not on every alignment: align the address. */
    size_t base = (uintptr_t)arena->base >> VA_BLOCK_SHIFT;
    return va_align_up(base + first, align_blocks) - base;
}

/* Takes blocks for a run, free ones or from top on; returns behind how many all bytes read as zero.
 */
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
    if (first > top) /* skipped for the run's alignment */
        va_runs_return(arena, top, first - top, false);
    va_use_add(&va_use.lent_blocks, blocks);
    va_purge_count_growth_locked();
    return dirty;
}

/* Lends up to `count` runs that lie side by side; returns how many. *first is the first one's
 * block number; behind *dirty blocks all bytes read as zero. */
static size_t lend_from(Arena *arena, Zone *zone, size_t blocks, size_t align_blocks, size_t count,
                        size_t *first, size_t *dirty)
{
    *first = find_place(arena, zone, blocks, align_blocks);
    if (*first + blocks > zone->end)
        return 0;
    if (count > 1) {
        size_t most = va_max(zone->committed, *first + blocks) - *first;
        count = va_runs_free_from(arena, zone, *first, va_min(count * blocks, most)) / blocks;
    }
    size_t all = count * blocks;
    MapResult result = va_space_commit(arena, zone, *first + all);
    refused |= result == MAP_REFUSED;
    if (va_unlikely(result == MAP_REFUSED && all <= VA_HUGE_AFTER_BYTES >> VA_BLOCK_SHIFT))
        va_use.refused = true; /* of more than that it would say little */
    if (va_unlikely(result != MAP_DONE))
        return 0;
    *dirty = borrow_locked(arena, zone, *first, all);
    return count;
}

static void limit_locked(size_t soft, size_t hard)
{
    va_use.hard_limit = hard != 0 ? hard : SIZE_MAX;
    va_use.soft_limit = soft != 0 ? soft : va_use.hard_limit;
}

static VA_STARTUP void initialise_locked(void)
{
    initialised = true;
    va_options_read();
    va_secure_start();
    limit_locked(va_options.soft_limit_bytes >> VA_BLOCK_SHIFT,
                 va_options.hard_limit_bytes >> VA_BLOCK_SHIFT);
}

typedef struct Lent {
    Arena *arena;
    size_t wanted, first, count, dirty;
} Lent;

/* Whether a zone has a run free without growing. */
static bool has_place(const Arena *arena, Zone *zone, size_t blocks, size_t align_blocks)
{
    return zone->free_blocks >= blocks &&
           find_place(arena, zone, blocks, align_blocks) + blocks <= zone->top;
}

/* Where runs of this kind go. Before a zone grows the other one's free blocks serve: for slots any
 * of them; for what may never be filled dirty ones, which are resident already. */
static ZoneKind choose_zone(size_t blocks, size_t align_blocks, ZoneKind kind, size_t count)
{
    Arena *arena = &va_arenas[0];
    if (va_use.lent_blocks + blocks * count <= VA_HUGE_AFTER_BYTES >> VA_BLOCK_SHIFT)
        return ZONE_SPARSE; /* a small heap */
    if (blocks >= VA_HUGE_BYTES >> VA_BLOCK_SHIFT ||
        has_place(arena, &arena->zones[kind], blocks, align_blocks) ||
        !has_place(arena, &arena->zones[1 - kind], blocks, align_blocks))
        return kind;
    if (kind == ZONE_DENSE)
        return ZONE_SPARSE;
    size_t first = find_place(arena, &arena->zones[ZONE_DENSE], blocks, align_blocks);
    const BlockGroup *group = va_group(arena, first / VA_GROUP_BLOCKS);
    return va_bitmap_test(&group->dirty, first % VA_GROUP_BLOCKS) ? ZONE_DENSE : ZONE_SPARSE;
}

/* Lends from an arena's zone of this kind, which may be its only one, or from its other one. */
static void lend_in(Lent *lent, Arena *arena, size_t blocks, size_t align_blocks, ZoneKind kind)
{
    bool has_two = arena->zones[ZONE_DENSE].first != arena->first;
    Zone *zone = &arena->zones[has_two ? kind : ZONE_DENSE];
    size_t count = lent->wanted;
    lent->arena = arena;
    lent->count = lend_from(arena, zone, blocks, align_blocks, count, &lent->first, &lent->dirty);
}

/* Looks for up to `count` runs that lie side by side in one zone, of this kind if it can be. */
static Lent lend_locked(size_t blocks, size_t align_blocks, ZoneKind kind, size_t count)
{
    Lent lent = {.wanted = count};
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    refused = false;
    kind = choose_zone(blocks, align_blocks, kind, count);
    for (unsigned i = 0; i < arenas && lent.count == 0; i++)
        lend_in(&lent, &va_arenas[i], blocks, align_blocks, kind);
    /* Memory that the kernel refuses is not to be had in another arena. */
    if (va_unlikely(lent.count == 0 && !refused)) {
        Arena *arena = va_space_add(blocks + align_blocks - 1);
        if (arena != NULL)
            lend_in(&lent, arena, blocks, align_blocks, kind);
        arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    }
    for (unsigned i = 0; i < arenas && lent.count == 0; i++)
        lend_in(&lent, &va_arenas[i], blocks, align_blocks, 1 - kind);
    return lent;
}

/* Lends what was found; returns how many. */
static size_t lend_some(size_t blocks, size_t align_blocks, ZoneKind kind, Block **runs,
                        size_t count)
{
    Lent lent = {.count = 0};
    va_lock_acquire(&va_use.lock);
    if (va_unlikely(!initialised))
        initialise_locked();
    do {
        size_t rest = va_use.hard_limit - va_min(va_use.hard_limit, va_use.lent_blocks);
        count = va_min(count, rest / blocks);
        if (va_unlikely(count == 0))
            break;
        lent = lend_locked(blocks, align_blocks, kind, count);
    } while (va_unlikely(lent.count == 0) && va_purge_wait_locked());
    bool excess =
        va_use.dirty_blocks != 0 && va_use.lent_blocks + va_use.dirty_blocks > va_use.soft_limit;
    bool surplus = va_use.surplus_blocks >= VA_GROWTH_STEP_BYTES >> VA_BLOCK_SHIFT;
    va_lock_release(&va_use.lock);
    if (va_unlikely(excess))
        va_arena_purge_all();
    else if (va_unlikely(surplus))
        va_purge_surplus();
    for (size_t i = 0; i < lent.count; i++) { /* the records are the borrower's already */
        Block *run = &lent.arena->records[lent.first + i * blocks];
        run->arena = (uint8_t)(lent.arena - va_arenas);
        run->run_blocks = (uint32_t)blocks;
        run->next = NULL;
        run->zero = lent.dirty == 0;
        run->dirty_blocks = (uint32_t)(lent.dirty - va_min(lent.dirty, i * blocks));
        run->moved = 0;
        runs[i] = run;
    }
    return lent.count;
}

VA_APART Block *va_arena_lend(size_t blocks, size_t align_blocks)
{
    Block *run;
    return lend_some(blocks, align_blocks, ZONE_SPARSE, &run, 1) == 0 ? NULL : run;
}

size_t va_arena_lend_many(size_t blocks, ZoneKind zone, Block **runs, size_t count)
{
    size_t lent = 0;
    size_t some = 1;
    for (; lent < count && some != 0; lent += some)
        some = lend_some(blocks, 1, zone, runs + lent, count - lent);
    return lent;
}

/* Lock held; not while pages are purged. */
static void reclaim_locked(Arena *arena, size_t first, size_t blocks, bool dirty, bool large)
{
    bool excess = dirty && va_purge_is_excess(blocks, large);
    va_use_add(&va_use.lent_blocks, (size_t)0 - blocks); /* before others may ask for them */
    if (va_unlikely(excess)) {
        va_purge_begin_locked();
        dirty = !va_os_purge(arena->base + (first << VA_BLOCK_SHIFT), blocks << VA_BLOCK_SHIFT);
        va_purge_end_locking();
    }
    if (va_unlikely(!dirty && va_space_trim(arena, first, blocks)))
        return;
    va_runs_return(arena, first, blocks, dirty);
    if (va_use.dirty_blocks >= VA_HELPER_BYTES >> VA_BLOCK_SHIFT)
        va_purge_call_helper();
    if (va_unlikely(!dirty)) {
        va_space_settle_huge(arena, first, blocks);
        va_space_trim_free(arena, va_zone_at(arena, first));
    }
}

static VA_COLD void count_moved(Block *run, size_t mappings)
{
    size_t more = mappings - run->moved; /* may wrap; so does the sum */
    run->moved = (uint8_t)mappings;
    atomic_fetch_add_explicit(&moved_mappings, more, memory_order_relaxed);
}

/* Makes blocks of a run to which pages were moved plain memory again, or at least empty: else they
 * may be unmapped, are a run of their own, and lost. */
static VA_COLD bool renew(Block *run, size_t first, size_t blocks, bool *remapped)
{
    Arena *arena = &va_arenas[run->arena];
    *remapped = va_space_remap(arena, first, blocks);
    if (*remapped || va_os_purge(arena->base + (first << VA_BLOCK_SHIFT), blocks << VA_BLOCK_SHIFT))
        return true;
    Block *lost = &arena->records[first];
    lost->arena = run->arena;
    lost->run_blocks = (uint32_t)blocks;
    va_entry_store(va_block_entry(lost), va_entry_make(0, VA_CLASS_LOST));
    return false;
}

void va_arena_reclaim(Block *runs)
{
    for (Block **link = &runs; *link != NULL;) {
        Block *run = *link;
        va_entry_store(va_block_entry(run), 0);
        va_guard_end(run); /* a slab may have one */
        if (va_unlikely(run->moved != 0)) {
            bool remapped;
            count_moved(run, 0);
            run->zero = renew(run, va_block_number(run), run->run_blocks, &remapped);
            if (!run->zero) {
                *link = run->next;
                continue;
            }
        }
        link = &run->next;
    }
    va_lock_acquire(&va_use.lock);
    while (runs != NULL) {
        Arena *arena = &va_arenas[runs->arena];
        size_t first = va_block_number(runs);
        size_t blocks = runs->run_blocks;
        bool dirty = !runs->zero;
        bool large = runs->run_blocks >= VA_HUGE_BYTES >> VA_BLOCK_SHIFT;
        /* Neighbours in the chain go back as one. The records are ours until then. */
        for (runs = runs->next;
             runs != NULL && &va_arenas[runs->arena] == arena && dirty == !runs->zero &&
             va_zone_of(arena, va_block_number(runs)) == va_zone_of(arena, first);
             runs = runs->next) {
            size_t next = va_block_number(runs);
            if (next + runs->run_blocks == first)
                first = next;
            else if (next != first + blocks)
                break;
            blocks += runs->run_blocks;
        }
        reclaim_locked(arena, first, blocks, dirty, large);
    }
    if (va_unlikely(va_purge_is_shrunk_locked()))
        va_purge_shrink_locked();
    va_lock_release(&va_use.lock);
    va_purge_visit();
}

/* Takes the blocks from `first` on into the run before them; false if they are not all free. */
static bool grow_locked(Block *run, size_t first, size_t more)
{
    Arena *arena = &va_arenas[run->arena];
    Zone *zone = va_zone_at(arena, first - 1);
    size_t end = first + more;
    if (more > va_use.hard_limit - va_min(va_use.hard_limit, va_use.lent_blocks) ||
        end > zone->end || va_runs_free_from(arena, zone, first, more) < more ||
        va_space_commit(arena, zone, end) != MAP_DONE)
        return false;
    run->zero &= borrow_locked(arena, zone, first, more) == 0;
    return true;
}

VA_COLD bool va_arena_resize(Block *run, size_t blocks)
{
    Arena *arena = &va_arenas[run->arena];
    size_t first = va_block_number(run);
    size_t old = run->run_blocks;
    bool done = true;
    bool moved = run->moved != 0;
    bool lost = false;
    bool remapped;
    if (va_unlikely(blocks < old && moved))
        lost = !renew(run, first + blocks, old - blocks, &remapped);
    va_lock_acquire(&va_use.lock);
    if (blocks > old)
        done = grow_locked(run, first + old, blocks - old);
    else if (blocks < old && !lost)
        reclaim_locked(arena, first + blocks, old - blocks, !moved,
                       old - blocks >= VA_HUGE_BYTES >> VA_BLOCK_SHIFT);
    if (done)
        run->run_blocks = (uint32_t)blocks;
    bool surplus = va_use.surplus_blocks >= VA_GROWTH_STEP_BYTES >> VA_BLOCK_SHIFT;
    va_lock_release(&va_use.lock);
    if (surplus)
        va_purge_surplus();
    va_purge_visit();
    return done;
}

VA_STARTUP void va_arena_start(void)
{
    va_lock_acquire(&va_use.lock);
    if (!initialised)
        initialise_locked();
    va_lock_release(&va_use.lock);
}

VA_COLD bool va_arena_split(Block *run, size_t count, uint8_t *moved)
{
    bool remapped = true;
    bool usable = true;
    if (run->moved != 0) {
        usable = renew(run, va_block_number(run) + run->run_blocks - count, count, &remapped);
        if (count == run->run_blocks)
            count_moved(run, 0);
    }
    *moved = !remapped;
    if (!remapped && usable)
        atomic_fetch_add_explicit(&moved_mappings, count, memory_order_relaxed);
    return usable;
}

VA_COLD bool va_arena_move(Block *from, Block *to, size_t bytes)
{
    Arena *arena = &va_arenas[from->arena];
    va_lock_acquire(&va_use.lock);
    bool is_last = va_block_number(from) + from->run_blocks ==
                   va_zone_at(arena, va_block_number(from))->committed;
    va_lock_release(&va_use.lock);
    if (is_last || atomic_load_explicit(&moved_mappings, memory_order_relaxed) >
                       VA_MOVED_MAPPINGS_MAX - (size_t)2 * VA_MOVE_PARTS_MAX)
        return false;
    size_t parts = va_os_move(va_block_address(from), va_block_address(to), bytes,
                              (size_t)to->run_blocks << VA_BLOCK_SHIFT);
    /* Each range has ends that split its neighbours; what was refused may lie at `to`. */
    count_moved(to, (parts != 0 ? parts : VA_MOVE_PARTS_MAX) + 1);
    if (parts != 0)
        count_moved(from, va_max(from->moved, 2));
    return parts != 0;
}

VA_COLD void va_arena_limit(size_t soft, size_t hard)
{
    va_lock_acquire(&va_use.lock);
    if (!initialised)
        initialise_locked();
    limit_locked(soft, hard);
    bool excess = va_use.lent_blocks + va_use.dirty_blocks > va_use.soft_limit;
    va_lock_release(&va_use.lock);
    if (excess)
        va_arena_purge_all();
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
        view->blocks = va_runs_free_from(arena, zone, block, zone->top - block);
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
    while (cursor->block < zone->top && count < most) {
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
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_acquire);
    *stats = (ArenaStats){.committed = va_use.committed_blocks << VA_BLOCK_SHIFT,
                          .lent = va_use.lent_blocks << VA_BLOCK_SHIFT,
                          .dirty = va_use.dirty_blocks << VA_BLOCK_SHIFT};
    for (unsigned i = 0; i < arenas; i++) {
        const Arena *arena = &va_arenas[i];
        stats->metadata += arena->entries_mapped.end - arena->entries_mapped.start;
        for (unsigned kind = 0; kind < ZONES; kind++) {
            const Mapped *tables = arena->zones[kind].tables;
            for (unsigned k = 0; k < ZONE_TABLES; k++)
                stats->metadata += tables[k].end - tables[k].start;
        }
    }
    stats->reserved = stats->committed + stats->metadata;
}

/* Bytes of whole pages that a table's part for some blocks touches. */
static VA_COLD size_t touched(size_t first, size_t count, size_t entry_bytes)
{
    size_t page = va_os_page_bytes();
    return va_align_up((first + count) * entry_bytes, page) -
           va_align_down(first * entry_bytes, page);
}

VA_COLD size_t va_arena_tables_used(void)
{
    size_t bytes = 0;
    va_lock_acquire(&va_use.lock);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = 0; i < arenas; i++) {
        for (unsigned kind = 0; kind < ZONES; kind++) {
            const Zone *zone = &va_arenas[i].zones[kind];
            size_t blocks = zone->highest - zone->first;
            if (blocks != 0)
                bytes += touched(zone->first, blocks, sizeof(uint32_t)) +
                         touched(zone->first / VA_GROUP_BLOCKS, blocks / VA_GROUP_BLOCKS + 1,
                                 sizeof(BlockGroup)) +
                         touched(zone->first, blocks, sizeof(Block)) +
                         touched(zone->first, blocks, VA_SLAB_WORDS * sizeof(uint64_t)) +
                         touched(zone->first, blocks, VA_LIVE_WORDS * sizeof(uint64_t));
        }
    }
    va_lock_release(&va_use.lock);
    return bytes;
}
