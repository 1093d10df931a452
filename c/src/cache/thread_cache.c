/* thread_cache.c: refill, flush, free, trimming, and the life of a cache. */
#include "cache/thread_cache.h"

#include <string.h>

#include "base/check.h"
#include "cache/delivery.h"
#include "cache/drain.h"
#include "cache/holes.h"
#include "os/options.h"
#include "os/os.h"
#include "cache/passage.h"
#include "cache/quarantine.h"
#include "slab/slab.h"
#include "cache/stack_size.h"

/* ---- Flush ---- */

VA_NOINLINE void va_cache_end_runs(void *const *addresses, size_t count, Block **chain,
                                   const char *function)
{
    for (size_t i = 0; i < count; i++) {
        Block *run = va_block_of(addresses[i]);
        if (va_unlikely(((uintptr_t)addresses[i] & (VA_BLOCK_BYTES - 1)) != 0))
            va_fatal(function, "not the start of an allocation", addresses[i]);
        uint32_t spare = va_entry_make(0, VA_CLASS_SPARE);
        uint32_t entry = atomic_exchange_explicit(va_block_entry(run), spare, memory_order_release);
        if (va_unlikely(entry == 0 || entry == spare))
            va_fatal(function, VA_FREED_ALREADY_LATE, addresses[i]);
        run->next = *chain;
        *chain = run;
    }
}

VA_NOINLINE void va_cache_give_back_blocks(Block *chain, bool purge)
{
    if (chain == NULL)
        return;
    va_pool_vacate(chain);
    if (va_unlikely(purge))
        va_pool_purge(chain);
    else
        va_pool_reclaim(chain);
}

/* Runs freed, at the end of their way through the cache. */
static void give_back_runs(void *const *addresses, size_t count, const char *function)
{
    Block *chain = NULL;
    va_cache_end_runs(addresses, count, &chain, function);
    va_cache_give_back_blocks(chain, false);
}

/* Gives back the oldest `count` slots of a stack; other owners' go to the batches for them. They
 * leave the stack under the mutex that their slabs take them under, so that a fork finds none of
 * them in two places. */
static void flush(ThreadCache *cache, unsigned class, size_t count, const char *function)
{
    void **oldest = cache->classes[class].storage + 1;
    size_t bytes = va_size_classes[class].bytes;
    if (class >= VA_CLASSES_SMALL) {
        void *runs[VA_STACK_RUNS_MAX];
        va_assert(count <= sizeof runs / sizeof *runs);
        va_budget_count_runs(cache->id, (size_t)0 - count * va_size_classes[class].run_blocks);
        va_lock_acquire(&cache->mutex); /* a fork must not find it half done */
        memcpy(runs, oldest, count * sizeof *runs);
        va_stack_drop_oldest(cache, class, count);
        va_lock_release(&cache->mutex);
        give_back_runs(runs, count, function);
        return;
    }
    va_purge_count_freed(&cache->flushed_bytes, count * bytes);
    while (count > 0) {
        void *strays[VA_FLUSH_SLOTS];
        uint32_t some = (uint32_t)va_min(count, VA_FLUSH_SLOTS);
        Block *unused = NULL;
        va_lock_acquire(&cache->mutex);
        uint32_t stray_count = va_deliver_own_locked(cache, oldest, some, &unused, function);
        va_drain_count_locked(cache, class, some);
        memcpy(strays, oldest, stray_count * sizeof *strays);
        va_stack_drop_oldest(cache, class, some);
        va_lock_release(&cache->mutex);
        va_supply_put_blocks(cache, unused);
        for (uint32_t i = 0; i < stray_count; i++)
            va_collect(cache, strays[i], va_slot_owner(strays[i], function), bytes, function);
        count -= some;
    }
}

/* ---- Trimming ---- */

/* Makes a stack hold at most so many slots. */
static void shrink(ThreadCache *cache, unsigned class, uint32_t capacity)
{
    if (capacity >= cache->classes[class].capacity)
        return;
    size_t held = va_stack_count(cache, class);
    if (held > capacity)
        flush(cache, class, held - capacity, "trim");
    va_stack_set_capacity(cache, class, capacity);
}

/* Stacks of runs of other classes give way to a class that has none: what is allocated and freed
 * now is kept, not what was. */
static VA_STARTUP void make_run_budget(ThreadCache *cache, unsigned class)
{
    for (unsigned other = VA_CLASSES - 1;
         other >= VA_CLASSES_SMALL && va_budget_affords(cache, class, 1) == 0; other--)
        shrink(cache, other, 0);
}

