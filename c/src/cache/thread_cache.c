/* thread_cache.c: refill, free, and the life of a cache. */
#include "cache/thread_cache.h"

#include <string.h>

#include "base/check.h"
#include "cache/delivery.h"
#include "os/options.h"
#include "os/os.h"
#include "cache/passage.h"
#include "cache/quarantine.h"
#include "slab/slab.h"
#include "cache/stack_size.h"
#include "cache/sweep.h"

/* A run is kept for the next one of its size when its class is used a second time: a buffer that
 * grows leaves none behind. Tells whether the class may have a stack. */
static bool keeps_slots(ClassState *state, unsigned class)
{
    if (class < VA_CLASSES_SMALL || state->capacity != 0 || state->batch >= 2)
        return true;
    state->batch++;
    return false;
}

/* Makes room in a full stack: by growing it, else by flushing the older half. False if there is no
 * memory for a stack. */
static bool make_room(ThreadCache *cache, unsigned class, const char *function)
{
    ClassState *state = &cache->classes[class];
    va_sweep_visit(cache, state);
    if (!va_slot_stack_is_full(&cache->front.stacks[class]))
        return true;
    if (!keeps_slots(state, class))
        return false;
    uint32_t capacity = state->capacity;
    uint32_t bound = va_stack_capacity(cache, class);
    uint32_t most = bound;
    if (capacity >= most && state->turns == VA_STACK_TURNS) {
        most = va_stack_capacity_in_turns(cache, class);
        state->turns--;
    }
    if (capacity < most &&
        va_stack_set_capacity(cache, class, va_stack_grown(class, capacity, most)))
        return true;
    if (capacity == 0)
        return false;
    if (state->turns != 0)
        state->turns--;
    uint32_t kept = capacity;
    if (state->turns == 0 || va_stack_is_over_share(cache))
        kept = (uint32_t)va_min(capacity,
                                va_max((size_t)bound << (class < VA_CLASSES_SMALL), capacity / 2));
    va_stack_flush(cache, class, capacity - kept / 2, function);
    va_stack_shrink(cache, class, kept);
    return kept != 0;
}

/* ---- Refill ---- */

/* Takes up to `count` slots from the listed slabs to storage[1 ..], so that they pop in the
 * order of their addresses. Of another arena than the first, one slot: it is not for a stack. */
static uint32_t take_locked(ThreadCache *cache, unsigned class, void **storage, uint32_t count,
                            bool *zero)
{
    ClassState *state = &cache->classes[class];
    uint32_t taken = 0;
    while (taken < count && state->open != NULL) {
        Block *slab = state->open;
        bool is_zero;
        if (va_unlikely(slab->arena != 0)) {
            if (taken != 0)
                break;
            count = 1;
        }
        if (va_unlikely(slab->draining)) { /* there are no others */
            slab->draining = false;
            va_entry_store(va_block_entry(slab), va_entry_make(cache->id, class));
        }
        uint32_t n = va_slab_take(slab, storage + count - taken, count - taken, &is_zero);
        slab->stamp = atomic_load_explicit(&cache->sweep.epoch, memory_order_relaxed);
        slab->swept = VA_SLAB_CHANGED;
        if (taken == 0)
            *zero = is_zero;
        taken += n;
        if (va_slab_available(slab) == 0)
            va_slab_unlist_locked(cache, slab);
    }
    if (taken != 0 && taken < count)
        memmove(storage + 1, storage + 1 + count - taken, taken * sizeof *storage);
    return taken;
}

/* Returns runs that are for no stack, of those just lent; tells how many stay. */
static VA_COLD size_t keep_first_arena(Block **runs, size_t count)
{
    Block *chain = NULL;
    size_t kept = 1;
    while (kept < count && runs[kept]->arena == 0 && runs[0]->arena == 0)
        kept++;
    for (size_t i = kept; i < count; i++) {
        runs[i]->next = chain;
        chain = runs[i];
    }
    if (chain != NULL)
        va_pool_reclaim(chain);
    return kept;
}

