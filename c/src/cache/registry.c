/* registry.c: ids to caches through chunks that stay where they are. */
#include "cache/registry.h"

#include "arena/arena.h"
#include "table/meta.h"
#include "os/os.h"

Lock va_registry_lock;
_Atomic uint64_t va_exited_open[2];
VA_TABLE void *const va_stack_floor[1] = {NULL};

const CacheFront va_no_front = {
    .stacks = {[0 ... VA_CLASSES - 1] = {.top = (void **)(uintptr_t)va_stack_floor}},
    .tag = VA_TAG_NONE};

/* Caches by owner id, each half of the ids by itself. Chunk k has 2^k times CHUNK_LEAST of them:
 * few chunks are enough, and a program with few threads has a small one. */
#define CHUNK_LEAST_BIT 3u
#define CHUNK_LEAST (1u << CHUNK_LEAST_BIT)
#define CHUNKS (31 - VA_OWNER_SHIFT - CHUNK_LEAST_BIT)
static_assert(CHUNK_LEAST << CHUNKS == VA_OWNERS_HALF, "the chunks cover all ids but a few");
static _Atomic(ThreadCache **) chunks[2][CHUNKS];

typedef struct Place {
    _Atomic(ThreadCache **) *chunk;
    uint32_t number, size;
} Place;

VA_INLINE Place place_of(uint32_t owner)
{
    uint32_t from_least = (owner - 1) % VA_OWNERS_HALF + CHUNK_LEAST;
    uint32_t size_bit = va_highest_bit(from_least);
    return (Place){.chunk = &chunks[(owner - 1) / VA_OWNERS_HALF][size_bit - CHUNK_LEAST_BIT],
                   .number = from_least - (1u << size_bit),
                   .size = 1u << size_bit};
}

/* Beside the caches of a chunk: what stays of each that sleeps. Its pages are purged, and read as
 * zero: as a cache that holds nothing, for those who still look at it. */
typedef struct Sleeper {
    Outgoing *outgoing;
    uint32_t next;       /* id of the next one that sleeps */
    _Atomic bool sleeps; /* also read without the lock */
} Sleeper;

static VA_ARRAY_LAST ThreadCache nobody;

static struct { /* va_registry_lock */
    uint32_t made;
    uint32_t others;
    ThreadCache *exited;
    _Atomic size_t exited_count; /* also read without the lock */
    uint32_t asleep;             /* id of the first one that sleeps, or 0 */
    _Atomic size_t asleep_count; /* also read without the lock */
    uint32_t hand;               /* the id that va_registry_find_vanished looked at last */
    ThreadCache *unused;         /* made for allocators that were destroyed */
    size_t unused_count;
} registry;
/* Written under va_registry_lock. */
static _Atomic size_t sharers;
static _Atomic size_t threads;

/* The acquire pairs with the release in make_locked. */
ThreadCache *va_registry_cache(uint32_t owner)
{
    Place place = place_of(owner);
    ThreadCache **caches = atomic_load_explicit(place.chunk, memory_order_acquire);
    va_check(caches != NULL && caches[place.number] != NULL);
    return caches[place.number];
}

VA_COLD ThreadCache *va_registry_find(uint32_t owner)
{
    if (owner == 0)
        return NULL;
    Place place = place_of(owner);
    ThreadCache **caches = atomic_load_explicit(place.chunk, memory_order_acquire);
    return caches != NULL ? caches[place.number] : NULL;
}

/* Not the first thread: its end is that of the process, but when it tells, and small programs then
 * do not map the code of mutexes. ThreadSanitizer watches mutexes, but not to a thread's end. */
static VA_STARTUP bool has_life(const ThreadCache *cache)
{
    return !VA_TSAN && cache->id != 1 && !va_is_other(cache->id) && !cache->lifeless;
}

static VA_STARTUP bool has_pages(uint32_t id)
{
    return id > VA_CACHES_CLOSE && !va_is_other(id);
}

static VA_STARTUP ThreadCache *allocate_cache(uint32_t id)
{
    if (!has_pages(id))
        return va_meta_allocate(VA_CACHE_BYTES);
    char *pages = va_meta_allocate_apart(VA_CACHE_PAGES_BYTES);
    if (pages == NULL)
        return NULL;
    return (ThreadCache *)(void *)(pages + VA_CACHE_PAGES_BYTES - VA_CACHE_BYTES);
}

