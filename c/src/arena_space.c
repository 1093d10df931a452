/* arena_space.c: an arena is one reserved range, its tables at the start; what is accessible grows
 * from there in steps and never shrinks, so that the range stays few mappings. Under a limit of the
 * address space the range itself grows, too: the rest is the program's as long as it is not needed,
 * and all of it can become one block. */
#include "arena_space.h"

#include "bitmap.h"
#include "options.h"
#include "os.h"
#include "run_set.h"

#define HUGE_BLOCKS (VA_HUGE_BYTES >> VA_BLOCK_SHIFT)

/* What is known of huge pages. Arena lock. */
static struct {
    bool timed;         /* one was, and was not dear */
    size_t from_blocks; /* none before so much is accessible, since the last one timed was dear */
} huge;

/* Whether a run was moved and its place mapped anew. What is written there while its advice is not
 * that of its neighbours the kernel never joins with them again: mappings would become many. */
static _Atomic bool remapped;

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

/* Makes memory accessible, but not the last of what a limit of data allows. */
static VA_STARTUP bool commit_limited(char *start, size_t bytes)
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

/* Makes [from, to) of the tables accessible, to whole pages. */
static VA_STARTUP bool commit_table(void *from, void *to)
{
    size_t page = va_os_page_bytes();
    uintptr_t start = va_align_down((uintptr_t)from, page);
    uintptr_t end = va_align_up((uintptr_t)to, page);
    return commit_limited((char *)start, end - start);
}

/* Makes the tables accessible for blocks below `to`. A failure half way leaves pages that a later
 * try commits again: harmless. */
static VA_STARTUP bool extend_tables(Arena *arena, size_t to)
{
    size_t tabled = atomic_load_explicit(&arena->tabled, memory_order_relaxed);
    size_t from = va_max(tabled, arena->first);
    BlockGroup *groups = va_group(arena, (to - 1) / VA_GROUP_BLOCKS);
    if (!commit_table((void *)(arena->entries + tabled), (void *)(arena->entries + to)))
        return false;
    /* At first the two are one mapping. */
    if (tabled == 0) {
        if (!commit_table(groups, arena->records + to))
            return false;
    } else if (!commit_table(groups, va_group(arena, from / VA_GROUP_BLOCKS) + 1) ||
               !commit_table(arena->records + from, arena->records + to)) {
        return false;
    }
    /* The first ones up to the blocks, with what lies between: all of it becomes one mapping. */
    void *bitmaps_end = tabled == 0 && !VALLOC_SECURE_GUARD
                            ? arena->base + (arena->first << VA_BLOCK_SHIFT)
                            : (char *)va_bitmap_of(arena, from - 1);
    if (!commit_table(va_bitmap_of(arena, to - 1), bitmaps_end))
        return false;
    if (VALLOC_SECURE_EXACT && !commit_table((void *)(arena->live + from * VA_LIVE_WORDS),
                                             (void *)(arena->live + to * VA_LIVE_WORDS)))
        return false;
    atomic_store_explicit(&arena->tabled, to, memory_order_relaxed);
    return true;
}

/* The same for blocks below `end` and `more` behind them; a group's rest if that is refused. */
static VA_STARTUP bool commit_tables(Arena *arena, size_t end, size_t more)
{
    if (end <= atomic_load_explicit(&arena->tabled, memory_order_relaxed))
        return true;
    size_t least = va_align_up(end, VA_GROUP_BLOCKS);
    size_t blocks = atomic_load_explicit(&arena->blocks, memory_order_relaxed);
    return extend_tables(arena, va_min(least + more, blocks)) ||
           extend_tables(arena, va_min(least, blocks));
}

