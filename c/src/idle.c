/* idle.c: see idle.h. */
#include "idle.h"

#include <string.h>

#include "large.h"
#include "os.h"
#include "stack_size.h"

/* Random order takes one of so many, and puts the newest into its place. */
#define NEWEST (VALLOC_SECURE_RANDOM ? VA_RANDOM_CHOICE : 1)

/* ---- The thread comes back ---- */

static VA_COLD void close_up_stack(ThreadCache *cache, unsigned class)
{
    void **storage = cache->classes[class].storage;
    size_t held = va_stack_count(cache, class);
    size_t gone = 0;
    while (gone < held && storage[1 + gone] == NULL)
        gone++;
    if (gone != 0)
        va_stack_drop_oldest(cache, class, gone);
}

static VA_COLD void close_up_batch(Outgoing *outgoing)
{
    uint32_t rest = 0;
    for (uint32_t i = 0; i < outgoing->count; i++)
        if (outgoing->slots[i] != NULL)
            outgoing->slots[rest++] = outgoing->slots[i];
    outgoing->count = rest;
}

static VA_COLD void close_up_locked(ThreadCache *cache)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        close_up_stack(cache, class);
    for (unsigned i = 0; cache->outgoing != NULL && i < VA_OUTGOING_BATCHES; i++)
        close_up_batch(&cache->outgoing[i]);
    cache->robbed = false;
}

static VA_COLD void resume_locked(ThreadCache *cache)
{
    if (cache->robbed)
        close_up_locked(cache);
    if (atomic_load_explicit(&cache->suspended, memory_order_relaxed)) {
        __atomic_store_n(cache->place, &cache->front, __ATOMIC_RELAXED);
        atomic_store_explicit(&cache->suspended, false, memory_order_relaxed);
    }
}

VA_COLD void va_idle_forget(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex); /* statistics look at it */
    atomic_store_explicit(&cache->busy, false, memory_order_relaxed);
    atomic_store_explicit(&cache->front.popping, false, memory_order_relaxed);
    atomic_store_explicit(&cache->suspended, false, memory_order_relaxed);
    cache->place = NULL;
    close_up_locked(cache);
    va_lock_release(&cache->mutex);
}

VA_COLD void va_idle_resume(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex);
    resume_locked(cache);
    va_lock_release(&cache->mutex);
}

VA_STARTUP void va_idle_set_place(ThreadCache *cache, CacheFront **place)
{
    va_lock_acquire(&cache->mutex);
    if (va_unlikely(atomic_load_explicit(&cache->suspended, memory_order_relaxed)))
        resume_locked(cache);
    cache->place = place;
    va_lock_release(&cache->mutex);
}

/* ---- The thread does nothing ---- */

VA_COLD void va_idle_suspend(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex);
    if (cache->place != NULL && !atomic_load_explicit(&cache->suspended, memory_order_relaxed)) {
        atomic_store_explicit(&cache->suspended, true, memory_order_relaxed);
        __atomic_store_n(cache->place, VA_NO_FRONT, __ATOMIC_RELAXED);
    }
    va_lock_release(&cache->mutex);
}

/* It stays so while the mutex is held. The acquire pairs with va_idle_leave. */
static VA_COLD bool is_away_locked(ThreadCache *cache)
{
    return atomic_load_explicit(&cache->suspended, memory_order_relaxed) &&
           !atomic_load_explicit(&cache->busy, memory_order_acquire);
}

static VA_COLD size_t held_locked(ThreadCache *cache, unsigned class)
{
    void **storage = cache->classes[class].storage;
    void **top = VA_OBSERVE(cache->front.stacks[class].top);
    return storage == NULL ? 0 : (size_t)(top - storage);
}

/* The classes that look as they did at the last look. What a class holds may be the same by chance,
 * or because only its newest slots come and go, which stay. */
static VA_COLD ClassSet look_locked(ThreadCache *cache)
{
    ClassSet idle = 0;
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        ClassState *state = &cache->classes[class];
        size_t held = held_locked(cache, class);
        if (state->looked_held == held && state->looked_visited == state->visited)
            idle |= (ClassSet)1 << class;
        state->looked_held = (uint16_t)held;
        state->looked_visited = state->visited;
    }
    return idle;
}

