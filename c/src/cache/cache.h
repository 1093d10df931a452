/* cache.h: a ThreadCache, a thread's bounded stores of free slots, and the slabs that it owns.
 *
 * A ThreadCache is used by one thread at a time and outlives it: when the thread exits, the
 * cache stays with its owner id until another thread continues it. It holds blocks and slots of
 * one allocator only. Three parts:
 *
 *   front     a stack of slot addresses per class. Owner thread only; no lock, no atomics.
 *   slabs     per class, the list of slabs with slots to take. Under the cache's mutex, which
 *             the owner takes to refill and flush, and other threads to give back slots.
 *   outgoing  slots freed here that other owners' slabs lent. Owner thread only; bounded.
 *
 * Lock order: an allocator's shared cache, its blocks, the registry, one cache, arena, metadata. No
 * thread holds two caches' mutexes, but the one that forks, which takes all, by their ids. */
#ifndef VA_CACHE_H
#define VA_CACHE_H

#include "arena/block_pool.h"
#include "os/lock.h"
#include "harden/secure.h"
#include "cache/slot_stack.h"
#include "table/slot_state.h"

/* What the fast paths see: a class's offset leads to its stack. The view of
 * the first arena's table is the thread's own, so that they read no shared variable; the table
 * only grows, and slow paths look again. */
typedef struct CacheFront {
    SlotStack stacks[VA_CLASSES];
    const _Atomic uint32_t *entries; /* the arena's start as well */
    size_t blocks;                   /* entries that may be read */
    uint32_t tag;                    /* owner id, shifted as in a table entry */
    _Atomic bool popping;            /* the fast path of runs takes the newest of a stack */
    SecureFront secure;              /* nothing in the normal build */
} CacheFront;

/* The stack of a class, by the class's offset. */
VA_INLINE SlotStack *va_front_stack(CacheFront *front, uintptr_t class_offset)
{
    static_assert(sizeof(SlotStack) % (1 << VA_CLASS_SHIFT) == 0, "an offset leads to a stack");
    return (SlotStack *)((char *)front + class_offset * (sizeof(SlotStack) >> VA_CLASS_SHIFT));
}

/* ---- The states of slots in the first arena ---- */

#if VALLOC_CHECKS

/* A pointer to the class's offset, so that each access can compute its address. */
VA_INLINE uint8_t *va_front_state(CacheFront *front, uintptr_t *class_offset, const void *slot)
{
    VA_FOLD(*class_offset);
    uint64_t shift = va_front_stack(front, *class_offset)->shift;
    VA_FOLD(*class_offset);
    return (uint8_t *)(va_front_stack(front, *class_offset)->states + ((uintptr_t)slot >> shift));
}

/* Whether a slot of this class is live that starts there. */
VA_INLINE bool va_front_is_live(CacheFront *front, uintptr_t class_offset, const void *slot)
{
    return va_state_is_live(va_front_state(front, &class_offset, slot), slot);
}

/* A slot goes to the program, or comes back: false if it is not live, with nothing changed. */
VA_INLINE void va_front_begin(CacheFront *front, uintptr_t class_offset, const void *slot)
{
    va_state_begin(va_front_state(front, &class_offset, slot), slot);
}

VA_INLINE bool va_front_end(CacheFront *front, uintptr_t *class_offset, const void *slot)
{
    uint8_t *state = va_front_state(front, class_offset, slot);
    if (va_unlikely(!va_state_is_live(state, slot)))
        return false;
    va_state_end(state);
    return true;
}

#else

VA_INLINE bool va_front_is_live(CacheFront *front, uintptr_t class_offset, const void *slot)
{
    (void)front, (void)class_offset, (void)slot;
    return true;
}

VA_INLINE void va_front_begin(CacheFront *front, uintptr_t class_offset, const void *slot)
{
    (void)front, (void)class_offset, (void)slot;
}

VA_INLINE bool va_front_end(CacheFront *front, uintptr_t *class_offset, const void *slot)
{
    (void)front, (void)class_offset, (void)slot;
    return true;
}

#endif

/* ---- Blocks of the first arena ---- */

/* The number of a pointer's block in the first arena. */
VA_INLINE size_t va_index_fast(const CacheFront *front, const void *pointer)
{
    return ((uintptr_t)pointer - (uintptr_t)front->entries) >> VA_BLOCK_SHIFT;
}

