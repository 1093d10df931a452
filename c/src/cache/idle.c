/* idle.c: see idle.h. */
#include "cache/idle.h"

#include <string.h>

#include "slab/large.h"
#include "cache/sweep.h"

/* So many slots of a stack stay, the newest: those that an operation on a fast path may be about to
 * take. Random order takes one of so many, and puts the newest into its place. Of runs none, but
 * where another processor may see the new top before what was put there. Without a thread none. */
#define NEWEST (VALLOC_SECURE_RANDOM ? VA_RANDOM_CHOICE : 1)
#if defined(__x86_64__)
#define NEWEST_RUNS ((size_t)0)
#else
#define NEWEST_RUNS ((size_t)1)
#endif

/* ---- The thread comes back ---- */

/* Takes the fence away, and the places of slots that are gone. */
static VA_COLD void close_up_stack(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    SlotStack *stack = &cache->front.stacks[class];
    void **storage = state->storage;
    size_t count = va_stack_count(cache, class);
    size_t rest = 0;
    if (cache->fences.place[class] == 0)
        return;
    if (cache->fences.slot[class] != NULL && cache->fences.place[class] <= count &&
        storage[cache->fences.place[class]] == NULL)
        storage[cache->fences.place[class]] = cache->fences.slot[class];
    for (size_t i = 1; i <= count; i++)
        if (storage[i] != NULL)
            storage[++rest] = storage[i];
    va_slots_forget(storage + rest + 1, count - rest);
    stack->top = storage + rest;
    cache->fences.place[class] = 0;
    cache->fences.slot[class] = NULL;
}

static VA_COLD void close_up_batch(Outgoing *outgoing)
{
    uint32_t rest = 0;
    for (uint32_t i = 0; i < outgoing->count; i++)
        if (outgoing->slots[i] != NULL)
            outgoing->slots[rest++] = outgoing->slots[i];
    outgoing->count = rest;
}

static VA_COLD void set_suspended_locked(ThreadCache *cache, bool suspended)
{
    atomic_store_explicit(&cache->idle.suspended, suspended, memory_order_relaxed);
#if VALLOC_SECURE_RANDOM
    atomic_store_explicit(&cache->front.secure.suspended, suspended, memory_order_relaxed);
#endif
}

static VA_COLD void resume_locked(ThreadCache *cache)
{
    if (!atomic_load_explicit(&cache->idle.suspended, memory_order_relaxed))
        return;
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        close_up_stack(cache, class);
    for (unsigned i = 0; cache->outgoing.batches != NULL && i < VA_OUTGOING_BATCHES; i++)
        close_up_batch(&cache->outgoing.batches[i]);
    set_suspended_locked(cache, false);
}

VA_COLD void va_idle_resume(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex);
    resume_locked(cache);
    va_lock_release(&cache->mutex);
}

VA_COLD void va_idle_forget(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex); /* statistics look at it */
    va_idle_leave(cache);
    atomic_store_explicit(&cache->front.popping, false, memory_order_relaxed);
    resume_locked(cache);
    va_lock_release(&cache->mutex);
}

/* ---- The thread does nothing ---- */

/* Slots below a top. */
VA_INLINE size_t held(const ThreadCache *cache, unsigned class, void **top)
{
    void **storage = cache->classes[class].storage;
    return storage == NULL ? 0 : (size_t)(top - storage);
}

/* By a thread, or for one, while its fast paths find it: not by several under a lock. */
static VA_COLD bool is_used_by_one(const ThreadCache *cache)
{
    return atomic_load_explicit(&cache->attached, memory_order_relaxed) && !cache->shared &&
           (!va_is_other(cache->id) || cache->thread != 0);
}

VA_COLD bool va_idle_suspend(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex);
    bool full = is_used_by_one(cache);
    if (full)
        set_suspended_locked(cache, true);
    va_lock_release(&cache->mutex);
    return full;
}

/* The thread cannot begin a slow path while the mutex is held. The acquire pairs with
 * va_idle_leave. */
