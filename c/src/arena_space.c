/* arena_space.c: an arena is a range of address space in which nothing is mapped at first. Its
 * tables and its two zones of blocks are mappings that grow in place, each where it has room to
 * grow, so that a small heap is four small mappings and a large one still is four. Nothing is
 * claimed ahead of use but a step: what is mapped is what the kernel's limits and its accounting
 * count.
 *
 * Growth never replaces what somebody else mapped. A zone that meets such a mapping ends there; the
 * heap goes on in the other zone, then in a further arena. */
#include "arena_space.h"

#include <string.h>

#include "bitmap.h"
#include "options.h"
#include "os.h"
#include "run_set.h"

#define HUGE_BLOCKS (VA_HUGE_BYTES >> VA_BLOCK_SHIFT)

/* Whether a run was moved and its place mapped anew. What is written there while its advice is not
 * that of its neighbours the kernel never joins with them again: mappings would become many. */
static _Atomic bool remapped;
static bool limited; /* growth was refused; arena lock */

/* What populating huge pages took. All relaxed: any thread populates, the rest is advice. */
static struct {
    _Atomic unsigned blocks, slow; /* of the window: blocks populated, calls that were slow */
    _Atomic bool fast;             /* the last window was */
    _Atomic size_t from_blocks;    /* the heap that may try them again */
} huge_cost;

typedef struct Tables {
    size_t records, live, bitmaps; /* offsets in bytes; entries at 0, groups end at `records` */
    size_t first;                  /* block behind them */
} Tables;

/* Where the tables of an arena of so many blocks lie, see block_table.h. What a small heap uses of
 * groups and records, or of bitmaps and blocks, lies within 2 MiB, the range of one page of the
 * kernel's page tables, if the arena is large enough to have a zone that needs no huge pages. */
static VA_STARTUP Tables lay_out(size_t blocks)
{
    Tables t;
    size_t groups = (blocks + VA_GROUP_BLOCKS - 1) / VA_GROUP_BLOCKS;
#define AFTER(bytes) (va_align_up((bytes), VA_BLOCK_BYTES) + VA_BLOCK_BYTES)
    /* The first groups and records share a page, whatever its size. */
    t.records = AFTER(blocks * sizeof(uint32_t)) +
                va_align_up(groups * sizeof(BlockGroup), VA_BLOCK_BYTES) + VA_FIRST_GROUPS_BYTES;
    t.live = AFTER(t.records + blocks * sizeof(Block));
    size_t end = AFTER(
        blocks * VA_SLAB_WORDS * sizeof(uint64_t) +
        (VALLOC_SECURE_EXACT ? AFTER(t.live + blocks * VA_LIVE_WORDS * sizeof(uint64_t)) : t.live));
    t.first = va_align_up(end, VA_HUGE_BYTES) >> VA_BLOCK_SHIFT;
    if (blocks << VA_BLOCK_SHIFT >= VA_ZONED_BYTES)
        t.first += VA_HUGE_BYTES / 2 >> VA_BLOCK_SHIFT;
    t.bitmaps = (t.first - 1) << VA_BLOCK_SHIFT;
#undef AFTER
    return t;
}

/* ---- Mapping ---- */

/* Maps what is missing of [from, to), to whole pages, at the ends of what is there already. */
static VA_STARTUP MapResult cover(Mapped *mapped, void *from, void *to)
{
    size_t page = va_os_page_bytes();
    uintptr_t start = va_align_down((uintptr_t)from, page);
    uintptr_t end = va_align_up((uintptr_t)to, page);
    MapResult result = MAP_DONE;
    if (mapped->end == 0) {
        result = va_os_map_at((void *)start, end - start);
        if (result == MAP_DONE)
            *mapped = (Mapped){start, end};
        return result;
    }
    if (end > mapped->end) {
        result = va_os_extend((void *)mapped->end, end - mapped->end);
        if (result == MAP_DONE)
            mapped->end = end;
    }
    if (result == MAP_DONE && start < mapped->start) {
        result = va_os_map_at((void *)start, mapped->start - start);
        if (result == MAP_DONE)
            mapped->start = start;
    }
    return result;
}

