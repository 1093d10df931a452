/* arena.c: free runs as bits, searched from the lowest address; the purge clock.
 *
 * Decay: every purge delay a tick marks the blocks that have been free and dirty since the last
 * tick as due, so a block is purged after one to two delays of disuse and never while it is in
 * use again and again. Due runs are purged a few at a time by whoever comes through here, taken
 * out of the free set meanwhile so that the lock is not held across system calls. */
#include "arena.h"

#include "bitmap.h"
#include "check.h"
#include "options.h"
#include "os.h"

Lock va_arena_lock;

/* Under va_arena_lock. */
static struct {
    bool initialised;
    size_t lent_blocks;
    size_t dirty_blocks;     /* free and dirty */
    size_t peak_blocks;      /* lent and dirty at most since the last tick of the purge clock */
    size_t last_peak_blocks; /* the same for the tick before */
    size_t purged_bytes;     /* ever */
    size_t soft_limit;       /* blocks lent and dirty; SIZE_MAX for none */
    size_t hard_limit;
    bool huge_is_dear; /* see try_huge */
} state = {.soft_limit = SIZE_MAX, .hard_limit = SIZE_MAX};

/* The purge clock: written under va_arena_lock, read without it as a hint, hence on a cache line
 * that stays shared. */
static struct {
    _Alignas(64) _Atomic uint64_t next_tick_ms;
    _Atomic bool purging; /* something is due */
    uint64_t last_tick_ms;
} clock_state;

#define GROUP_BLOCKS 64

/* ---- Sets of blocks ---- */

/* Calls for each group that [first, first + count) touches, with the mask of its blocks. */
#define FOR_EACH_GROUP(arena, first, count, group, mask)                                           \
    for (size_t w_ = (first) / GROUP_BLOCKS; w_ * GROUP_BLOCKS < (first) + (count); w_++)          \
        for (uint64_t mask = va_bitmap_mask(w_, first, count), once_ = 1; once_; once_ = 0)        \
            for (BlockGroup *group = &(arena)->groups[w_]; once_; once_ = 0)

static void summarise(Arena *arena, size_t first, size_t count)
{
    for (size_t w = first / GROUP_BLOCKS; w * GROUP_BLOCKS < first + count; w++) {
        uint64_t bit = (uint64_t)1 << (w % 64);
        bool any = arena->groups[w].free != 0;
        if (any != ((arena->summary[w / 64] & bit) != 0)) /* a store would move its cache line */
            arena->summary[w / 64] ^= bit;
    }
}

static Zone *zone_of(Arena *arena, size_t block)
{
    return &arena->zones[va_zone_of(arena, block)];
}

/* Free blocks leave the set: lent, or taken out to be purged. Returns how many were dirty. */
static size_t take_blocks(Arena *arena, size_t first, size_t count)
{
    size_t dirty = 0;
    FOR_EACH_GROUP(arena, first, count, group, mask) {
        va_assert((group->free & mask) == mask);
        dirty += (size_t)__builtin_popcountll(group->dirty & mask);
        group->free &= ~mask;
        group->aged &= ~mask;
        group->due &= ~mask;
    }
    summarise(arena, first, count);
    zone_of(arena, first)->free_blocks -= count;
    state.dirty_blocks -= dirty;
    return dirty;
}

static void return_blocks(Arena *arena, size_t first, size_t count, bool dirty)
{
    FOR_EACH_GROUP(arena, first, count, group, mask) {
        va_assert((group->free & mask) == 0);
        group->free |= mask;
        if (dirty)
            group->dirty |= mask;
        else
            group->dirty &= ~mask;
    }
    summarise(arena, first, count);
    if (dirty)
        state.dirty_blocks += count;
    Zone *zone = zone_of(arena, first);
    zone->free_blocks += count;
    zone->lowest_group = va_min(zone->lowest_group, first / GROUP_BLOCKS);
}

/* The end of the groups that hold blocks below top. */
static size_t group_end(const Zone *zone)
{
    return (zone->top + GROUP_BLOCKS - 1) / GROUP_BLOCKS;
}

