/* thread_cache.c: refill, flush, frees for other owners, adoption; the registry of owners.
 *
 * A slab's owner may change between the look at its entry and the moment its slots arrive: under
 * the owner's mutex the entry is read again, and what has moved on is forwarded, slot by slot. */
#include "thread_cache.h"

#include <string.h>

#include "arena.h"
#include "check.h"
#include "meta.h"
#include "os.h"
#include "slab.h"

Lock va_registry_lock;
void *const va_stack_floor[1] = {NULL};

/* Caches by owner id - 1, in chunks that stay where they are. */
#define CHUNK_OWNERS 1024
static _Atomic(ThreadCache **) chunks[VA_OWNERS_MAX / CHUNK_OWNERS];
static struct { /* va_registry_lock */
    size_t made;
    ThreadCache *exited; /* the most recent first */
    size_t exited_count;
} registry;
static _Atomic bool exited_exist; /* hint: registry.exited is not NULL */

static void send(void *slot, const char *function);

/* The cache of an owner that a table entry named: it exists. The acquire pairs with the release
 * in make_cache. */
static ThreadCache *cache_of(uint32_t owner)
{
    ThreadCache **chunk =
        atomic_load_explicit(&chunks[(owner - 1) / CHUNK_OWNERS], memory_order_acquire);
    return chunk[(owner - 1) % CHUNK_OWNERS];
}

/* ---- The list of slabs with slots to take: mutex held ---- */

static void set_open(ThreadCache *cache, unsigned class, bool open)
{
    _Atomic uint64_t *word = &cache->open[class / 64];
    uint64_t bit = (uint64_t)1 << (class % 64);
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, open ? old | bit : old & ~bit, memory_order_relaxed);
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

/* Slabs that left their owner for good, chained by next. */
static void reclaim_chain(Block *slab)
{
    while (slab != NULL) {
        Block *next = slab->next;
        va_arena_reclaim(slab);
        slab = next;
    }
}

/* ---- Giving slots back to their slabs ---- */

/* An unused slab leaves, unless it is the only one of its class that a thread takes from: that
 * would come and go with every slot. One on its way from an exited owner stays. */
static void settle_locked(ThreadCache *cache, Block *slab, Block **unused)
{
    if (slab->arriving)
        return;
    if (!slab->listed)
        list_locked(cache, slab);
    if (va_slab_is_unused(slab) &&
        (slab->prev != NULL || slab->next != NULL ||
         !atomic_load_explicit(&cache->attached, memory_order_relaxed))) {
        unlist_locked(cache, slab);
        cache->slabs--;
        slab->next = *unused;
        *unused = slab;
    }
}

/* Gives slots to the slabs of this cache. Slots whose slab has another owner by now move to the
 * front of the array; returns how many. Flattened: the calls would cost as much as the work. */