/* Maps the tables of a zone's blocks below `to`. What a failure leaves is found by the next try. */
static VA_STARTUP MapResult cover_tables(Arena *arena, Zone *zone, size_t to)
{
    BlockGroup *last_group = va_group(arena, (to - 1) / VA_GROUP_BLOCKS);
    BlockGroup *groups_end = va_group(arena, zone->first / VA_GROUP_BLOCKS) + 1;
    MapResult result =
        cover(&arena->entries_mapped, (void *)arena->entries, (void *)(arena->entries + to));
    /* The groups and records of the arena's first blocks are one mapping. */
    if (result == MAP_DONE && zone->first == arena->first) {
        result = cover(&zone->tables[TABLE_RECORDS], last_group, arena->records + to);
    } else if (result == MAP_DONE) {
        result = cover(&zone->tables[TABLE_GROUPS], last_group, groups_end);
        if (result == MAP_DONE)
            result = cover(&zone->tables[TABLE_RECORDS], arena->records + zone->first,
                           arena->records + to);
    }
    if (result == MAP_DONE)
        result = cover(&zone->tables[TABLE_BITMAPS], va_bitmap_of(arena, to - 1),
                       va_bitmap_of(arena, zone->first) + VA_SLAB_WORDS);
    if (VALLOC_SECURE_EXACT && result == MAP_DONE)
        result =
            cover(&zone->tables[TABLE_LIVE], (void *)(arena->live + zone->first * VA_LIVE_WORDS),
                  (void *)(arena->live + to * VA_LIVE_WORDS));
    if (result != MAP_DONE)
        return result;
    zone->tabled = to;
    if (to > atomic_load_explicit(&arena->tabled, memory_order_relaxed))
        atomic_store_explicit(&arena->tabled, to, memory_order_relaxed);
    return MAP_DONE;
}

/* The same for blocks below `end`, and some more if that is possible. */
static VA_STARTUP MapResult extend_tables(Arena *arena, Zone *zone, size_t end)
{
    size_t more = va_min(zone->committed - zone->first, VA_TABLE_STEP_MAX_BLOCKS);
    size_t least = va_min(va_align_up(end, VA_GROUP_BLOCKS), zone->end);
    size_t wanted = va_min(least + va_max(more, VA_TABLE_STEP_BLOCKS), zone->end);
    if (end <= zone->tabled)
        return MAP_DONE;
    MapResult result = cover_tables(arena, zone, wanted);
    return result == MAP_DONE ? result : cover_tables(arena, zone, end);
}

/* Maps blocks up to `end`, which lies above what is mapped. */
static VA_STARTUP MapResult extend_blocks(const Arena *arena, const Zone *zone, size_t end)
{
    char *there = arena->base + (zone->committed << VA_BLOCK_SHIFT);
    size_t bytes = (end - zone->committed) << VA_BLOCK_SHIFT;
    return zone->committed == zone->first ? va_os_map_at(there, bytes) : va_os_extend(there, bytes);
}

/* Both at once: tables first. */
static VA_STARTUP MapResult extend(Arena *arena, Zone *zone, size_t end, size_t *wanted)
{
    MapResult result = extend_tables(arena, zone, end);
    *wanted = va_max(end, va_min(*wanted, va_min(zone->tabled, zone->end)));
    return result == MAP_DONE ? extend_blocks(arena, zone, *wanted) : result;
}

/* The same once growth was refused: a little of what a limit allows is left to the program, for the
 * stacks of its threads, and small steps do. */
static VA_COLD MapResult extend_limited(Arena *arena, Zone *zone, size_t end, size_t *wanted)
{
    size_t heap = va_use.committed_blocks << VA_BLOCK_SHIFT;
    size_t rest_bytes = va_min(VA_LEAVE_BYTES, va_align_up(heap / 16, VA_BLOCK_BYTES));
    void *rest = rest_bytes == 0 ? NULL : va_os_map(rest_bytes);
    MapResult result = MAP_REFUSED;
    for (bool again = rest != NULL || rest_bytes == 0; again;) {
        result = extend(arena, zone, end, wanted);
        again = result == MAP_REFUSED && *wanted > end;
        *wanted = again ? end : *wanted;
    }
    if (rest != NULL)
        va_os_unmap(rest, rest_bytes);
    return result;
}

/* ---- Huge pages ---- */

