/* arena_space.c: the address space of arenas.
 *
 * An arena is a range of addresses in which nothing is mapped at first. Its tables and its two
 * zones of blocks are mappings that grow in place, so a heap is a few mappings, whatever its size.
 * Memory is mapped at most a step ahead of its use: limits and the kernel's accounting count what
 * is used. Growth never replaces another mapping. A zone that meets one ends there; the heap goes
 * on in the other zone, then in a further arena.
 *
 * Huge pages: only memory of a dense zone lies on them, and only until a part of it is purged.
 * Small pages from then on keep what is resident exact: one byte makes a huge page resident. */
#include "arena/arena_space.h"

#include <string.h>

#include "table/bitmap.h"
#include "harden/secure.h"
#include "os/options.h"
#include "os/os.h"
#include "arena/run_set.h"

#define HUGE_BLOCKS (VA_HUGE_BYTES >> VA_BLOCK_SHIFT)
#define GROUP_PAGES (VA_GROUP_BLOCKS / HUGE_BLOCKS)
#define GROUP_BYTES ((size_t)VA_GROUP_BLOCKS << VA_BLOCK_SHIFT)

typedef struct Tables {
    size_t records, states[STATE_TABLES], bitmaps; /* offsets in bytes; entries at 0, groups end at
                                                      `records` */
    size_t first;                                  /* block behind them */
} Tables;

/* Secure builds: what lies between two tables beyond their distance otherwise, in blocks; up to
 * VA_GAP_PART of the arena. `gaps` is 4 numbers of 16 bits. */
VA_INLINE size_t gap(size_t blocks, uint64_t gaps, unsigned number)
{
    return (blocks / VA_GAP_PART) * (gaps >> 16 * number & 0xffff) >> 16;
}

/* Where the tables of an arena of so many blocks lie, see block_table.h. What a small heap uses of
 * groups and records, or of bitmaps and blocks, lies within 2 MiB, the range of one page of the
 * kernel's page tables, if the arena is large enough to have a zone that needs no huge pages. */
