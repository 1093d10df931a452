/* fuzz_arena.c: runs lent, resized, reclaimed, purged and limited, against an array of bytes that
 * says which blocks are lent. The fuzzer is the only borrower: what it does not hold is free. */
#include "fuzz.h"

#include "arena/arena.h"

#define RUNS_MAX 64
#define BLOCKS_MAX 65536
#define FILL_BYTES 64
#define LOOKED_AT 8

static bool held[BLOCKS_MAX]; /* by place: block numbers from the first that can be lent */
static Block *runs[RUNS_MAX];
static size_t run_count;
static size_t held_count;
static size_t hard_limit; /* blocks; 0 for none */

static size_t place_of_number(size_t number)
{
    size_t dense = va_arenas[0].zones[ZONE_DENSE].first; /* far away: half of the map each */
    return number < dense ? number - va_arenas[0].first : number - dense + BLOCKS_MAX / 2;
}

static size_t place_of(const Block *run)
{
    return place_of_number(va_block_number(run));
}

static void mark(size_t first, size_t count, bool now)
{
    demand(first < BLOCKS_MAX && count <= BLOCKS_MAX - first);
    for (size_t i = first; i < first + count; i++) {
        demand(held[i] != now);
        held[i] = now;
    }
    held_count = now ? held_count + count : held_count - count;
}

static bool is_within_limit(size_t more)
{
    return hard_limit == 0 || held_count + more <= hard_limit;
}