/* The first block from `from` on that may lie on a huge page, if any may. */
static VA_STARTUP size_t huge_from(const Arena *arena, size_t from)
{
    const Zone *dense = &arena->zones[ZONE_DENSE];
    if (va_options.huge_pages == HUGE_PAGES_NEVER)
        return SIZE_MAX;
    if (va_options.huge_pages == HUGE_PAGES_ALWAYS)
        return va_max(from, arena->first);
    return va_max(from, dense->first > arena->first
                            ? dense->first
                            : va_align_up(arena->first + (VA_HUGE_AFTER_BYTES >> VA_BLOCK_SHIFT),
                                          HUGE_BLOCKS));
}

static VA_STARTUP void advise_blocks(const Arena *arena, size_t from, size_t to, bool on)
{
    if (from < to)
        va_os_advise_huge(arena->base + (from << VA_BLOCK_SHIFT), (to - from) << VA_BLOCK_SHIFT,
                          on);
}

/* Whether the huge page at a block shall be none. Any thread: it is a hint. */
static VA_COLD bool is_small(const Arena *arena, size_t block)
{
    const BlockGroup *group = va_group(arena, block / VA_GROUP_BLOCKS);
    unsigned bits = atomic_load_explicit(&group->small, memory_order_relaxed);
    return (bits >> block % VA_GROUP_BLOCKS / HUGE_BLOCKS & 1) != 0;
}

/* Says so of whole huge pages, or the contrary. All of them were advised alike before. */
static VA_COLD void advise_small(const Arena *arena, Zone *zone, size_t from, size_t to, bool small)
{
    size_t beside = from > zone->first && is_small(arena, from - 1);
    beside += to < zone->committed && is_small(arena, to);
    advise_blocks(arena, from, to, !small);
    for (size_t block = from; block < to; block += HUGE_BLOCKS) {
        _Atomic uint8_t *bits = &va_group(arena, block / VA_GROUP_BLOCKS)->small;
        unsigned bit = 1u << block % VA_GROUP_BLOCKS / HUGE_BLOCKS;
        unsigned others = atomic_load_explicit(bits, memory_order_relaxed) & ~bit;
        atomic_store_explicit(bits, (uint8_t)(small ? others | bit : others), memory_order_relaxed);
    }
    zone->small_ranges += small ? 1 - beside : beside - 1; /* may wrap; so does the sum */
}

/* None from a block on: what is not resident yet will be small. */
static VA_COLD void refuse_all(const Arena *arena, Zone *zone, size_t from)
{
    advise_small(arena, zone, from, zone->committed, true);
    zone->small_ranges = 1;
}

VA_COLD void va_space_populate(const Block *slab, size_t bytes)
{
    Arena *arena = va_arena_of(slab);
    size_t block = va_block_number(slab);
    Zone *zone = va_zone_at(arena, block);
    uint64_t ns = va_os_populate(va_block_address(slab), bytes);
    if (block < huge_from(arena, 0) || is_small(arena, block) ||
        block >= atomic_load_explicit(&zone->huge_end, memory_order_relaxed))
        return;
    if (ns > VA_HUGE_SLOW_NS)
        atomic_fetch_add_explicit(&huge_cost.slow, 1, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&huge_cost.blocks, 1, memory_order_relaxed) + 1 !=
        VA_HUGE_WINDOW * HUGE_BLOCKS)
        return;
    bool fast =
        atomic_exchange_explicit(&huge_cost.slow, 0, memory_order_relaxed) <= VA_HUGE_WINDOW / 2;
    va_lock_acquire(&va_use.lock);
    atomic_store_explicit(&huge_cost.fast, fast, memory_order_relaxed);
    if (!fast && va_options.huge_pages == HUGE_PAGES_AUTO) {
        size_t heap = atomic_load_explicit(&va_use.committed_blocks, memory_order_relaxed);
        atomic_store_explicit(&huge_cost.from_blocks, VA_HUGE_RETRY * heap, memory_order_relaxed);
        refuse_all(arena, zone, huge_from(arena, zone->first));
    }
    va_lock_release(&va_use.lock);
    atomic_store_explicit(&huge_cost.blocks, 0, memory_order_relaxed);
}

static VA_STARTUP bool huge_is_slow(void)
{
    return atomic_load_explicit(&va_use.committed_blocks, memory_order_relaxed) <
           atomic_load_explicit(&huge_cost.from_blocks, memory_order_relaxed);
}