/* All else of a cache is 0. */
static VA_STARTUP void start_cache(ThreadCache *cache, uint32_t id)
{
    cache->allocator = &va_process;
    cache->id = id;
    if (has_pages(id))
        cache->room.next = (char *)cache;
    cache->front.tag = va_entry_make(id, 0);
    va_random_seed(&cache->front.secure);
    if (has_life(cache))
        va_os_life_make(&cache->life);
    /* Never written: a stack at the floor is full, too. */
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        cache->front.stacks[class].top = cache->front.stacks[class].limit =
            (void **)(uintptr_t)va_stack_floor;
}

/* A new cache with the id that follows *made. */
static VA_STARTUP ThreadCache *make_locked(uint32_t *made, uint32_t first)
{
    uint32_t id = first + *made;
    if (*made == VA_OWNERS_HALF - CHUNK_LEAST)
        return NULL;
    Place place = place_of(id);
    ThreadCache **caches = atomic_load_explicit(place.chunk, memory_order_relaxed);
    if (caches == NULL) {
        caches = va_meta_allocate(place.size * (sizeof *caches + sizeof(Sleeper)));
        if (caches == NULL)
            return NULL;
        atomic_store_explicit(place.chunk, caches, memory_order_release);
    }
    ThreadCache *cache = allocate_cache(id);
    if (cache == NULL)
        return NULL;
    start_cache(cache, id);
    /* Published to other threads by the first table entry that names this id, whose readers got
     * a slot of it through the program's own synchronisation. */
    caches[place.number] = cache;
    ++*made;
    return cache;
}

/* ---- Counts that outlive their cache ---- */

/* Atomic, relaxed: bare numbers. */
static VA_ARRAY_LAST size_t ended[2][VA_CLASSES + 1];

VA_COLD void va_registry_end_counts(ThreadCache *cache)
{
    size_t *sums = ended[va_is_other(cache->id)];
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        ClassState *state = &cache->classes[class];
        __atomic_fetch_add(&sums[class], state->refilled, __ATOMIC_RELAXED);
        state->refilled = 0;
    }
    __atomic_fetch_add(&sums[VA_CLASSES], cache->large.refilled, __ATOMIC_RELAXED);
    cache->large.refilled = 0;
}

VA_COLD void va_registry_add_ended(bool others, size_t *refilled)
{
    for (unsigned class = 0; class <= VA_CLASSES; class ++)
        refilled[class] += __atomic_load_n(&ended[others][class], __ATOMIC_RELAXED);
}

/* ---- Sleep ---- */

static VA_COLD Sleeper *sleeper_of(uint32_t id)
{
    Place place = place_of(id);
    ThreadCache **caches = atomic_load_explicit(place.chunk, memory_order_relaxed);
    return (Sleeper *)(void *)(caches + place.size) + place.number;
}

/* The purge unlocks its mutex. Who waits for it is woken, since the word no more says that somebody
 * does.
 */
static VA_COLD bool put_to_sleep_locked(ThreadCache *cache)
{
    Sleeper *sleeper = sleeper_of(cache->id);
    va_lock_acquire(&cache->mutex);
    bool can = cache->room.next != NULL && !cache->lifeless &&
               atomic_load_explicit(&cache->blocks, memory_order_relaxed) == 0 &&
               cache->large.run == NULL &&
               atomic_load_explicit(&cache->capacity_bytes, memory_order_relaxed) == 0;
    Outgoing *outgoing = cache->outgoing.batches;
    uint32_t id = cache->id;
    size_t page = va_os_page_bytes();
    if (can)
        va_registry_end_counts(cache);
    if (!can || !va_os_purge(va_cache_pages(cache), va_align_up(VA_CACHE_PAGES_BYTES, page))) {
        va_lock_release(&cache->mutex);
        return false;
    }
    va_os_wake_all(&cache->mutex.state);
    if (outgoing != NULL)
        va_os_purge(outgoing, va_align_up(VA_OUTGOING_BATCHES * sizeof *outgoing, page));
    sleeper->outgoing = outgoing;
    sleeper->next = registry.asleep;
    atomic_store_explicit(&sleeper->sleeps, true, memory_order_relaxed);
    registry.asleep = id;
    registry.asleep_count++;
    return true;
}

