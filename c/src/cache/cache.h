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
 * Lock order: an allocator's shared cache, its blocks, the registry, one cache, arena, metadata.
 * Two caches' mutexes are held only under the registry lock: to adopt a slab, and to fork. */
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

typedef struct ClassState {
    /* Owner thread, under the mutex when changed. */
    void **storage;    /* of the stack: 2^k words, the first one NULL; or NULL itself */
    uint16_t room;     /* slots that storage holds: 2^k - 1 */
    uint16_t capacity; /* slots that the stack may hold, at most room */
    uint16_t batch;    /* slots that the next refill takes */
    uint8_t turns;     /* VA_STACK_TURNS after a refill, one less with every flush */
    /* The cache's epoch at the last slow path of the class. The owner thread writes it, whoever
     * sweeps reads it. Relaxed: a hint. */
    _Atomic uint8_t stamp;
    _Atomic int32_t blocks; /* of slabs owned, under the mutex; of runs owned, any thread */
    uint32_t until_look;    /* slots to be taken or put until its slabs may drain; mutex */
    Block *open;            /* slabs with slots to take, linked by next; the first one's prev is the
                               last one; mutex */
    size_t refilled;        /* slots taken by refills so far; owner thread, for statistics */
} ClassState;

/* Slots on their way to another owner. */
typedef struct Outgoing {
    uint32_t owner;
    uint32_t count;
    void *slots[VA_OUTGOING_SLOTS];
} Outgoing;

/* Words of a stack's storage, by their log2. */
#define VA_ROOM_SIZES 11
static_assert(VA_STACK_SLOTS_MAX < 1 << (VA_ROOM_SIZES - 1), "every stack has a size");

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

/* The batches for other owners; owner thread. */
typedef struct OutgoingBatches {
    size_t bytes;      /* of slots put into them since all were delivered */
    Outgoing *batches; /* VA_OUTGOING_BATCHES of them, made at need */
} OutgoingBatches;

/* The large run freed last, see large_cache.h; owner thread, or another while that is away. */
typedef struct LargeKept {
    Block *run;      /* NULL while there is none */
    size_t room;     /* bytes of VA_LARGE_KEEP_BYTES reserved for it */
    uint32_t blocks; /* of the large run freed last */
    uint32_t puts;   /* runs that came so far */
    size_t refilled; /* large runs that the arena lent so far, for statistics */
    bool used;       /* one came or went since the last sweep */
} LargeKept;

/* See sweep.h. */
typedef struct SweepState {
    _Atomic uint8_t epoch;  /* sweeps so far; changed under the mutex */
    uint8_t visits;         /* slow paths; owner thread, like what follows */
    _Atomic int32_t blocks; /* as many blocks call for a sweep; any thread */
    uint64_t due_ms;        /* when one is due in any case */
} SweepState;

/* See idle.h. */
typedef struct IdleState {
    _Atomic bool busy;      /* the cache's thread is on a slow path */
    _Atomic bool suspended; /* slots are being taken; written under the mutex */
} IdleState;

/* By class: below the fence slots are taken by another thread, see idle.h; 0: none; the slot in
 * whose place it stands, or NULL. Mutex. */
typedef struct Fences {
    uint16_t place[VA_CLASSES];
    void *slot[VA_CLASSES];
} Fences;

/* Memory for stacks on the cache's own pages; mutex. */
typedef struct StackRoom {
    char *next; /* stacks are carved from here down to va_cache_pages; NULL: nowhere */
    void *released[VA_ROOM_SIZES]; /* by log2 of their words, linked by the first */
} StackRoom;

typedef struct ThreadCache {
    CacheFront front;
    uint32_t id;
    Lock mutex;
    IdleState idle;
    _Atomic bool attached; /* a thread uses it; written under the registry lock. Always, if it is
                              another allocator's */
    bool shared;           /* process-wide: by threads that are past their exit; const */
    bool lifeless;   /* its thread survived a fork, where libc may go on with the life that it had;
                        registry lock */
    uint32_t thread; /* other allocators: the id of the thread, 0 if shared or unused; mutex */
    SweepState sweep;
    size_t share;         /* bytes of all threads' budget, as of the last sweep; owner thread */
    size_t flushed_bytes; /* since the background thread was called; owner thread */
    _Atomic size_t capacity_bytes; /* of all stacks; written by the owner thread, for statistics */
    _Atomic int32_t blocks; /* of all slabs and runs that it owns; any thread. A fork may leave it
                               off */
    LargeKept large;
    OutgoingBatches outgoing;
    ClassState classes[VA_CLASSES];
    Allocator *allocator;     /* whose blocks it holds; const while in use */
    struct ThreadCache *next; /* process-wide: the next exited or unused one; registry lock.
                                 Others: the next of this allocator; const */
#if VALLOC_SECURE_QUARANTINE
    Quarantine quarantine;
#endif
    StackRoom room;
    Life life; /* process-wide: its thread's; registry lock */
    Fences fences;
} ThreadCache;

/* So long that a cache which ends where a page does has its whole front on one page, after room for
 * its first stacks. After a fork, each page that the fast paths write is copied. */
#define VA_CACHE_BYTES                                                                             \
    (va_align_up(sizeof(ThreadCache) - sizeof(CacheFront), VA_META_PAGE_BYTES) +                   \
     va_align_up(sizeof(CacheFront), 64))

/* The pages of a cache that has its own: the cache ends where they do. */
VA_INLINE char *va_cache_pages(const ThreadCache *cache)
{
    return (char *)(uintptr_t)cache + VA_CACHE_BYTES - VA_CACHE_PAGES_BYTES;
}

/* Counts blocks that a cache has more of a class, or less. Slabs: mutex held. Runs: any thread. */
VA_INLINE void va_cache_count_blocks(ThreadCache *cache, unsigned class, int32_t blocks)
{
    atomic_fetch_add_explicit(&cache->classes[class].blocks, blocks, memory_order_relaxed);
    atomic_fetch_add_explicit(&cache->blocks, blocks, memory_order_relaxed);
}

/* The front of a cache that is none: every stack empty, no tag matches. */
#define VA_TAG_NONE (UINT32_MAX << VA_OWNER_SHIFT)
extern void *const va_stack_floor[1];
/* A thread's front before its first cache and after its exit. The fast paths store into a front
 * only what they popped from it or after its tag matched: never here. */
extern const CacheFront va_no_front;
#define VA_NO_FRONT ((CacheFront *)(uintptr_t)&va_no_front)

#endif
