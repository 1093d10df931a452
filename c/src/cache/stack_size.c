/* stack_size.c: see stack_size.h. */
#include "cache/stack_size.h"

#include <string.h>

#include "arena/arena_purge.h"
#include "cache/delivery.h"
#include "table/meta.h"

/* What the slabs or runs of a class come to. Any thread changes those of runs, and a fork may leave
 * them off. */
static size_t used_bytes(const ThreadCache *cache, unsigned class)
{
    int32_t blocks = atomic_load_explicit(&cache->classes[class].blocks, memory_order_relaxed);
    return blocks < 0 ? 0 : (size_t)blocks << VA_BLOCK_SHIFT;
}

uint32_t va_stack_capacity(const ThreadCache *cache, unsigned class)
{
    size_t bytes = va_size_classes[class].bytes;
    size_t used = used_bytes(cache, class);
    if (class >= VA_CLASSES_SMALL)
        return (uint32_t)va_max(bytes <= cache->share >> VA_RUN_USE_SHIFT,
                                va_min(used >> VA_RUN_USE_SHIFT, VA_STACK_RUN_BYTES_MAX) / bytes);
    size_t most = cache->share >> VA_STACK_SHARE_SHIFT;
    if (cache->classes[class].turns != 0)
        most = va_max(most, va_min(used >> VA_STACK_USE_SHIFT, VA_STACK_BYTES_MAX));
    return (uint32_t)va_max(1, va_min(VA_STACK_SLOTS_MAX, most / bytes));
}

uint32_t va_stack_capacity_in_turns(const ThreadCache *cache, unsigned class)
{
    size_t held = atomic_load_explicit(&cache->capacity_bytes, memory_order_relaxed);
    size_t bytes = va_size_classes[class].bytes;
    size_t room = cache->share > held ? (cache->share - held) / bytes : 0;
    return (uint32_t)va_min(cache->classes[class].capacity + room,
                            class >= VA_CLASSES_SMALL ? VA_STACK_RUN_BYTES_MAX / bytes
                                                      : VA_STACK_SLOTS_MAX);
}

/* The next size of a stack: 7, 15, 31, ... A storage of 8 words is one cache line. Of runs, which
 * are large, one at first. */
uint32_t va_stack_grown(unsigned class, uint32_t capacity, uint32_t most)
{
    return (uint32_t)va_min(va_max((size_t)capacity * 2 + 1, class < VA_CLASSES_SMALL ? 7 : 1),
                            most);
}

/* Words for a stack: on the cache's own pages while there is room. */
static VA_STARTUP void **make_storage(ThreadCache *cache, unsigned log)
{
    size_t bytes = sizeof(void *) << log;
    void **storage = cache->room.released[log];
    if (storage != NULL) {
        cache->room.released[log] = *storage;
    } else if (cache->room.next != NULL &&
               bytes <= (size_t)(cache->room.next - va_cache_pages(cache))) {
        cache->room.next -= bytes;
        storage = (void **)(void *)cache->room.next;
    } else {
        storage = va_meta_allocate(bytes);
    }
    return storage;
}

static VA_STARTUP void release_storage(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    void **storage = state->storage;
    unsigned log = va_highest_bit(state->room) + 1;
    bool is_near = cache->room.next != NULL && (char *)storage >= va_cache_pages(cache) &&
                   (char *)storage < (char *)cache;
    if (is_near) {
        *storage = cache->room.released[log];
        cache->room.released[log] = storage;
    } else {
        va_meta_release(storage, sizeof(void *) << log);
    }
}

/* Makes room for `capacity` slots. On failure the stack is as it was. Mutex held. */
static VA_STARTUP bool grow_storage(ThreadCache *cache, unsigned class, uint32_t capacity)
{
    ClassState *state = &cache->classes[class];
    SlotStack *stack = &cache->front.stacks[class];
    if (capacity <= state->room)
        return true;
    unsigned log = va_highest_bit(capacity) + 1;
    void **storage = make_storage(cache, log);
    if (storage == NULL)
        return false;
    size_t held = 0;
    storage[0] = NULL;
    if (state->storage != NULL) {
        held = (size_t)(stack->top - state->storage);
        memcpy(storage, state->storage, (held + 1) * sizeof *storage);
        release_storage(cache, class);
    }
    state->storage = storage;
    state->room = (uint16_t)((1u << log) - 1);
    stack->top = storage + held;
    stack->limit = storage + state->capacity;
    return true;
}

bool va_stack_set_capacity(ThreadCache *cache, unsigned class, uint32_t capacity)
{
    ClassState *state = &cache->classes[class];
    va_lock_acquire(&cache->mutex); /* a fork must not find it half done */
    bool done = grow_storage(cache, class, capacity);
    if (done) {
        size_t more = ((size_t)capacity - state->capacity) * va_size_classes[class].bytes;
        atomic_store_explicit(&cache->capacity_bytes,
                              atomic_load_explicit(&cache->capacity_bytes, memory_order_relaxed) +
                                  more,
                              memory_order_relaxed);
        state->capacity = (uint16_t)capacity;
        cache->front.stacks[class].limit = state->storage + capacity;
    }
    va_lock_release(&cache->mutex);
    return done;
}

