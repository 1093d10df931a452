/* stack_size.c: see stack_size.h. */
#include "cache/stack_size.h"

#include <string.h>

#include "table/meta.h"

uint32_t va_capacity_at_rest(unsigned class)
{
    size_t bytes = va_size_classes[class].bytes;
    if (class >= VA_CLASSES_SMALL)
        return (uint32_t)va_max(2, VA_STACK_RUN_BYTES / bytes);
    return (uint32_t)va_max(2, va_min(VA_STACK_SLOTS_MAX, VA_STACK_BYTES / bytes));
}

uint32_t va_capacity_at_most(unsigned class)
{
    size_t bytes = va_size_classes[class].bytes;
    if (class >= VA_CLASSES_SMALL)
        return (uint32_t)(VA_STACK_RUN_BYTES_MAX / bytes);
    return (uint32_t)va_max(2, va_min(VA_STACK_SLOTS_MAX, VA_STACK_BYTES_MAX / bytes));
}

uint32_t va_capacity_at_least(unsigned class)
{
    if (class >= VA_CLASSES_SMALL)
        return 0;
    size_t slots = VA_STACK_MIN_BYTES / va_size_classes[class].bytes;
    return (uint32_t)va_max(1, va_min(slots, VA_STACK_MIN_SLOTS));
}

/* The next size of a stack: 7, 15, 31, ... A storage of 8 words is one cache line. Of runs, which
 * are large, one at first. */
uint32_t va_capacity_grown(unsigned class, uint32_t capacity, uint32_t most)
{
    return (uint32_t)va_min(va_max((size_t)capacity * 2 + 1, class < VA_CLASSES_SMALL ? 7 : 1),
                            most);
}

/* Words for a stack: on the cache's own pages while there is room. */
static VA_STARTUP void **make_storage(ThreadCache *cache, unsigned log)
{
    size_t bytes = sizeof(void *) << log;
    void **storage = cache->free_room[log];
    if (storage != NULL) {
        cache->free_room[log] = *storage;
    } else if (cache->room != NULL && bytes <= (size_t)(cache->room - va_cache_pages(cache))) {
        cache->room -= bytes;
        storage = (void **)(void *)cache->room;
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
    bool is_near = cache->room != NULL && (char *)storage >= va_cache_pages(cache) &&
                   (char *)storage < (char *)cache;
    if (is_near) {
        *storage = cache->free_room[log];
        cache->free_room[log] = storage;
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
        if (class >= VA_CLASSES_SMALL)
            cache->run_capacity_bytes += more;
        else if (capacity == 0)
            cache->stacked &= ~((ClassSet)1 << class);
        else
            cache->stacked |= (ClassSet)1 << class;
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

/* ---- The budget ---- */

void va_budget_count_runs(uint32_t owner, size_t blocks)
{
    atomic_fetch_add_explicit(&va_registry_cache(owner)->run_blocks, blocks, memory_order_relaxed);
}

static size_t run_bytes(ThreadCache *cache)
{
    size_t blocks = atomic_load_explicit(&cache->run_blocks, memory_order_relaxed);
    return (ptrdiff_t)blocks < 0 ? 0 : blocks << VA_BLOCK_SHIFT; /* a fork may leave it off */
}

static size_t used_bytes(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex);
    size_t slabs = cache->slabs;
    va_lock_release(&cache->mutex);
    return (slabs << VA_BLOCK_SHIFT) + run_bytes(cache);
}

/* The bytes that the stacks of slots, or of runs, may hold: a share, and beyond it a part of what
 * the thread has in use. */
static size_t share(const ThreadCache *cache, bool runs)
{
    return va_min(cache->share, runs ? VA_CACHE_RUN_BYTES : VA_CACHE_MAX_BYTES);
}

static size_t beyond_share(ThreadCache *cache, bool runs)
{
    return runs ? run_bytes(cache) >> VA_RUN_USE_SHIFT : used_bytes(cache) >> VA_CACHE_USE_SHIFT;
}

static size_t capacity_bytes(ThreadCache *cache, bool runs)
{
    size_t all = atomic_load_explicit(&cache->capacity_bytes, memory_order_relaxed);
    return runs ? cache->run_capacity_bytes : all - cache->run_capacity_bytes;
}

uint32_t va_capacity_in_phases(ThreadCache *cache, unsigned class)
{
    uint32_t rest = va_capacity_at_rest(class);
    size_t bytes = va_size_classes[class].bytes;
    if (bytes > VA_STACK_FINE || cache->classes[class].batch <= rest / 2 ||
        2 * capacity_bytes(cache, false) > cache->share)
        return rest;
    return (uint32_t)va_max(rest, va_min(VA_STACK_SLOTS_MAX, VA_STACK_FINE_BYTES / bytes));
}

VA_COLD bool va_budget_affords_phases(ThreadCache *cache, unsigned class)
{
    size_t bytes = cache->classes[class].capacity * (size_t)va_size_classes[class].bytes;
    return 2 * bytes <= used_bytes(cache) >> VA_STACK_USE_SHIFT;
}

uint32_t va_budget_bulk(ThreadCache *cache, unsigned class)
{
    size_t each = va_size_classes[class].bytes;
    bool runs = class >= VA_CLASSES_SMALL;
    bool fine = each < VA_BULK_COARSE_BYTES;
    if (fine && (each < VA_BULK_FINE_BYTES || cache->classes[class].streak < VA_BULK_STREAK))
        return 0;
    unsigned shift = runs ? VA_RUN_USE_SHIFT : fine ? VA_BULK_FINE_SHIFT : VA_BULK_COARSE_SHIFT;
    size_t bytes = used_bytes(cache) >> shift;
    return (uint32_t)(va_min(bytes, runs ? VA_STACK_RUN_BYTES_MAX : VA_BULK_BYTES) / each);
}

/* The budget of all caches, shared out; of a limited allocator a part of the limit. */
void va_budget_update(ThreadCache *cache)
{
    size_t least = va_is_other(cache->id) ? VA_CACHE_OTHER_MIN_BYTES : VA_CACHE_MIN_BYTES;
    size_t limit = __atomic_load_n(&cache->allocator->hard_limit, __ATOMIC_RELAXED);
    cache->share =
        va_max(least, va_min(VA_CACHE_ALL_BYTES / va_registry_sharers(), VA_CACHE_MAX_BYTES));
    if (va_unlikely(limit != 0))
        cache->share = va_min(cache->share, limit << VA_BLOCK_SHIFT >> VA_CACHE_LIMIT_SHIFT);
}

bool va_budget_is_exceeded(ThreadCache *cache, bool runs)
{
    size_t bytes = capacity_bytes(cache, runs);
    size_t least = share(cache, runs);
    return bytes > least && bytes > least + beyond_share(cache, runs);
}

uint32_t va_budget_affords(ThreadCache *cache, unsigned class, uint32_t wanted)
{
    ClassState *state = &cache->classes[class];
    if (wanted <= state->capacity)
        return state->capacity;
    bool runs = class >= VA_CLASSES_SMALL;
    va_budget_update(cache);
    size_t most = share(cache, runs) + beyond_share(cache, runs);
    size_t bytes = va_min(capacity_bytes(cache, runs), most);
    size_t each = va_size_classes[class].bytes;
    size_t least = runs ? bytes == 0 && each <= cache->share : va_capacity_at_least(class);
    size_t room = va_max(state->capacity + (most - bytes) / each, least);
    return (uint32_t)va_max(state->capacity, va_min(wanted, room));
}
