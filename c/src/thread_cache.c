/* thread_cache.c: refill, flush, frees for other owners, adoption, the sizes of stacks.
 *
 * A slab's owner may change between the look at its entry and the moment its slots arrive: under
 * the owner's mutex the entry is read again, and what has moved on is forwarded, slot by slot. */
#include "thread_cache.h"

#include <string.h>

#include "check.h"
#include "large.h"
#include "meta.h"
#include "os.h"
#include "slab.h"

static void send(void *slot, const char *function);

/* What a free cannot see at once shows when its slot leaves the thread's stores: by then the
 * function in the report may be an innocent one. */
#define FREED_ALREADY_LATE "freed already, noticed when freed memory left the thread's cache"

/* ---- The list of slabs with slots to take: mutex held ---- */

static void set_open(ThreadCache *cache, unsigned class, bool open)
{
    _Atomic uint64_t *word = &cache->open[class / 64];
    uint64_t bit = (uint64_t)1 << (class % 64);
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, open ? old | bit : old & ~bit, memory_order_relaxed);
    if (open && !atomic_load_explicit(&cache->attached, memory_order_relaxed))
        atomic_fetch_or_explicit(&va_exited_open[class / 64], bit, memory_order_release);
}

static void list_locked(ThreadCache *cache, Block *slab)
{
    ClassState *state = &cache->classes[slab->class];
    slab->next = NULL;
    slab->prev = state->last;
    if (state->last != NULL) {
        state->last->next = slab;
    } else {
        state->first = slab;
        set_open(cache, slab->class, true);
    }
    state->last = slab;
    slab->listed = true;
}

static void unlist_locked(ThreadCache *cache, Block *slab)
{
    ClassState *state = &cache->classes[slab->class];
    if (slab->prev != NULL)
        slab->prev->next = slab->next;
    else
        state->first = slab->next;
    if (slab->next != NULL)
        slab->next->prev = slab->prev;
    else
        state->last = slab->prev;
    if (state->first == NULL)
        set_open(cache, slab->class, false);
    slab->listed = false;
}

/* ---- Spare blocks, so that slabs come and go without the arena's lock ---- */

/* How many blocks a store may hold: two at least. */
static uint32_t spare_blocks(const ThreadCache *cache)
{
    size_t blocks = cache->share >> VA_SPARE_SHARE_SHIFT >> VA_BLOCK_SHIFT;
    return (uint32_t)va_max(2, va_min(blocks, VA_SPARE_BLOCKS));
}

static void push_block(BlockStore *store, Block *block)
{
    va_entry_store(va_block_entry(block), va_entry_make(0, VA_CLASS_SPARE));
    store->blocks[store->count] = block;
    atomic_signal_fence(memory_order_release); /* a fork may come between: block first */
    store->count++;
}

/* A block for a slab; NULL when there is no memory. */
static Block *take_block(ThreadCache *cache, ZoneKind zone)
{
    BlockStore *store = &cache->stores[zone];
    if (store->count == 0) {
        Block *lent[VA_SPARE_BLOCKS / 2];
        size_t count = va_pool_lend_many(cache->allocator, 1, zone, lent, va_max(store->batch, 1));
        store->active = true;
        store->batch = (uint32_t)va_min((size_t)store->batch * 2 + 1, spare_blocks(cache) / 2);
        for (size_t i = count; i > 0; i--) /* the lowest address leaves first */
            push_block(store, lent[i - 1]);
        if (count == 0)
            return NULL;
    }
    Block *block = store->blocks[--store->count];
    va_pool_occupy(block);
    return block;
}

/* Gives `count` spare blocks back to the arena, those kept longest first. */
static void drop_blocks(BlockStore *store, uint32_t count)
{
    Block *chain = NULL;
    for (uint32_t i = 0; i < count; i++) {
        store->blocks[i]->next = chain;
        chain = store->blocks[i];
    }
    store->count -= count;
    memmove(store->blocks, store->blocks + count, store->count * sizeof *store->blocks);
    if (chain != NULL)
        va_pool_reclaim(chain);
}

/* Keeps slabs that this owner no longer uses, chained by next, as spare blocks. */
static void put_blocks(ThreadCache *cache, Block *chain)
{
    while (chain != NULL) {
        Block *next = chain->next;
        BlockStore *store =
            &cache->stores[va_zone_of(&va_arenas[chain->arena], va_block_number(chain))];
        uint32_t most = spare_blocks(cache);
        if (store->count >= most)
            drop_blocks(store, store->count - most / 2);
        chain->zero = false;
        push_block(store, chain);
        chain = next;
    }
}

/* ---- Giving slots back to their slabs ---- */