/* How many of `blocks` new ones may lie on huge pages: a window of them, until that was fast. */
static VA_STARTUP size_t huge_granted(size_t blocks)
{
    if (va_options.huge_pages == HUGE_PAGES_ALWAYS ||
        atomic_load_explicit(&huge_cost.fast, memory_order_relaxed))
        return blocks;
    return huge_is_slow() ? 0 : va_min(blocks, VA_HUGE_WINDOW * HUGE_BLOCKS);
}

/* Advice for blocks just mapped. Small heaps, runs and large blocks lie on no huge pages, also
 * where the kernel gives them unasked, unless the user wants it otherwise. A dense zone's do, but
 * those of a large block: how much of it will be touched nobody knows. */
static VA_STARTUP void advise_new(const Arena *arena, Zone *zone, size_t from, size_t to,
                                  bool dense)
{
    size_t huge = va_max(huge_from(arena, from), from);
    if (from == zone->first && huge > from && va_options.huge_pages != HUGE_PAGES_ALWAYS)
        advise_blocks(arena, from, va_min(huge, to), false);
    if (huge >= to)
        return;
    size_t end = dense ? huge + huge_granted(to - huge) : huge;
    advise_blocks(arena, huge, end, true);
    if (end < to)
        advise_small(arena, zone, end, to, true);
    atomic_store_explicit(&zone->huge_end, to, memory_order_relaxed);
}

static VA_COLD void purge_again(const Arena *arena, size_t first, size_t blocks)
{
    va_os_purge_again(arena->base + (first << VA_BLOCK_SHIFT), blocks << VA_BLOCK_SHIFT);
}

/* The blocks of a huge page that were ever lent, as bits of their group. */
static VA_COLD uint64_t ever_lent(const Zone *zone, size_t block)
{
    return va_bitmap_mask(block / VA_GROUP_BLOCKS, block, va_min(HUGE_BLOCKS, zone->top - block));
}

/* A huge page that was split has made blocks resident that are free and count as purged, or were
 * never lent. */
static VA_COLD void purge_rest(const Arena *arena, const Zone *zone, size_t block)
{
    const BlockGroup *group = va_group(arena, block / VA_GROUP_BLOCKS);
    uint64_t all = va_bitmap_mask(block / VA_GROUP_BLOCKS, block, HUGE_BLOCKS);
    uint64_t rest = ((group->free & ~group->dirty) | ~ever_lent(zone, block)) & all;
    while (rest != 0) {
        unsigned bit = va_lowest_bit(rest);
        unsigned count = va_lowest_bit(~(rest >> bit)); /* half of the bits at most are set */
        purge_again(arena, va_align_down(block, VA_GROUP_BLOCKS) + bit, count);
        rest &= ~((((uint64_t)1 << count) - 1) << bit);
    }
}

/* The huge page at a block shall be none; of too many ranges of them, none from `from` on. */
static VA_COLD void split(const Arena *arena, Zone *zone, size_t from, size_t block)
{
    advise_small(arena, zone, block, block + HUGE_BLOCKS, true);
    purge_rest(arena, zone, block);
    if (zone->small_ranges > VA_SMALL_RANGES_MAX)
        refuse_all(arena, zone, from);
}

VA_COLD void va_space_refuse_huge(const Block *slab)
{
    Arena *arena = &va_arenas[slab->arena];
    Zone *zone = &arena->zones[ZONE_DENSE];
    size_t block = va_align_down(va_block_number(slab), HUGE_BLOCKS);
    size_t from = huge_from(arena, 0);
    size_t end = atomic_load_explicit(&zone->huge_end, memory_order_relaxed);
    if (va_options.huge_pages != HUGE_PAGES_AUTO || block < from || block + HUGE_BLOCKS > end ||
        is_small(arena, block))
        return;
    va_lock_acquire(&va_use.lock);
    if (!is_small(arena, block))
        split(arena, zone, from, block);
    va_lock_release(&va_use.lock);
}

/* Whether no block of the huge page at a block is in use. */
static VA_COLD bool is_unused(const Arena *arena, const Zone *zone, size_t block)
{
    uint64_t all = ever_lent(zone, block);
    return (va_group(arena, block / VA_GROUP_BLOCKS)->free & all) == all;
}