/* The first group from `group` on that has a free block, or the end. */
static size_t next_free_group(const Arena *arena, const Zone *zone, size_t group)
{
    size_t end = group_end(zone);
    while (group < end) {
        uint64_t rest = arena->summary[group / 64] >> (group % 64);
        if (rest != 0)
            return va_min(group + va_lowest_bit(rest), end);
        group = (group / 64 + 1) * 64;
    }
    return end;
}

/* The lowest free block. The caller knows that there is one. */
static size_t find_block(const Arena *arena, Zone *zone)
{
    size_t group = next_free_group(arena, zone, zone->lowest_group);
    zone->lowest_group = group;
    return group * GROUP_BLOCKS + va_lowest_bit(arena->groups[group].free);
}

/* The lowest run of `count` free blocks below top, or SIZE_MAX. */
static size_t find_run(const Arena *arena, const Zone *zone, size_t count)
{
    size_t end = group_end(zone);
    size_t tail = 0; /* free blocks up to the end of the group before */
    size_t next = zone->lowest_group;
    for (size_t group = next_free_group(arena, zone, next); group < end;
         group = next_free_group(arena, zone, next)) {
        uint64_t free = arena->groups[group].free;
        if (group != next)
            tail = 0;
        next = group + 1;
        if (free == UINT64_MAX) {
            tail += GROUP_BLOCKS;
            if (tail >= count)
                return next * GROUP_BLOCKS - tail;
            continue;
        }
        if (tail + va_lowest_bit(~free) >= count)
            return group * GROUP_BLOCKS - tail;
        if (count < GROUP_BLOCKS) {
            unsigned bit = va_word_find_ones(free, (unsigned)count);
            if (bit < GROUP_BLOCKS)
                return group * GROUP_BLOCKS + bit;
        }
        tail = 63 - va_highest_bit(~free);
    }
    return SIZE_MAX;
}

/* How many free blocks, up to `most`, follow from `first` on. All from top on are free. */
static size_t free_from(const Arena *arena, const Zone *zone, size_t first, size_t most)
{
    size_t count = 0;
    while (count < most && first + count < zone->top) {
        size_t next = first + count;
        size_t bit = next % GROUP_BLOCKS;
        uint64_t busy = ~arena->groups[next / GROUP_BLOCKS].free >> bit;
        count += busy == 0 ? GROUP_BLOCKS - bit : va_lowest_bit(busy);
        if (busy != 0 && first + count < zone->top)
            return va_min(count, most);
    }
    return most;
}

/* How many free blocks lie directly below top. */
static size_t free_below_top(const Arena *arena, const Zone *zone)
{
    size_t count = 0;
    while (zone->top - count > zone->first) {
        size_t last = zone->top - count - 1;
        uint64_t busy = ~(arena->groups[last / GROUP_BLOCKS].free << (63 - last % GROUP_BLOCKS));
        if (busy != 0)
            return count + 63 - va_highest_bit(busy);
        count += last % GROUP_BLOCKS + 1;
    }
    return count;
}

/* ---- Address space ---- */

typedef struct Tables {
    size_t groups, summary, records, bitmaps, end; /* offsets in bytes; entries at 0 */
    size_t first;                                  /* block behind them */
} Tables;

/* Where the tables of an arena of so many blocks lie: each starts on a block of its own, behind
 * one that is never accessible. */
static VA_COLD Tables lay_out(size_t blocks)
{
    Tables t;
    size_t groups = (blocks + GROUP_BLOCKS - 1) / GROUP_BLOCKS;
#define AFTER(bytes) (va_align_up((bytes), VA_BLOCK_BYTES) + VA_BLOCK_BYTES)
    t.groups = AFTER(blocks * sizeof(uint32_t));
    t.summary = AFTER(t.groups + groups * sizeof(BlockGroup));
    t.records = AFTER(t.summary + (groups + 63) / 64 * sizeof(uint64_t));
    t.bitmaps = AFTER(t.records + blocks * sizeof(Block));
    t.end = AFTER(t.bitmaps + blocks * VA_SLAB_WORDS * sizeof(uint64_t));
    t.first = va_align_up(t.end, VA_HUGE_BYTES) >> VA_BLOCK_SHIFT;
#undef AFTER
    return t;
}