VA_COLD void va_stacks_drop(ThreadCache *cache)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        if (cache->classes[class].capacity != 0)
            va_stack_set_capacity(cache, class, 0);
    va_lock_acquire(&cache->mutex);
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        ClassState *state = &cache->classes[class];
        if (state->storage == NULL)
            continue;
        release_storage(cache, class);
        cache->front.stacks[class].top = cache->front.stacks[class].limit =
            (void **)(uintptr_t)va_stack_floor;
        state->storage = NULL;
        state->room = 0;
    }
    va_lock_release(&cache->mutex);
}

size_t va_stack_count(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    return state->storage == NULL ? 0 : (size_t)(cache->front.stacks[class].top - state->storage);
}

void va_stack_drop_oldest(ThreadCache *cache, unsigned class, size_t count)
{
    void **oldest = cache->classes[class].storage + 1;
    SlotStack *stack = &cache->front.stacks[class];
    memmove(oldest, oldest + count, (size_t)(stack->top + 1 - (oldest + count)) * sizeof *oldest);
    stack->top -= count;
    va_slots_forget(stack->top + 1, count);
}

/* ---- Bounds ---- */

/* The budget of all caches, shared out; of a limited allocator a part of the limit. */
void va_stack_update_share(ThreadCache *cache)
{
    size_t least = va_is_other(cache->id) ? VA_CACHE_OTHER_MIN_BYTES : VA_CACHE_MIN_BYTES;
    size_t limit = __atomic_load_n(&cache->allocator->hard_limit, __ATOMIC_RELAXED);
    cache->share =
        va_max(least, va_min(VA_CACHE_ALL_BYTES / va_registry_sharers(), VA_CACHE_MAX_BYTES));
    if (va_unlikely(limit != 0))
        cache->share = va_min(cache->share, limit << VA_BLOCK_SHIFT >> VA_CACHE_LIMIT_SHIFT);
}

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

VA_NOINLINE void va_cache_give_back_blocks(Block *chain)
{
    if (chain == NULL)
        return;
    va_pool_vacate(chain);
    va_pool_reclaim(chain);
}

/* Runs freed, at the end of their way through the cache. */
void va_cache_give_back_runs(void *const *addresses, size_t count, const char *function)
{
    Block *chain = NULL;
    va_cache_end_runs(addresses, count, &chain, function);
    va_cache_give_back_blocks(chain);
}

/* Gives back the oldest `count` slots of a stack; other owners' go to the batches for them. They
 * leave the stack under the mutex that their slabs take them under, so that a fork finds none of
 * them in two places. */
void va_stack_flush(ThreadCache *cache, unsigned class, size_t count, const char *function)
{
    void **oldest = cache->classes[class].storage + 1;
    size_t bytes = va_size_classes[class].bytes;
    if (class >= VA_CLASSES_SMALL) {
        void *runs[VA_STACK_RUNS_MAX];
        va_assert(count <= sizeof runs / sizeof *runs);
        va_cache_count_blocks(cache, class, -(int32_t)(count * va_size_classes[class].run_blocks));
        va_lock_acquire(&cache->mutex); /* a fork must not find it half done */
        memcpy(runs, oldest, count * sizeof *runs);
        va_stack_drop_oldest(cache, class, count);
        va_lock_release(&cache->mutex);
        va_cache_give_back_runs(runs, count, function);
        return;
    }
    va_purge_count_freed(&cache->flushed_bytes, count * bytes);
    while (count > 0) {
        void *strays[VA_FLUSH_SLOTS];
        uint32_t some = (uint32_t)va_min(count, VA_FLUSH_SLOTS);
        Block *unused = NULL;
        va_lock_acquire(&cache->mutex);
        uint32_t stray_count = va_deliver_own_locked(cache, oldest, some, &unused, function);
        va_slab_count_locked(cache, class, some);
        memcpy(strays, oldest, stray_count * sizeof *strays);
        va_stack_drop_oldest(cache, class, some);
        va_lock_release(&cache->mutex);
        va_cache_give_back_blocks(unused);
        for (uint32_t i = 0; i < stray_count; i++)
            va_collect(cache, strays[i], va_slot_owner(strays[i], function), bytes, function);
        count -= some;
    }
}

/* Makes a stack hold at most so many slots. */
void va_stack_shrink(ThreadCache *cache, unsigned class, uint32_t capacity)
{
    if (capacity >= cache->classes[class].capacity)
        return;
    size_t held = va_stack_count(cache, class);
    if (held > capacity)
        va_stack_flush(cache, class, held - capacity, "flush");
    va_stack_set_capacity(cache, class, capacity);
}