/* The same for a class of runs, from the arena. */
static VA_NOINLINE uint32_t take_runs(ThreadCache *cache, unsigned class, void **storage,
                                      uint32_t count, bool *zero)
{
    Block *runs[VA_STACK_RUNS_MAX];
    va_assert(count <= sizeof runs / sizeof *runs);
    size_t taken = va_pool_lend_many(cache->allocator, va_size_classes[class].run_blocks,
                                     ZONE_SPARSE, runs, count);
    if (taken != 0 && va_unlikely(runs[taken - 1]->arena != 0))
        taken = keep_first_arena(runs, taken);
    va_pool_occupy(runs, taken);
    for (size_t i = 0; i < taken; i++) {
        runs[i]->class = (uint16_t) class;
        va_states_start(runs[i], class);
        va_guard_class(runs[i]);
        va_entry_store(va_block_entry(runs[i]), va_entry_make(cache->id, class));
        storage[taken - i] = va_block_address(runs[i]);
    }
    va_cache_count_blocks(cache, class, (int32_t)(taken * va_size_classes[class].run_blocks));
    if (taken != 0)
        *zero = runs[0]->zero;
    return (uint32_t)taken;
}

/* Slots of slabs; when none has any, of as many more slabs as the batch fills. */
static uint32_t take_slots(ThreadCache *cache, unsigned class, void **storage, uint32_t count,
                           bool *zero)
{
    uint32_t slots = va_size_classes[class].slots;
    va_lock_acquire(&cache->mutex);
    /* Not when slots are freed: a thread that only frees gains nothing by slabs that drain. */
    ClassState *state = &cache->classes[class];
    va_slab_count_locked(cache, class, count);
    if (va_unlikely(state->until_look == 0) && state->open != NULL && state->open->next != NULL)
        va_slab_drain_locked(cache, class);
    uint32_t taken = take_locked(cache, class, storage, count, zero);
    va_lock_release(&cache->mutex);
    if (taken != 0 ||
        !va_supply_slabs(cache, class, va_min((count + slots - 1) / slots, VA_REFILL_SLABS)))
        return taken;
    va_lock_acquire(&cache->mutex);
    taken = take_locked(cache, class, storage, count, zero);
    va_lock_release(&cache->mutex);
    return taken;
}

/* Takes up to `count` slots or runs to storage[1 ..]. Returns how many. */
static uint32_t take(ThreadCache *cache, unsigned class, void **storage, uint32_t count, bool *zero)
{
    uint32_t taken = class < VA_CLASSES_SMALL ? take_slots(cache, class, storage, count, zero)
                                              : take_runs(cache, class, storage, count, zero);
    cache->classes[class].refilled += taken;
    return taken;
}

void *va_cache_refill(ThreadCache *cache, unsigned class, bool *zero)
{
    ClassState *state = &cache->classes[class];
    SlotStack *stack = &cache->front.stacks[class];
    va_sweep_visit(cache, state);
    state->turns = VA_STACK_TURNS;
    uint32_t most = (uint32_t)va_max(state->capacity, va_stack_capacity(cache, class));
    uint32_t batch = (uint32_t)va_max(va_min(state->batch, most / 2), 1);
    if (keeps_slots(state, class) && state->capacity < va_min(batch, most))
        va_stack_set_capacity(cache, class, va_stack_grown(class, batch / 2, most));
    if (state->capacity == 0) {
        void *single[2];
        return take(cache, class, single, 1, zero) == 0 ? NULL : single[1];
    }
    batch = (uint32_t)va_min(batch, state->capacity);
    /* Runs are large enough to be worth clearing only if need be, and of one on a stack nobody
     * knows whether it was in use before. */
    uint32_t count = *zero && class >= VA_CLASSES_SMALL ? 1 : batch;
    uint32_t taken = take(cache, class, state->storage, count, zero);
    if (taken == 0)
        return NULL;
    va_cache_update_view(cache);
    if (va_unlikely(!va_front_sees(&cache->front, state->storage[taken])))
        return state->storage[taken]; /* the only one */
    if (VALLOC_SECURE_RANDOM && taken > 1)
        *zero = false;
    atomic_signal_fence(memory_order_release); /* a fork may come between: slots first */
    stack->top = state->storage + taken;
    state->batch = (uint16_t)va_min((size_t)batch * 2, VA_STACK_SLOTS_MAX);
    return va_pop(&cache->front, class << VA_CLASS_SHIFT);
}