/* Moves the oldest of a stack, all but the newest `keep`, at most `most`, to `slots`. */
static VA_COLD size_t take_oldest_locked(ThreadCache *cache, unsigned class, void **slots,
                                         size_t most, size_t keep)
{
    void **storage = cache->classes[class].storage;
    size_t held = held_locked(cache, class);
    size_t first = 1;
    while (first + keep <= held && storage[first] == NULL)
        first++;
    size_t count = va_min(held + 1 - va_min(held + 1, first + keep), most);
    if (count == 0)
        return 0;
    memcpy(slots, storage + first, count * sizeof *slots);
    memset(storage + first, 0, count * sizeof *slots);
    cache->robbed = true;
    return count;
}

/* False when there are no more, or the thread came back. */
static VA_COLD bool empty_stack(ThreadCache *cache, unsigned class, bool purge)
{
    void *slots[VA_FLUSH_SLOTS];
    Block *unused = NULL;
    size_t count = 0;
    uint32_t strays = 0;
    va_lock_acquire(&cache->mutex);
    if (is_away_locked(cache)) {
        count = take_oldest_locked(cache, class, slots, VA_FLUSH_SLOTS, NEWEST);
        strays = va_deliver_own_locked(cache, slots, (uint32_t)count, &unused, "flush");
        va_drain_count_locked(cache, class, (uint32_t)count);
        if (count == 0)
            va_cache_vacate_slabs_locked(cache, class, &unused);
    }
    va_lock_release(&cache->mutex);
    va_cache_give_back_blocks(unused, purge);
    for (uint32_t i = 0; i < strays; i++)
        va_deliver(slots[i], "flush");
    return count != 0;
}

static VA_COLD bool empty_runs(ThreadCache *cache, unsigned class, bool purge)
{
    void *runs[VA_FLUSH_SLOTS];
    size_t count = 0;
    va_lock_acquire(&cache->mutex);
    if (is_away_locked(cache) &&
        !atomic_load_explicit(&cache->front.popping, memory_order_acquire)) {
        count = take_oldest_locked(cache, class, runs, VA_FLUSH_SLOTS, 0);
        va_budget_count_runs(cache->id, (size_t)0 - count * va_size_classes[class].run_blocks);
    }
    va_lock_release(&cache->mutex);
    va_cache_give_back_blocks(va_cache_end_runs(runs, count, "flush"), purge);
    return count != 0;
}

/* All but the last one, with which the thread compares what it frees next. */
static VA_COLD void empty_batch(ThreadCache *cache, unsigned i)
{
    void *slots[VA_OUTGOING_SLOTS];
    uint32_t count = 0;
    uint32_t owner = 0;
    va_lock_acquire(&cache->mutex);
    if (is_away_locked(cache) && cache->outgoing != NULL) {
        Outgoing *outgoing = &cache->outgoing[i];
        uint32_t held = VA_OBSERVE(outgoing->count);
        owner = outgoing->owner;
        for (uint32_t k = 0; k + 1 < held; k++) {
            if (outgoing->slots[k] != NULL)
                slots[count++] = outgoing->slots[k];
            outgoing->slots[k] = NULL;
        }
        cache->robbed |= count != 0;
    }
    va_lock_release(&cache->mutex);
    if (count != 0)
        va_deliver_batch(owner, slots, count, "flush");
}

/* What there is to take by a look at the cache. */
typedef struct Idle {
    ClassSet classes;
    Block *large;
    bool has_batches;
} Idle;

static VA_COLD Idle idle_locked(ThreadCache *cache, bool all)
{
    Idle idle = {look_locked(cache), NULL, cache->outgoing != NULL};
    if (all)
        idle.classes = ~(ClassSet)0;
    if (all || cache->looked_puts == cache->large_puts) {
        idle.large = cache->large;
        cache->large = NULL;
    }
    cache->looked_puts = cache->large_puts;
    return idle;
}

VA_COLD bool va_idle_empty(ThreadCache *cache, bool all)
{
    Idle idle = {0};
    va_lock_acquire(&cache->mutex);
    bool away = is_away_locked(cache);
    if (away)
        idle = idle_locked(cache, all);
    va_lock_release(&cache->mutex);
    if (idle.large != NULL)
        va_large_give_back(idle.large, !all);
    for (unsigned i = 0; idle.has_batches && i < VA_OUTGOING_BATCHES; i++)
        empty_batch(cache, i);
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        bool more = (idle.classes >> class & 1) != 0;
        while (more)
            more = class < VA_CLASSES_SMALL ? empty_stack(cache, class, !all)
                                            : empty_runs(cache, class, !all);
    }
    return away;
}
