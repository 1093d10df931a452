/* idle.c: see idle.h. */
#include "idle.h"

#include <string.h>

#include "large.h"
#include "os.h"
#include "stack_size.h"

/* So many slots of a stack stay: random order takes one of so many, and puts the newest into its
 * place. Of runs none, but where another processor may see the new top before what was put there.
 */
#define NEWEST (VALLOC_SECURE_RANDOM ? VA_RANDOM_CHOICE : 1)
#if defined(__x86_64__)
#define NEWEST_RUNS ((size_t)0)
#else
#define NEWEST_RUNS ((size_t)1)
#endif

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
        __atomic_store_n(atomic_load_explicit(&cache->place, memory_order_relaxed), &cache->front,
                         __ATOMIC_RELAXED);
        atomic_store_explicit(&cache->suspended, false, memory_order_relaxed);
    }
}

VA_COLD void va_idle_forget(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex); /* statistics look at it */
    va_idle_leave(cache);
    atomic_store_explicit(&cache->front.popping, false, memory_order_relaxed);
    atomic_store_explicit(&cache->suspended, false, memory_order_relaxed);
    atomic_store_explicit(&cache->place, NULL, memory_order_relaxed);
    close_up_locked(cache);
    va_lock_release(&cache->mutex);
}

VA_COLD void va_idle_resume(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex);
    resume_locked(cache);
    va_lock_release(&cache->mutex);
}

VA_COLD void va_idle_end(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex);
    resume_locked(cache);
    atomic_store_explicit(&cache->place, NULL, memory_order_relaxed);
    va_lock_release(&cache->mutex);
}

/* ---- The thread does nothing ---- */

/* Slots below a top. */
VA_INLINE size_t held(const ThreadCache *cache, unsigned class, void **top)
{
    void **storage = cache->classes[class].storage;
    return storage == NULL ? 0 : (size_t)(top - storage);
}

/* Finds what looks as it did at the last look. A stack may hold as much by chance, or because only
 * its newest slots come and go, which stay. The thread may be at work meanwhile: it is a hint. */
static VA_COLD void look_locked(ThreadCache *cache)
{
    uint32_t puts = VA_PEEK(cache->large_puts);
    cache->idle = 0;
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        ClassState *state = &cache->classes[class];
        uint16_t count = (uint16_t)held(cache, class, VA_PEEK(cache->front.stacks[class].top));
        uint8_t visited = VA_PEEK(state->visited);
        if (state->looked_held == count && state->looked_visited == visited)
            cache->idle |= (ClassSet)1 << class;
        state->looked_held = count;
        state->looked_visited = visited;
    }
    cache->large_idle = cache->looked_puts == puts;
    cache->looked_puts = puts;
}

VA_COLD bool va_idle_suspend(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex);
    CacheFront **place = atomic_load_explicit(&cache->place, memory_order_acquire);
    bool suspended = atomic_load_explicit(&cache->suspended, memory_order_relaxed);
    bool full = place != NULL && !(suspended && cache->emptied);
    if (full)
        look_locked(cache);
    if (full && !suspended) {
        cache->emptied = false;
        atomic_store_explicit(&cache->suspended, true, memory_order_relaxed);
        __atomic_store_n(place, VA_NO_FRONT, __ATOMIC_RELAXED);
    }
    va_lock_release(&cache->mutex);
    return full;
}

/* The thread cannot come back while the mutex is held. The acquire pairs with va_idle_leave. */
static VA_COLD bool is_away_locked(ThreadCache *cache)
{
    return atomic_load_explicit(&cache->suspended, memory_order_relaxed) &&
           !atomic_load_explicit(&cache->busy, memory_order_acquire);
}

/* Caches of other allocators wait for the next thread with their thread's id. */
static VA_COLD bool has_thread(const ThreadCache *cache)
{
    return !va_is_other(cache->id) ||
           atomic_load_explicit(&va_registry_cache(cache->thread)->attached, memory_order_acquire);
}

/* Moves the oldest of a stack, all but the newest `keep`, at most `most`, to `slots`. */
static VA_COLD size_t take_oldest_locked(ThreadCache *cache, unsigned class, void **slots,
                                         size_t most, size_t keep)
{
    void **storage = cache->classes[class].storage;
    size_t all = held(cache, class, VA_OBSERVE(cache->front.stacks[class].top));
    size_t first = 1;
    while (first + keep <= all && storage[first] == NULL)
        first++;
    size_t count = va_min(all + 1 - va_min(all + 1, first + keep), most);
    if (count == 0)
        return 0;
    memcpy(slots, storage + first, count * sizeof *slots);
    for (size_t i = 0; i < count; i++)
        VA_PUBLISH(storage[first + i], NULL);
    cache->robbed = true;
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
        count =
            take_oldest_locked(cache, class, slots, VA_FLUSH_SLOTS, has_thread(cache) ? NEWEST : 0);
        strays = va_deliver_own_locked(cache, slots, (uint32_t)count, unused, "flush");
        va_drain_count_locked(cache, class, (uint32_t)count);
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
    size_t count = 0;
    va_lock_acquire(&cache->mutex);
    if (is_away_locked(cache) &&
        !atomic_load_explicit(&cache->front.popping, memory_order_acquire)) {
        count =
            take_oldest_locked(cache, class, runs, VA_FLUSH_SLOTS, NEWEST_RUNS * has_thread(cache));
        va_budget_count_runs(cache->id, (size_t)0 - count * va_size_classes[class].run_blocks);
    }
    va_lock_release(&cache->mutex);
    va_cache_end_runs(runs, count, unused, "flush");
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

#define ALL_CLASSES (((ClassSet)1 << VA_CLASSES) - 1)

VA_COLD bool va_idle_empty(ThreadCache *cache, bool all)
{
    Block *large = NULL;
    ClassSet classes = 0;
    bool has_batches = false;
    Block *unused = NULL; /* given back when all is done: the thread may come back soon */
    va_lock_acquire(&cache->mutex);
    bool away = is_away_locked(cache);
    if (away && !cache->emptied) {
        classes = all ? ALL_CLASSES : cache->idle;
        has_batches = cache->outgoing != NULL;
        if (all || cache->large_idle) {
            large = cache->large;
            cache->large = NULL;
        }
    }
    va_lock_release(&cache->mutex);
    for (unsigned i = 0; has_batches && i < VA_OUTGOING_BATCHES; i++)
        empty_batch(cache, i);
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        bool more = (classes >> class & 1) != 0;
        while (more)
            more = class < VA_CLASSES_SMALL ? empty_stack(cache, class, &unused)
                                            : empty_runs(cache, class, &unused);
    }
    va_lock_acquire(&cache->mutex);
    if (classes == ALL_CLASSES && is_away_locked(cache))
        cache->emptied = true;
    va_lock_release(&cache->mutex);
    va_cache_give_back_blocks(unused, !all);
    if (large != NULL)
        va_large_give_back(large, !all);
    return away;
}