static VA_COLD ThreadCache *wake_locked(void)
{
    uint32_t id = registry.asleep;
    ThreadCache *cache = va_registry_cache(id);
    Sleeper *sleeper = sleeper_of(id);
    registry.asleep = sleeper->next;
    registry.asleep_count--;
    va_lock_acquire(&cache->mutex);
    start_cache(cache, id);
    cache->outgoing.batches = sleeper->outgoing;
    va_lock_release(&cache->mutex);
    atomic_store_explicit(&sleeper->sleeps, false, memory_order_relaxed);
    return cache;
}

static VA_STARTUP size_t count_threads_locked(void)
{
    return registry.made - registry.exited_count - registry.asleep_count;
}

static VA_STARTUP void count_sharers_locked(void)
{
    atomic_store_explicit(&threads, count_threads_locked(), memory_order_relaxed);
    atomic_store_explicit(&sharers,
                          count_threads_locked() + registry.others - registry.unused_count,
                          memory_order_relaxed);
}

size_t va_registry_sharers(void)
{
    return va_max(1, atomic_load_explicit(&sharers, memory_order_relaxed));
}

VA_STARTUP ThreadCache *va_registry_attach(void)
{
    va_arena_start(); /* the first cache's random numbers come from a secret drawn there */
    va_lock_acquire(&va_registry_lock);
    ThreadCache *cache = registry.exited;
    if (cache != NULL) {
        registry.exited = cache->next;
        registry.exited_count--;
    } else if (registry.asleep != 0) {
        cache = wake_locked();
    } else {
        cache = make_locked(&registry.made, 1);
    }
    if (cache != NULL) {
        atomic_store_explicit(&cache->attached, true, memory_order_relaxed);
        if (has_life(cache))
            va_os_life_begin(&cache->life);
    }
    count_sharers_locked();
    va_lock_release(&va_registry_lock);
    return cache;
}

static VA_COLD void detach_locked(ThreadCache *cache)
{
    va_lock_acquire(&cache->mutex); /* who lists a slab finds it exited, or that is seen here */
    atomic_store_explicit(&cache->attached, false, memory_order_relaxed);
    atomic_store_explicit(&cache->idle.busy, false, memory_order_release); /* pairs with takes */
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class ++)
        if (cache->classes[class].open != NULL)
            va_registry_raise_open(class);
    va_lock_release(&cache->mutex);
    cache->next = registry.exited;
    registry.exited = cache;
    registry.exited_count++;
    count_sharers_locked();
}

/* Takes the cache at this place of the list of exited ones out, if it can sleep. */
static VA_COLD bool sleep_from_locked(ThreadCache **link)
{
    ThreadCache *cache = *link;
    ThreadCache *next = cache->next;
    if (!put_to_sleep_locked(cache))
        return false;
    *link = next;
    registry.exited_count--;
    return true;
}

VA_COLD void va_registry_detach(ThreadCache *cache, bool may_sleep)
{
    va_lock_acquire(&va_registry_lock);
    if (has_life(cache))
        va_os_life_end(&cache->life);
    detach_locked(cache);
    if (may_sleep)
        sleep_from_locked(&registry.exited);
    va_lock_release(&va_registry_lock);
}

VA_COLD void va_registry_sleep_exited_locked(void)
{
    for (ThreadCache **link = &registry.exited; *link != NULL;)
        if (!sleep_from_locked(link))
            link = &(*link)->next;
    count_sharers_locked();
}

VA_COLD ThreadCache *va_registry_find_vanished(uint32_t *looks)
{
    ThreadCache *found = NULL;
    va_lock_acquire(&va_registry_lock);
    *looks = (uint32_t)va_min(*looks, registry.made);
    for (; *looks != 0 && found == NULL; --*looks) {
        registry.hand = registry.hand % registry.made + 1;
        ThreadCache *cache = va_registry_cache(registry.hand);
        if (atomic_load_explicit(&cache->attached, memory_order_relaxed) && has_life(cache) &&
            !cache->shared && va_os_life_take_over(&cache->life))
            found = cache;
    }
    va_lock_release(&va_registry_lock);
    return found;
}