/* Makes memory accessible, but not the last of what a limit of data allows. */
static VA_COLD bool commit_limited(char *start, size_t bytes)
{
    size_t limit = va_os_data_limit();
    if (limit == SIZE_MAX)
        return va_os_commit(start, bytes);
    size_t rest_bytes = va_align_up(va_min(VA_RESERVE_LEAVE_BYTES, limit / 4), VA_BLOCK_BYTES);
    void *rest = va_os_map(rest_bytes);
    if (rest == NULL)
        return false;
    bool done = va_os_commit(start, bytes);
    va_os_unreserve(rest, rest_bytes);
    return done;
}

/* Makes bytes [from, to) of a table accessible, to whole pages. */
static VA_COLD bool commit_table(char *table, size_t from, size_t to)
{
    size_t page = va_os_page_bytes();
    size_t start = va_align_down(from, page);
    return commit_limited(table + start, va_align_up(to, page) - start);
}

/* Makes the tables accessible for blocks below `end`. A failure half way leaves pages that a
 * later try commits again: harmless. */
static VA_COLD bool commit_tables(Arena *arena, size_t end)
{
    size_t from = atomic_load_explicit(&arena->tabled, memory_order_relaxed);
    size_t to = va_min(va_align_up(end, VA_COMMIT_TABLE_BLOCKS), arena->blocks);
    size_t from_groups = from / GROUP_BLOCKS;
    size_t to_groups = (to + GROUP_BLOCKS - 1) / GROUP_BLOCKS;
    if (end <= from)
        return true;
    if (!commit_table((char *)arena->entries, from * sizeof(uint32_t), to * sizeof(uint32_t)) ||
        !commit_table((char *)arena->groups, from_groups * sizeof(BlockGroup),
                      to_groups * sizeof(BlockGroup)) ||
        !commit_table((char *)arena->summary, from_groups / 8, va_align_up(to_groups, 64) / 8) ||
        !commit_table((char *)arena->records, va_max(from, arena->first) * sizeof(Block),
                      to * sizeof(Block)) ||
        !commit_table((char *)arena->bitmaps,
                      va_max(from, arena->first) * VA_SLAB_WORDS * sizeof(uint64_t),
                      to * VA_SLAB_WORDS * sizeof(uint64_t)))
        return false;
    atomic_store_explicit(&arena->tabled, to, memory_order_relaxed);
    return true;
}

/* The first block from `from` on that may lie on a huge page. */
static VA_COLD size_t huge_from(const Arena *arena, size_t from)
{
    const Zone *dense = &arena->zones[ZONE_DENSE];
    if (va_options.huge_pages == HUGE_PAGES_NEVER ||
        (va_options.huge_pages == HUGE_PAGES_AUTO && state.huge_is_dear))
        return SIZE_MAX;
    if (va_options.huge_pages == HUGE_PAGES_ALWAYS)
        return va_max(from, arena->first);
    return va_max(from, dense->first > arena->first
                            ? dense->first
                            : arena->first + (VA_HUGE_AFTER_BYTES >> VA_BLOCK_SHIFT));
}

static VA_COLD void advise_huge(const Arena *arena, size_t from, size_t to)
{
    from = huge_from(arena, from);
    if (from < to)
        va_os_advise_huge(arena->base + (from << VA_BLOCK_SHIFT), (to - from) << VA_BLOCK_SHIFT,
                          true);
}

/* The same for blocks just made accessible that are wanted a few at a time. Whether huge pages pay
 * depends on the machine: the first one, which is wanted now, is made resident and timed. A dear
 * one is the last. */
static VA_COLD void try_huge(const Arena *arena, size_t from, size_t to)
{
    from = huge_from(arena, from);
    if (va_options.huge_pages == HUGE_PAGES_AUTO && from < to &&
        to - from >= VA_HUGE_BYTES >> VA_BLOCK_SHIFT) {
        char *chunk = arena->base + (from << VA_BLOCK_SHIFT);
        uint64_t start = va_os_thread_ns();
        va_os_advise_huge(chunk, VA_HUGE_BYTES, true);
        va_os_populate(chunk, VA_HUGE_BYTES);
        state.huge_is_dear = va_os_thread_ns() - start > VA_HUGE_DEAR_NS;
        from += VA_HUGE_BYTES >> VA_BLOCK_SHIFT;
    }
    advise_huge(arena, from, to);
}

