/* arena.c: lends and reclaims runs of blocks, resizes them, looks around. */
#include "arena.h"

#include "arena_space.h"
#include "check.h"
#include "os.h"
#include "options.h"
#include "run_set.h"
#include "secure.h"

static bool initialised; /* arena lock */
static bool refused; /* the last search met the kernel's limit, not an arena's end; arena lock */
static _Atomic size_t moved_runs; /* lent ones; relaxed, only a bound */

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

/* Takes free blocks for a run; tells whether all of them read as zero. */
static bool borrow_locked(Arena *arena, size_t first, size_t blocks)
{
    size_t dirty = va_runs_take(arena, first, blocks);
    VA_FOR_EACH_GROUP(arena, first, blocks, group, mask)
        group->dirty |= mask;
    va_use_add(&va_use.lent_blocks, blocks);
    va_purge_count_growth_locked();
    return dirty == 0;
}

/* Lends up to `count` runs that lie side by side; returns how many. *first is the first one's
 * block number; *zero tells whether all of them read as zero. */
static size_t lend_from(Arena *arena, Zone *zone, size_t blocks, size_t align_blocks, size_t count,
                        size_t *first, bool *zero)
{
    *first = find_place(arena, zone, blocks, align_blocks);
    if (*first + blocks > zone->end)
        return 0;
    if (count > 1) {
        size_t most = va_max(zone->committed, *first + blocks) - *first;
        count = va_runs_free_from(arena, zone, *first, va_min(count * blocks, most)) / blocks;
    }
    size_t all = count * blocks;
    if (!va_space_commit(arena, zone, *first + all)) {
        refused = true;
        return 0;
    }
    va_runs_raise_top(arena, zone, *first + all);
    *zero = borrow_locked(arena, *first, all);
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
    size_t first, count;
    bool zero;
} Lent;

/* Whether a zone has a run free without growing. */
static bool has_place(const Arena *arena, Zone *zone, size_t blocks, size_t align_blocks)
{
    return zone->free_blocks >= blocks &&
           find_place(arena, zone, blocks, align_blocks) + blocks <= zone->top;
}

/* Looks for up to `count` runs that lie side by side in one zone, of this kind if it can be. */
static Lent lend_locked(size_t blocks, size_t align_blocks, ZoneKind kind, size_t count)
{
    Lent lent = {.count = 0};
    if (va_use.lent_blocks + blocks * count <= VA_HUGE_AFTER_BYTES >> VA_BLOCK_SHIFT)
        kind = ZONE_SPARSE; /* a small heap */
    if (va_unlikely(atomic_load_explicit(&va_arena_count, memory_order_relaxed) == 0))
        va_space_add(blocks + align_blocks - 1);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    Arena *first = &va_arenas[0];
    if (kind == ZONE_DENSE && blocks < VA_HUGE_BYTES >> VA_BLOCK_SHIFT &&
        !has_place(first, &first->zones[ZONE_DENSE], blocks, align_blocks) &&
        has_place(first, &first->zones[ZONE_SPARSE], blocks, align_blocks))
        kind = ZONE_SPARSE; /* rather than let the other one grow */
    refused = false;
    for (unsigned i = 0; i < ZONES * arenas && lent.count == 0; i++) {
        lent.arena = &va_arenas[i % arenas];
        Zone *zone = &lent.arena->zones[i < arenas ? kind : 1 - kind];
        lent.count =
            lend_from(lent.arena, zone, blocks, align_blocks, count, &lent.first, &lent.zero);
    }
    /* Memory that the kernel refuses is not to be had in another arena. */
    if (va_unlikely(lent.count == 0 && !refused)) {
        lent.arena = va_space_add(blocks + align_blocks - 1);
        if (lent.arena != NULL)
            lent.count = lend_from(lent.arena, &lent.arena->zones[ZONE_DENSE], blocks, align_blocks,
                                   count, &lent.first, &lent.zero);
    }
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
        run->zero = lent.zero;
        run->moved = false;
        runs[i] = run;
    }
    return lent.count;
}

VA_APART Block *va_arena_lend(size_t blocks, size_t align_blocks)
{
    Block *run;
    return lend_some(blocks, align_blocks, ZONE_DENSE, &run, 1) == 0 ? NULL : run;
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
    va_runs_return(arena, first, blocks, dirty);
    if (va_unlikely(!dirty))
        va_space_settle_huge(arena, first, blocks);
}