static VA_STARTUP Tables lay_out(size_t blocks, uint64_t gaps)
{
    Tables t;
    size_t groups = (blocks + VA_GROUP_BLOCKS - 1) / VA_GROUP_BLOCKS;
#define AFTER(bytes) (va_align_up((bytes), VA_BLOCK_BYTES) + VA_BLOCK_BYTES)
    /* The first groups and records share a page, whatever its size. */
    t.records = AFTER(blocks * sizeof(uint32_t)) + (gap(blocks, gaps, 0) << VA_BLOCK_SHIFT) +
                va_align_up(groups * sizeof(BlockGroup), VA_BLOCK_BYTES) + VA_FIRST_GROUPS_BYTES;
    size_t end = AFTER(t.records + blocks * sizeof(Block));
    for (unsigned table = 0; VALLOC_CHECKS && table < STATE_TABLES; table++) {
        end += gap(blocks, gaps, 1 + table) << VA_BLOCK_SHIFT;
        t.states[table] = end;
        end = AFTER(end + (groups * GROUP_BYTES >> va_state_shift(table)));
    }
    end = AFTER(end + blocks * VA_SLAB_WORDS * sizeof(uint64_t));
    t.first = (va_align_up(end, VA_HUGE_BYTES) >> VA_BLOCK_SHIFT) +
              va_align_up(gap(blocks, gaps, 3), HUGE_BLOCKS);
    if (blocks << VA_BLOCK_SHIFT >= VA_ZONED_BYTES)
        t.first += VA_HUGE_BYTES / 2 >> VA_BLOCK_SHIFT;
    t.bitmaps = (t.first - va_align_up(gap(blocks, gaps, 3), HUGE_BLOCKS) - 1) << VA_BLOCK_SHIFT;
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
    size_t before = mapped->end - mapped->start;
    MapResult result = MAP_DONE;
    if (before == 0)
        *mapped = (Mapped){start, start};
    if (end > mapped->end) {
        result = before == 0 ? va_os_map_at((void *)start, end - start)
                             : va_os_extend((void *)mapped->end, end - mapped->end);
        if (result == MAP_DONE)
            mapped->end = end;
    }
    if (result == MAP_DONE && start < mapped->start) {
        result = va_os_map_at((void *)start, mapped->start - start);
        if (result == MAP_DONE)
            mapped->start = start;
    }
    va_use_add(&va_use.table_bytes, mapped->end - mapped->start - before);
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

/* ---- States ---- */

/* The states of a block's slots and of all that follow. */
static VA_STARTUP char *states_at(const Arena *arena, StateTable table, size_t block)
{
    uintptr_t address = (uintptr_t)arena->base + (block << VA_BLOCK_SHIFT);
    return (char *)(arena->states[table] + (address >> va_state_shift(table)));
}

VA_STARTUP MapResult va_space_states(const Arena *arena, size_t first, size_t count)
{
    for (size_t g = first / VA_GROUP_BLOCKS; g * VA_GROUP_BLOCKS < first + count; g++) {
        BlockGroup *group = va_group(arena, g);
        for (unsigned table = 0; table < va_state_tables(); table++) {
            if (va_likely((group->stated >> table & 1) != 0))
                continue;
            MapResult result = va_os_map_at(states_at(arena, table, g * VA_GROUP_BLOCKS),
                                            GROUP_BYTES >> va_state_shift(table));
            if (va_unlikely(result != MAP_DONE))
                return result;
            group->stated |= (uint8_t)(1u << table);
            va_use_add(&va_use.table_bytes, GROUP_BYTES >> va_state_shift(table));
        }
    }
    return MAP_DONE;
}

VA_COLD void va_space_drop_states(const Arena *arena, size_t first, size_t count)
{
    size_t from = (first + VA_GROUP_BLOCKS - 1) / VA_GROUP_BLOCKS;
    for (size_t g = from; (g + 1) * VA_GROUP_BLOCKS <= first + count; g++) {
        BlockGroup *group = va_group(arena, g);
        for (unsigned table = 0; table < va_state_tables(); table++) {
            size_t bytes = GROUP_BYTES >> va_state_shift(table);
            if ((group->stated >> table & 1) != 0 &&
                va_os_unmap(states_at(arena, table, g * VA_GROUP_BLOCKS), bytes)) {
                group->stated &= (uint8_t) ~(1u << table);
                va_use_add(&va_use.table_bytes, (size_t)0 - bytes);
            }
        }
        atomic_store_explicit(&group->states, 0, memory_order_relaxed);
    }
}

/* Purges the whole pages of a table that hold the states of free and clean blocks only: those among
 * [first, first + count), and their neighbours on the same page. */
static VA_COLD void purge_table(const Arena *arena, StateTable table, size_t first, size_t count)
{
    size_t block_bytes = VA_BLOCK_BYTES >> va_state_shift(table);
    size_t unit = va_max(va_os_page_bytes() / block_bytes, 1);
    size_t start = va_align_down(first, unit);
    size_t end = va_align_up(first + count, unit);
    const BlockGroup *group = va_group(arena, first / VA_GROUP_BLOCKS);
    uint64_t clean = group->free & ~group->dirty;
    if ((va_bitmap_mask(first / VA_GROUP_BLOCKS, start, unit) & ~clean) != 0)
        start += unit;
    if (end > start && (va_bitmap_mask(first / VA_GROUP_BLOCKS, end - unit, unit) & ~clean) != 0)
        end -= unit;
    if (end > start)
        va_os_purge(states_at(arena, table, start), (end - start) * block_bytes);
}

VA_COLD void va_space_purge_states(const Arena *arena, size_t first, size_t count)
{
    BlockGroup *group = va_group(arena, first / VA_GROUP_BLOCKS);
    uint64_t mask = va_bitmap_mask(first / VA_GROUP_BLOCKS, first, count);
    if ((atomic_load_explicit(&group->states, memory_order_relaxed) & mask) == 0)
        return;
    for (unsigned table = 0; table < va_state_tables(); table++)
        purge_table(arena, table, first, count);
    atomic_fetch_and_explicit(&group->states, ~mask, memory_order_relaxed);
}

/* All at once: tables first, then states if they are wanted. */
static VA_STARTUP MapResult extend(Arena *arena, Zone *zone, size_t end, bool stated,
                                   size_t *wanted)
{
    MapResult result = extend_tables(arena, zone, end);
    *wanted = va_max(end, va_min(*wanted, va_min(zone->tabled, zone->end)));
    size_t more = *wanted - zone->committed;
    if (VALLOC_CHECKS && stated && result == MAP_DONE)
        result = va_space_states(arena, zone->committed, more);
    return result == MAP_DONE ? extend_blocks(arena, zone, *wanted) : result;
}

/* ---- Huge pages ---- */

static VA_STARTUP void advise_range(const Arena *arena, const Zone *zone, size_t from, size_t to)
{
    size_t huge_from = atomic_load_explicit(&zone->huge_from, memory_order_relaxed);
    size_t huge = va_min(va_max(huge_from, from), to);
    char *start = arena->base + (huge << VA_BLOCK_SHIFT);
    if (from < huge)
        va_os_advise_huge(arena->base + (from << VA_BLOCK_SHIFT), (huge - from) << VA_BLOCK_SHIFT,
                          false);
    if (huge < to)
        va_os_advise_huge(start, (to - huge) << VA_BLOCK_SHIFT, true);
}

/* Forgets which huge pages of [from, to) were refused one by one. */
static VA_COLD void forget_small(const Arena *arena, Zone *zone, size_t from, size_t to)
{
    for (size_t page = from / HUGE_BLOCKS; page < to / HUGE_BLOCKS && zone->small_pages != 0;
         page++) {
        BlockGroup *group = va_group(arena, page / GROUP_PAGES);
        uint8_t bit = (uint8_t)(1u << page % GROUP_PAGES);
        zone->small_pages -= (group->small & bit) != 0;
        group->small &= (uint8_t)~bit;
    }
}

/* Refuses huge pages below `end`. */
static VA_COLD void refuse_below(const Arena *arena, Zone *zone, size_t end)
{
    size_t from = atomic_load_explicit(&zone->huge_from, memory_order_relaxed);
    end = va_align_up(end, HUGE_BLOCKS);
    if (end <= from)
        return;
    forget_small(arena, zone, from, va_min(end, zone->committed));
    atomic_store_explicit(&zone->huge_from, end, memory_order_relaxed);
    end = va_min(end, zone->committed);
    if (from < end)
        advise_range(arena, zone, from, end);
}

/* A huge page of which a part was purged, or all that was not clean. */
static VA_COLD void settle_page(const Arena *arena, Zone *zone, size_t page, bool empty)
{
    BlockGroup *group = va_group(arena, page / GROUP_PAGES);
    uint8_t bit = (uint8_t)(1u << page % GROUP_PAGES);
    size_t start = page * HUGE_BLOCKS;
    size_t end = va_min(start + HUGE_BLOCKS, zone->committed);
    if (start < atomic_load_explicit(&zone->huge_from, memory_order_relaxed) ||
        empty == ((group->small & bit) == 0))
        return;
    if (!empty && zone->small_pages == VA_HUGE_HOLES) {
        refuse_below(arena, zone, zone->committed);
    } else {
        char *address = arena->base + (start << VA_BLOCK_SHIFT);
        size_t bytes = (end - start) << VA_BLOCK_SHIFT;
        group->small ^= bit;
        zone->small_pages += empty ? (size_t)-1 : 1;
        if (empty) /* as a whole: Linux 6.14 gives back its page table, too, which is in the way */
            va_os_purge(address, bytes);
        va_os_advise_huge(address, bytes, empty);
    }
    if (zone->top < end) /* resident with the part in use */
        va_os_purge(arena->base + (zone->top << VA_BLOCK_SHIFT), (end - zone->top)
                                                                     << VA_BLOCK_SHIFT);
}

VA_COLD void va_space_purged_locked(const Arena *arena, size_t first, size_t count)
{
    Zone *zone = va_zone_at((Arena *)arena, first);
    for (size_t page = first / HUGE_BLOCKS; page * HUGE_BLOCKS < first + count; page++) {
        size_t start = page * HUGE_BLOCKS;
        size_t number = page / GROUP_PAGES;
        const BlockGroup *group = va_group(arena, number);
        uint64_t clean = (group->free & ~group->dirty) | va_bitmap_mask(number, first, count);
        settle_page(arena, zone, page, (va_bitmap_mask(number, start, HUGE_BLOCKS) & ~clean) == 0);
    }
}

VA_COLD void va_space_purged(const Block *slab)
{
    Arena *arena = &va_arenas[slab->arena];
    size_t block = va_block_number(slab);
    Zone *zone = va_zone_at(arena, block);
    if (block < atomic_load_explicit(&zone->huge_from, memory_order_relaxed))
        return;
    va_lock_acquire(&va_use.lock);
    settle_page(arena, zone, block / HUGE_BLOCKS, false);
    va_lock_release(&va_use.lock);
}

/* If most huge pages of a window are slow, none are asked for until the heap has grown. */
static VA_COLD void count_slow_locked(const Arena *arena, Zone *zone)
{
    static size_t window_start; /* arena lock */
    static unsigned slow;
    if (zone->top - window_start >= VA_HUGE_WINDOW * HUGE_BLOCKS) {
        window_start = zone->top;
        slow = 0;
    }
    if (++slow <= VA_HUGE_WINDOW / 2 || va_options.huge_pages != HUGE_PAGES_AUTO)
        return;
    slow = 0;
    refuse_below(arena, zone, zone->committed + VA_HUGE_RETRY * va_use.committed_blocks);
}

VA_COLD void va_space_populate(const Block *slab, size_t bytes)
{
    Arena *arena = &va_arenas[slab->arena];
    size_t block = va_block_number(slab);
    Zone *zone = va_zone_at(arena, block);
    if (va_os_populate(va_block_address(slab), bytes) <= VA_HUGE_SLOW_NS)
        return;
    va_lock_acquire(&va_use.lock);
    if (block >= atomic_load_explicit(&zone->huge_from, memory_order_relaxed))
        count_slow_locked(arena, zone);
    va_lock_release(&va_use.lock);
}

/* ---- Growth and its reverse ---- */

/* What growth leaves to the program under a limit, for the stacks of its threads. */
static VA_STARTUP size_t bytes_left(void)
{
    size_t heap = va_use.committed_blocks << VA_BLOCK_SHIFT;
    return va_min(VA_LEAVE_BYTES, va_align_up(heap / 16 + 1, VA_BLOCK_BYTES));
}

/* Whether a limit has room for a step, and for what is left. Of a long step only for its first
 * bytes: a small address space may not have as much in one place. Accessible memory is tried, since
 * a limit on data counts no other. */
static VA_STARTUP bool has_room(size_t step_bytes)
{
    size_t bytes = va_min(step_bytes, VA_LEAVE_BYTES) + bytes_left();
    if (bytes_left() < VA_LEAVE_BYTES / 4) /* a small heap spares the calls */
        return true;
    void *room = va_os_map(bytes);
    return room != NULL && va_os_unmap(room, bytes);
}

/* Once growth was refused, by a limit, it goes on in small steps. */
static VA_COLD MapResult extend_limited(Arena *arena, Zone *zone, size_t end, bool stated,
                                        size_t *wanted)
{
    size_t bytes = bytes_left();
    void *left = va_os_map(bytes);
    if (left == NULL)
        return MAP_REFUSED;
    *wanted = end;
    MapResult result = extend(arena, zone, end, stated, wanted);
    va_os_unmap(left, bytes);
    return result;
}

/* By 2 MiB: larger steps would save next to nothing, since touching a step takes a hundred times as
 * long as mapping it. In a process that locks its memory mapping does both, under the lock. */
VA_STARTUP MapResult va_space_commit(Arena *arena, Zone *zone, size_t end, bool stated)
{
    size_t from = zone->committed;
    if (end <= from)
        return MAP_DONE;
    size_t wanted = va_min(va_align_up(end, HUGE_BLOCKS), zone->end);
    static bool limited; /* arena lock */
    bool fits = !limited && has_room((wanted - from) << VA_BLOCK_SHIFT);
    MapResult result = fits ? extend(arena, zone, end, stated, &wanted) : MAP_REFUSED;
    if (va_unlikely(result == MAP_REFUSED)) {
        limited = true;
        result = extend_limited(arena, zone, end, stated, &wanted);
    }
    if (result == MAP_BLOCKED) /* shorter runs may still fit, and few tries are in vain */
        zone->end = from + (end - 1 - from) / 2;
    if (result != MAP_DONE)
        return result;
    zone->committed = wanted;
    advise_range(arena, zone, from, wanted);
    va_use_add(&va_use.committed_blocks, wanted - from);
    return MAP_DONE;
}

VA_COLD void va_space_trim(Arena *arena, Zone *zone)
{
    size_t end = va_min(zone->top, zone->committed);
    size_t clean = va_runs_free_below(arena, zone, end, true);
    size_t kept = va_min(va_align_up(end - clean, HUGE_BLOCKS), zone->committed);
    size_t count = zone->committed - kept;
    size_t huge_from = atomic_load_explicit(&zone->huge_from, memory_order_relaxed);
    if (clean < VA_TRIM_BLOCKS ||
        !va_os_unmap(arena->base + (kept << VA_BLOCK_SHIFT), count << VA_BLOCK_SHIFT))
        return;
    forget_small(arena, zone, kept, zone->committed);
    zone->committed = kept;
    va_use_add(&va_use.committed_blocks, (size_t)0 - count);
    if (huge_from != SIZE_MAX) /* what is mapped next was never purged */
        atomic_store_explicit(&zone->huge_from, va_min(huge_from, kept), memory_order_relaxed);
}

/* ---- Arenas ---- */

/* The least address space of an arena that can lend a run of so many blocks. */
static VA_STARTUP size_t least_bytes(size_t blocks)
{
    size_t total = 0; /* the larger the arena, the larger its tables, by less than a tenth */
    uint64_t gaps = VALLOC_SECURE_RANDOM ? UINT64_MAX : 0;
    for (size_t more = blocks; more != total; more = lay_out(total, gaps).first + blocks)
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

static VA_STARTUP bool may_be_huge(ZoneKind kind)
{
    return va_options.huge_pages == HUGE_PAGES_ALWAYS ||
           (va_options.huge_pages == HUGE_PAGES_AUTO && kind == ZONE_DENSE);
}

static VA_STARTUP void start_zone(Zone *zone, size_t first, size_t end, ZoneKind kind)
{
    *zone = (Zone){.first = first,
                   .end = end,
                   .tabled = first,
                   .top = first,
                   .committed = first,
                   .purge_end = first / VA_GROUP_BLOCKS,
                   .huge_from = may_be_huge(kind) ? first : SIZE_MAX};
}

VA_COLD void va_space_set_huge_pages_locked(HugePages choice)
{
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    va_options.huge_pages = choice;
    for (unsigned i = 0; i < ZONES * arenas; i++) {
        const Arena *arena = &va_arenas[i / ZONES];
        Zone *zone = &va_arenas[i / ZONES].zones[i % ZONES];
        size_t from = atomic_load_explicit(&zone->huge_from, memory_order_relaxed);
        if (!may_be_huge((ZoneKind)(i % ZONES))) {
            refuse_below(arena, zone, zone->committed);
            from = SIZE_MAX;
        } else if (from == SIZE_MAX) {
            from = va_align_up(zone->committed, HUGE_BLOCKS);
        }
        atomic_store_explicit(&zone->huge_from, from, memory_order_relaxed);
    }
}

/* Describes an arena of which nothing is mapped yet. */
static VA_STARTUP void lay_down(Arena *arena, char *base, size_t bytes, size_t run_bytes)
{
    size_t blocks = bytes >> VA_BLOCK_SHIFT;
    Tables tables = lay_out(blocks, VALLOC_SECURE_RANDOM ? va_random_shared() : 0);
    if (va_os_page_bytes() > GROUP_BYTES >> va_state_shift(STATES_COARSE))
        va_state_coarse = STATES_MIDDLE;
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
    for (unsigned table = 0; table < STATE_TABLES; table++)
        arena->states[table] =
            (uintptr_t)base + tables.states[table] -
            (((uintptr_t)base + va_align_down(tables.first << VA_BLOCK_SHIFT, GROUP_BYTES)) >>
             va_state_shift(table));
    bool zoned = bytes >= VA_ZONED_BYTES && run_bytes <= bytes / 2;
    size_t split = va_align_up(zoned ? blocks / VA_SPARSE_PART : blocks, VA_GROUP_BLOCKS);
    start_zone(&arena->zones[ZONE_SPARSE], tables.first, va_min(split, blocks), ZONE_SPARSE);
    start_zone(&arena->zones[ZONE_DENSE], split, va_max(split, blocks), ZONE_DENSE);
}

static VA_COLD void unmap_table(Mapped mapped)
{
    va_use_add(&va_use.table_bytes, mapped.start - mapped.end);
    va_os_unmap((void *)mapped.start, mapped.end - mapped.start);
}

/* Maps the first blocks of a new arena and their tables, or nothing. */
static VA_STARTUP MapResult start_arena(Arena *arena)
{
    Zone *zone = va_zone_at(arena, arena->first);
    MapResult result = va_space_commit(arena, zone, arena->first + 1, true);
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
    if (!va_os_remap(arena->base + (first << VA_BLOCK_SHIFT), blocks << VA_BLOCK_SHIFT))
        return false;
    /* As its neighbours are, so that they become one mapping. */
    advise_range(arena, &arena->zones[va_zone_of(arena, first)], first, first + blocks);
    return true;
}