/* Whether all of them were purged as well. */
static VA_COLD bool is_purged(const Arena *arena, const Zone *zone, size_t block)
{
    return is_unused(arena, zone, block) &&
           (va_group(arena, block / VA_GROUP_BLOCKS)->dirty & ever_lent(zone, block)) == 0;
}

/* Whether a huge page of which a part was purged is split for good: not by so many that none are
 * left for holes. */
static VA_COLD bool shall_split(const Zone *zone)
{
    return va_options.huge_pages == HUGE_PAGES_AUTO &&
           zone->small_ranges < VA_SMALL_RANGES_MAX / 2 &&
           !atomic_load_explicit(&remapped, memory_order_relaxed);
}

VA_COLD void va_space_settle_huge(Arena *arena, size_t first, size_t blocks)
{
    Zone *zone = va_zone_at(arena, first);
    size_t lowest = huge_from(arena, 0);
    size_t end = va_min(va_align_up(first + blocks, HUGE_BLOCKS),
                        atomic_load_explicit(&zone->huge_end, memory_order_relaxed));
    if (va_options.huge_pages == HUGE_PAGES_NEVER)
        return;
    size_t from = va_max(va_align_up(lowest, HUGE_BLOCKS), va_align_down(first, HUGE_BLOCKS));
    for (size_t to; from < end; from = to + HUGE_BLOCKS) {
        for (to = from; to < end && is_small(arena, to) && is_purged(arena, zone, to);)
            to += HUGE_BLOCKS;
        if (from < to && zone->small_ranges < VA_SMALL_RANGES_MAX && !huge_is_slow()) {
            /* Purged as a whole they lose the kernel's table of small pages, too. */
            purge_again(arena, from, to - from);
            advise_small(arena, zone, from, to, false);
        }
        if (to >= end || is_small(arena, to))
            continue;
        if (!is_unused(arena, zone, to) && shall_split(zone))
            split(arena, zone, lowest, to);
        else if (!is_purged(arena, zone, to))
            purge_rest(arena, zone, to);
        else if (to < first || to + HUGE_BLOCKS > first + blocks)
            purge_again(arena, to, HUGE_BLOCKS);
    }
}

/* ---- Growth ---- */

/* Nothing can be mapped up to block `end`, because something else lies before it: the zone ends in
 * the middle of what is left. Runs that are short enough may still fit, and few tries are in vain.
 */
static VA_COLD void end_before(Zone *zone, size_t end)
{
    zone->end = zone->committed + (end - 1 - zone->committed) / 2;
}

VA_STARTUP MapResult va_space_commit(Arena *arena, Zone *zone, size_t end)
{
    size_t from = zone->committed;
    size_t heap = (from - zone->first) << VA_BLOCK_SHIFT;
    size_t step = va_max(va_min(va_max(heap, VA_COMMIT_FIRST_BYTES), VA_COMMIT_MIN_BYTES),
                         va_min(heap / 8, VA_COMMIT_MAX_BYTES));
    size_t least = va_min(va_align_up(end, HUGE_BLOCKS), zone->end);
    size_t wanted = va_align_up(from + (step >> VA_BLOCK_SHIFT), HUGE_BLOCKS);
    if (end <= from)
        return MAP_DONE;
    wanted = va_max(least, wanted);
    MapResult result = limited ? MAP_REFUSED : extend(arena, zone, end, &wanted);
    if (va_unlikely(result == MAP_REFUSED)) {
        limited = true;
        result = extend_limited(arena, zone, end, &wanted);
    }
    if (result == MAP_BLOCKED)
        end_before(zone, end);
    if (result != MAP_DONE)
        return result;
    zone->committed = wanted;
    advise_new(arena, zone, from, wanted,
               va_options.huge_pages == HUGE_PAGES_ALWAYS || end - from <= HUGE_BLOCKS);
    va_use_add(&va_use.committed_blocks, wanted - from);
    return MAP_DONE;
}

VA_COLD void va_space_purge_bitmaps(const Arena *arena, size_t first, size_t blocks)
{
    size_t page = va_os_page_bytes();
    if (blocks < VA_BITMAPS_PURGE_BLOCKS)
        return;
    uintptr_t from = va_align_up((uintptr_t)va_bitmap_of(arena, first + blocks - 1), page);
    uintptr_t to = va_align_down((uintptr_t)(va_bitmap_of(arena, first) + VA_SLAB_WORDS), page);
    if (from < to)
        va_os_purge_again((void *)from, to - from);
}