/* Empties a stack that is not in use: when a class wants more than the budget has room for, or the
 * thread more slabs than lately, as a few slots that wait may be all that others are kept for. A
 * clock hand comes by some classes, and empties the first that had no slow path and holds what it
 * held when it came by last. */
static VA_NOINLINE void evict_idle_stack(ThreadCache *cache, unsigned class)
{
    unsigned hand = cache->hand;
    ClassSet ahead = cache->stacked >> hand | cache->stacked << (VA_CLASSES_SMALL - hand);
    uint64_t near = (uint64_t)ahead & (((uint64_t)1 << VA_HAND_LOOKS) - 1);
    unsigned looks = VA_HAND_LOOKS;
    for (bool evicted = false; near != 0 && !evicted; near &= near - 1) {
        unsigned steps = va_lowest_bit(near);
        unsigned other = (hand + steps) % VA_CLASSES_SMALL;
        ClassState *state = &cache->classes[other];
        uint8_t held = (uint8_t)va_stack_count(cache, other);
        evicted = !state->recent && state->seen == held && other != class;
        state->recent = false;
        state->seen = held;
        if (evicted) {
            state->batch = 1;
            shrink(cache, other, 0);
            looks = steps + 1;
        }
    }
    cache->hand = (uint8_t)((hand + looks) % VA_CLASSES_SMALL);
}

/* How many slots a stack may hold of those wanted. Others give way only to a class that takes most
 * of the slow paths: what looks idle may be in use by the fast paths alone, and classes that want
 * room all at once would empty each stack just before its turn. */
static uint32_t afford(ThreadCache *cache, unsigned class, uint32_t wanted)
{
    uint32_t afforded = va_budget_affords(cache, class, wanted);
    if (va_likely(afforded >= wanted || class >= VA_CLASSES_SMALL ||
                  cache->classes[class].streak < VA_STREAK))
        return afforded;
    evict_idle_stack(cache, class);
    return va_budget_affords(cache, class, wanted);
}

/* Classes without a slow path since the last trim hand back half of what they hold, and what they
 * had grown to; when threads have become more, all classes shrink to the smaller share. */
static VA_COLD void trim(ThreadCache *cache)
{
    va_budget_update(cache);
    bool tight[] = {va_budget_is_exceeded(cache, false), va_budget_is_exceeded(cache, true)};
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        ClassState *state = &cache->classes[class];
        uint32_t capacity = state->capacity;
        if (!state->active) {
            size_t held = va_stack_count(cache, class);
            state->batch = class < VA_CLASSES_SMALL;
            capacity = (uint32_t)va_min(va_min(capacity, va_capacity_at_rest(class)), held);
            if (held > 0)
                flush(cache, class, held - held / 2, "trim");
        }
        if (tight[class >= VA_CLASSES_SMALL])
            capacity =
                (uint32_t)va_min(capacity, va_max(capacity / 2, va_capacity_at_least(class)));
        shrink(cache, class, capacity);
        state->active = false;
    }
    for (unsigned zone = 0; zone < ZONES; zone++) {
        BlockStore *store = &cache->stores[zone];
        if (!store->active) {
            va_supply_drop_blocks(cache, zone);
            store->batch = 0;
        }
        store->active = false;
    }
    if (!cache->large_active) {
        va_large_cache_drop(cache);
        va_large_cache_reserve(cache, 0);
    }
    cache->large_active = false;
    cache->most_slabs = 0;
    va_holes_decay(cache, VA_HOLES_VISIT_BYTES);
    va_purge_visit();
}

/* Lets slabs of a class drain, and slots that wait somewhere leave those that do. */
static VA_COLD void empty(ThreadCache *cache, unsigned class)
{
    va_lock_acquire(&cache->mutex);
    va_drain_visit_locked(cache, class, 0);
    bool drains = cache->classes[class].draining.first != NULL;
    va_lock_release(&cache->mutex);
    size_t held = va_stack_count(cache, class);
    if (drains && held > 0)
        flush(cache, class, held - held / 2, "trim");
}

/* Once a purge delay, class by class: their slabs drain, and give back pages. As much as one visit
 * shall pay for, then the next one goes on. */
static VA_COLD void drain(ThreadCache *cache)
{
    size_t bytes = 0;
    if (cache->drain_step == 0)
        va_deliver_collected(cache, "trim");
    while (cache->drain_step < 2 * VA_CLASSES_SMALL && bytes < VA_DRAIN_VISIT_BYTES) {
        unsigned class = cache->drain_step / 2;
        if (cache->drain_step % 2 == 0)
            empty(cache, class);
        else
            bytes += va_holes_purge_draining(cache, class, VA_DRAIN_VISIT_BYTES - bytes);
        if (bytes < VA_DRAIN_VISIT_BYTES)
            cache->drain_step++;
    }
}