static bool reads_as_zero(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* Blocks that a run gained: zero if it says so, then written to. One in LOOKED_AT, at both ends. */
static void use(Block *run, size_t from, bool zero)
{
    for (size_t i = (from + LOOKED_AT - 1) / LOOKED_AT * LOOKED_AT; i < run->run_blocks;
         i += LOOKED_AT) {
        char *block = va_block_address(run) + (i << VA_BLOCK_SHIFT);
        char *last = block + VA_BLOCK_BYTES - FILL_BYTES;
        if (zero)
            demand(reads_as_zero(block, FILL_BYTES) && reads_as_zero(last, FILL_BYTES));
        memset(block, (int)(va_block_number(run) & 0x7f) | 0x80, FILL_BYTES);
        memset(last, (int)(va_block_number(run) & 0x7f) | 0x80, FILL_BYTES);
    }
}

static void check_contents(const Block *run)
{
    for (size_t i = 0; i < run->run_blocks; i += LOOKED_AT) {
        const unsigned char *block =
            (const unsigned char *)va_block_address(run) + (i << VA_BLOCK_SHIFT);
        unsigned char fill = (unsigned char)((va_block_number(run) & 0x7f) | 0x80);
        for (size_t k = 0; k < FILL_BYTES; k++)
            demand(block[k] == fill && block[VA_BLOCK_BYTES - 1 - k] == fill);
    }
}

static void hold(Block *run, size_t blocks, size_t align_blocks)
{
    demand(run->run_blocks == blocks && run->next == NULL);
    demand(va_entry_load(va_block_entry(run)) == 0);
    demand((uintptr_t)va_block_address(run) % (align_blocks << VA_BLOCK_SHIFT) == 0);
    mark(place_of(run), blocks, true);
    use(run, 0, run->zero);
    run->allocator = NULL;
    va_entry_store(va_block_entry(run), va_entry_make(1, VA_CLASS_LARGE));
    runs[run_count++] = run;
}

static void lend(size_t blocks, size_t align_blocks)
{
    if (run_count == RUNS_MAX)
        return;
    Block *run = va_arena_lend(blocks, align_blocks);
    demand((run != NULL) == is_within_limit(blocks));
    if (run != NULL)
        hold(run, blocks, align_blocks);
}

static void lend_many(size_t blocks, ZoneKind zone, size_t count)
{
    Block *lent[RUNS_MAX];
    count = count < RUNS_MAX - run_count ? count : RUNS_MAX - run_count;
    if (count == 0)
        return;
    size_t expected = count;
    while (expected > 0 && !is_within_limit(expected * blocks))
        expected--;
    demand(va_arena_lend_many(blocks, zone, lent, count) == expected);
    for (size_t i = 0; i < expected; i++)
        hold(lent[i], blocks, 1);
}

static Block *let_go(size_t index)
{
    Block *run = runs[index];
    check_contents(run);
    mark(place_of(run), run->run_blocks, false);
    runs[index] = runs[--run_count];
    run->zero = false;
    run->next = NULL;
    return run;
}

static void reclaim(size_t index, size_t count)
{
    Block *chain = NULL;
    for (; count > 0 && run_count > 0; count--) {
        Block *run = let_go(index % run_count);
        run->next = chain;
        chain = run;
    }
    if (chain != NULL)
        va_arena_reclaim(chain);
}

static void resize(size_t index, size_t blocks)
{
    Block *run = runs[index];
    size_t first = place_of(run);
    size_t old = run->run_blocks;
    bool possible = blocks <= old || is_within_limit(blocks - old);
    bool zero = run->zero;
    run->zero = true; /* what the blocks that join it say remains */
    for (size_t i = first + old; i < first + blocks; i++)
        possible = possible && !held[i];
    demand(va_arena_resize(run, blocks) == possible);
    demand(run->run_blocks == (possible ? blocks : old));
    if (possible && blocks > old) {
        mark(first + old, blocks - old, true);
        use(run, old, run->zero);
    } else if (possible && blocks < old) {
        mark(first + blocks, old - blocks, false);
    }
    run->zero = zero;
}

/* A scan sees every lent run, and free blocks only where none is held. */
static void scan(void)
{
    ScanCursor cursor = {0};
    RunView views[7];
    size_t count;
    size_t seen = 0;
    while ((count = va_arena_scan(&cursor, views, 7)) != 0) {
        for (size_t i = 0; i < count; i++) {
            size_t first = place_of_number(va_block_index(&va_arenas[0], views[i].address));
            demand(first < BLOCKS_MAX && views[i].blocks <= BLOCKS_MAX - first);
            for (size_t k = first; k < first + views[i].blocks; k++)
                demand(held[k] == (views[i].entry != 0));
            seen += views[i].entry != 0 ? views[i].blocks : 0;
        }
    }
    demand(seen == held_count);
}

static void check_stats(void)
{
    ArenaStats stats;
    va_arena_stats(&stats);
    demand(stats.lent == held_count << VA_BLOCK_SHIFT);
    demand(stats.lent + stats.dirty <= stats.committed && stats.committed <= stats.reserved);
}

static void limit(size_t soft, size_t hard)
{
    hard_limit = hard;
    va_arena_limit(soft, hard);
}

static void purge(void)
{
    ArenaStats stats;
    va_purge_all();
    va_arena_stats(&stats);
    demand(stats.dirty == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, data + size};
    while (!input_is_over(&input)) {
        uint8_t what = take_byte(&input);
        size_t few = 1 + take_below(&input, 20);
        size_t index = run_count == 0 ? 0 : take_below(&input, run_count);
        switch (what % 16) {
        case 0:
        case 1:
        case 2:
            lend(what & 16 ? few : 1 + take_below(&input, 150), 1);
            break;
        case 3:
            lend(few, (size_t)1 << what / 16 % 8);
            break;
        case 4:
        case 5:
            lend_many(1 + what / 16 % 4, what & 64 ? ZONE_SPARSE : ZONE_DENSE, few);
            break;
        case 6:
        case 7:
        case 8:
            reclaim(index, what & 16 ? 1 : few);
            break;
        case 9:
        case 10:
        case 11:
            if (run_count != 0)
                resize(index, what & 16 ? runs[index]->run_blocks + few : few);
            break;
        case 12:
            limit(0, what & 16 ? few * 20 : 0);
            break;
        case 13:
            limit(few, what & 16 ? few * 30 : 0);
            break;
        case 14:
            scan();
            break;
        default:
            purge();
        }
        check_stats();
    }
    reclaim(0, run_count);
    limit(0, 0);
    purge();
    return 0;
}
