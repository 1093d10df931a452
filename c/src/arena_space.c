/* arena_space.c: an arena is one reserved range, its tables at the start; what is accessible grows
 * from there in steps and never shrinks, so that the range stays few mappings. */
#include "arena_space.h"

#include "options.h"
#include "os.h"
#include "run_set.h"

static bool huge_is_dear; /* see try_huge; arena lock */

typedef struct Tables {
    size_t groups, spans, records, bitmaps, live, end; /* offsets in bytes; entries at 0 */
    size_t first;                                      /* block behind them */
} Tables;

/* Where the tables of an arena of so many blocks lie: each starts on a block of its own, behind
 * one that is never accessible. */
static VA_STARTUP Tables lay_out(size_t blocks)
{
    Tables t;
    size_t groups = (blocks + VA_GROUP_BLOCKS - 1) / VA_GROUP_BLOCKS;
#define AFTER(bytes) (va_align_up((bytes), VA_BLOCK_BYTES) + VA_BLOCK_BYTES)
    t.groups = AFTER(blocks * sizeof(uint32_t));
    t.spans = AFTER(t.groups + groups * sizeof(BlockGroup));
    t.records = AFTER(t.spans + groups * 2 * sizeof(FreeSpan));
    t.bitmaps = AFTER(t.records + blocks * sizeof(Block));
    t.live = AFTER(t.bitmaps + blocks * VA_SLAB_WORDS * sizeof(uint64_t));
    t.end =
        VALLOC_SECURE_EXACT ? AFTER(t.live + blocks * VA_LIVE_WORDS * sizeof(uint64_t)) : t.live;
    t.first = va_align_up(t.end, VA_HUGE_BYTES) >> VA_BLOCK_SHIFT;
#undef AFTER
    return t;
}

/* Makes bytes [from, to) of a table accessible, to whole pages. */
static VA_STARTUP bool commit_table(char *table, size_t from, size_t to)
{
    size_t page = va_os_page_bytes();
    size_t start = va_align_down(from, page);
    return va_os_commit(table + start, va_align_up(to, page) - start);
}

/* Makes the tables accessible for blocks below `end`. A failure half way leaves pages that a
 * later try commits again: harmless. */
static VA_STARTUP bool commit_tables(Arena *arena, size_t end)
{
    size_t from = atomic_load_explicit(&arena->tabled, memory_order_relaxed);
    size_t to = va_min(va_align_up(end, VA_COMMIT_TABLE_BLOCKS), arena->blocks);
    size_t from_groups = from / VA_GROUP_BLOCKS;
    size_t to_groups = (to + VA_GROUP_BLOCKS - 1) / VA_GROUP_BLOCKS;
    if (end <= from)
        return true;
    if (!commit_table((char *)arena->entries, from * sizeof(uint32_t), to * sizeof(uint32_t)) ||
        !commit_table((char *)arena->groups, from_groups * sizeof(BlockGroup),
                      to_groups * sizeof(BlockGroup)) ||
        !commit_table((char *)arena->spans, from_groups * 2 * sizeof(FreeSpan),
                      to_groups * 2 * sizeof(FreeSpan)) ||
        !commit_table((char *)arena->records, va_max(from, arena->first) * sizeof(Block),
                      to * sizeof(Block)) ||
        !commit_table((char *)arena->bitmaps,
                      va_max(from, arena->first) * VA_SLAB_WORDS * sizeof(uint64_t),
                      to * VA_SLAB_WORDS * sizeof(uint64_t)) ||
        (VALLOC_SECURE_EXACT &&
         !commit_table((char *)arena->live,
                       va_max(from, arena->first) * VA_LIVE_WORDS * sizeof(uint64_t),
                       to * VA_LIVE_WORDS * sizeof(uint64_t))))
        return false;
    atomic_store_explicit(&arena->tabled, to, memory_order_relaxed);
    return true;
}

/* The first block from `from` on that may lie on a huge page. */
static VA_STARTUP size_t huge_from(const Arena *arena, size_t from)
{
    const Zone *dense = &arena->zones[ZONE_DENSE];
    if (va_options.huge_pages == HUGE_PAGES_NEVER ||
        (va_options.huge_pages == HUGE_PAGES_AUTO && huge_is_dear))
        return SIZE_MAX;
    if (va_options.huge_pages == HUGE_PAGES_ALWAYS)
        return va_max(from, arena->first);
    return va_max(from, dense->first > arena->first
                            ? dense->first
                            : arena->first + (VA_HUGE_AFTER_BYTES >> VA_BLOCK_SHIFT));
}