/* An unused slab is none any more. */
static void vacate_locked(ThreadCache *cache, Block *slab, Block **unused)
{
    va_entry_store(va_block_entry(slab), va_entry_make(0, VA_CLASS_SPARE));
    va_pool_vacate(slab);
    cache->slabs--;
    slab->next = *unused;
    *unused = slab;
}

/* An unused slab leaves, unless it is the only one of its class that a thread takes from: that
 * would come and go with every slot. One on its way from an exited owner stays. */
static void settle_locked(ThreadCache *cache, Block *slab, Block **unused)
{
    if (slab->arriving)
        return;
    bool only = slab->listed ? slab->prev == NULL && slab->next == NULL
                             : cache->classes[slab->class].first == NULL;
    if (va_slab_is_unused(slab) &&
        (!only || !atomic_load_explicit(&cache->attached, memory_order_relaxed))) {
        if (slab->listed)
            unlist_locked(cache, slab);
        vacate_locked(cache, slab, unused);
    } else if (!slab->listed) {
        list_locked(cache, slab);
    }
}

/* Fetches what a slot of the same class, given back some turns later, will need: its slab's record
 * and the word of its bitmap. */
VA_INLINE void prefetch_slab(const Arena *arena, const void *slot, uint32_t reciprocal)
{
    size_t index = va_block_index(arena, slot);
    uint64_t number = (uint64_t)va_block_offset(slot) * reciprocal >> 32;
    if (index < arena->blocks) {
        __builtin_prefetch(&arena->records[index], 1);
        __builtin_prefetch(arena->bitmaps + index * VA_SLAB_WORDS + number / 64, 1);
    }
}

/* Gives slots to the slabs of this cache. Slots whose slab has another owner by now move to the
 * front of the array; returns how many. Flattened: the calls would cost as much as the work. */
__attribute__((flatten)) static uint32_t
give_locked(ThreadCache *cache, void **slots, uint32_t count, Block **unused, const char *function)
{
    Arena *arena = &va_arenas[0];
    uint32_t id = cache->id;
    uint32_t strays = 0;
    uint32_t i = 0;
    while (i < count) {
        size_t index = va_block_index(arena, slots[i]);
        if (va_unlikely(index >= atomic_load_explicit(&arena->tabled, memory_order_relaxed))) {
            arena = va_arena_find(slots[i]); /* it has one: its entry led here */
            continue;
        }
        /* Whoever adopted the slab released what its old owner's mutex had ordered. */
        uint32_t owner =
            va_entry_owner(atomic_load_explicit(&arena->entries[index], memory_order_acquire));
        if (va_unlikely(owner != id)) {
            if (owner == 0)
                va_fatal(function, FREED_ALREADY_LATE, slots[i]);
            slots[strays++] = slots[i++];
            continue;
        }
        Block *slab = &arena->records[index];
        if (count - i > VA_PREFETCH_SLOTS)
            prefetch_slab(arena, slots[i + VA_PREFETCH_SLOTS], slab->reciprocal);
        uint32_t n;
        SlabError error =
            va_slab_give(slab, arena->bitmaps + index * VA_SLAB_WORDS, slots + i, count - i, &n);
        if (va_unlikely(error != SLAB_OK))
            va_fatal(function,
                     error == SLAB_FREE_ALREADY ? FREED_ALREADY_LATE
                                                : "not the start of an allocation",
                     slots[i]);
        if (va_unlikely(!slab->listed || va_slab_is_unused(slab)))
            settle_locked(cache, slab, unused);
        i += n;
    }
    return strays;
}

/* Gives slots to an owner and forwards what has moved on. The array is used up. */
static void give(ThreadCache *cache, void **slots, uint32_t count, const char *function)
{
    Block *unused = NULL;
    va_lock_acquire(&cache->mutex);
    uint32_t strays = give_locked(cache, slots, count, &unused, function);
    va_lock_release(&cache->mutex);
    if (unused != NULL)
        va_pool_reclaim(unused);
    for (uint32_t i = 0; i < strays; i++)
        send(slots[i], function);
}

static uint32_t owner_of(void *slot, const char *function)
{
    uint32_t owner = va_entry_owner(va_entry_load(va_block_entry(va_block_of(slot))));
    if (va_unlikely(owner == 0))
        va_fatal(function, FREED_ALREADY_LATE, slot);
    return owner;
}

/* Gives one slot to whoever owns it. */
static void send(void *slot, const char *function)
{
    give(va_registry_cache(owner_of(slot, function)), &slot, 1, function);
}

/* ---- Outgoing ---- */