/* Unmaps what lies behind the first `kept` blocks of a zone, all of it free and purged. */
static VA_COLD void shorten(Arena *arena, Zone *zone, size_t end)
{
    size_t huge = va_max(huge_from(arena, zone->first), va_align_up(end, HUGE_BLOCKS));
    size_t kept = va_min(va_align_up(end, HUGE_BLOCKS), zone->committed);
    size_t free = zone->top - end;
    if (free != 0)
        va_runs_take(arena, end, free);
    va_runs_lower_top(arena, zone, end);
    for (size_t to; huge < zone->committed;
         huge = to + HUGE_BLOCKS) { /* what is gone counts no more */
        for (to = huge; to < zone->committed && is_small(arena, to);)
            to += HUGE_BLOCKS;
        if (to > huge)
            advise_small(arena, zone, huge, to, false);
    }
    if (!va_os_unmap(arena->base + (kept << VA_BLOCK_SHIFT), (zone->committed - kept)
                                                                 << VA_BLOCK_SHIFT))
        kept = zone->committed;
    else
        va_space_purge_bitmaps(arena, kept, zone->committed - kept);
    va_use_add(&va_use.committed_blocks, kept - zone->committed);
    zone->committed = kept;
    zone->populated = va_min(zone->populated, end);
    size_t huge_end = atomic_load_explicit(&zone->huge_end, memory_order_relaxed);
    atomic_store_explicit(&zone->huge_end, va_min(kept, huge_end), memory_order_relaxed);
}

VA_COLD bool va_space_trim(Arena *arena, size_t first, size_t blocks)
{
    Zone *zone = va_zone_at(arena, first);
    if (first + blocks != zone->top || blocks < VA_TRIM_BLOCKS)
        return false;
    va_runs_lower_top(arena, zone, first);
    shorten(arena, zone, first - va_runs_clean_below_top(arena, zone));
    return true;
}

VA_COLD void va_space_trim_free(Arena *arena, Zone *zone)
{
    if (zone->free_blocks < VA_TRIM_BLOCKS)
        return;
    size_t clean = va_runs_clean_below_top(arena, zone);
    if (clean >= VA_TRIM_BLOCKS)
        shorten(arena, zone, zone->top - clean);
}

/* ---- Arenas ---- */

/* The least address space of an arena that can lend a run of so many blocks. */
static VA_STARTUP size_t least_bytes(size_t blocks)
{
    size_t total = 0; /* the larger the arena, the larger its tables, by less than a hundredth */
    for (size_t more = blocks; more != total; more = lay_out(total).first + blocks)
        total = more;
    return va_max(va_align_up(total << VA_BLOCK_SHIFT, VA_HUGE_BYTES), VA_RESERVE_MIN_BYTES);
}

/* What is wanted: the more, the more there is, so that the last arena comes late. */
static VA_STARTUP size_t wanted_bytes(unsigned arenas)
{
    size_t blocks = 0;
    for (unsigned i = 0; i < arenas; i++)
        blocks += va_arenas[i].blocks;
    size_t part = va_align_up((blocks << VA_BLOCK_SHIFT) / VA_RESERVE_PART, VA_HUGE_BYTES);
    return va_min(va_max(va_options.reserve_bytes, part), VA_RESERVE_BYTES);
}

static VA_STARTUP void start_zone(Zone *zone, size_t first, size_t end)
{
    *zone = (Zone){.first = first,
                   .end = end,
                   .tabled = first,
                   .top = first,
                   .highest = first,
                   .committed = first,
                   .lowest_group = first / VA_GROUP_BLOCKS,
                   .purge_group = first / VA_GROUP_BLOCKS};
}