void va_arena_reclaim(Block *runs)
{
    for (Block **link = &runs; *link != NULL;) {
        Block *run = *link;
        Arena *arena = &va_arenas[run->arena];
        va_entry_store(va_block_entry(run), 0);
        va_guard_end(run); /* a slab may have one */
        if (va_unlikely(run->moved)) {
            run->zero =
                va_space_remap(arena, va_block_number(run), run->run_blocks) ||
                va_os_purge(va_block_address(run), (size_t)run->run_blocks << VA_BLOCK_SHIFT);
            atomic_fetch_sub_explicit(&moved_runs, 1, memory_order_relaxed);
            if (!run->zero) { /* a move failed and left it unmapped: nobody gets it any more */
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
        va_runs_free_from(arena, zone, first, more) < more)
        return false;
    if (end > zone->end && (zone != &arena->zones[ZONE_DENSE] || !va_space_extend(arena, end)))
        return false;
    if (!va_space_commit(arena, zone, end))
        return false;
    va_runs_raise_top(arena, zone, end);
    run->zero &= borrow_locked(arena, first, more);
    return true;
}

VA_COLD bool va_arena_resize(Block *run, size_t blocks)
{
    Arena *arena = &va_arenas[run->arena];
    size_t first = va_block_number(run);
    size_t old = run->run_blocks;
    bool done = true;
    bool dirty = true;
    if (va_unlikely(blocks < old && run->moved))
        dirty = !va_space_remap(arena, first + blocks, old - blocks);
    va_lock_acquire(&va_use.lock);
    if (blocks > old)
        done = grow_locked(run, first + old, blocks - old);
    else if (blocks < old)
        reclaim_locked(arena, first + blocks, old - blocks, dirty,
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

VA_COLD bool va_arena_split(const Block *run, size_t count)
{
    if (!run->moved)
        return false;
    size_t first = va_block_number(run) + run->run_blocks - count;
    bool moved = !va_space_remap(&va_arenas[run->arena], first, count);
    size_t more = (moved ? count : 0) - (count == run->run_blocks); /* may wrap; so does the sum */
    atomic_fetch_add_explicit(&moved_runs, more, memory_order_relaxed);
    return moved;
}

VA_COLD bool va_arena_move(Block *from, Block *to, size_t bytes)
{
    size_t more = from->moved ? 1 : 2;
    bool is_last = va_block_number(from) + from->run_blocks ==
                   atomic_load_explicit(&va_arenas[from->arena].blocks, memory_order_relaxed);
    if (is_last ||
        atomic_load_explicit(&moved_runs, memory_order_relaxed) + more > VA_MOVED_RUNS_MAX)
        return false;
    bool done = va_os_move(va_block_address(from), va_block_address(to), bytes);
    atomic_fetch_add_explicit(&moved_runs, done ? more : 1, memory_order_relaxed);
    from->moved |= done;
    to->moved = true; /* whatever lies there now */
    return done;
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

/* The run at a block below the zone's top; false if it is changing hands. */
static VA_COLD bool view_locked(Arena *arena, const Zone *zone, size_t block, RunView *view)
{
    *view = (RunView){.address = arena->base + (block << VA_BLOCK_SHIFT), .blocks = 1};
    if (va_bitmap_test(&va_group(arena, block / VA_GROUP_BLOCKS)->free, block % VA_GROUP_BLOCKS)) {
        view->blocks = va_runs_free_from(arena, zone, block, zone->top - block);
        return true;
    }
    view->entry = atomic_load_explicit(&arena->entries[block], memory_order_acquire);
    if (view->entry == 0)
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
        size_t tabled = atomic_load_explicit(&va_arenas[i].tabled, memory_order_relaxed);
        stats->metadata += tabled * sizeof(uint32_t) +
                           tabled / VA_GROUP_BLOCKS * sizeof(BlockGroup) +
                           (tabled - va_arenas[i].first) *
                               (sizeof(Block) + (VA_SLAB_WORDS + VA_LIVE_WORDS) * sizeof(uint64_t));
        stats->reserved += atomic_load_explicit(&va_arenas[i].blocks, memory_order_relaxed)
                           << VA_BLOCK_SHIFT;
    }
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
            size_t blocks = zone->top - zone->first;
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