/* ---- Free ---- */

static void give_back_run(void *run, uint32_t owner, unsigned class, const char *function)
{
    va_cache_count_blocks(va_registry_cache(owner), class,
                          -(int32_t)va_size_classes[class].run_blocks);
    va_cache_give_back_runs(&run, 1, function);
}

void va_cache_free(ThreadCache *cache, void *slot, Block *block, uint32_t entry,
                   const char *function)
{
    uint32_t owner = va_entry_owner(entry);
    unsigned class = va_entry_class(entry);
    if (cache != NULL)
        va_cache_update_view(cache);
    bool is_run = class >= VA_CLASSES_SMALL;
    if (is_run && va_unlikely(va_block_address(block) != slot))
        va_fatal(function, "not the start of an allocation", slot);
    if (va_unlikely(cache == NULL)) {
        if (is_run)
            give_back_run(slot, owner, class, function);
        else
            va_deliver(slot, function);
        return;
    }
    SlotStack *stack = &cache->front.stacks[class];
    bool may_stay = va_front_sees(&cache->front, slot);
    if (!is_run && (!may_stay || (entry & VA_ENTRY_DRAINING) != 0 ||
                    (owner != cache->id && !va_cache_keeps(cache, class)))) {
        va_collect(cache, slot, owner, va_size_classes[class].bytes, function);
        return;
    }
    if (!may_stay ||
        (va_slot_stack_is_full(stack) && va_unlikely(!make_room(cache, class, function)))) {
        if (is_run)
            give_back_run(slot, owner, class, function);
        else
            va_deliver(slot, function);
        return;
    }
    /* A run belongs to whoever freed it last: it is not part of any owner's slabs. */
    if (is_run && owner != cache->id) {
        int32_t blocks = (int32_t)va_size_classes[class].run_blocks;
        va_cache_count_blocks(va_registry_cache(owner), class, -blocks);
        va_cache_count_blocks(cache, class, blocks);
        va_entry_store(va_block_entry(block), va_entry_make(cache->id, class));
    }
    va_slot_stack_push(stack, slot);
}

/* ---- Life of a cache ---- */

VA_STARTUP ThreadCache *va_cache_attach(void)
{
    ThreadCache *cache = va_registry_attach();
    if (cache != NULL) {
        va_stack_update_share(cache);
        va_sweep_later(cache);
    }
    return cache;
}

VA_COLD ThreadCache *va_cache_make(Allocator *allocator, uint32_t thread)
{
    ThreadCache *cache = va_registry_take();
    if (cache == NULL)
        return NULL;
    va_lock_acquire(&cache->mutex); /* statistics look at it */
    cache->allocator = allocator;
    cache->thread = thread;
    va_lock_release(&cache->mutex);
    va_stack_update_share(cache);
    va_sweep_later(cache);
    va_cache_update_view(cache);
    return cache;
}