/* Makes blocks below `end` accessible, and some more; at least these if more is refused. */
static VA_COLD bool commit_blocks(Arena *arena, Zone *zone, size_t end)
{
    const size_t huge_blocks = VA_HUGE_BYTES >> VA_BLOCK_SHIFT;
    size_t heap = (zone->committed - zone->first) << VA_BLOCK_SHIFT;
    size_t step = heap == 0 ? VA_COMMIT_FIRST_BYTES
                            : va_max(VA_COMMIT_MIN_BYTES, va_min(heap / 8, VA_COMMIT_MAX_BYTES));
    size_t least = va_min(va_align_up(end, huge_blocks), zone->end);
    size_t wanted = va_min(va_max(least, zone->committed + (step >> VA_BLOCK_SHIFT)), zone->end);
    if (end <= zone->committed)
        return true;
    if (!commit_tables(arena, least))
        return false;
    if (wanted > atomic_load_explicit(&arena->tabled, memory_order_relaxed))
        wanted = least;
    char *start = arena->base + (zone->committed << VA_BLOCK_SHIFT);
    if (!commit_limited(start, (wanted - zone->committed) << VA_BLOCK_SHIFT)) {
        wanted = least;
        if (!commit_limited(start, (wanted - zone->committed) << VA_BLOCK_SHIFT))
            return false;
    }
    if (end - zone->committed <= huge_blocks)
        try_huge(arena, zone->committed, wanted);
    else
        advise_huge(arena, zone->committed, wanted);
    zone->committed = wanted;
    return true;
}

/* Reserves address space for an arena of *bytes, halved until the kernel agrees and `blocks`
 * still fit; NULL if they do not. *bytes and *tables tell what it came to. */
static VA_COLD char *reserve(size_t *bytes, size_t blocks, Tables *tables)
{
    for (; *bytes >= VA_RESERVE_MIN_BYTES; *bytes = va_align_down(*bytes / 2, VA_HUGE_BYTES)) {
        *tables = lay_out(*bytes >> VA_BLOCK_SHIFT);
        if (tables->first + blocks > *bytes >> VA_BLOCK_SHIFT)
            return NULL;
        char *base = va_os_reserve(*bytes, VA_HUGE_BYTES);
        if (base != NULL)
            return base;
    }
    return NULL;
}

/* The same under a limit: at most half of it at a time, and never its last bytes, which the
 * program needs for stacks and libraries. */
static VA_COLD char *reserve_limited(size_t *bytes, size_t blocks, Tables *tables, size_t limit)
{
    size_t rest_bytes = va_align_up(va_min(VA_RESERVE_LEAVE_BYTES, limit / 4), VA_BLOCK_BYTES);
    char *rest = va_os_reserve(rest_bytes, VA_BLOCK_BYTES);
    if (rest == NULL)
        return NULL;
    *bytes = va_min(*bytes, va_align_down(limit / 2, VA_HUGE_BYTES));
    char *base = reserve(bytes, blocks, tables);
    va_os_unreserve(rest, rest_bytes);
    return base;
}

static VA_COLD void start_zone(Zone *zone, size_t first, size_t end)
{
    *zone = (Zone){.first = first,
                   .end = end,
                   .top = first,
                   .committed = first,
                   .lowest_group = first / GROUP_BLOCKS,
                   .purge_group = first / GROUP_BLOCKS};
}