/* What every slow path of a class does: counts it, and trims the cache when it is time. */
static void visit(ThreadCache *cache, ClassState *state)
{
    if (va_unlikely(atomic_load_explicit(&cache->purge_wanted, memory_order_relaxed))) {
        atomic_store_explicit(&cache->purge_wanted, false, memory_order_relaxed);
        va_cache_flush_slots(cache);
    }
    state->active = state->recent = true;
    cache->visits++;
    state->streak = (uint8_t)(cache->visits - state->visited) <= VA_STREAK_GAP
                        ? (uint8_t)va_min(state->streak + 1u, VA_STREAK)
                        : 0;
    state->visited = (uint8_t)cache->visits;
    if (cache->young_visits < VA_YOUNG_VISITS) {
        cache->young_visits++;
        return;
    }
    uint64_t now = va_os_clock_ms();
    if (va_unlikely(cache->trim_ms == 0)) { /* its first look at the clock */
        cache->drain_ms = now + va_max(va_options.purge_delay_ms, VA_DRAIN_MIN_MS);
        cache->drain_step = 2 * VA_CLASSES_SMALL;
        cache->trim_ms = now + VA_TRIM_MS;
    }
    if (va_unlikely(now >= cache->drain_ms)) {
        cache->drain_ms = now + va_max(va_options.purge_delay_ms, VA_DRAIN_MIN_MS);
        cache->drain_step = 0;
    }
    if (va_unlikely(cache->drain_step < 2 * VA_CLASSES_SMALL))
        drain(cache);
    if (va_unlikely(now >= cache->trim_ms)) {
        cache->trim_ms = now + VA_TRIM_MS;
        trim(cache);
        state->active = true;
    }
    if ((uint32_t)now - state->window_ms > VA_BUSY_MS) {
        state->window_ms = (uint32_t)now;
        state->visits = 0;
    }
    if (state->visits < VA_BUSY_VISITS)
        state->visits++;
}

/* A run is kept for the next one of its size when its class is used a second time: a buffer that
 * grows leaves none behind. Tells whether the class may have a stack. */
static bool keeps_slots(ClassState *state, unsigned class)
{
    if (class < VA_CLASSES_SMALL || state->capacity != 0 || state->batch >= 2)
        return true;
    state->batch++;
    return false;
}

/* Makes room in a full stack: by growing it to its bounds at rest, then beyond them whenever a
 * refill came before (the class works in phases larger than its stack) and the class is busy, else
 * by flushing the older half. False if there is no memory for a stack, or the budget has no place
 * for one. */
static bool make_room(ThreadCache *cache, unsigned class, const char *function)
{
    ClassState *state = &cache->classes[class];
    visit(cache, state);
    if (!va_slot_stack_is_full(&cache->front.stacks[class]))
        return true;
    if (!keeps_slots(state, class))
        return false;
    uint32_t capacity = state->capacity;
    uint32_t rest = va_capacity_at_rest(class);
    uint32_t phase = va_capacity_in_phases(cache, class);
    uint32_t wanted = capacity;
    if (capacity < rest)
        wanted = va_capacity_grown(class, capacity, rest);
    else if (state->refilled && capacity < phase)
        wanted = va_capacity_grown(class, capacity, phase);
    else if (state->refilled && state->visits == VA_BUSY_VISITS &&
             va_budget_affords_phases(cache, class))
        wanted = va_capacity_grown(class, capacity, va_capacity_at_most(class));
    if (capacity >= phase)
        state->refilled = false;
    if (capacity == 0 && class >= VA_CLASSES_SMALL)
        make_run_budget(cache, class);
    wanted = afford(cache, class, wanted);
    if (wanted > capacity && va_stack_set_capacity(cache, class, wanted))
        return true;
    state->refilled = false;
    if (capacity == 0)
        return false;
    uint32_t kept = capacity;
    if (va_unlikely(va_budget_is_exceeded(cache, class >= VA_CLASSES_SMALL)))
        kept = (uint32_t)va_min(capacity, va_max(capacity / 2, va_capacity_at_least(class)));
    flush(cache, class, capacity - kept / 2, function);
    shrink(cache, class, kept);
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
    while (taken < count) {
        Block *slab = state->open.first;
        bool is_zero;
        if (slab == NULL) {
            if (state->draining.first == NULL)
                break;
            slab = va_drain_end_locked(cache, class);
        }
        if (va_unlikely(slab->arena != 0)) {
            if (taken != 0)
                break;
            count = 1;
        }
        uint32_t n = va_slab_take(slab, storage + count - taken, count - taken, &is_zero);
        if (taken == 0)
            *zero = is_zero;
        taken += n;
        if (va_slab_available(slab) == 0)
            va_slab_unlist_locked(cache, slab);
    }
    state->taken += taken;
    if (taken < count)
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
    /* One kept beyond the budget is only good for its own class: else its place may serve here. */
    if (va_budget_is_exceeded(cache, true))
        make_run_budget(cache, class);
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
    va_budget_count_runs(cache->id, taken * va_size_classes[class].run_blocks);
    if (taken != 0)
        *zero = runs[0]->zero;
    return (uint32_t)taken;
}