static void deliver(Outgoing *outgoing, const char *function)
{
    uint32_t count = outgoing->count;
    outgoing->count = 0;
    if (count != 0)
        give(va_registry_cache(outgoing->owner), outgoing->slots, count, function);
}

static void deliver_all(ThreadCache *cache, const char *function)
{
    if (cache->outgoing_bytes == 0)
        return;
    for (unsigned i = 0; i < VA_OUTGOING_BATCHES; i++)
        deliver(&cache->outgoing[i], function);
    cache->outgoing_bytes = 0;
}

/* Puts a slot into the batch for its owner. The bytes counted are those since all were sent. */
static void collect(ThreadCache *cache, void *slot, uint32_t owner, size_t bytes,
                    const char *function)
{
    if (va_unlikely(cache->outgoing == NULL)) {
        cache->outgoing = va_meta_allocate(VA_OUTGOING_BATCHES * sizeof *cache->outgoing);
        if (cache->outgoing == NULL) {
            send(slot, function);
            return;
        }
    }
    Outgoing *outgoing = &cache->outgoing[owner % VA_OUTGOING_BATCHES];
    if (outgoing->owner != owner) {
        deliver(outgoing, function);
        outgoing->owner = owner;
    }
    outgoing->slots[outgoing->count] = slot;
    atomic_signal_fence(memory_order_release); /* a fork may come between: slot first */
    outgoing->count++;
    cache->outgoing_bytes += bytes;
    if (outgoing->count == VA_OUTGOING_SLOTS)
        deliver(outgoing, function);
    if (cache->outgoing_bytes >= cache->share >> VA_OUTGOING_SHARE_SHIFT)
        deliver_all(cache, function);
}

/* ---- The size of a stack ---- */

/* What a class's stack may hold at rest. */
static uint32_t capacity_at_rest(unsigned class)
{
    size_t bytes = va_size_classes[class].bytes;
    if (class >= VA_CLASSES_SMALL)
        return (uint32_t)va_max(2, VA_STACK_RUN_BYTES / bytes);
    return (uint32_t)va_max(2, va_min(VA_STACK_SLOTS, VA_STACK_BYTES / bytes));
}

static uint32_t capacity_at_most(unsigned class)
{
    size_t bytes = va_size_classes[class].bytes;
    if (class >= VA_CLASSES_SMALL)
        return (uint32_t)(VA_STACK_RUN_BYTES_MAX / bytes);
    return (uint32_t)va_max(2, va_min(VA_STACK_SLOTS_MAX, VA_STACK_BYTES_MAX / bytes));
}

/* What it may hold whatever the budget: a few slots, no run. */
static uint32_t capacity_at_least(unsigned class)
{
    if (class >= VA_CLASSES_SMALL)
        return 0;
    size_t slots = VA_STACK_MIN_BYTES / va_size_classes[class].bytes;
    return (uint32_t)va_max(1, va_min(slots, VA_STACK_MIN_SLOTS));
}

/* The next size of a stack: 7, 15, 31, ... A storage of 8 words is one cache line. */
static uint32_t grown(uint32_t capacity, uint32_t most)
{
    return (uint32_t)va_min(va_max((size_t)capacity * 2 + 1, 7), most);
}

/* Makes room for `capacity` slots. On failure the stack is as it was. Mutex held. */
static VA_COLD bool grow_storage(ThreadCache *cache, unsigned class, uint32_t capacity)
{
    ClassState *state = &cache->classes[class];
    SlotStack *stack = &cache->front.stacks[class];
    if (capacity <= state->room)
        return true;
    unsigned log = va_highest_bit(capacity) + 1;
    void **storage = va_meta_allocate(sizeof(void *) << log);
    if (storage == NULL)
        return false;
    size_t held = 0;
    storage[0] = NULL;
    if (state->storage != NULL) {
        held = (size_t)(stack->top - state->storage);
        memcpy(storage, state->storage, (held + 1) * sizeof *storage);
        va_meta_release(state->storage, (state->room + 1) * sizeof *storage);
    }
    state->storage = storage;
    state->room = (1u << log) - 1;
    stack->top = storage + held;
    stack->limit = storage + state->capacity;
    return true;
}

static bool set_capacity(ThreadCache *cache, unsigned class, uint32_t capacity)
{
    ClassState *state = &cache->classes[class];
    va_lock_acquire(&cache->mutex); /* a fork must not find it half done */
    bool done = grow_storage(cache, class, capacity);
    if (done) {
        size_t bytes = atomic_load_explicit(&cache->capacity_bytes, memory_order_relaxed) +
                       ((size_t)capacity - state->capacity) * va_size_classes[class].bytes;
        atomic_store_explicit(&cache->capacity_bytes, bytes, memory_order_relaxed);
        state->capacity = capacity;
        cache->front.stacks[class].limit = state->storage + capacity;
    }
    va_lock_release(&cache->mutex);
    return done;
}