/* Reserves a new arena that can lend a run of this many blocks. */
static VA_COLD Arena *add_arena(size_t blocks)
{
    unsigned count = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    size_t limit = va_os_address_limit();
    size_t bytes = va_options.reserve_bytes;
    if (count == VA_ARENAS_MAX || blocks > bytes >> VA_BLOCK_SHIFT)
        return NULL;
    Tables tables;
    char *base = limit == SIZE_MAX ? reserve(&bytes, blocks, &tables)
                                   : reserve_limited(&bytes, blocks, &tables, limit);
    if (base == NULL)
        return NULL;
    Arena *arena = &va_arenas[count];
    arena->base = base;
    arena->blocks = bytes >> VA_BLOCK_SHIFT;
    arena->entries = (_Atomic uint32_t *)base;
    arena->groups = (BlockGroup *)(base + tables.groups);
    arena->summary = (uint64_t *)(base + tables.summary);
    arena->records = (Block *)(base + tables.records);
    arena->bitmaps = (uint64_t *)(base + tables.bitmaps);
    arena->first = tables.first;
    size_t split = tables.first;
    if (bytes >= VA_ZONED_BYTES)
        split = va_align_up(split + (VA_SPARSE_BYTES >> VA_BLOCK_SHIFT), GROUP_BLOCKS);
    start_zone(&arena->zones[ZONE_SPARSE], tables.first, split);
    start_zone(&arena->zones[ZONE_DENSE], split, arena->blocks);
    if (!commit_tables(arena, tables.first + 1)) {
        va_os_unreserve(base, bytes);
        return NULL;
    }
    va_os_exclude_from_dump(base, tables.end);
    atomic_store_explicit(&va_arena_count, count + 1, memory_order_release);
    return arena;
}

/* ---- Purging ---- */

static VA_COLD bool next_due(const Arena *arena, Zone *zone, size_t *first, size_t *count)
{
    size_t end = group_end(zone);
    for (size_t group = zone->purge_group; group < end; group++) {
        uint64_t due = arena->groups[group].due;
        if (due == 0)
            continue;
        unsigned bit = va_lowest_bit(due);
        uint64_t ended = ~(due >> bit);
        zone->purge_group = group;
        *first = group * GROUP_BLOCKS + bit;
        *count = ended == 0 ? GROUP_BLOCKS : va_min(va_lowest_bit(ended), GROUP_BLOCKS - bit);
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
        take_blocks(arena, first, blocks);
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

/* Purges due runs, up to about max_bytes. Returns the bytes purged; 0 when nothing is due. */
static VA_COLD size_t purge_due(size_t max_bytes)
{
    DueRuns due;
    due.count = due.bytes = 0;
    va_lock_acquire(&va_arena_lock);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = 0; i < arenas; i++)
        for (unsigned kind = 0; kind < ZONES; kind++)
            take_due_locked(&due, &va_arenas[i], &va_arenas[i].zones[kind], max_bytes);
    if (due.count == 0)
        atomic_store_explicit(&clock_state.purging, false, memory_order_relaxed);
    va_lock_release(&va_arena_lock);
    if (due.count == 0)
        return 0;
    for (size_t i = 0; i < due.count; i++)
        due.runs[i].purged =
            va_os_purge(due.runs[i].arena->base + (due.runs[i].first << VA_BLOCK_SHIFT),
                        due.runs[i].blocks << VA_BLOCK_SHIFT);
    va_lock_acquire(&va_arena_lock);
    for (size_t i = 0; i < due.count; i++) {
        return_blocks(due.runs[i].arena, due.runs[i].first, due.runs[i].blocks,
                      !due.runs[i].purged);
        if (due.runs[i].purged)
            state.purged_bytes += due.runs[i].blocks << VA_BLOCK_SHIFT;
    }
    va_lock_release(&va_arena_lock);
    return due.bytes;
}

static VA_COLD bool mark_zone_locked(Arena *arena, Zone *zone, bool all)
{
    bool due = false;
    size_t end = group_end(zone);
    for (size_t g = next_free_group(arena, zone, zone->lowest_group); g < end;
         g = next_free_group(arena, zone, g + 1)) {
        BlockGroup *group = &arena->groups[g];
        uint64_t dirty = group->free & group->dirty;
        group->due |= all ? dirty : dirty & group->aged;
        group->aged = dirty;
        if (group->due != 0)
            due = true;
    }
    zone->purge_group = zone->first / GROUP_BLOCKS;
    return due;
}

/* Marks what is free and dirty as due: all of it, or what was so at the last tick already. */
static VA_COLD void mark_due_locked(bool all)
{
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    bool due = false;
    for (unsigned i = 0; i < arenas; i++)
        for (unsigned kind = 0; kind < ZONES; kind++)
            due |= mark_zone_locked(&va_arenas[i], &va_arenas[i].zones[kind], all);
    atomic_store_explicit(&clock_state.purging, due, memory_order_relaxed);
}

/* ---- Lending ---- */

/* A place for a run in this zone: below top if there is one, else from top on. */
static size_t find_place(const Arena *arena, Zone *zone, size_t blocks, size_t align_blocks)
{
    size_t padded = blocks + align_blocks - 1;
    size_t first = SIZE_MAX;
    if (zone->free_blocks >= padded)
        first = padded == 1 ? find_block(arena, zone) : find_run(arena, zone, padded);
    if (first == SIZE_MAX)
        first = zone->top - (zone->free_blocks != 0 ? free_below_top(arena, zone) : 0);
    /* The arena starts on a huge page, not on every alignment: align the address. */
    size_t base = (uintptr_t)arena->base >> VA_BLOCK_SHIFT;
    return va_align_up(base + first, align_blocks) - base;
}

/* Moves top up to `end`; what lies between joins the free blocks. */
static void raise_top(Arena *arena, Zone *zone, size_t end)
{
    if (end <= zone->top)
        return;
    size_t first = zone->top;
    zone->top = end;
    return_blocks(arena, first, end - first, false);
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
        count = free_from(arena, zone, *first, va_min(count * blocks, most)) / blocks;
    }
    size_t all = count * blocks;
    if (!commit_blocks(arena, zone, *first + all))
        return 0;
    raise_top(arena, zone, *first + all);
    *zero = take_blocks(arena, *first, all) == 0;
    FOR_EACH_GROUP(arena, *first, all, group, mask)
        group->dirty |= mask;
    state.lent_blocks += all;
    state.peak_blocks = va_max(state.peak_blocks, state.lent_blocks + state.dirty_blocks);
    return count;
}