static VA_COLD bool is_away_locked(ThreadCache *cache)
{
    return atomic_load_explicit(&cache->attached, memory_order_relaxed) &&
           atomic_load_explicit(&cache->idle.suspended, memory_order_relaxed) &&
           !atomic_load_explicit(&cache->idle.busy, memory_order_acquire);
}

/* Caches of other allocators wait for the next thread with their thread's id. */
static VA_COLD bool has_thread(const ThreadCache *cache)
{
    return !va_is_other(cache->id) ||
           atomic_load_explicit(&va_registry_cache(cache->thread)->attached, memory_order_acquire);
}

static VA_COLD size_t newest(const ThreadCache *cache, unsigned class)
{
    return !has_thread(cache) ? 0 : class < VA_CLASSES_SMALL ? NEWEST : NEWEST_RUNS;
}

static VA_COLD bool may_pop_run(const ThreadCache *cache, unsigned class)
{
    return class >= VA_CLASSES_SMALL &&
           atomic_load_explicit(&cache->front.popping, memory_order_acquire);
}

#if VALLOC_SECURE_RANDOM

/* No operation after the barrier takes a slot. */
static VA_COLD void fence_stack_locked(ThreadCache *cache, unsigned class)
{
    size_t count = held(cache, class, VA_OBSERVE(cache->front.stacks[class].top));
    size_t keep = newest(cache, class);
    cache->fences.place[class] =
        (uint16_t)(may_pop_run(cache, class) || count <= keep ? 0 : count - keep + 1);
}

static VA_COLD size_t take_fenced_locked(ThreadCache *cache, unsigned class, void **slots)
{
    (void)cache, (void)class, (void)slots;
    return 0;
}

#else

/* The thread may pop the slot just before, and then go on below, or put others into its place. If
 * it did either since an earlier fence, the slot that stood there is gone; but not yet while the
 * thread may be about to put it on top. */
static VA_COLD void fence_stack_locked(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    size_t count = held(cache, class, VA_OBSERVE(cache->front.stacks[class].top));
    size_t keep = newest(cache, class);
    if (cache->fences.slot[class] != NULL) {
        if (count + 1 >= cache->fences.place[class] &&
            VA_OBSERVE(state->storage[cache->fences.place[class]]) == NULL)
            return;
        cache->fences.slot[class] = NULL;
        cache->fences.place[class] = 0;
    }
    if (count <= keep + cache->fences.place[class])
        return;
    void *slot = __atomic_exchange_n(&state->storage[count - keep], NULL, __ATOMIC_ACQ_REL);
    if (slot == NULL)
        return;
    cache->fences.slot[class] = slot;
    cache->fences.place[class] = (uint16_t)(count - keep);
}

/* The slot in whose place the fence stands, if the thread has not come by: then what lies below is
 * out of its reach. An operation under way takes one slot, above the fence. A place that was popped
 * is not below the top again before it holds another slot. */
static VA_COLD size_t take_fenced_locked(ThreadCache *cache, unsigned class, void **slots)
{
    ClassState *state = &cache->classes[class];
    bool pops = may_pop_run(cache, class);
    if (cache->fences.slot[class] == NULL || pops ||
        held(cache, class, VA_OBSERVE(cache->front.stacks[class].top)) <
            cache->fences.place[class] + newest(cache, class) ||
        VA_OBSERVE(state->storage[cache->fences.place[class]]) != NULL)
        return 0;
    slots[0] = cache->fences.slot[class];
    cache->fences.slot[class] = NULL;
    return 1;
}

#endif

VA_COLD void va_idle_fence(ThreadCache *cache, bool all)
{
    va_lock_acquire(&cache->mutex);
    for (unsigned class = 0; is_away_locked(cache) && class < VA_CLASSES; class ++)
        if ((all || !va_sweep_finds_used(cache, class)) && cache->classes[class].storage != NULL)
            fence_stack_locked(cache, class);
    va_lock_release(&cache->mutex);
}