static size_t stack_count(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    return state->storage == NULL ? 0 : (size_t)(cache->front.stacks[class].top - state->storage);
}

/* ---- Flush ---- */

/* Runs freed, at the end of their way through the cache: gives them back to the arena. */
static void give_back_runs(void *const *addresses, size_t count, const char *function)
{
    Block *chain = NULL;
    for (size_t i = 0; i < count; i++) {
        Block *run = va_block_of(addresses[i]);
        if (va_unlikely(((uintptr_t)addresses[i] & (VA_BLOCK_BYTES - 1)) != 0))
            va_fatal(function, "not the start of an allocation", addresses[i]);
        uint32_t spare = va_entry_make(0, VA_CLASS_SPARE);
        uint32_t entry = atomic_exchange_explicit(va_block_entry(run), spare, memory_order_release);
        if (va_unlikely(entry == 0 || entry == spare))
            va_fatal(function, FREED_ALREADY_LATE, addresses[i]);
        va_pool_vacate(run);
        run->next = chain;
        chain = run;
    }
    if (chain != NULL)
        va_pool_reclaim(chain);
}

/* Drops the oldest `count` slots from a stack. */
static void drop_oldest(ThreadCache *cache, unsigned class, size_t count)
{
    void **oldest = cache->classes[class].storage + 1;
    SlotStack *stack = &cache->front.stacks[class];
    for (void **slot = oldest + count; slot <= stack->top; slot++)
        slot[-(ptrdiff_t)count] = *slot;
    stack->top -= count;
}

/* Gives back the oldest `count` slots of a stack; other owners' go to the batches for them. They
 * leave the stack under the mutex that their slabs take them under, so that a fork finds none of
 * them in two places. */
static void flush(ThreadCache *cache, unsigned class, size_t count, const char *function)
{
    void **oldest = cache->classes[class].storage + 1;
    size_t bytes = va_size_classes[class].bytes;
    if (class >= VA_CLASSES_SMALL) {
        void *runs[VA_STACK_RUN_BYTES_MAX >> VA_BLOCK_SHIFT];
        va_assert(count <= sizeof runs / sizeof *runs);
        cache->run_blocks -= va_min(cache->run_blocks, count * va_size_classes[class].run_blocks);
        va_lock_acquire(&cache->mutex); /* a fork must not find it half done */
        memcpy(runs, oldest, count * sizeof *runs);
        drop_oldest(cache, class, count);
        va_lock_release(&cache->mutex);
        give_back_runs(runs, count, function);
        return;
    }
    while (count > 0) {
        void *strays[VA_FLUSH_SLOTS];
        uint32_t some = (uint32_t)va_min(count, VA_FLUSH_SLOTS);
        Block *unused = NULL;
        va_lock_acquire(&cache->mutex);
        uint32_t stray_count = give_locked(cache, oldest, some, &unused, function);
        memcpy(strays, oldest, stray_count * sizeof *strays);
        drop_oldest(cache, class, some);
        va_lock_release(&cache->mutex);
        put_blocks(cache, unused);
        for (uint32_t i = 0; i < stray_count; i++)
            collect(cache, strays[i], owner_of(strays[i], function), bytes, function);
        count -= some;
    }
}

/* ---- The large run freed last ---- */

static _Atomic size_t large_kept; /* bytes reserved by all caches; relaxed, only a bound */

Block *va_cache_take_large(ThreadCache *cache, size_t blocks)
{
    Block *run = cache->large;
    if (run == NULL || run->run_blocks != blocks)
        return NULL;
    cache->large = NULL;
    cache->large_active = true;
    return run;
}

/* Changes what the cache may keep. The room stays reserved while the run is in use, so that a
 * loop over one size touches nothing shared. */
static bool reserve_large(ThreadCache *cache, size_t bytes)
{
    size_t others =
        atomic_fetch_sub_explicit(&large_kept, cache->large_room, memory_order_relaxed) -
        cache->large_room;
    cache->large_room = 0;
    if (bytes > VA_LARGE_KEEP_BYTES || others > VA_LARGE_KEEP_BYTES - bytes)
        return false;
    atomic_fetch_add_explicit(&large_kept, bytes, memory_order_relaxed);
    cache->large_room = bytes;
    return true;
}

static void drop_large(ThreadCache *cache)
{
    Block *run = cache->large;
    cache->large = NULL;
    if (run != NULL)
        va_large_give_back(run);
}