/* ---- Reclaiming ---- */

/* More dirty memory than is worth keeping, once this run joins it? What was resident within the
 * last delay may be wanted again: up to that peak nothing is gained at once by purging. */
static bool is_excess(size_t blocks, bool large)
{
    size_t peak = va_max(state.peak_blocks, state.last_peak_blocks);
    size_t idle = peak - va_min(peak, state.lent_blocks - blocks);
    size_t keep = va_max(VA_DIRTY_KEEP_BYTES >> VA_BLOCK_SHIFT,
                         va_min(idle, VA_DIRTY_KEEP_MAX_BYTES >> VA_BLOCK_SHIFT));
    if (va_unlikely(state.lent_blocks + state.dirty_blocks > state.soft_limit))
        return true;
    return large && state.dirty_blocks + blocks > keep;
}

/* Pages that were moved into a run brought a mapping of their own with them: puts it right.
 * The blocks then read as zero. */
static VA_COLD bool remap(const Arena *arena, size_t first, size_t blocks)
{
    if (!va_os_remap(arena->base + (first << VA_BLOCK_SHIFT), blocks << VA_BLOCK_SHIFT))
        return false;
    advise_huge(arena, first, first + blocks);
    return true;
}

/* ---- The purge clock ---- */

/* Called without locks wherever blocks come and go: keeps the purge clock. */
static void purge_some(void)
{
    uint64_t now = va_os_clock_ms();
    if (va_unlikely(now >= atomic_load_explicit(&clock_state.next_tick_ms, memory_order_relaxed))) {
        va_lock_acquire(&va_arena_lock);
        if (now >= atomic_load_explicit(&clock_state.next_tick_ms, memory_order_relaxed)) {
            uint64_t delay = va_options.purge_delay_ms;
            atomic_store_explicit(&clock_state.next_tick_ms, now + delay, memory_order_relaxed);
            if (state.dirty_blocks != 0)
                mark_due_locked(delay == 0 || now - clock_state.last_tick_ms >= 2 * delay);
            clock_state.last_tick_ms = now;
            state.last_peak_blocks = state.peak_blocks;
            state.peak_blocks = state.lent_blocks + state.dirty_blocks;
        }
        va_lock_release(&va_arena_lock);
    }
    if (va_unlikely(atomic_load_explicit(&clock_state.purging, memory_order_relaxed)))
        purge_due(VA_PURGE_VISIT_BYTES);
}

