/* block_pool.c: the list of an allocator's runs, its counters and its limits. */
#include "arena/block_pool.h"

#include <string.h>

#include "base/probe.h"
#include "harden/memtag.h"
#include "os/os.h"

Allocator va_process = {
    .shown = {.self = &va_process.shown, .allocator = &va_process, .name = "process"},
    .handle = &va_process.shown};

static bool is_process(const Allocator *allocator)
{
    return allocator == &va_process;
}

/* The counters are read by the program, without a lock. */
static void add(Allocator *allocator, size_t *counter, size_t number)
{
    MemoryAllocator *followed = __atomic_load_n(&allocator->followed, __ATOMIC_RELAXED);
    __atomic_fetch_add(counter, number, __ATOMIC_RELAXED);
    if (va_unlikely(followed != NULL)) {
        size_t offset = (size_t)((char *)counter - (char *)&allocator->shown);
        __atomic_fetch_add((size_t *)(void *)((char *)followed + offset), number, __ATOMIC_RELAXED);
    }
}

static size_t load(const size_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void va_pool_occupy(Block *const *runs, size_t count)
{
    size_t blocks = 0;
    size_t recycled = 0;
    for (size_t i = 0; i < count; i++) {
        blocks += runs[i]->run_blocks;
        recycled += runs[i]->zero ? 0 : runs[i]->run_blocks;
    }
    if (blocks != 0)
        add(runs[0]->allocator, &runs[0]->allocator->shown.used_blocks, blocks);
    if (recycled != 0)
        add(runs[0]->allocator, &runs[0]->allocator->shown.recycled_blocks, recycled);
}

void va_pool_vacate(const Block *runs)
{
    Allocator *allocator = runs->allocator;
    size_t blocks = 0;
    for (; runs != NULL; runs = runs->next)
        blocks += runs->run_blocks;
    add(allocator, &allocator->shown.used_blocks, (size_t)0 - blocks);
}

/* ---- The list, under the mutex ---- */

static VA_COLD void link_locked(Allocator *allocator, Block *run)
{
    Block *next = va_block_referred(allocator->first_block);
    run->next_held = allocator->first_block;
    run->previous_held = 0;
    allocator->first_block = va_block_reference(run);
    if (next != NULL)
        next->previous_held = allocator->first_block;
}

static VA_COLD void unlink_locked(Allocator *allocator, const Block *run)
{
    Block *next = va_block_referred(run->next_held);
    Block *previous = va_block_referred(run->previous_held);
    if (next != NULL)
        next->previous_held = run->previous_held;
    if (previous != NULL)
        previous->next_held = run->next_held;
    else
        allocator->first_block = run->next_held;
}

static VA_COLD Block *pop_idle_locked(Allocator *allocator)
{
    Block *block = allocator->idle;
    allocator->idle = block->next;
    allocator->idle_blocks--;
    block->next = NULL;
    return block;
}

static VA_COLD void push_idle_locked(Allocator *allocator, Block *block)
{
    va_entry_store(va_block_entry(block), va_entry_make(0, VA_CLASS_SPARE));
    block->next = allocator->idle;
    allocator->idle = block;
    allocator->idle_blocks++;
}

/* ---- Lending ---- */

/* Blocks that may be held beyond those that are, if these are wanted. */
static size_t allowance(const Allocator *allocator, size_t wanted)
{
    size_t limit = load(&allocator->hard_limit);
    size_t total = load(&allocator->shown.total_blocks);
    if (limit == 0)
        return SIZE_MAX;
    size_t rest = limit - va_min(limit, total);
    if (rest < wanted)
        VA_PROBE2(valloc, limit, allocator, wanted);
    return rest;
}

static size_t own(Allocator *allocator, Block **runs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        runs[i]->allocator = allocator;
    if (count != 0)
        add(allocator, &allocator->shown.total_blocks, count * runs[0]->run_blocks);
    return count;
}

/* Of another allocator: the limits of the process are the arenas' business. */
static VA_COLD size_t lend_held(Allocator *allocator, size_t blocks, ZoneKind zone, Block **runs,
                                size_t count)
{
    size_t lent = 0;
    va_lock_acquire(&allocator->mutex);
    while (blocks == 1 && lent < count && allocator->idle != NULL)
        runs[lent++] = pop_idle_locked(allocator);
    count = va_min(count - lent, allowance(allocator, blocks) / blocks) + lent;
    if (lent < count) {
        size_t more = va_arena_lend_many(blocks, zone, runs + lent, count - lent);
        own(allocator, runs + lent, more);
        for (size_t i = 0; i < more; i++)
            link_locked(allocator, runs[lent + i]);
        lent += more;
    }
    va_lock_release(&allocator->mutex);
    return lent;
}

size_t va_pool_lend_many(Allocator *allocator, size_t blocks, ZoneKind zone, Block **runs,
                         size_t count)
{
    if (va_likely(is_process(allocator)))
        return own(allocator, runs, va_arena_lend_many(blocks, zone, runs, count));
    return lend_held(allocator, blocks, zone, runs, count);
}

static VA_COLD Block *lend_one_held(Allocator *allocator, size_t blocks, size_t align_blocks)
{
    Block *run = NULL;
    va_lock_acquire(&allocator->mutex);
    if (blocks <= allowance(allocator, blocks))
        run = va_arena_lend(blocks, align_blocks);
    if (run != NULL && !va_arena_add_states(run)) {
        va_arena_reclaim(run);
        run = NULL;
    }
    if (run != NULL) {
        own(allocator, &run, 1);
        link_locked(allocator, run);
    }
    va_lock_release(&allocator->mutex);
    return run;
}

VA_APART Block *va_pool_lend(Allocator *allocator, size_t blocks, size_t align_blocks)
{
    if (va_unlikely(!is_process(allocator)))
        return lend_one_held(allocator, blocks, align_blocks);
    Block *run = va_arena_lend(blocks, align_blocks);
    own(allocator, &run, run != NULL);
    return run;
}

VA_COLD void va_pool_follow(Allocator *allocator)
{
    MemoryAllocator *handle = allocator->handle;
    handle->total_blocks = load(&allocator->shown.total_blocks);
    handle->used_blocks = load(&allocator->shown.used_blocks);
    handle->recycled_blocks = load(&allocator->shown.recycled_blocks);
    __atomic_store_n(&allocator->followed, handle, __ATOMIC_RELAXED);
}

VA_COLD bool va_pool_start(Allocator *allocator, size_t initial_blocks)
{
    Block *runs[64];
    if (initial_blocks > VA_RESERVE_BYTES >> VA_BLOCK_SHIFT)
        return false;
    while (allocator->shown.total_blocks < initial_blocks) {
        size_t some =
            va_min(initial_blocks - allocator->shown.total_blocks, sizeof runs / sizeof *runs);
        size_t lent = va_arena_lend_many(1, ZONE_SPARSE, runs, some);
        own(allocator, runs, lent);
        for (size_t i = 0; i < lent; i++) {
            link_locked(allocator, runs[i]);
            push_idle_locked(allocator, runs[i]);
        }
        if (lent < some)
            return false;
    }
    allocator->initial_blocks = initial_blocks;
    return true;
}

/* ---- Taking back ---- */

/* Of what comes back only a large run may be known to be zero: by the free that cleared it. */
static void forget_zero(Block *run)
{
    run->zero &= VALLOC_SECURE_ZERO && run->class == VA_CLASS_LARGE;
}

/* A run's pages go at once: the arena finds it clean. */
static void purge(Block *run)
{
    if (run->moved == 0)
        run->zero = va_os_purge(va_block_address(run), (size_t)run->run_blocks << VA_BLOCK_SHIFT);
}

#if VALLOC_SECURE_ZERO || VA_MEMTAG
static VA_COLD void clear(Block *run)
{
    purge(run);
    if (!run->zero && run->moved == 0) { /* locked memory */
        va_memtag_drop(va_block_address(run), (size_t)run->run_blocks << VA_BLOCK_SHIFT);
        memset(va_block_address(run), 0, (size_t)run->run_blocks << VA_BLOCK_SHIFT);
    }
}
#else
VA_INLINE void clear(const Block *run)
{
    (void)run;
}
#endif

/* How many of the blocks that are to leave have to stay: an allocator never holds fewer than it was
 * made with. */
static VA_COLD size_t missing_without(const Allocator *allocator, size_t leaving)
{
    size_t rest = load(&allocator->shown.total_blocks) - leaving;
    return allocator->initial_blocks - va_min(allocator->initial_blocks, rest);
}

/* The last `count` blocks of a run, all of them if it is not linked, become single idle ones. */
static VA_COLD void split_off_locked(Allocator *allocator, Block *run, size_t count)
{
    va_guard_end(run); /* a slab may have one */
    if (count == 0)
        return;
    bool usable = va_arena_split(run, count);
    va_lock_acquire(&va_use.lock); /* a scan shall see the run whole or split */
    if (!usable && count < run->run_blocks)
        run->run_blocks -= (uint32_t)count;
    count = usable ? count : 0;
    for (; count > 0; count--) {
        Block *block = run + --run->run_blocks;
        *block = (Block){.run_blocks = 1, .arena = run->arena, .allocator = allocator};
        link_locked(allocator, block);
        push_idle_locked(allocator, block);
    }
    va_lock_release(&va_use.lock);
}

static VA_COLD void reclaim_held(Allocator *allocator, Block *runs, bool purged)
{
    Block *leaving = NULL;
    size_t soft = load(&allocator->soft_limit);
    va_lock_acquire(&allocator->mutex);
    while (runs != NULL) {
        Block *run = runs;
        runs = run->next;
        forget_zero(run);
        size_t staying = missing_without(allocator, run->run_blocks);
        bool all_stay = staying == run->run_blocks;
        unlink_locked(allocator, run);
        split_off_locked(allocator, run, staying);
        if (all_stay)
            continue;
        if (purged || (soft != 0 && load(&allocator->shown.total_blocks) > soft))
            purge(run);
        add(allocator, &allocator->shown.total_blocks, (size_t)0 - run->run_blocks);
        run->next = leaving;
        leaving = run;
    }
    va_lock_release(&allocator->mutex);
    if (leaving != NULL)
        va_arena_reclaim(leaving);
}

VA_INLINE void reclaim(Block *runs, bool purged)
{
    Allocator *allocator = runs->allocator;
    if (va_unlikely(!is_process(allocator))) {
        reclaim_held(allocator, runs, purged);
        return;
    }
    size_t blocks = 0;
    for (Block *run = runs; run != NULL; run = run->next) {
        forget_zero(run);
        if (purged)
            purge(run);
        blocks += run->run_blocks;
    }
    add(allocator, &allocator->shown.total_blocks, (size_t)0 - blocks);
    va_arena_reclaim(runs);
}

void va_pool_reclaim(Block *runs)
{
    reclaim(runs, false);
}

VA_COLD void va_pool_purge(Block *runs)
{
    reclaim(runs, true);
}

VA_COLD void va_pool_end(Allocator *allocator)
{
    Block *chain = NULL;
    for (Block *run = va_block_referred(allocator->first_block); run != NULL;) {
        Block *next = va_block_referred(run->next_held);
        bool is_used = va_entry_class(va_entry_load(va_block_entry(run))) != VA_CLASS_SPARE ||
                       va_guard_is_front(run);
        run = va_guard_whole(run);
        if (is_used)
            run->zero = false;
        if ((VALLOC_SECURE_ZERO || va_memtag_on) && is_used)
            clear(run);
        run->next = chain;
        chain = run;
        run = next;
    }
    allocator->first_block = 0;
    allocator->idle = NULL;
    if (chain != NULL)
        va_arena_reclaim(chain);
}

/* ---- Resizing, limits ---- */

static void resized(Block *run, size_t more)
{
    add(run->allocator, &run->allocator->shown.total_blocks, more);
    add(run->allocator, &run->allocator->shown.used_blocks, more);
}

VA_COLD bool va_pool_resize(Block *run, size_t blocks)
{
    Allocator *allocator = run->allocator;
    size_t more = blocks - run->run_blocks; /* wraps when it shrinks; so do the sums */
    if (va_likely(is_process(allocator))) {
        bool done = va_arena_resize(run, blocks);
        if (done)
            resized(run, more);
        return done;
    }
    va_lock_acquire(&allocator->mutex);
    bool done;
    if (blocks < run->run_blocks) {
        size_t staying = missing_without(allocator, run->run_blocks - blocks);
        split_off_locked(allocator, run, staying);
        add(allocator, &allocator->shown.total_blocks, staying);
        done = va_arena_resize(run, blocks);
    } else {
        done = more <= allowance(allocator, more) && va_arena_resize(run, blocks);
        if (done && !va_arena_add_states(run)) {
            va_arena_resize(run, blocks - more);
            done = false;
        }
    }
    if (done)
        resized(run, more);
    va_lock_release(&allocator->mutex);
    return done;
}

VA_COLD void va_pool_limit(Allocator *allocator, size_t soft, size_t hard)
{
    __atomic_store_n(&allocator->soft_limit, soft, __ATOMIC_RELAXED);
    __atomic_store_n(&allocator->hard_limit, hard, __ATOMIC_RELAXED);
    if (is_process(allocator))
        va_arena_limit(soft, hard);
}