void va_cache_put_large(ThreadCache *cache, Block *run)
{
    size_t bytes = (size_t)run->run_blocks << VA_BLOCK_SHIFT;
    drop_large(cache);
    if (!run->moved && (bytes <= cache->large_room || reserve_large(cache, bytes)))
        cache->large = run;
    else
        va_large_give_back(run);
}

/* The bytes that the stacks may hold: the thread's share, and a part of what it has in use. */
static size_t budget(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex);
    size_t blocks = cache->slabs + cache->run_blocks;
    va_lock_release(&cache->mutex);
    return cache->share + ((blocks << VA_BLOCK_SHIFT) >> VA_CACHE_USE_SHIFT);
}

/* The budget of all caches, shared out; of a limited allocator a part of the limit. */
static void set_share(ThreadCache *cache)
{
    size_t least = va_is_other(cache->id) ? VA_CACHE_OTHER_MIN_BYTES : VA_CACHE_MIN_BYTES;
    size_t limit = __atomic_load_n(&cache->allocator->hard_limit, __ATOMIC_RELAXED);
    cache->share =
        va_max(least, va_min(VA_CACHE_ALL_BYTES / va_registry_sharers(), VA_CACHE_MAX_BYTES));
    if (va_unlikely(limit != 0))
        cache->share = va_min(cache->share, limit << VA_BLOCK_SHIFT >> VA_CACHE_LIMIT_SHIFT);
}

static bool is_over_budget(ThreadCache *cache)
{
    size_t bytes = atomic_load_explicit(&cache->capacity_bytes, memory_order_relaxed);
    return bytes > cache->share && bytes > budget(cache);
}

/* Makes a stack hold at most so many slots. */
static void shrink(ThreadCache *cache, unsigned class, uint32_t capacity)
{
    if (capacity >= cache->classes[class].capacity)
        return;
    size_t held = stack_count(cache, class);
    if (held > capacity)
        flush(cache, class, held - capacity, "trim");
    set_capacity(cache, class, capacity);
}

/* Classes without a slow path since the last trim hand back half of what they hold, and what they
 * had grown to; when threads have become more, all classes shrink to the smaller share. */
static VA_COLD void trim(ThreadCache *cache)
{
    set_share(cache);
    bool tight = is_over_budget(cache);
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        ClassState *state = &cache->classes[class];
        uint32_t capacity = state->capacity;
        if (!state->active) {
            size_t held = stack_count(cache, class);
            state->batch = 1;
            capacity = (uint32_t)va_min(va_min(capacity, capacity_at_rest(class)), held);
            if (held > 0)
                flush(cache, class, held - held / 2, "trim");
        }
        if (tight)
            capacity = (uint32_t)va_min(capacity, va_max(capacity / 2, capacity_at_least(class)));
        shrink(cache, class, capacity);
        state->active = false;
    }
    for (unsigned zone = 0; zone < ZONES; zone++) {
        BlockStore *store = &cache->stores[zone];
        if (!store->active) {
            drop_blocks(store, store->count);
            store->batch = 0;
        }
        store->active = false;
    }
    if (!cache->large_active) {
        drop_large(cache);
        reserve_large(cache, 0);
    }
    cache->large_active = false;
}

/* What every slow path of a class does: counts it, and trims the cache when it is time. */
static void visit(ThreadCache *cache, ClassState *state)
{
    uint64_t now = va_os_clock_ms();
    if (va_unlikely(now >= cache->trim_ms)) {
        cache->trim_ms = now + VA_TRIM_MS;
        trim(cache);
    }
    state->active = true;
    if ((uint32_t)now - state->window_ms > VA_BUSY_MS) {
        state->window_ms = (uint32_t)now;
        state->visits = 0;
    }
    if (state->visits < VA_BUSY_VISITS)
        state->visits++;
}

/* The capacity nearest to the one wanted that the budget allows; what the stack has at least. */
static uint32_t affordable(ThreadCache *cache, unsigned class, uint32_t wanted)
{
    ClassState *state = &cache->classes[class];
    if (wanted <= state->capacity)
        return state->capacity;
    size_t bytes = atomic_load_explicit(&cache->capacity_bytes, memory_order_relaxed) +
                   (size_t)(wanted - state->capacity) * va_size_classes[class].bytes;
    set_share(cache);
    if (bytes <= cache->share || bytes <= budget(cache))
        return wanted;
    return (uint32_t)va_max(state->capacity, va_min(wanted, capacity_at_least(class)));
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
    uint32_t capacity = state->capacity;
    uint32_t rest = capacity_at_rest(class);
    uint32_t wanted = capacity;
    if (capacity < rest)
        wanted = grown(capacity, rest);
    else if (state->refilled && state->visits == VA_BUSY_VISITS)
        wanted = grown(capacity, capacity_at_most(class));
    if (capacity >= rest)
        state->refilled = false;
    wanted = affordable(cache, class, wanted);
    if (wanted > capacity && set_capacity(cache, class, wanted))
        return true;
    state->refilled = false;
    if (capacity == 0)
        return false;
    uint32_t kept = capacity;
    if (va_unlikely(is_over_budget(cache)))
        kept = (uint32_t)va_min(capacity, va_max(capacity / 2, capacity_at_least(class)));
    flush(cache, class, capacity - kept / 2, function);
    shrink(cache, class, kept);
    return kept != 0;
}