VA_COLD size_t va_arena_purge_all(void)
{
    size_t total = 0;
    size_t bytes;
    va_lock_acquire(&va_arena_lock);
    mark_due_locked(true);
    va_lock_release(&va_arena_lock);
    while ((bytes = purge_due(SIZE_MAX)) != 0)
        total += bytes;
    return total;
}

/* ---- The interface ---- */

static void limit_locked(size_t soft, size_t hard)
{
    state.hard_limit = hard != 0 ? hard : SIZE_MAX;
    state.soft_limit = soft != 0 ? soft : state.hard_limit;
}

static VA_COLD void initialise_locked(void)
{
    state.initialised = true;
    va_options_read();
    limit_locked(va_options.soft_limit_bytes >> VA_BLOCK_SHIFT,
                 va_options.hard_limit_bytes >> VA_BLOCK_SHIFT);
    clock_state.last_tick_ms = va_os_clock_ms();
    atomic_store_explicit(&clock_state.next_tick_ms,
                          clock_state.last_tick_ms + va_options.purge_delay_ms,
                          memory_order_relaxed);
}

/* Lends up to `count` runs that lie side by side in one zone, of this kind if it can be; returns
 * how many. */
static size_t lend_some(size_t blocks, size_t align_blocks, ZoneKind kind, Block **runs,
                        size_t count)
{
    Arena *arena = va_arenas;
    size_t lent = 0;
    size_t first = 0;
    bool zero = false;
    va_lock_acquire(&va_arena_lock);
    if (va_unlikely(!state.initialised))
        initialise_locked();
    count =
        va_min(count, (state.hard_limit - va_min(state.hard_limit, state.lent_blocks)) / blocks);
    if (va_unlikely(count == 0)) {
        va_lock_release(&va_arena_lock);
        return 0;
    }
    if (state.lent_blocks + blocks * count <= VA_HUGE_AFTER_BYTES >> VA_BLOCK_SHIFT)
        kind = ZONE_SPARSE; /* a small heap */
    if (va_unlikely(atomic_load_explicit(&va_arena_count, memory_order_relaxed) == 0))
        add_arena(blocks + align_blocks - 1);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = 0; i < ZONES * arenas && lent == 0; i++) {
        arena = &va_arenas[i % arenas];
        Zone *zone = &arena->zones[i < arenas ? kind : 1 - kind];
        lent = lend_from(arena, zone, blocks, align_blocks, count, &first, &zero);
    }
    if (va_unlikely(lent == 0)) {
        arena = add_arena(blocks + align_blocks - 1);
        if (arena != NULL)
            lent = lend_from(arena, &arena->zones[ZONE_DENSE], blocks, align_blocks, count, &first,
                             &zero);
    }
    bool excess =
        state.dirty_blocks != 0 && state.lent_blocks + state.dirty_blocks > state.soft_limit;
    va_lock_release(&va_arena_lock);
    if (va_unlikely(excess))
        va_arena_purge_all();
    for (size_t i = 0; i < lent; i++) { /* the records are the borrower's already */
        Block *run = &arena->records[first + i * blocks];
        run->arena = (uint8_t)(arena - va_arenas);
        run->run_blocks = (uint32_t)blocks;
        run->next = NULL;
        run->zero = zero;
        run->moved = false;
        runs[i] = run;
    }
    return lent;
}

Block *va_arena_lend(size_t blocks, size_t align_blocks)
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
    if (va_unlikely(dirty && is_excess(blocks, large))) {
        va_lock_release(&va_arena_lock);
        dirty = !va_os_purge(arena->base + (first << VA_BLOCK_SHIFT), blocks << VA_BLOCK_SHIFT);
        va_lock_acquire(&va_arena_lock);
        if (!dirty)
            state.purged_bytes += blocks << VA_BLOCK_SHIFT;
    }
    state.lent_blocks -= blocks;
    return_blocks(arena, first, blocks, dirty);
}

void va_arena_reclaim(Block *runs)
{
    for (Block *run = runs; run != NULL; run = run->next) {
        Arena *arena = &va_arenas[run->arena];
        va_entry_store(va_block_entry(run), 0);
        if (va_unlikely(run->moved))
            run->zero = remap(arena, va_block_number(run), run->run_blocks);
    }
    va_lock_acquire(&va_arena_lock);
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
    va_lock_release(&va_arena_lock);
    purge_some();
}