/* Slots of slabs; when none has any, slabs are looked for, as many as the batch fills. */
static uint32_t take_slots(ThreadCache *cache, unsigned class, void **storage, uint32_t count,
                           bool *zero)
{
    Block *slabs[VA_REFILL_SLABS];
    uint32_t slots = va_size_classes[class].slots;
    size_t wanted = va_min((count + slots - 1) / slots, VA_REFILL_SLABS);
    va_lock_acquire(&cache->mutex);
    va_drain_visit_locked(cache, class, count);
    uint32_t taken = take_locked(cache, class, storage, count, zero);
    bool grows = cache->slabs + wanted > cache->most_slabs;
    va_lock_release(&cache->mutex);
    if (taken != 0)
        return taken;
    if (grows && cache->young_visits == VA_YOUNG_VISITS)
        evict_idle_stack(cache, class);
    size_t found = va_supply_slabs(cache, class, slabs, wanted);
    va_lock_acquire(&cache->mutex);
    for (size_t i = 0; i < found; i++) {
        slabs[i]->arriving = false;
        va_slab_list_locked(cache, slabs[i]);
    }
    cache->slabs += found;
    cache->most_slabs = va_max(cache->most_slabs, cache->slabs);
    taken = take_locked(cache, class, storage, count, zero);
    va_lock_release(&cache->mutex);
    return taken;
}

/* Takes up to `count` slots or runs to storage[1 ..]. Returns how many. */
static uint32_t take(ThreadCache *cache, unsigned class, void **storage, uint32_t count, bool *zero)
{
    return class < VA_CLASSES_SMALL ? take_slots(cache, class, storage, count, zero)
                                    : take_runs(cache, class, storage, count, zero);
}

void *va_cache_refill(ThreadCache *cache, unsigned class, bool *zero)
{
    ClassState *state = &cache->classes[class];
    SlotStack *stack = &cache->front.stacks[class];
    visit(cache, state);
    uint32_t most = (uint32_t)va_max(state->capacity, va_capacity_at_rest(class)) / 2;
    if (state->refilled)
        most = (uint32_t)va_max(most, va_budget_bulk(cache, class));
    state->refilled = true;
    uint32_t batch = (uint32_t)va_max(va_min(state->batch, most), 1);
    if (keeps_slots(state, class) && state->capacity < batch) {
        uint32_t wanted =
            afford(cache, class, va_capacity_grown(class, batch / 2, va_capacity_at_most(class)));
        if (wanted > state->capacity)
            va_stack_set_capacity(cache, class, wanted); /* without memory for it: one by one */
    }
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
    va_budget_count_runs(owner, (size_t)0 - va_size_classes[class].run_blocks);
    give_back_runs(&run, 1, function);
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
        size_t blocks = va_size_classes[class].run_blocks;
        va_budget_count_runs(owner, (size_t)0 - blocks);
        va_budget_count_runs(cache->id, blocks);
        va_entry_store(va_block_entry(block), va_entry_make(cache->id, class));
    }
    va_slot_stack_push(stack, slot);
}

/* ---- Life of a cache ---- */

VA_STARTUP ThreadCache *va_cache_attach(void)
{
    ThreadCache *cache = va_registry_attach();
    if (cache != NULL)
        va_budget_update(cache);
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
    va_budget_update(cache);
    va_cache_update_view(cache);
    return cache;
}