/* ---- Refill ---- */

/* Takes a slab with slots from another cache, if it has one of this class. */
static VA_COLD Block *take_over(ThreadCache *cache, ThreadCache *from, unsigned class)
{
    uint64_t bit = (uint64_t)1 << (class % 64);
    if ((atomic_load_explicit(&from->open[class / 64], memory_order_relaxed) & bit) == 0)
        return NULL;
    va_lock_acquire(&from->mutex);
    Block *slab = from->classes[class].first;
    if (slab != NULL) {
        unlist_locked(from, slab);
        from->slabs--;
        slab->arriving = true;
        va_entry_store(va_block_entry(slab), va_entry_make(cache->id, class));
    }
    va_lock_release(&from->mutex);
    return slab;
}

/* Takes a slab of this class over from an owner whose thread has exited. */
static VA_COLD Block *adopt_of_exited(ThreadCache *cache, unsigned class)
{
    Block *slab = NULL;
    _Atomic uint64_t *hint = &va_exited_open[class / 64];
    uint64_t bit = (uint64_t)1 << (class % 64);
    if ((atomic_load_explicit(hint, memory_order_relaxed) & bit) == 0)
        return NULL;
    va_lock_acquire(&va_registry_lock);
    /* The acquire pairs with the releases that raise it. */
    atomic_fetch_and_explicit(hint, ~bit, memory_order_acquire);
    ThreadCache *exited = va_registry_exited_locked();
    for (unsigned i = 0; i < VA_ADOPT_LOOKS && exited != NULL && slab == NULL;
         i++, exited = exited->next)
        slab = take_over(cache, exited, class);
    if (slab != NULL || exited != NULL)
        atomic_fetch_or_explicit(hint, bit, memory_order_relaxed);
    va_lock_release(&va_registry_lock);
    return slab;
}

/* The same within another allocator: from a cache whose thread has exited, or from any. */
static VA_COLD Block *adopt_within(ThreadCache *cache, unsigned class, bool any)
{
    Block *slab = NULL;
    ThreadCache *other = __atomic_load_n(&cache->allocator->caches, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; (any || i < VA_ADOPT_LOOKS) && other != NULL && slab == NULL;
         i++, other = other->next) {
        if (other == cache)
            continue;
        if (any || (other->thread != 0 &&
                    !atomic_load_explicit(&va_registry_cache(other->thread)->attached,
                                          memory_order_relaxed)))
            slab = take_over(cache, other, class);
    }
    return slab;
}

static Block *adopt(ThreadCache *cache, unsigned class)
{
    return va_is_other(cache->id) ? adopt_within(cache, class, false)
                                  : adopt_of_exited(cache, class);
}

static Block *fresh_slab(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    bool grows = state->new_blocks >= VA_POPULATE_AFTER_BLOCKS;
    Block *slab = take_block(cache, grows ? ZONE_DENSE : ZONE_SPARSE);
    if (slab == NULL)
        return NULL;
    va_slab_start(slab, class);
    slab->arriving = true;
    if (!grows)
        state->new_blocks++;
    else if (slab->zero)
        va_os_populate(va_block_address(slab), VA_BLOCK_BYTES);
    va_entry_store(va_block_entry(slab), va_entry_make(cache->id, class));
    return slab;
}

void va_cache_update_view(ThreadCache *cache)
{
    if (atomic_load_explicit(&va_arena_count, memory_order_acquire) == 0)
        return;
    cache->front.entries = va_arenas[0].entries;
    cache->front.blocks = atomic_load_explicit(&va_arenas[0].tabled, memory_order_relaxed);
}

/* A slab with slots to take: from an exited owner, else a fresh one. Before memory is asked for,
 * slots of other owners go home. */
static Block *obtain_slab(ThreadCache *cache, unsigned class)
{
    deliver_all(cache, "malloc");
    Block *slab = adopt(cache, class);
    if (slab == NULL)
        slab = fresh_slab(cache, class);
    if (slab == NULL && va_is_other(cache->id)) /* at a limit others may have what is free */
        slab = adopt_within(cache, class, true);
    if (slab != NULL)
        va_cache_update_view(cache);
    return slab;
}