bool va_arena_resize(Block *run, size_t blocks)
{
    Arena *arena = &va_arenas[run->arena];
    size_t first = va_block_number(run);
    size_t old = run->run_blocks;
    bool done = true;
    bool dirty = true;
    if (va_unlikely(blocks < old && run->moved))
        dirty = !remap(arena, first + blocks, old - blocks);
    va_lock_acquire(&va_arena_lock);
    if (blocks < old) {
        return_blocks(arena, first + blocks, old - blocks, dirty);
        state.lent_blocks -= old - blocks;
    } else if (blocks > old) {
        size_t end = first + blocks;
        Zone *zone = zone_of(arena, first);
        done = end <= zone->end &&
               blocks - old <= state.hard_limit - va_min(state.hard_limit, state.lent_blocks);
        /* Every block between must be free; those from top on are. */
        if (done)
            FOR_EACH_GROUP(arena, first + old,
                           va_min(end, va_max(zone->top, first + old)) - (first + old), group, mask)
                done = done && (group->free & mask) == mask;
        done = done && commit_blocks(arena, zone, end);
        if (done) {
            raise_top(arena, zone, end);
            run->zero = take_blocks(arena, first + old, blocks - old) == 0 && run->zero;
            FOR_EACH_GROUP(arena, first + old, blocks - old, group, mask)
                group->dirty |= mask;
            state.lent_blocks += blocks - old;
        }
    }
    if (done)
        run->run_blocks = (uint32_t)blocks;
    va_lock_release(&va_arena_lock);
    return done;
}

VA_COLD void va_arena_limit(size_t soft, size_t hard)
{
    va_lock_acquire(&va_arena_lock);
    if (!state.initialised)
        initialise_locked();
    limit_locked(soft, hard);
    bool excess = state.lent_blocks + state.dirty_blocks > state.soft_limit;
    va_lock_release(&va_arena_lock);
    if (excess)
        va_arena_purge_all();
}

/* ---- Looking around ---- */

/* The run at a block below the zone's top; false if it is changing hands. */
static VA_COLD bool view_locked(Arena *arena, const Zone *zone, size_t block, RunView *view)
{
    *view = (RunView){.address = arena->base + (block << VA_BLOCK_SHIFT), .blocks = 1};
    if (va_bitmap_test(&arena->groups[block / GROUP_BLOCKS].free, block % GROUP_BLOCKS)) {
        view->blocks = free_from(arena, zone, block, zone->top - block);
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
    va_lock_acquire(&va_arena_lock);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    while (cursor->arena < arenas && count < most) {
        const Arena *arena = &va_arenas[cursor->arena];
        for (unsigned kind = 0; kind < ZONES && count < most; kind++)
            count += scan_zone_locked(cursor, &arena->zones[kind], views + count, most - count);
        if (count < most)
            *cursor = (ScanCursor){.arena = cursor->arena + 1};
    }
    va_lock_release(&va_arena_lock);
    return count;
}

VA_COLD void va_arena_stats(ArenaStats *stats)
{
    *stats = (ArenaStats){0};
    va_lock_acquire(&va_arena_lock);
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    for (unsigned i = 0; i < arenas; i++) {
        size_t tabled = atomic_load_explicit(&va_arenas[i].tabled, memory_order_relaxed);
        stats->metadata +=
            tabled * sizeof(uint32_t) + tabled / GROUP_BLOCKS * sizeof(BlockGroup) +
            (tabled - va_arenas[i].first) * (sizeof(Block) + VA_SLAB_WORDS * sizeof(uint64_t));
        stats->reserved += va_arenas[i].blocks << VA_BLOCK_SHIFT;
        for (unsigned kind = 0; kind < ZONES; kind++) {
            const Zone *zone = &va_arenas[i].zones[kind];
            stats->committed += (zone->committed - zone->first) << VA_BLOCK_SHIFT;
        }
    }
    stats->lent = state.lent_blocks << VA_BLOCK_SHIFT;
    stats->dirty = state.dirty_blocks << VA_BLOCK_SHIFT;
    stats->purged = state.purged_bytes;
    va_lock_release(&va_arena_lock);
}
