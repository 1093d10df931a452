/* thread_cache.h: a thread's bounded stores of free slots, and the slabs that it owns.
 *
 * A ThreadCache is used by one thread at a time and outlives it: when the thread exits, the
 * cache stays with its owner id until another thread continues it. Three parts:
 *
 *   front     a stack of slot addresses per class. Owner thread only; no lock, no atomics.
 *   slabs     per class, the list of slabs with slots to take. Under the cache's mutex, which
 *             the owner takes to refill and flush, and other threads to give back slots.
 *   outgoing  slots freed here that other owners' slabs lent. Owner thread only; bounded.
 *
 * Lock order: registry, then one cache, then arena, then metadata. No thread holds two caches'
 * mutexes, but the one that forks, which takes all in the order of their ids. */
#ifndef VA_THREAD_CACHE_H
#define VA_THREAD_CACHE_H

#include "block_table.h"
#include "lock.h"
#include "slot_stack.h"

/* What the fast paths see: a class's offset is the distance of its stack from here. The view of
 * the first arena's table is the thread's own, so that they read no shared variable; the table
 * only grows, and slow paths look again. */
typedef struct CacheFront {
    SlotStack stacks[VA_CLASSES];
    const _Atomic uint32_t *entries; /* the arena's start as well */
    size_t blocks;                   /* entries that may be read */
    uint32_t tag;                    /* owner id, shifted as in a table entry */
} CacheFront;
static_assert(sizeof(SlotStack) == 1 << VA_CLASS_SHIFT, "a class offset finds its stack");

typedef struct ClassState {
    /* Owner thread, under the mutex when changed. */
    void **storage;     /* of the stack: 2^k words, the first one NULL; or NULL itself */
    uint32_t room;      /* slots that storage holds: 2^k - 1 */
    uint32_t capacity;  /* slots that the stack may hold, at most room */
    uint32_t batch;     /* slots that the next refill takes */
    uint8_t new_blocks; /* fresh blocks taken so far, up to VA_POPULATE_AFTER_BLOCKS */
    bool refilled;      /* since the last flush */
    bool active;        /* a slow path since the last trim */
    uint8_t visits;     /* refills and flushes since window_ms, up to VA_BUSY_VISITS */
    uint32_t window_ms;
    /* Under the mutex. */
    Block *first; /* slabs with slots to take */
    Block *last;
} ClassState;

/* Slots on their way to another owner. */
typedef struct Outgoing {
    uint32_t owner;
    uint32_t count;
    void *slots[VA_OUTGOING_SLOTS];
} Outgoing;

/* Lent blocks for the next slabs. */
typedef struct BlockStore {
    Block *blocks[VA_SPARE_BLOCKS];
    uint32_t count;
    uint32_t batch; /* blocks that the next refill takes */
    bool active;    /* refilled since the last trim */
} BlockStore;

typedef struct ThreadCache {
    CacheFront front;
    uint32_t id;
    Lock mutex;
    _Atomic bool attached; /* a thread uses it; written under the registry lock */
    bool shared;           /* by threads that are past their exit; const */
    uint64_t trim_ms;      /* when idle classes are looked for next; owner thread */
    size_t share;          /* bytes of all threads' budget, as of the last trim; owner thread */
    _Atomic size_t capacity_bytes; /* of all stacks; written by the owner thread, for statistics */
    size_t slabs;                  /* owned; mutex */
    size_t run_blocks;        /* in runs that were lent through here, about: a run may come home
                                 elsewhere; owner thread */
    _Atomic uint64_t open[2]; /* classes with slabs to take from; written under the mutex, read
                                 by adopters as a hint */
    Block *large;             /* the large run freed last, or NULL; owner thread */
    size_t large_room;        /* bytes of VA_LARGE_KEEP_BYTES reserved for it; owner thread */
    bool large_active;        /* used since the last trim; owner thread */
    BlockStore stores[ZONES]; /* owner thread */
    void *spare[16];          /* outgrown storages by log2 of their words; owner thread */
    ClassState classes[VA_CLASSES];
    struct ThreadCache *next_exited; /* registry lock */
    size_t outgoing_bytes; /* of slots put into batches since all were sent; owner thread */
    Outgoing outgoing[VA_OUTGOING_BATCHES];
} ThreadCache;

extern Lock va_registry_lock;

/* The front of a cache that is none: every stack empty, no tag matches. */
#define VA_TAG_NONE (UINT32_MAX << VA_OWNER_SHIFT)
extern void *const va_stack_floor[1];

/* A cache for the calling thread: one whose thread has exited, else a new one; NULL when there
 * is no memory for it. */
ThreadCache *va_cache_attach(void);

/* The thread is done: gives back what it holds, all but a little, and lets others have the cache.
 */
void va_cache_retire(ThreadCache *cache);

/* A slot of a class whose stack is empty, and more into the stack; NULL when there is no
 * memory. *zero tells whether the slot is known to read as zero. */
void *va_cache_refill(ThreadCache *cache, unsigned class, bool *zero);

/* Frees a slot or run whose entry was just read; cache may be NULL. */
void va_cache_free(ThreadCache *cache, void *slot, Block *block, uint32_t entry,
                   const char *function);

/* The large run that this thread freed last, if it has this length; else NULL. */
Block *va_cache_take_large(ThreadCache *cache, size_t blocks);

/* Takes a large run that is no allocation any more: keeps it, or gives it back to the arena. */
void va_cache_put_large(ThreadCache *cache, Block *run);

/* Lets the front see the first arena's table as it is now. Owner thread. */
void va_cache_update_view(ThreadCache *cache);

/* Gives back everything that the cache holds, and the slabs that this leaves unused. */
void va_cache_flush_all(ThreadCache *cache);

/* Gives back the unused slabs of every cache, and all that caches without a thread hold. */
void va_cache_release_unused(void);

/* Caches made so far, how many have a thread, and how many bytes their stacks may hold. */
typedef struct CacheStats {
    size_t made, attached, capacity_bytes;
} CacheStats;
void va_cache_stats(CacheStats *stats);

/* Around fork: all locks of the registry and the caches; in the child every cache but the
 * caller's (which may be NULL) counts as exited. */
void va_cache_lock_all(void);
void va_cache_unlock_all(void);
void va_cache_reset_all(ThreadCache *survivor);

#endif