/* What the cache holds its allocator gives back: it is forgotten. */
VA_COLD void va_cache_abandon(ThreadCache *cache)
{
    va_stacks_drop(cache);
    va_lock_acquire(&cache->mutex); /* statistics look at it */
    cache->thread = 0;              /* nothing is taken from it, and nobody waits for its thread */
    va_registry_end_counts(cache);
    memset(cache->classes, 0, sizeof cache->classes);
#if VALLOC_SECURE_QUARANTINE
    memset(&cache->quarantine, 0, sizeof cache->quarantine);
#endif
    for (unsigned i = 0; cache->outgoing.batches != NULL && i < VA_OUTGOING_BATCHES; i++)
        cache->outgoing.batches[i].count = 0;
    cache->outgoing.bytes = 0;
    cache->large.run = NULL;
    va_large_cache_reserve(cache, 0);
    atomic_store_explicit(&cache->blocks, 0, memory_order_relaxed);
    atomic_store_explicit(&cache->capacity_bytes, 0, memory_order_relaxed);
    va_lock_release(&cache->mutex);
    va_registry_give(cache);
}

VA_COLD void va_cache_vacate_slabs_locked(ThreadCache *cache, unsigned class, Block **unused)
{
    Block *next;
    for (Block *slab = cache->classes[class].open; slab != NULL; slab = next) {
        next = slab->next;
        if (!va_slab_is_unused(slab))
            continue;
        va_slab_unlist_locked(cache, slab);
        va_slab_vacate_locked(cache, slab, unused);
    }
}

VA_COLD void va_cache_release_slabs(ThreadCache *cache)
{
    Block *unused = NULL;
    va_lock_acquire(&cache->mutex);
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class ++)
        va_cache_vacate_slabs_locked(cache, class, &unused);
    va_lock_release(&cache->mutex);
    va_cache_give_back_blocks(unused);
}

static VA_COLD void flush_stacks(ThreadCache *cache)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        size_t held = va_stack_count(cache, class);
        if (held > 0)
            va_stack_flush(cache, class, held, "flush");
    }
}

VA_COLD void va_cache_flush_slots(ThreadCache *cache)
{
    va_quarantine_end(cache);
    flush_stacks(cache);
    va_large_cache_drop(cache);
    va_deliver_collected(cache, "flush");
}

/* All but the stacks. */
static VA_COLD void flush_rest(ThreadCache *cache)
{
    va_large_cache_drop(cache);
    va_large_cache_reserve(cache, 0);
    va_deliver_collected(cache, "flush");
    va_cache_release_slabs(cache);
}

VA_COLD void va_cache_flush_all(ThreadCache *cache)
{
    va_quarantine_end(cache);
    flush_stacks(cache);
    flush_rest(cache);
}

/* A thread that lived shortly leaves filled stacks to the next one, if that is little. */
static VA_COLD bool stays_warm(ThreadCache *cache)
{
    size_t bytes = 0;
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        bytes += va_stack_count(cache, class) * va_size_classes[class].bytes;
    return bytes <= VA_WARM_BYTES && va_registry_exited_count() < VA_WARM_CACHES;
}

VA_COLD void va_cache_retire(ThreadCache *cache)
{
    va_quarantine_end(cache);
    bool sleeps = va_registry_exited_count() >= VA_EXITED_KEPT;
    if (!stays_warm(cache)) {
        flush_stacks(cache);
        for (unsigned class = 0; class < VA_CLASSES; class ++) {
            cache->classes[class].batch = 0;
            if (cache->classes[class].capacity != 0)
                va_stack_set_capacity(cache, class, 0);
        }
    }
    flush_rest(cache);
    if (sleeps)
        va_stacks_drop(cache);
    va_registry_detach(cache, sleeps);
}

/* No thread takes a cache over while its stacks are emptied. */
VA_COLD void va_cache_flush_exited(void)
{
    va_lock_acquire(&va_registry_lock);
    for (ThreadCache *cache = va_registry_exited_locked(); cache != NULL; cache = cache->next) {
        va_cache_flush_all(cache);
        va_stacks_drop(cache);
    }
    va_registry_sleep_exited_locked();
    va_lock_release(&va_registry_lock);
}

VA_COLD void va_cache_release_unused(void)
{
    CacheStats stats;
    va_cache_flush_exited();
    va_registry_stats(&stats);
    for (uint32_t i = 0; i < stats.made; i++)
        va_cache_release_slabs(va_registry_nth(stats.made, i));
}