/* Takes up to `count` slots from the listed slabs to storage[1 ..], so that they pop in the
 * order of their addresses. */
static uint32_t take_locked(ThreadCache *cache, unsigned class, void **storage, uint32_t count,
                            bool *zero)
{
    ClassState *state = &cache->classes[class];
    uint32_t taken = 0;
    while (taken < count && state->first != NULL) {
        Block *slab = state->first;
        bool is_zero;
        uint32_t n = va_slab_take(slab, storage + count - taken, count - taken, &is_zero);
        if (taken == 0)
            *zero = is_zero;
        taken += n;
        if (va_slab_available(slab) == 0)
            unlist_locked(cache, slab);
    }
    if (taken < count)
        memmove(storage + 1, storage + 1 + count - taken, taken * sizeof *storage);
    return taken;
}

/* The same for a class of runs, from the arena. */
static uint32_t take_runs(ThreadCache *cache, unsigned class, void **storage, uint32_t count,
                          bool *zero)
{
    Block *runs[VA_STACK_RUN_BYTES_MAX >> VA_BLOCK_SHIFT];
    va_assert(count <= sizeof runs / sizeof *runs);
    size_t taken = va_pool_lend_many(cache->allocator, va_size_classes[class].run_blocks,
                                     ZONE_DENSE, runs, count);
    va_cache_update_view(cache);
    for (size_t i = 0; i < taken; i++) {
        va_pool_occupy(runs[i]);
        runs[i]->class = (uint16_t) class;
        va_entry_store(va_block_entry(runs[i]), va_entry_make(cache->id, class));
        storage[taken - i] = va_block_address(runs[i]);
    }
    cache->run_blocks += taken * va_size_classes[class].run_blocks;
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
    size_t found = 0;
    va_lock_acquire(&cache->mutex);
    uint32_t taken = take_locked(cache, class, storage, count, zero);
    va_lock_release(&cache->mutex);
    if (taken != 0)
        return taken;
    while (found < wanted && (slabs[found] = obtain_slab(cache, class)) != NULL)
        found++;
    va_lock_acquire(&cache->mutex);
    for (size_t i = 0; i < found; i++) {
        bool is_zero;
        slabs[i]->arriving = false;
        taken += va_slab_take(slabs[i], storage + count - taken, count - taken, &is_zero);
        if (i == 0)
            *zero = is_zero;
        if (va_slab_available(slabs[i]) != 0)
            list_locked(cache, slabs[i]);
    }
    cache->slabs += found;
    va_lock_release(&cache->mutex);
    if (taken < count)
        memmove(storage + 1, storage + 1 + count - taken, taken * sizeof *storage);
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
    state->refilled = true;
    uint32_t batch = (uint32_t)va_max(state->batch, 1);
    if (state->capacity < batch) {
        uint32_t wanted = affordable(cache, class, grown(batch / 2, capacity_at_most(class)));
        if (wanted > state->capacity && !set_capacity(cache, class, wanted))
            return NULL;
    }
    if (state->capacity == 0) {
        void *single[2];
        return take(cache, class, single, 1, zero) == 0 ? NULL : single[1];
    }
    batch = (uint32_t)va_min(batch, state->capacity);
    uint32_t taken = take(cache, class, state->storage, batch, zero);
    if (taken == 0)
        return NULL;
    atomic_signal_fence(memory_order_release); /* a fork may come between: slots first */
    stack->top = state->storage + taken;
    uint32_t most = (uint32_t)va_max(state->capacity, capacity_at_rest(class)) / 2;
    state->batch = (uint32_t)va_min((size_t)batch * 2, va_max(most, 1));
    return va_slot_stack_pop(stack);
}

/* ---- Free ---- */

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
            give_back_runs(&slot, 1, function);
        else
            send(slot, function);
        return;
    }
    SlotStack *stack = &cache->front.stacks[class];
    /* What a thread only frees it would keep and flush for nothing. */
    if (owner != cache->id && !is_run &&
        (class < VA_CLASS_KEPT ||
         (va_slot_stack_is_full(stack) && !cache->classes[class].refilled))) {
        collect(cache, slot, owner, va_size_classes[class].bytes, function);
        return;
    }
    if (va_unlikely(*stack->top == slot))
        va_fatal(function, "freed already", slot);
    if (va_slot_stack_is_full(stack) && va_unlikely(!make_room(cache, class, function))) {
        if (is_run)
            give_back_runs(&slot, 1, function);
        else
            send(slot, function);
        return;
    }
    /* A run belongs to whoever freed it last: it is not part of any owner's slabs. */
    if (is_run && owner != cache->id)
        va_entry_store(va_block_entry(block), va_entry_make(cache->id, class));
    va_slot_stack_push(stack, slot);
}