/* Describes an arena of which nothing is mapped yet. */
static VA_STARTUP void lay_down(Arena *arena, char *base, size_t bytes, size_t run_bytes)
{
    size_t blocks = bytes >> VA_BLOCK_SHIFT;
    Tables tables = lay_out(blocks);
    size_t split = tables.first;
    memset(arena, 0, sizeof *arena);
    arena->base = base;
    arena->blocks = blocks;
    arena->first = tables.first;
    arena->entries = (_Atomic uint32_t *)base;
    /* Of all but the entries the first block's come first. */
    arena->groups = (BlockGroup *)(base + tables.records) + tables.first / VA_GROUP_BLOCKS - 1;
    arena->records = (Block *)(base + tables.records) - tables.first;
    arena->bitmaps =
        ~((uintptr_t)base + tables.bitmaps + (tables.first - 1) * VA_SLAB_WORDS * sizeof(uint64_t));
    arena->live = (_Atomic uint64_t *)(base + tables.live) - tables.first * VA_LIVE_WORDS;
    if (bytes >= VA_ZONED_BYTES && run_bytes <= bytes / 2)
        split = va_align_up(blocks / VA_SPARSE_PART, VA_GROUP_BLOCKS);
    start_zone(&arena->zones[ZONE_SPARSE], tables.first, split);
    start_zone(&arena->zones[ZONE_DENSE], split, blocks);
}

static VA_COLD void unmap_table(Mapped mapped)
{
    va_os_unmap((void *)mapped.start, mapped.end - mapped.start);
}

/* Maps the first blocks of a new arena and their tables, or nothing. */
static VA_STARTUP MapResult start_arena(Arena *arena)
{
    Zone *zone = va_zone_at(arena, arena->first);
    MapResult result = va_space_commit(arena, zone, arena->first + 1);
    if (va_likely(result == MAP_DONE))
        return result;
    unmap_table(arena->entries_mapped);
    for (unsigned i = 0; i < ZONE_TABLES; i++)
        unmap_table(zone->tables[i]);
    atomic_store_explicit(&arena->tabled, 0, memory_order_relaxed);
    return result;
}

/* Whether a range has addresses in common with one of the first `count` arenas' ranges, of which
 * only parts are mapped. */
static VA_STARTUP bool overlaps(const char *base, size_t bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (base < va_arenas[i].base + (va_arenas[i].blocks << VA_BLOCK_SHIFT) &&
            va_arenas[i].base < base + bytes)
            return true;
    return false;
}

VA_STARTUP Arena *va_space_add(size_t blocks)
{
    unsigned count = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    if (blocks > VA_RESERVE_BYTES >> VA_BLOCK_SHIFT || count == VA_ARENAS_MAX)
        return NULL;
    size_t least = least_bytes(blocks);
    if (least > VA_RESERVE_BYTES)
        return NULL;
    Arena *arena = &va_arenas[count];
    MapResult result = MAP_BLOCKED;
    for (unsigned i = 0; i < 2 * VA_PLACE_TRIES && result == MAP_BLOCKED; i++) {
        bool at_random = i < VA_PLACE_TRIES;
        unsigned shift = at_random ? 0 : 2 * (i - VA_PLACE_TRIES); /* room gets scarce */
        size_t bytes = va_max(va_align_down(wanted_bytes(count) >> shift, VA_HUGE_BYTES), least);
        char *base = va_os_find_place(&bytes, least, VA_HUGE_BYTES, at_random);
        if (base == NULL || overlaps(base, bytes, count))
            continue;
        lay_down(arena, base, bytes, least);
        result = start_arena(arena);
    }
    if (result != MAP_DONE)
        return NULL;
    /* Read first, the page would be mapped twice: to the page of zeros, then to one of its own. */
    va_group(arena, arena->first / VA_GROUP_BLOCKS)->free = 0;
    atomic_store_explicit(&va_arena_count, count + 1, memory_order_release);
    return arena;
}

VA_COLD bool va_space_remap(const Arena *arena, size_t first, size_t blocks)
{
    const Zone *zone = &arena->zones[va_zone_of(arena, first)];
    size_t end = first + blocks;
    if (!va_os_remap(arena->base + (first << VA_BLOCK_SHIFT), blocks << VA_BLOCK_SHIFT))
        return false;
    atomic_store_explicit(&remapped, true, memory_order_relaxed);
    /* As its neighbours are advised, so that they become one mapping. */
    advise_blocks(arena, first, va_min(end, huge_from(arena, first)), false);
    end = va_min(end, atomic_load_explicit(&zone->huge_end, memory_order_relaxed));
    for (size_t from = huge_from(arena, first), to; from < end; from = to) {
        bool small = is_small(arena, from);
        for (to = from; to < end && is_small(arena, to) == small;)
            to = va_min(va_align_down(to, HUGE_BLOCKS) + HUGE_BLOCKS, end);
        advise_blocks(arena, from, to, !small);
    }
    return true;
}