/* Whether a slot lies in the part of the first arena that the thread sees. */
VA_INLINE bool va_front_sees(const CacheFront *front, const void *slot)
{
    return va_index_fast(front, slot) < front->blocks;
}

/* The first arena's entry for a block as the thread sees it, 0 if it has none. */
VA_INLINE uint32_t va_entry_fast(const CacheFront *front, size_t index)
{
    if (va_unlikely(index >= front->blocks))
        return 0;
    return va_entry_load(front->entries + index);
}

/* Linked by next up to NULL; the first one's prev is the last one. */
typedef struct SlabList {
    Block *first;
} SlabList;

typedef struct ClassState {
    /* Owner thread, under the mutex when changed. */
    void **storage;     /* of the stack: 2^k words, the first one NULL; or NULL itself */
    uint16_t room;      /* slots that storage holds: 2^k - 1 */
    uint16_t capacity;  /* slots that the stack may hold, at most room */
    uint16_t batch;     /* slots that the next refill takes */
    uint8_t new_blocks; /* fresh blocks taken so far, up to VA_POPULATE_AFTER_BLOCKS */
    bool refilled : 1;  /* since the last flush */
    bool active : 1;    /* a slow path since the last trim */
    bool recent : 1;    /* a slow path since the clock hand came by, see thread_cache.c */
    uint8_t seen;       /* what the stack held then, the lower bits */
    uint8_t visited;    /* the last visit, by the cache's visits */
    uint8_t streak;     /* visits in quick succession, up to VA_STREAK */
    uint8_t visits;     /* refills and flushes since window_ms, up to VA_BUSY_VISITS */
    uint32_t window_ms;
    /* Under the mutex. */
    uint16_t looked_held;   /* slots on the stack at the last look of another thread, see idle.h */
    uint8_t looked_visited; /* `visited` then */
    uint32_t taken;         /* slots taken from slabs since holes were looked at */
    int32_t until_look;     /* slots to be taken or given until slabs are looked at, see drain.h */
    uint16_t fence;         /* below it slots are taken by another thread, see idle.h; or 0 */
    SlabList open;          /* slabs with slots to take */
    SlabList draining;      /* the same that are to become empty */
} ClassState;

/* Small classes, a bit each. */
__extension__ typedef unsigned __int128 ClassSet;
static_assert(VA_CLASSES_SMALL <= 128, "a set has a bit for every small class");

/* Slots on their way to another owner. */
typedef struct Outgoing {
    uint32_t owner;
    uint32_t count;
    void *slots[VA_OUTGOING_SLOTS];
} Outgoing;

/* Words of a stack's storage, by their log2. */
#define VA_ROOM_SIZES 11
static_assert(VA_STACK_SLOTS_MAX < 1 << (VA_ROOM_SIZES - 1), "every stack has a size");

/* Lent blocks for the next slabs. The blocks and their count: under the mutex, so that a purge on
 * another thread finds them. */
typedef struct BlockStore {
    Block *blocks[VA_SPARE_BLOCKS];
    uint32_t count;
    uint32_t batch; /* blocks that the next refill takes; owner thread */
    bool active;    /* refilled since the last trim; owner thread */
} BlockStore;

#if VALLOC_SECURE_QUARANTINE
/* Freed slots that wait, each kind in a pool and then in a queue whose head is at its turn; owner
 * thread. */
typedef struct Quarantine {
    void *fine[2][VA_QUARANTINE_FINE_SLOTS];
    void *middle[2][VA_QUARANTINE_MIDDLE_SLOTS];
    void *coarse[2][VA_QUARANTINE_COARSE_SLOTS];
    void *runs[2][VA_QUARANTINE_RUNS];
    uint32_t fine_turn, middle_turn, coarse_turn, runs_turn;
} Quarantine;
#define VA_QUARANTINE_SLOTS (offsetof(Quarantine, fine_turn) / sizeof(void *))
#endif