/* What the cache holds its allocator gives back: it is forgotten. */
VA_COLD void va_cache_abandon(ThreadCache *cache)
{
    va_stacks_drop(cache);
    va_lock_acquire(&cache->mutex); /* statistics look at it */
    memset(cache->classes, 0, sizeof cache->classes);
    memset(cache->stores, 0, sizeof cache->stores);
#if VALLOC_SECURE_QUARANTINE
    memset(&cache->quarantine, 0, sizeof cache->quarantine);
#endif
    for (unsigned i = 0; cache->outgoing != NULL && i < VA_OUTGOING_BATCHES; i++)
        cache->outgoing[i].count = 0;
    cache->outgoing_bytes = 0;
    cache->large = NULL;
    va_large_cache_reserve(cache, 0);
    cache->slabs = cache->most_slabs = 0;
    cache->stacked = 0;
    atomic_store_explicit(&cache->run_blocks, 0, memory_order_relaxed);
    cache->run_capacity_bytes = 0;
    atomic_store_explicit(&cache->capacity_bytes, 0, memory_order_relaxed);
    for (unsigned i = 0; i < 2; i++)
        atomic_store_explicit(&cache->open[i], 0, memory_order_relaxed);
    va_lock_release(&cache->mutex);
    va_registry_give(cache);
}

VA_COLD void va_cache_vacate_slabs_locked(ThreadCache *cache, unsigned class, Block **unused)
{
    Block *next;
    for (Block *slab = cache->classes[class].open.first; slab != NULL; slab = next) {
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
    va_cache_give_back_blocks(unused, false);
}

VA_COLD void va_cache_give_up(ThreadCache *cache)
{
    va_cache_release_slabs(cache);
    for (unsigned zone = 0; zone < ZONES; zone++)
        va_supply_drop_blocks(cache, zone);
}

static VA_COLD void flush_stacks(ThreadCache *cache)
{
    va_quarantine_end(cache);
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        size_t held = va_stack_count(cache, class);
        if (held > 0)
            flush(cache, class, held, "flush");
    }
}

VA_COLD void va_cache_flush_slots(ThreadCache *cache)
{
    flush_stacks(cache);
    va_large_cache_drop(cache);
    va_deliver_collected(cache, "flush");
}

VA_COLD void va_cache_want_flush(ThreadCache *cache)
{
    atomic_store_explicit(&cache->purge_wanted, true, memory_order_relaxed);
}

/* All but the stacks. */
static VA_COLD void give_up_rest(ThreadCache *cache)
{
    va_large_cache_drop(cache);
    va_large_cache_reserve(cache, 0);
    va_deliver_collected(cache, "flush");
    va_cache_give_up(cache);
}

VA_COLD void va_cache_flush_all(ThreadCache *cache)
{
    flush_stacks(cache);
    give_up_rest(cache);
}

/* A thread that lived shortly leaves little behind; the next one can go on with it. */
static VA_COLD bool may_stay_warm(ThreadCache *cache)
{
    size_t bytes = 0;
    for (unsigned class = 0; class < VA_CLASSES && bytes <= VA_WARM_BYTES; class ++)
        bytes += va_stack_count(cache, class) * va_size_classes[class].bytes;
    return bytes <= VA_WARM_BYTES && va_registry_exited_count() < VA_WARM_CACHES;
}

VA_COLD void va_cache_retire(ThreadCache *cache)
{
    va_quarantine_end(cache);
    bool warm = may_stay_warm(cache);
    if (!warm) {
        flush_stacks(cache);
        for (unsigned class = 0; class < VA_CLASSES; class ++) {
            cache->classes[class].batch = 0;
            if (cache->classes[class].capacity != 0)
                va_stack_set_capacity(cache, class, 0);
        }
    }
    give_up_rest(cache);
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        cache->classes[class].new_blocks = 0;
    cache->most_slabs = 0;
    for (unsigned zone = 0; zone < ZONES; zone++)
        cache->stores[zone].batch = 0;
    bool sleeps = !warm && va_registry_exited_count() >= VA_EXITED_KEPT;
    if (sleeps)
        va_stacks_drop(cache);
    va_registry_detach(cache, sleeps);
}

VA_COLD void va_cache_release_exited(uint64_t now_ms)
{
    va_lock_acquire(&va_registry_lock);
    for (ThreadCache *cache = va_registry_exited_locked(); cache != NULL; cache = cache->next) {
        if (!cache->emptied && now_ms >= cache->kept_until_ms) {
            va_cache_flush_all(cache);
            cache->emptied = true;
        }
    }
    va_lock_release(&va_registry_lock);
}

VA_COLD void va_cache_release_unused(void)
{
    CacheStats stats;
    /* No thread takes a cache over while its stacks are emptied. */
    va_lock_acquire(&va_registry_lock);
    for (ThreadCache *cache = va_registry_exited_locked(); cache != NULL; cache = cache->next) {
        va_cache_flush_all(cache);
        va_stacks_drop(cache);
    }
    va_registry_sleep_exited_locked();
    va_lock_release(&va_registry_lock);
    va_registry_stats(&stats);
    for (uint32_t i = 0; i < stats.made; i++)
        va_cache_release_slabs(va_registry_nth(stats.made, i));
}