__attribute__((flatten)) static uint32_t
give_locked(ThreadCache *cache, void **slots, uint32_t count, Block **unused, const char *function)
{
    uint32_t strays = 0;
    uint32_t i = 0;
    while (i < count) {
        Block *slab = va_block_of(slots[i]);
        uint32_t entry = va_entry_load(va_block_entry(slab));
        uint32_t n;
        if (va_unlikely(va_entry_owner(entry) != cache->id)) {
            if (va_entry_owner(entry) == 0)
                va_fatal(function, "freed already", slots[i]);
            slots[strays++] = slots[i++];
            continue;
        }
        SlabError error = va_slab_give(slab, slots + i, count - i, &n);
        if (va_unlikely(error != SLAB_OK))
            va_fatal(function,
                     error == SLAB_FREE_ALREADY ? "freed already"
                                                : "not the start of an allocation",
                     slots[i]);
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
    reclaim_chain(unused);
    for (uint32_t i = 0; i < strays; i++)
        send(slots[i], function);
}

/* Gives one slot to whoever owns it. */
static void send(void *slot, const char *function)
{
    uint32_t owner = va_entry_owner(va_entry_load(va_block_entry(va_block_of(slot))));
    if (va_unlikely(owner == 0))
        va_fatal(function, "freed already", slot);
    give(cache_of(owner), &slot, 1, function);
}

/* ---- Outgoing ---- */

static void deliver(Outgoing *outgoing, const char *function)
{
    uint32_t count = outgoing->count;
    outgoing->count = 0;
    outgoing->bytes = 0;
    if (count != 0)
        give(cache_of(outgoing->owner), outgoing->slots, count, function);
}

static void deliver_all(ThreadCache *cache, const char *function)
{
    for (unsigned i = 0; i < VA_OUTGOING_BATCHES; i++)
        deliver(&cache->outgoing[i], function);
}

static void collect(ThreadCache *cache, void *slot, uint32_t owner, size_t bytes,
                    const char *function)
{
    Outgoing *outgoing = &cache->outgoing[owner % VA_OUTGOING_BATCHES];
    if (outgoing->owner != owner) {
        deliver(outgoing, function);
        outgoing->owner = owner;
    }
    outgoing->slots[outgoing->count] = slot;
    atomic_signal_fence(memory_order_release); /* a fork may come between: slot first */
    outgoing->count++;
    outgoing->bytes += bytes;
    if (outgoing->count == VA_OUTGOING_SLOTS || outgoing->bytes >= VA_OUTGOING_BYTES)
        deliver(outgoing, function);
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
        return capacity_at_rest(class);
    return (uint32_t)va_max(2, va_min(VA_STACK_SLOTS_MAX, VA_STACK_BYTES_MAX / bytes));
}

/* The next size of a stack: 7, 15, 31, ... A storage of 8 words is one cache line. */
static uint32_t grown(uint32_t capacity, uint32_t most)
{
    return (uint32_t)va_min(va_max((size_t)capacity * 2 + 1, 7), most);
}

/* Makes room for `capacity` slots. On failure the stack is as it was. Mutex held. */
static bool grow_storage(ThreadCache *cache, unsigned class, uint32_t capacity)
{
    ClassState *state = &cache->classes[class];
    SlotStack *stack = &cache->front.stacks[class];
    if (capacity <= state->room)
        return true;
    unsigned log = va_highest_bit(capacity) + 1;
    void **storage = cache->spare[log];
    if (storage != NULL)
        cache->spare[log] = storage[0];
    else
        storage = va_meta_allocate(sizeof(void *) << log);
    if (storage == NULL)
        return false;
    size_t held = 0;
    storage[0] = NULL;
    if (state->storage != NULL) {
        unsigned old_log = va_highest_bit(state->room) + 1;
        held = (size_t)(stack->top - state->storage);
        memcpy(storage, state->storage, (held + 1) * sizeof *storage);
        state->storage[0] = cache->spare[old_log];
        cache->spare[old_log] = state->storage;
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

static void give_back_run(void *address, const char *function)
{
    Block *run = va_block_of(address);
    if (va_unlikely(((uintptr_t)address & (VA_BLOCK_BYTES - 1)) != 0))
        va_fatal(function, "not the start of an allocation", address);
    if (va_unlikely(atomic_exchange_explicit(va_block_entry(run), 0, memory_order_relaxed) == 0))
        va_fatal(function, "freed already", address);
    va_arena_reclaim(run);
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

/* Gives back the oldest `count` slots of a stack. They leave the stack under the mutex that their
 * slabs take them under, so that a fork finds each of them in one place only. */
static void flush(ThreadCache *cache, unsigned class, size_t count, const char *function)
{
    void **oldest = cache->classes[class].storage + 1;
    if (class >= VA_CLASSES_SMALL) {
        for (; count > 0; count--) {
            void *run = oldest[0];
            drop_oldest(cache, class, 1);
            give_back_run(run, function);
        }
        return;
    }
    Block *unused = NULL;
    va_lock_acquire(&cache->mutex);
    uint32_t strays = give_locked(cache, oldest, (uint32_t)count, &unused, function);
    memmove(oldest + count - strays, oldest, strays * sizeof *oldest);
    drop_oldest(cache, class, count - strays);
    va_lock_release(&cache->mutex);
    reclaim_chain(unused);
    for (; strays > 0; strays--) {
        void *stray = oldest[0];
        drop_oldest(cache, class, 1);
        send(stray, function);
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
        va_arena_reclaim(run);
}

void va_cache_put_large(ThreadCache *cache, Block *run)
{
    size_t bytes = (size_t)run->run_blocks << VA_BLOCK_SHIFT;
    drop_large(cache);
    if (!run->moved && (bytes <= cache->large_room || reserve_large(cache, bytes)))
        cache->large = run;
    else
        va_arena_reclaim(run);
}

/* Classes without a slow path since the last trim hand back half of what they hold, and what
 * they had grown to. */
static void trim(ThreadCache *cache)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        ClassState *state = &cache->classes[class];
        size_t held = stack_count(cache, class);
        if (!state->active && held > 0)
            flush(cache, class, held - held / 2, "trim");
        if (!state->active && state->storage != NULL) {
            uint32_t rest = capacity_at_rest(class);
            state->batch = 1;
            if (state->capacity > rest && stack_count(cache, class) <= rest) {
                cache->extra_bytes -=
                    (size_t)(state->capacity - rest) * va_size_classes[class].bytes;
                set_capacity(cache, class, rest);
            }
        }
        state->active = false;
    }
    if (!cache->large_active) {
        drop_large(cache);
        reserve_large(cache, 0);
    }
    cache->large_active = false;
}

static void trim_sometimes(ThreadCache *cache)
{
    uint64_t now = va_os_clock_ms();
    if (va_unlikely(now >= cache->trim_ms)) {
        cache->trim_ms = now + VA_TRIM_MS;
        trim(cache);
    }
}

/* May this stack grow beyond its bounds at rest? Only while the memory that could idle in such
 * stacks stays small beside the slabs that the cache owns. */
static bool may_extend(ThreadCache *cache, unsigned class, uint32_t capacity)
{
    ClassState *state = &cache->classes[class];
    size_t extra = (size_t)(capacity - state->capacity) * va_size_classes[class].bytes;
    va_lock_acquire(&cache->mutex);
    size_t slabs = cache->slabs;
    va_lock_release(&cache->mutex);
    if (cache->extra_bytes + extra > (slabs << VA_BLOCK_SHIFT) >> VA_STACK_EXTRA_SHIFT)
        return false;
    cache->extra_bytes += extra;
    return true;
}

/* Makes room in a full stack: by growing it to its bounds at rest, then beyond them whenever a
 * refill came before (the class works in phases larger than its stack), else by flushing the
 * older half. False if there is no memory for a stack. */
static bool make_room(ThreadCache *cache, unsigned class, const char *function)
{
    ClassState *state = &cache->classes[class];
    uint32_t capacity = state->capacity;
    uint32_t rest = capacity_at_rest(class);
    bool refilled = state->refilled;
    trim_sometimes(cache);
    state->active = true;
    if (!va_slot_stack_is_full(&cache->front.stacks[class]))
        return true;
    if (capacity < rest && set_capacity(cache, class, grown(capacity, rest)))
        return true;
    state->refilled = false;
    if (capacity >= rest && refilled) {
        uint32_t more = grown(capacity, capacity_at_most(class));
        if (more > capacity && may_extend(cache, class, more) && set_capacity(cache, class, more))
            return true;
    }
    if (capacity == 0)
        return false;
    flush(cache, class, capacity - capacity / 2, function);
    return true;
}

/* ---- Refill ---- */

/* Takes a slab of this class over from an owner whose thread has exited. */
static Block *adopt(ThreadCache *cache, unsigned class)
{
    Block *slab = NULL;
    if (!atomic_load_explicit(&exited_exist, memory_order_relaxed))
        return NULL;
    va_lock_acquire(&va_registry_lock);
    ThreadCache *exited = registry.exited;
    for (unsigned i = 0; i < VA_ADOPT_LOOKS && exited != NULL && slab == NULL;
         i++, exited = exited->next_exited) {
        uint64_t open = atomic_load_explicit(&exited->open[class / 64], memory_order_relaxed);
        if ((open >> (class % 64) & 1) == 0)
            continue;
        va_lock_acquire(&exited->mutex);
        slab = exited->classes[class].first;
        if (slab != NULL) {
            unlist_locked(exited, slab);
            exited->slabs--;
            slab->arriving = true;
            va_entry_store(va_block_entry(slab), va_entry_make(cache->id, class));
        }
        va_lock_release(&exited->mutex);
    }
    va_lock_release(&va_registry_lock);
    return slab;
}

static Block *fresh_slab(ThreadCache *cache, unsigned class)
{
    ClassState *state = &cache->classes[class];
    bool zero;
    Block *slab = va_arena_lend(1, 1, &zero);
    if (slab == NULL)
        return NULL;
    va_slab_start(slab, class, zero);
    slab->arriving = true;
    if (state->new_blocks < VA_POPULATE_AFTER_BLOCKS)
        state->new_blocks++;
    else if (zero)
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

/* A slab with slots to take joins the cache: from an exited owner, else a fresh one. Before
 * memory is asked for, slots of other owners go home. */
static bool obtain_slab(ThreadCache *cache, unsigned class)
{
    deliver_all(cache, "malloc");
    Block *slab = adopt(cache, class);
    if (slab == NULL)
        slab = fresh_slab(cache, class);
    if (slab == NULL)
        return false;
    va_cache_update_view(cache);
    va_lock_acquire(&cache->mutex);
    slab->arriving = false;
    cache->slabs++;
    list_locked(cache, slab);
    va_lock_release(&cache->mutex);
    return true;
}

static void *refill_run(ThreadCache *cache, unsigned class, bool *zero)
{
    Block *run = va_arena_lend(va_size_classes[class].run_blocks, 1, zero);
    if (run == NULL)
        return NULL;
    run->class = (uint16_t) class;
    va_cache_update_view(cache);
    va_entry_store(va_block_entry(run), va_entry_make(cache->id, class));
    cache->classes[class].refilled = cache->classes[class].active = true;
    return va_block_address(run);
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

void *va_cache_refill(ThreadCache *cache, unsigned class, bool *zero)
{
    ClassState *state = &cache->classes[class];
    SlotStack *stack = &cache->front.stacks[class];
    if (class >= VA_CLASSES_SMALL)
        return refill_run(cache, class, zero);
    trim_sometimes(cache);
    state->active = state->refilled = true;
    if (state->batch == 0)
        state->batch = 1;
    if (state->capacity < state->batch &&
        !set_capacity(cache, class, grown(state->batch / 2, capacity_at_most(class))))
        return NULL;
    uint32_t taken;
    for (;;) {
        va_lock_acquire(&cache->mutex);
        taken = take_locked(cache, class, state->storage, state->batch, zero);
        va_lock_release(&cache->mutex);
        if (taken != 0)
            break;
        if (!obtain_slab(cache, class))
            return NULL;
    }
    stack->top = state->storage + taken;
    uint32_t most = (uint32_t)va_max(state->capacity, capacity_at_rest(class)) / 2;
    state->batch = (uint32_t)va_min((size_t)state->batch * 2, va_max(most, 1));
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
            give_back_run(slot, function);
        else
            send(slot, function);
        return;
    }
    if (owner != cache->id && !is_run) {
        collect(cache, slot, owner, va_size_classes[class].bytes, function);
        return;
    }
    SlotStack *stack = &cache->front.stacks[class];
    if (va_unlikely(*stack->top == slot))
        va_fatal(function, "freed already", slot);
    if (va_slot_stack_is_full(stack) && va_unlikely(!make_room(cache, class, function))) {
        if (is_run)
            give_back_run(slot, function);
        else
            send(slot, function);
        return;
    }
    /* A run belongs to whoever freed it last: it is not part of any owner's slabs. */
    if (owner != cache->id)
        va_entry_store(va_block_entry(block), va_entry_make(cache->id, class));
    va_slot_stack_push(stack, slot);
}

/* ---- Life of a cache ---- */

static ThreadCache *make_cache_locked(void)
{
    if (registry.made == VA_OWNERS_MAX / CHUNK_OWNERS * CHUNK_OWNERS - 1)
        return NULL;
    _Atomic(ThreadCache **) *chunk = &chunks[registry.made / CHUNK_OWNERS];
    ThreadCache **caches = atomic_load_explicit(chunk, memory_order_relaxed);
    if (caches == NULL) {
        caches = va_meta_allocate(CHUNK_OWNERS * sizeof *caches);
        if (caches == NULL)
            return NULL;
        atomic_store_explicit(chunk, caches, memory_order_release);
    }
    ThreadCache *cache = va_meta_allocate(sizeof *cache);
    if (cache == NULL)
        return NULL;
    cache->id = (uint32_t)registry.made + 1;
    cache->front.tag = va_entry_make(cache->id, 0);
    /* Never written: a stack at the floor is full, too. */
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        cache->front.stacks[class].top = cache->front.stacks[class].limit =
            (void **)(uintptr_t)va_stack_floor;
    /* Published to other threads by the first table entry that names this id, whose readers got
     * a slot of it through the program's own synchronisation. */
    caches[registry.made % CHUNK_OWNERS] = cache;
    registry.made++;
    return cache;
}

ThreadCache *va_cache_attach(void)
{
    va_lock_acquire(&va_registry_lock);
    ThreadCache *cache = registry.exited;
    if (cache != NULL) {
        registry.exited = cache->next_exited;
        registry.exited_count--;
        atomic_store_explicit(&exited_exist, registry.exited != NULL, memory_order_relaxed);
    } else {
        cache = make_cache_locked();
    }
    if (cache != NULL)
        atomic_store_explicit(&cache->attached, true, memory_order_relaxed);
    va_lock_release(&va_registry_lock);
    return cache;
}

static void mark_exited_locked(ThreadCache *cache)
{
    atomic_store_explicit(&cache->attached, false, memory_order_relaxed);
    cache->next_exited = registry.exited;
    registry.exited = cache;
    registry.exited_count++;
    atomic_store_explicit(&exited_exist, true, memory_order_relaxed);
}

static void release_unused(ThreadCache *cache)
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
            cache->slabs--;
            slab->next = unused;
            unused = slab;
        }
    }
    va_lock_release(&cache->mutex);
    reclaim_chain(unused);
}

void va_cache_flush_all(ThreadCache *cache)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        size_t held = stack_count(cache, class);
        if (held > 0)
            flush(cache, class, held, "flush");
    }
    drop_large(cache);
    reserve_large(cache, 0);
    deliver_all(cache, "flush");
    release_unused(cache);
}