VA_COLD ThreadCache *va_registry_take(void)
{
    va_lock_acquire(&va_registry_lock);
    ThreadCache *cache = registry.unused;
    if (cache != NULL) {
        registry.unused = cache->next;
        registry.unused_count--;
    } else {
        cache = make_locked(&registry.others, VA_OWNERS_HALF + 1);
    }
    if (cache != NULL)
        atomic_store_explicit(&cache->attached, true, memory_order_relaxed);
    count_sharers_locked();
    va_lock_release(&va_registry_lock);
    return cache;
}

VA_COLD void va_registry_give(ThreadCache *cache)
{
    va_lock_acquire(&va_registry_lock);
    cache->next = registry.unused;
    registry.unused = cache;
    registry.unused_count++;
    count_sharers_locked();
    va_lock_release(&va_registry_lock);
}

ThreadCache *va_registry_exited_locked(void)
{
    return registry.exited;
}

VA_STARTUP bool va_registry_all_in_use(void)
{
    return va_registry_exited_count() == 0 && va_registry_has_threads() &&
           atomic_load_explicit(&registry.asleep_count, memory_order_relaxed) == 0;
}

VA_STARTUP bool va_registry_has_threads(void)
{
    return atomic_load_explicit(&threads, memory_order_relaxed) != 0;
}

size_t va_registry_exited_count(void)
{
    return atomic_load_explicit(&registry.exited_count, memory_order_relaxed);
}

ThreadCache *va_registry_nth(uint32_t made, uint32_t n)
{
    uint32_t id = n < made ? n + 1 : VA_OWNERS_HALF + 1 + (n - made);
    bool sleeps = n < made && atomic_load_explicit(&sleeper_of(id)->sleeps, memory_order_relaxed);
    return sleeps ? &nobody : va_registry_cache(id);
}

VA_COLD void va_registry_stats(CacheStats *stats)
{
    va_lock_acquire(&va_registry_lock);
    *stats = (CacheStats){.made = registry.made,
                          .all = registry.made + registry.others,
                          .attached = count_threads_locked(),
                          .asleep = registry.asleep_count};
    va_lock_release(&va_registry_lock);
    for (uint32_t i = 0; i < stats->all; i++)
        stats->capacity_bytes += atomic_load_explicit(
            &va_registry_nth(stats->made, i)->capacity_bytes, memory_order_relaxed);
}

/* ---- Fork ---- */

VA_COLD void va_registry_lock_all(void)
{
    va_lock_acquire_for_fork(&va_registry_lock);
    for (uint32_t i = 0; i < registry.made + registry.others; i++)
        if (va_registry_nth(registry.made, i) != &nobody)
            va_lock_acquire_for_fork(&va_registry_nth(registry.made, i)->mutex);
}

VA_COLD void va_registry_unlock_all(void)
{
    for (uint32_t i = 0; i < registry.made + registry.others; i++)
        if (va_registry_nth(registry.made, i) != &nobody)
            va_lock_release_after_fork(&va_registry_nth(registry.made, i)->mutex);
    va_lock_release_after_fork(&va_registry_lock);
}

VA_STARTUP void va_registry_draw(void)
{
    for (uint32_t i = 0; VA_RANDOMNESS && i < registry.made + registry.others; i++)
        if (va_registry_nth(registry.made, i) != &nobody)
            va_random_seed(&va_registry_nth(registry.made, i)->front.secure);
}

/* A thread that vanished left its stacks consistent: both fast paths change them by one store of
 * top, and the slow paths run under the mutex or on the stack's own memory. */
VA_COLD void va_registry_reset_all(const ThreadCache *survivor)
{
    for (uint32_t i = 0; i < registry.made + registry.others; i++) {
        ThreadCache *cache = va_registry_nth(registry.made, i);
        va_lock_reset(&cache->mutex);
        if (cache == &nobody)
            continue;
        if (cache == survivor)
            cache->lifeless = true;
        else if (has_life(cache))
            va_os_life_make(&cache->life);
        if (i < registry.made && cache != survivor && !cache->shared &&
            atomic_load_explicit(&cache->attached, memory_order_relaxed))
            detach_locked(cache);
    }
    va_lock_reset(&va_registry_lock);
}
