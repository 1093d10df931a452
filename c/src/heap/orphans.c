/* orphans.c: see orphans.h.
 *
 * A thread carries blocks from one place to another without a lock: lent and not in use yet, given
 * up and not free yet. When it vanishes they would be lost. In the child
 * there is one thread, which carries nothing, so every block below a zone's top is
 *
 *   free, or of a run whose entry says who uses it, or of a run that somebody keeps unused (a
 * large cache, an allocator's list), or lost, or an orphan.
 *
 * The first two show in the tables. The third are marked first, in the bits `old`, which are 0 for
 * blocks that are not free. Slots cannot be told so: of what a thread was about to put on a stack
 * or into a slab, at most a batch, the child does not know. */
#include "heap/orphans.h"

#include "heap/allocator.h"
#include "arena/arena.h"
#include "cache/delivery.h"
#include "arena/run_set.h"
#include "slab/sealed.h"
#include "slab/slab.h"

/* ---- Runs that are kept unused ---- */

static VA_COLD BlockGroup *group_of(const Arena *arena, size_t block)
{
    return va_group(arena, block / VA_GROUP_BLOCKS);
}

static VA_COLD void mark(const Block *run)
{
    size_t block = va_block_number(run);
    group_of(&va_arenas[run->arena], block)->old |= (uint64_t)1 << block % VA_GROUP_BLOCKS;
}

static VA_COLD bool unmark(const Arena *arena, size_t block)
{
    uint64_t bit = (uint64_t)1 << block % VA_GROUP_BLOCKS;
    bool marked = (group_of(arena, block)->old & bit) != 0;
    group_of(arena, block)->old &= ~bit;
    return marked;
}

static VA_COLD void mark_kept(const ThreadCache *cache)
{
    if (cache->large.run != NULL)
        mark(cache->large.run);
}

static VA_COLD void mark_held(const Allocator *allocator)
{
    const Block *run = va_block_referred(allocator->first_block);
    for (; run != NULL; run = va_block_referred(run->next_held))
        mark(run);
}

/* ---- The blocks ---- */

/* The blocks of a run in use, which are counted; of one kept unused; 0 for an orphan. */
static VA_COLD size_t look_at(Arena *arena, size_t block)
{
    uint32_t entry = va_entry_load(&arena->entries[block]);
    unsigned class = va_entry_class(entry);
    Block *run = &arena->records[block];
    if (class == VA_CLASS_LOST)
        return run->run_blocks;
    if (entry == 0 || class == VA_CLASS_SPARE) {
        if (!unmark(arena, block))
            return 0;
        run->zero = false; /* of one just given up that is not said yet */
        va_entry_store(&arena->entries[block], va_entry_make(0, VA_CLASS_SPARE));
        return run->run_blocks;
    }
    unmark(arena, block); /* held, and in use */
    bool of_other = class == VA_CLASS_LARGE || va_is_other(va_entry_owner(entry));
    (of_other ? run->allocator : &va_process)->shown.used_blocks += run->run_blocks;
    return run->run_blocks;
}

/* The same where a secure build may have split a front from the run: it is kept with the run. */
static VA_COLD size_t look_at_guarded(Arena *arena, size_t block)
{
    if (!va_guard_is_front(&arena->records[block]))
        return look_at(arena, block);
    size_t front = look_at(arena, block);
    if (front != 0)
        mark(&arena->records[block + 1]);
    size_t rest = look_at(arena, block + 1);
    return rest == 0 ? 0 : 1 + rest;
}

static VA_COLD void collect_zone(Arena *arena, const Zone *zone)
{
    for (size_t block = zone->first; block < zone->top;) {
        size_t blocks = 1;
        if ((group_of(arena, block)->free >> block % VA_GROUP_BLOCKS & 1) == 0)
            blocks = look_at_guarded(arena, block);
        if (blocks == 0) {
            blocks = 1;
            va_guard_end(&arena->records[block]);
            arena->records[block].guarded = 0;
            va_entry_store(&arena->entries[block], 0);
            va_runs_return(arena, block, 1, true);
        }
        block += blocks;
    }
}

/* ---- All of them ---- */

static VA_COLD void mark_all(void)
{
    CacheStats stats;
    va_registry_stats(&stats);
    for (size_t i = 0; va_sealed_nth(i) != NULL; i++)
        mark(va_sealed_nth(i));
    for (uint32_t i = 0; i < stats.all; i++)
        mark_kept(va_registry_nth(stats.made, i));
    va_process.shown.used_blocks = 0;
    Allocator *allocator = va_allocators_first();
    for (; allocator != NULL; allocator = allocator->next) {
        allocator->shown.used_blocks = 0;
        mark_held(allocator);
    }
}

VA_COLD void va_orphans_collect(void)
{
    unsigned arenas = atomic_load_explicit(&va_arena_count, memory_order_relaxed);
    size_t lent = 0;
    mark_all();
    for (unsigned i = 0; i < ZONES * arenas; i++) {
        const Zone *zone = &va_arenas[i / ZONES].zones[i % ZONES];
        collect_zone(&va_arenas[i / ZONES], zone);
        lent += zone->top - zone->first - zone->free_blocks;
    }
    va_use.lent_blocks = lent;
    for (Allocator *other = va_allocators_first(); other != NULL; other = other->next)
        lent -= other->shown.total_blocks;
    va_process.shown.total_blocks = lent;
}