void va_cache_retire(ThreadCache *cache)
{
    va_cache_flush_all(cache);
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        cache->classes[class].batch = 1;
    va_lock_acquire(&va_registry_lock);
    mark_exited_locked(cache);
    va_lock_release(&va_registry_lock);
}

void va_cache_release_unused(void)
{
    size_t made;
    size_t attached;
    va_cache_count(&made, &attached);
    for (uint32_t owner = 1; owner <= made; owner++)
        release_unused(cache_of(owner));
}

void va_cache_count(size_t *made, size_t *attached)
{
    va_lock_acquire(&va_registry_lock);
    *made = registry.made;
    *attached = registry.made - registry.exited_count;
    va_lock_release(&va_registry_lock);
}

/* ---- Fork ---- */

void va_cache_lock_all(void)
{
    va_lock_acquire(&va_registry_lock);
    for (uint32_t owner = 1; owner <= registry.made; owner++)
        va_lock_acquire(&cache_of(owner)->mutex);
}

void va_cache_unlock_all(void)
{
    for (uint32_t owner = 1; owner <= registry.made; owner++)
        va_lock_release(&cache_of(owner)->mutex);
    va_lock_release(&va_registry_lock);
}

/* A thread that vanished left its stacks consistent: both fast paths change them by one store of
 * top, and the slow paths run under the mutex or on the stack's own memory. */
void va_cache_reset_all(ThreadCache *survivor)
{
    for (uint32_t owner = 1; owner <= registry.made; owner++) {
        ThreadCache *cache = cache_of(owner);
        va_lock_reset(&cache->mutex);
        if (atomic_load_explicit(&cache->attached, memory_order_relaxed) && !cache->shared &&
            cache != survivor)
            mark_exited_locked(cache);
    }
    va_lock_reset(&va_registry_lock);
}