/* The first block from `from` on that may lie on a huge page, if any may. */
static VA_STARTUP size_t huge_from(const Arena *arena, const Zone *zone, size_t from)
{
    const Zone *dense = &arena->zones[ZONE_DENSE];
    if (va_options.huge_pages == HUGE_PAGES_NEVER)
        return SIZE_MAX;
    if (va_options.huge_pages == HUGE_PAGES_ALWAYS)
        return va_max(from, arena->first);
    from = va_max(from, atomic_load_explicit(&zone->huge_start, memory_order_relaxed));
    return va_max(from, dense->first > arena->first
                            ? dense->first
                            : va_align_up(arena->first + (VA_HUGE_AFTER_BYTES >> VA_BLOCK_SHIFT),
                                          HUGE_BLOCKS));
}

static VA_COLD bool huge_is_wanted(void)
{
    return va_use.committed_blocks >= huge.from_blocks;
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

/* Blocks just made accessible that may lie on huge pages. */
static VA_COLD void advise_huge(const Arena *arena, Zone *zone, size_t from, size_t to)
{
    if (from >= to)
        return;
    if (huge_is_wanted())
        advise_blocks(arena, from, to, true);
    else
        advise_small(arena, zone, from, to, true);
    atomic_store_explicit(&zone->huge_end, to, memory_order_relaxed);
}

/* Blocks below `end`, and tables, shall not lie on huge pages also where the kernel gives them
 * unasked: small heaps, unless the user wants it otherwise. */
static VA_STARTUP void refuse_huge(Arena *arena, size_t end)
{
    if (va_options.huge_pages == HUGE_PAGES_ALWAYS)
        return;
    bool never = va_options.huge_pages == HUGE_PAGES_NEVER;
    if (never)
        end = atomic_load_explicit(&arena->blocks, memory_order_relaxed);
    advise_blocks(arena, 0, end, false);
    for (unsigned kind = 0; kind < (never ? ZONES : ZONE_DENSE); kind++)
        atomic_store_explicit(&arena->zones[kind].huge_start, end, memory_order_relaxed);
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
    if (zone->small_ranges > VA_SMALL_RANGES_MAX) {
        advise_small(arena, zone, from, zone->committed, true);
        zone->small_ranges = 1;
    }
}

VA_COLD void va_space_refuse_huge(const Block *slab)
{
    Arena *arena = &va_arenas[slab->arena];
    Zone *zone = &arena->zones[ZONE_DENSE];
    size_t block = va_align_down(va_block_number(slab), HUGE_BLOCKS);
    size_t from = huge_from(arena, zone, 0);
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
    size_t lowest = huge_from(arena, zone, 0);
    size_t end = va_min(va_align_up(first + blocks, HUGE_BLOCKS),
                        atomic_load_explicit(&zone->huge_end, memory_order_relaxed));
    if (va_options.huge_pages == HUGE_PAGES_NEVER)
        return;
    size_t from = va_max(va_align_up(lowest, HUGE_BLOCKS), va_align_down(first, HUGE_BLOCKS));
    for (size_t to; from < end; from = to + HUGE_BLOCKS) {
        for (to = from; to < end && is_small(arena, to) && is_purged(arena, zone, to);)
            to += HUGE_BLOCKS;
        if (from < to && huge.timed && zone->small_ranges < VA_SMALL_RANGES_MAX) {
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

/* The same for those that are wanted a few at a time. Whether huge pages pay
 * depends on the machine, and there on what others have just given back: the first one, which is
 * wanted now, is made resident by its first byte, and timed. A dear one is the last for a while.
 * Where the kernel gives none, whatever forbids them, a small page comes of it. */
static VA_COLD void try_huge(const Arena *arena, Zone *zone, size_t from, size_t to)
{
    if (va_options.huge_pages == HUGE_PAGES_AUTO && to - from >= HUGE_BLOCKS && huge_is_wanted()) {
        uint64_t start = va_os_thread_ns();
        advise_huge(arena, zone, from, from + HUGE_BLOCKS);
        *(volatile char *)(arena->base + (from << VA_BLOCK_SHIFT)) = 0;
        huge.timed = va_os_thread_ns() - start <= VA_HUGE_DEAR_NS;
        if (!huge.timed)
            huge.from_blocks = VA_HUGE_RETRY * va_use.committed_blocks;
        from += HUGE_BLOCKS;
        zone->populated = from;
    }
    advise_huge(arena, zone, from, to);
}

VA_STARTUP bool va_space_commit(Arena *arena, Zone *zone, size_t end)
{
    size_t heap = (zone->committed - zone->first) << VA_BLOCK_SHIFT;
    size_t step = heap == 0 ? VA_COMMIT_FIRST_BYTES
                            : va_max(VA_COMMIT_MIN_BYTES, va_min(heap / 8, VA_COMMIT_MAX_BYTES));
    size_t least = va_min(va_align_up(end, HUGE_BLOCKS), zone->end);
    size_t wanted = va_align_up(zone->committed + (step >> VA_BLOCK_SHIFT), HUGE_BLOCKS);
    wanted = va_min(va_max(least, wanted), zone->end);
    if (end <= zone->committed)
        return true;
    size_t table_blocks = va_min(zone->committed - zone->first, VA_COMMIT_TABLE_MAX_BLOCKS);
    if (!commit_tables(arena, least, va_max(table_blocks, VA_COMMIT_TABLE_MIN_BLOCKS)))
        return false;
    if (wanted > atomic_load_explicit(&arena->tabled, memory_order_relaxed))
        wanted = least;
    char *start = arena->base + (zone->committed << VA_BLOCK_SHIFT);
    if (!commit_limited(start, (wanted - zone->committed) << VA_BLOCK_SHIFT)) {
        wanted = least;
        if (!commit_limited(start, (wanted - zone->committed) << VA_BLOCK_SHIFT))
            return false;
    }
    size_t from = huge_from(arena, zone, zone->committed);
    /* How much of a large block will be touched nobody knows; its start most likely will. */
    if (from < wanted && (end - zone->committed <= HUGE_BLOCKS || !huge.timed))
        try_huge(arena, zone, from, wanted);
    else if (from < wanted)
        advise_huge(arena, zone, from, wanted);
    va_use_add(&va_use.committed_blocks, wanted - zone->committed);
    zone->committed = wanted;
    return true;
}

/* The address space of an arena that can lend a run of so many blocks, and may grow. */
static VA_STARTUP size_t least_bytes(size_t blocks, size_t blocks_max)
{
    size_t total = 0; /* the larger the arena, the larger its tables, by less than a hundredth */
    for (size_t more = blocks; more != total;
         more = lay_out(va_max(total, blocks_max)).first + blocks)
        total = more;
    return va_max(va_align_up(total << VA_BLOCK_SHIFT, VA_HUGE_BYTES), VA_RESERVE_MIN_BYTES);
}

/* Reserves *bytes of address space, there or anywhere, or half of it and so on, but no fewer than
 * `least`; NULL if the kernel refuses those, too. *bytes tells what it came to. */
static VA_STARTUP char *reserve(char *there, size_t *bytes, size_t least)
{
    char *base;
    *bytes = va_max(*bytes, least);
    while ((base = there == NULL ? va_os_reserve(*bytes, VA_HUGE_BYTES)
                                 : va_os_reserve_at(there, *bytes)) == NULL &&
           *bytes != least)
        *bytes = va_max(va_align_down(*bytes / 2, VA_HUGE_BYTES), least);
    return base;
}

/* The same under a limit: at most half of it at a time unless more is needed, and never its last
 * bytes, which the program needs for stacks and libraries. */
static VA_COLD char *reserve_limited(char *there, size_t *bytes, size_t least, size_t limit)
{
    size_t rest_bytes = va_align_up(va_min(VA_RESERVE_LEAVE_BYTES, limit / 4), VA_BLOCK_BYTES);
    char *rest = va_os_reserve(rest_bytes, VA_BLOCK_BYTES);
    if (rest == NULL)
        return NULL;
    *bytes = va_min(*bytes, va_align_down(limit / 2, VA_HUGE_BYTES));
    char *base = reserve(there, bytes, least);
    va_os_unreserve(rest, rest_bytes);
    return base;
}

/* Moves a range just reserved so far down that it can become `most` bytes: the kernel looks for
 * places from the top, so that what the program maps from now on fills the gap from there, and
 * takes as much from the limit as from the gap. */
static VA_COLD char *lower(char *base, size_t *bytes, size_t least, size_t most)
{
    if ((uintptr_t)base < most)
        return base;
    va_os_unreserve(base, *bytes);
    char *low = va_os_reserve_at(base - (most - *bytes), *bytes);
    return low != NULL ? low : reserve(NULL, bytes, least);
}

/* What is asked for: the more, the more there is, so that the last arena comes late. */
static VA_STARTUP size_t wanted_bytes(unsigned arenas)
{
    size_t blocks = 0;
    for (unsigned i = 0; i < arenas; i++)
        blocks += atomic_load_explicit(&va_arenas[i].blocks, memory_order_relaxed);
    size_t part = va_align_up((blocks << VA_BLOCK_SHIFT) / VA_RESERVE_PART, VA_HUGE_BYTES);
    return va_min(va_max(va_options.reserve_bytes, part), VA_RESERVE_BYTES);
}

static VA_STARTUP void start_zone(Zone *zone, size_t first, size_t end)
{
    *zone = (Zone){.first = first,
                   .end = end,
                   .top = first,
                   .committed = first,
                   .lowest_group = first / VA_GROUP_BLOCKS,
                   .purge_group = first / VA_GROUP_BLOCKS};
}

VA_COLD bool va_space_extend(Arena *arena, size_t end)
{
    size_t blocks = atomic_load_explicit(&arena->blocks, memory_order_relaxed);
    if (end <= blocks)
        return true;
    if (end > arena->blocks_max)
        return false;
    size_t limit = va_os_address_limit();
    char *there = arena->base + (blocks << VA_BLOCK_SHIFT);
    size_t least = va_align_up((end - blocks) << VA_BLOCK_SHIFT, VA_HUGE_BYTES);
    size_t bytes = va_align_down(
        va_min(va_options.reserve_bytes, (arena->blocks_max - blocks) << VA_BLOCK_SHIFT),
        VA_HUGE_BYTES);
    if ((limit == SIZE_MAX ? reserve(there, &bytes, least)
                           : reserve_limited(there, &bytes, least, limit)) == NULL)
        return false;
    blocks += bytes >> VA_BLOCK_SHIFT;
    atomic_store_explicit(&arena->blocks, blocks, memory_order_relaxed);
    arena->zones[ZONE_DENSE].end = blocks;
    if (va_options.huge_pages == HUGE_PAGES_NEVER)
        refuse_huge(arena, blocks);
    return true;
}

/* The first arena under a limit has tables for all of that: it grows where it is, so that one block
 * may take nearly all there is. Blocks; 0 for those that stay as they are. */
static VA_STARTUP size_t growing_blocks(unsigned arenas, size_t limit)
{
    if (arenas != 0 || limit / 2 >= va_options.reserve_bytes)
        return 0;
    return va_min(va_align_down(limit, VA_HUGE_BYTES), VA_RESERVE_BYTES) >> VA_BLOCK_SHIFT;
}

/* Lets the first arena grow for a run that finds no place. */
static VA_COLD bool extend_first(size_t blocks)
{
    const Zone *zone = &va_arenas[0].zones[ZONE_DENSE];
    size_t first = zone->top - va_runs_free_below_top(&va_arenas[0], zone);
    return va_space_extend(&va_arenas[0], first + blocks);
}

/* The bytes before the first bitmaps, which are one mapping with the blocks. */
static VA_STARTUP size_t tables_end(const Arena *arena)
{
    size_t tabled = atomic_load_explicit(&arena->tabled, memory_order_relaxed);
    return va_align_down((uintptr_t)va_bitmap_of(arena, tabled - 1), va_os_page_bytes()) -
           (uintptr_t)arena->base;
}

VA_STARTUP Arena *va_space_add(size_t blocks)
{
    unsigned count = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    size_t limit = va_os_address_limit();
    size_t bytes = wanted_bytes(count);
    size_t blocks_max = growing_blocks(count, limit);
    if (blocks > VA_RESERVE_BYTES >> VA_BLOCK_SHIFT)
        return NULL;
    if (count != 0 && extend_first(blocks))
        return &va_arenas[0];
    size_t least = least_bytes(blocks, blocks_max);
    if (least > VA_RESERVE_BYTES || count == VA_ARENAS_MAX)
        return NULL;
    char *base = limit == SIZE_MAX ? reserve(NULL, &bytes, least)
                                   : reserve_limited(NULL, &bytes, least, limit);
    if (base != NULL && blocks_max > bytes >> VA_BLOCK_SHIFT)
        base = lower(base, &bytes, least, blocks_max << VA_BLOCK_SHIFT);
    if (base == NULL)
        return NULL;
    blocks_max = va_max(blocks_max, bytes >> VA_BLOCK_SHIFT);
    Tables tables = lay_out(blocks_max);
    Arena *arena = &va_arenas[count];
    arena->base = base;
    arena->blocks_max = blocks_max;
    atomic_store_explicit(&arena->blocks, bytes >> VA_BLOCK_SHIFT, memory_order_relaxed);
    arena->entries = (_Atomic uint32_t *)base;
    /* Of all but the entries the first block's come first. */
    arena->groups = (BlockGroup *)(base + tables.records) + tables.first / VA_GROUP_BLOCKS - 1;
    arena->records = (Block *)(base + tables.records) - tables.first;
    arena->bitmaps =
        ~((uintptr_t)base + tables.bitmaps + (tables.first - 1) * VA_SLAB_WORDS * sizeof(uint64_t));
    arena->live = (_Atomic uint64_t *)(base + tables.live) - tables.first * VA_LIVE_WORDS;
    arena->first = tables.first;
    size_t split = tables.first;
    if (blocks_max << VA_BLOCK_SHIFT >= VA_ZONED_BYTES &&
        bytes - least > VA_SPARSE_BYTES + VA_GROUP_BLOCKS * VA_BLOCK_BYTES)
        split = va_align_up(split + (VA_SPARSE_BYTES >> VA_BLOCK_SHIFT), VA_GROUP_BLOCKS);
    start_zone(&arena->zones[ZONE_SPARSE], tables.first, split);
    start_zone(&arena->zones[ZONE_DENSE], split, bytes >> VA_BLOCK_SHIFT);
    if (!commit_tables(arena, tables.first + 1, VA_COMMIT_TABLE_MIN_BLOCKS)) {
        va_os_unreserve(base, bytes);
        return NULL;
    }
    /* Read first, the page would be mapped twice: to the page of zeros, then to one of its own. */
    va_group(arena, tables.first / VA_GROUP_BLOCKS)->free = 0;
    refuse_huge(arena, split);
    va_os_exclude_from_dump(base, tables_end(arena));
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
    size_t start = atomic_load_explicit(&zone->huge_start, memory_order_relaxed);
    advise_blocks(arena, first, va_min(end, start), false);
    end = va_min(end, atomic_load_explicit(&zone->huge_end, memory_order_relaxed));
    for (size_t from = huge_from(arena, zone, first), to; from < end; from = to) {
        bool small = is_small(arena, from);
        for (to = from; to < end && is_small(arena, to) == small;)
            to = va_min(va_align_down(to, HUGE_BLOCKS) + HUGE_BLOCKS, end);
        advise_blocks(arena, from, to, !small);
    }
    return true;
}