static VA_STARTUP void advise_huge(Arena *arena, size_t from, size_t to)
{
    from = huge_from(arena, from);
    if (from >= to)
        return;
    va_os_advise_huge(arena->base + (from << VA_BLOCK_SHIFT), (to - from) << VA_BLOCK_SHIFT, true);
    arena->zones[va_zone_of(arena, from)].huge = true;
}

VA_COLD void va_space_refuse_huge(void)
{
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    if (va_options.huge_pages == HUGE_PAGES_ALWAYS)
        return;
    for (unsigned i = 0; i < arenas; i++) {
        const Arena *arena = &va_arenas[i];
        Zone *zone = &va_arenas[i].zones[ZONE_DENSE];
        if (!zone->huge)
            continue;
        va_os_advise_huge(arena->base + (zone->first << VA_BLOCK_SHIFT),
                          (zone->committed - zone->first) << VA_BLOCK_SHIFT, false);
        zone->huge = false;
    }
}

/* The same for blocks just made accessible that are wanted a few at a time. Whether huge pages pay
 * depends on the machine: the first one, which is wanted now, is made resident and timed. A dear
 * one is the last. */
static VA_STARTUP void try_huge(Arena *arena, Zone *zone, size_t from, size_t to)
{
    from = huge_from(arena, from);
    if (va_options.huge_pages == HUGE_PAGES_AUTO && from < to &&
        to - from >= VA_HUGE_BYTES >> VA_BLOCK_SHIFT) {
        char *chunk = arena->base + (from << VA_BLOCK_SHIFT);
        uint64_t start = va_os_thread_ns();
        va_os_advise_huge(chunk, VA_HUGE_BYTES, true);
        va_os_populate(chunk, VA_HUGE_BYTES);
        huge_is_dear = va_os_thread_ns() - start > VA_HUGE_DEAR_NS;
        from += VA_HUGE_BYTES >> VA_BLOCK_SHIFT;
        zone->populated = from;
    }
    advise_huge(arena, from, to);
}

VA_STARTUP bool va_space_commit(Arena *arena, Zone *zone, size_t end)
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
    if (!va_os_commit(start, (wanted - zone->committed) << VA_BLOCK_SHIFT)) {
        wanted = least;
        if (!va_os_commit(start, (wanted - zone->committed) << VA_BLOCK_SHIFT))
            return false;
    }
    if (end - zone->committed <= huge_blocks)
        try_huge(arena, zone, zone->committed, wanted);
    else
        advise_huge(arena, zone->committed, wanted);
    zone->committed = wanted;
    return true;
}

/* Reserves address space for an arena of *bytes, halved until the kernel agrees and `blocks`
 * still fit; NULL if they do not. *bytes and *tables tell what it came to. */
static VA_STARTUP char *reserve(size_t *bytes, size_t blocks, Tables *tables)
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

static VA_STARTUP void start_zone(Zone *zone, size_t first, size_t end)
{
    *zone = (Zone){.first = first,
                   .end = end,
                   .top = first,
                   .committed = first,
                   .lowest_group = first / VA_GROUP_BLOCKS,
                   .purge_group = first / VA_GROUP_BLOCKS};
}

VA_STARTUP Arena *va_space_add(size_t blocks)
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
    arena->spans = (FreeSpan *)(base + tables.spans);
    arena->records = (Block *)(base + tables.records);
    arena->bitmaps = (uint64_t *)(base + tables.bitmaps);
    arena->live = (_Atomic uint64_t *)(base + tables.live);
    arena->first = tables.first;
    size_t split = tables.first;
    if (bytes >= VA_ZONED_BYTES)
        split = va_align_up(split + (VA_SPARSE_BYTES >> VA_BLOCK_SHIFT), VA_GROUP_BLOCKS);
    start_zone(&arena->zones[ZONE_SPARSE], tables.first, split);
    start_zone(&arena->zones[ZONE_DENSE], split, arena->blocks);
    if (!commit_tables(arena, tables.first + 1)) {
        va_os_unreserve(base, bytes);
        return NULL;
    }
    /* Where the kernel gives huge pages unasked, small heaps go without all the same. */
    if (split != tables.first && va_options.huge_pages != HUGE_PAGES_ALWAYS)
        va_os_advise_huge(base + (tables.first << VA_BLOCK_SHIFT),
                          (split - tables.first) << VA_BLOCK_SHIFT, false);
    va_os_exclude_from_dump(base, tables.end);
    atomic_store_explicit(&va_arena_count, count + 1, memory_order_release);
    return arena;
}

VA_COLD bool va_space_remap(Arena *arena, size_t first, size_t blocks)
{
    if (!va_os_remap(arena->base + (first << VA_BLOCK_SHIFT), blocks << VA_BLOCK_SHIFT))
        return false;
    advise_huge(arena, first, first + blocks);
    return true;
}