typedef struct ThreadCache {
    CacheFront front;
    uint32_t id;
    Lock mutex;
    _Atomic bool busy;      /* its thread is on a slow path, see idle.h */
    _Atomic bool suspended; /* slots are being taken, see idle.h; written under the mutex */
    bool emptied; /* all slots were taken since; mutex. Of an exited thread's: registry lock */
    _Atomic bool attached; /* a thread uses it; written under the registry lock. Always, if it is
                              another allocator's */
    _Atomic bool
        purge_wanted; /* its thread shall flush; set by any thread, which waits for nothing */
    bool shared;      /* process-wide: by threads that are past their exit; const */
    bool lifeless;    /* its thread survived a fork, where libc may go on with the life that it had;
                         registry lock */
    uint8_t young_visits; /* refills and flushes, up to VA_YOUNG_VISITS; owner thread */
    uint8_t hand;         /* the class that the clock hand is at; owner thread */
    ClassSet idle;        /* those that looked the same at the last two looks; mutex */
    ClassSet stacked;     /* those whose stacks may hold slots; owner thread */
    uint32_t visits;      /* refills and flushes; owner thread */
    uint8_t drain_step;   /* two for each class, see thread_cache.c; owner thread */
    bool large_active;    /* a large run came or went since the last trim; owner thread */
    size_t flushed_bytes; /* since the background thread was called; owner thread */
    uint64_t drain_ms;    /* when drain_step begins anew; owner thread */
    uint64_t trim_ms;     /* when idle classes are looked for next; owner thread */
    size_t share;         /* bytes of all threads' budget, as of the last trim; owner thread */
    _Atomic size_t capacity_bytes; /* of all stacks; written by the owner thread, for statistics */
    size_t run_capacity_bytes;     /* the same of runs alone; owner thread */
    size_t slabs;                  /* owned; mutex */
    size_t most_slabs;             /* since the last trim; owner thread */
    _Atomic size_t run_blocks;     /* in runs that it owns, on its stack or in use; any thread */
    _Atomic uint64_t open[2];      /* classes with slabs to take from; written under the mutex, read
                                      by adopters as a hint */
    Block *large;                  /* a large run freed last, or NULL; owner thread */
    size_t large_room;             /* bytes of VA_LARGE_KEEP_BYTES reserved for it; owner thread */
    uint32_t large_blocks;         /* of the large run freed last; owner thread */
    uint32_t large_puts;           /* runs that came so far; owner thread */
    uint32_t looked_puts;          /* so many at the last look of another thread; mutex */
    bool large_idle;               /* none since the look before; mutex */
    uint32_t thread;               /* other allocators: the id of the thread, 0 if shared; const */
    BlockStore stores[ZONES];
    ClassState classes[VA_CLASSES];
    Allocator *allocator;     /* whose blocks it holds; const while in use */
    uint64_t young_until_ms;  /* its thread started lately; owner thread */
    uint64_t kept_until_ms;   /* for the next thread, since it exited; registry lock */
    struct ThreadCache *next; /* process-wide: the next exited or unused one; registry lock.
                                 Others: the next of this allocator; const */
#if VALLOC_SECURE_QUARANTINE
    Quarantine quarantine;
#endif
    size_t outgoing_bytes; /* of slots put into batches since all were sent; owner thread */
    Outgoing *outgoing;    /* VA_OUTGOING_BATCHES of them, made at need */
    char *room; /* stacks are carved from here down to va_cache_pages; NULL: nowhere; mutex */
    void *free_room[VA_ROOM_SIZES]; /* by log2 of their words, linked by the first; mutex */
    Life life;                      /* process-wide: its thread's; registry lock */
    void *fenced[VA_CLASSES];       /* slots in whose place a fence stands, or NULL; mutex */
} ThreadCache;

/* The pages of a cache that has its own: the cache ends where they do. */
#define VA_CACHE_BYTES ((sizeof(ThreadCache) + 63) / 64 * 64)
VA_INLINE char *va_cache_pages(const ThreadCache *cache)
{
    return (char *)(uintptr_t)cache + VA_CACHE_BYTES - VA_CACHE_PAGES_BYTES;
}

/* The front of a cache that is none: every stack empty, no tag matches. */
#define VA_TAG_NONE (UINT32_MAX << VA_OWNER_SHIFT)
extern void *const va_stack_floor[1];
/* A thread's front before its first cache and after its exit. The fast paths store into a front
 * only what they popped from it or after its tag matched: never here. */
extern const CacheFront va_no_front;
#define VA_NO_FRONT ((CacheFront *)(uintptr_t)&va_no_front)

#endif