/* Moves up to VA_FLUSH_SLOTS of what is out of the thread's reach to `slots`, the oldest first. */
static VA_COLD size_t take_oldest_locked(ThreadCache *cache, unsigned class, void **slots)
{
    ClassState *state = &cache->classes[class];
    void **storage = state->storage;
    if (!is_away_locked(cache) || cache->fences.place[class] == 0)
        return 0;
    size_t count = take_fenced_locked(cache, class, slots);
    if (cache->fences.slot[class] != NULL)
        return 0;
    size_t first = 1;
    while (first < cache->fences.place[class] && storage[first] == NULL)
        first++;
    for (; first < cache->fences.place[class] && count < VA_FLUSH_SLOTS; first++) {
        slots[count++] = storage[first];
        VA_PUBLISH(storage[first], NULL);
    }
    return count;
}

/* Adds the slabs that become unused to a chain. False when there is no more to take, or the thread
 * came back. */
static VA_COLD bool empty_stack(ThreadCache *cache, unsigned class, Block **unused)
{
    void *slots[VA_FLUSH_SLOTS];
    size_t count = 0;
    uint32_t strays = 0;
    va_lock_acquire(&cache->mutex);
    if (is_away_locked(cache)) {
        count = take_oldest_locked(cache, class, slots);
        strays = va_deliver_own_locked(cache, slots, (uint32_t)count, unused, "flush");
        if (count == 0)
            va_cache_vacate_slabs_locked(cache, class, unused);
    }
    va_lock_release(&cache->mutex);
    for (uint32_t i = 0; i < strays; i++)
        va_deliver(slots[i], "flush");
    return count != 0;
}

/* The same for a class of runs, which join the chain. */
static VA_COLD bool empty_runs(ThreadCache *cache, unsigned class, Block **unused)
{
    void *runs[VA_FLUSH_SLOTS];
    va_lock_acquire(&cache->mutex);
    size_t count = take_oldest_locked(cache, class, runs);
    va_cache_count_blocks(cache, class, -(int32_t)(count * va_size_classes[class].run_blocks));
    va_lock_release(&cache->mutex);
    va_cache_end_runs(runs, count, unused, "flush");
    return count != 0;
}

static VA_COLD bool empty_batch(ThreadCache *cache, unsigned i)
{
    void *slots[VA_OUTGOING_SLOTS];
    uint32_t count = 0;
    uint32_t owner = 0;
    va_lock_acquire(&cache->mutex);
    if (is_away_locked(cache) && cache->outgoing.batches != NULL) {
        Outgoing *outgoing = &cache->outgoing.batches[i];
        /* Pairs with va_collect and va_collect_fast. */
        uint32_t held = __atomic_load_n(&outgoing->count, __ATOMIC_ACQUIRE);
        owner = outgoing->owner;
        for (uint32_t k = 0; k < held; k++) {
            if (outgoing->slots[k] != NULL)
                slots[count++] = outgoing->slots[k];
            outgoing->slots[k] = NULL;
        }
    }
    va_lock_release(&cache->mutex);
    if (count != 0)
        va_deliver_batch(owner, slots, count, "flush");
    return count != 0;
}

/* The large run freed last. */
static VA_COLD bool empty_large(ThreadCache *cache, bool all)
{
    Block *large = NULL;
    va_lock_acquire(&cache->mutex);
    if (is_away_locked(cache) && (all || !cache->large.used)) {
        large = cache->large.run;
        cache->large.run = NULL;
    }
    if (is_away_locked(cache))
        cache->large.used = false;
    va_lock_release(&cache->mutex);
    if (large != NULL)
        va_large_give_back(large);
    return large != NULL;
}

VA_COLD bool va_idle_empty(ThreadCache *cache, bool all)
{
    Block *unused = NULL; /* given back when all is done: the thread may come back soon */
    bool any = empty_large(cache, all);
    for (unsigned i = 0; i < VA_OUTGOING_BATCHES; i++)
        any |= empty_batch(cache, i);
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        bool more = all || !va_sweep_finds_used(cache, class);
        while (more) {
            more = class < VA_CLASSES_SMALL ? empty_stack(cache, class, &unused)
                                            : empty_runs(cache, class, &unused);
            any |= more;
        }
    }
    va_cache_give_back_blocks(unused);
    return any;
}