/* ---- Life of a cache ---- */

VA_COLD ThreadCache *va_cache_attach(void)
{
    ThreadCache *cache = va_registry_attach();
    if (cache != NULL)
        set_share(cache);
    return cache;
}

VA_COLD ThreadCache *va_cache_make(MemoryAllocator *allocator, uint32_t thread)
{
    ThreadCache *cache = va_registry_take();
    if (cache == NULL)
        return NULL;
    cache->allocator = allocator;
    cache->thread = thread;
    set_share(cache);
    va_cache_update_view(cache);
    return cache;
}

/* What the cache holds its allocator gives back: it is forgotten. */
VA_COLD void va_cache_abandon(ThreadCache *cache)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        ClassState *state = &cache->classes[class];
        if (state->storage != NULL)
            va_meta_release(state->storage, (state->room + 1) * sizeof *state->storage);
        cache->front.stacks[class].top = cache->front.stacks[class].limit =
            (void **)(uintptr_t)va_stack_floor;
    }
    memset(cache->classes, 0, sizeof cache->classes);
    memset(cache->stores, 0, sizeof cache->stores);
    for (unsigned i = 0; cache->outgoing_bytes != 0 && i < VA_OUTGOING_BATCHES; i++)
        cache->outgoing[i].count = 0;
    cache->outgoing_bytes = 0;
    cache->large = NULL;
    reserve_large(cache, 0);
    cache->slabs = cache->run_blocks = 0;
    atomic_store_explicit(&cache->capacity_bytes, 0, memory_order_relaxed);
    for (unsigned i = 0; i < 2; i++)
        atomic_store_explicit(&cache->open[i], 0, memory_order_relaxed);
    va_registry_give(cache);
}

VA_COLD void va_cache_release_slabs(ThreadCache *cache)
{
    Block *unused = NULL;
    va_lock_acquire(&cache->mutex);
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class ++) {
        Block *next;
        for (Block *slab = cache->classes[class].first; slab != NULL; slab = next) {
            next = slab->next;
            if (!va_slab_is_unused(slab))
                continue;
            unlist_locked(cache, slab);
            vacate_locked(cache, slab, &unused);
        }
    }
    va_lock_release(&cache->mutex);
    if (unused != NULL)
        va_pool_reclaim(unused);
}

static VA_COLD void flush_stacks(ThreadCache *cache)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        size_t held = stack_count(cache, class);
        if (held > 0)
            flush(cache, class, held, "flush");
    }
}

VA_COLD void va_cache_flush_slots(ThreadCache *cache)
{
    flush_stacks(cache);
    drop_large(cache);
    deliver_all(cache, "flush");
}

/* All but the stacks. */
static VA_COLD void give_up_rest(ThreadCache *cache)
{
    drop_large(cache);
    reserve_large(cache, 0);
    deliver_all(cache, "flush");
    va_cache_release_slabs(cache);
    for (unsigned zone = 0; zone < ZONES; zone++)
        drop_blocks(&cache->stores[zone], cache->stores[zone].count);
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
        bytes += stack_count(cache, class) * va_size_classes[class].bytes;
    return bytes <= VA_WARM_BYTES && va_registry_exited_count() < VA_WARM_CACHES;
}

VA_COLD void va_cache_retire(ThreadCache *cache)
{
    if (!may_stay_warm(cache)) {
        flush_stacks(cache);
        for (unsigned class = 0; class < VA_CLASSES; class ++) {
            cache->classes[class].batch = 0;
            if (cache->classes[class].capacity != 0)
                set_capacity(cache, class, 0);
        }
    }
    give_up_rest(cache);
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        cache->classes[class].new_blocks = 0;
    for (unsigned zone = 0; zone < ZONES; zone++)
        cache->stores[zone].batch = 0;
    va_registry_detach(cache);
}

VA_COLD void va_cache_release_unused(void)
{
    CacheStats stats;
    /* No thread takes a cache over while its stacks are emptied. */
    va_lock_acquire(&va_registry_lock);
    for (ThreadCache *cache = va_registry_exited_locked(); cache != NULL; cache = cache->next)
        va_cache_flush_all(cache);
    va_lock_release(&va_registry_lock);
    va_registry_stats(&stats);
    for (uint32_t i = 0; i < stats.made; i++)
        va_cache_release_slabs(va_registry_nth(stats.made, i));
}
