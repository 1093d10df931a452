/* block_table.h: from an address to its block: one subtraction, one shift, one load.
 *
 * An arena is one contiguous range of address space, and the table of its blocks lies at its
 * very start, so that one pointer finds both:
 *
 *   base                                                                base + blocks * 64 KiB
 *   | entries > . < groups | records > . states > . fine > . < bitmaps . blocks >          |
 *     4 B           64 B/64  64 B        1 KiB      4 KiB      512 B     64 KiB    per block
 *
 * Block i starts at base + i * 64 KiB; the first indices are the tables themselves and stay 0, so
 * that a wild pointer into them is caught like any other. `.` is never mapped. Groups and
 * bitmaps grow downwards, the rest upwards, so that what a small heap uses of the tables lies in
 * few places: each costs a fork a mapping and page tables. See slot_state.h for the states.
 *
 *   entry:  | owner id, 20 bits | class offset, 12 bits |     0: free, or inside a run
 *
 * entry ^ (owner id << 12) < VA_CLASSES * 16 says in one compare that a block is in use, is a
 * slab or run in a cache's classes, and belongs to that owner.
 *
 * Entries are atomics. Those who free read them relaxed: they hold a live slot of the block, which
 * pins it, and the program's own synchronisation handed the slot over and ordered the entry's
 * store. Those who only look around (va_arena_scan) read them with acquire. */
#ifndef VA_BLOCK_TABLE_H
#define VA_BLOCK_TABLE_H

#define VALLOC_NO_SHORT_NAMES
#include "../../include/valloc.h"
#include "base/check.h"
#include "base/config.h"
#include "os/lock.h"
#include "table/size_class.h"

static_assert(VALLOC_BLOCK_BYTES == VA_BLOCK_BYTES, "valloc.h tells the size of a block");

typedef struct Allocator Allocator; /* see block_pool.h */

/* What is known of a block; for a run, of its first block. One cache line. */
typedef struct Block {
    struct Block *next; /* list of the owner's slabs with slots to take (owner's mutex), or a chain
                           of blocks that one thread returns */
    struct Block *prev;
    union {
        uint32_t slot_bytes;   /* slab: const while it is one */
        uint32_t dirty_blocks; /* run just lent: only its first blocks, so many, may hold other
                                  bytes than zero */
    };
    uint32_t reciprocal; /* slab: const while it is one, see SizeClass */
    uint32_t run_blocks; /* blocks of the run; 1 for a slab */
    /* Slab: used + free_count + (slots - fresh) == slots. Owner's mutex. */
    uint16_t class;
    uint16_t slots;
    uint16_t fresh;      /* slots [fresh, slots) were never used */
    uint16_t free_count; /* bits set in the slab's bitmap, all below fresh */
    bool listed;         /* on the owner's list */
    bool zero;           /* never-used memory reads as zero */
    union {
        struct {
            bool moved;   /* run: a mapping of its own, see va_arena_move */
            bool sampled; /* large run: a heap profile has a sample of it */
        };
        uint16_t special; /* not 0 if it is either */
    };
    uint8_t arena;   /* const: index into va_arenas */
    uint8_t guarded; /* secure builds: see secure.h */
    uint16_t absent; /* slab: pieces that surely have no page, a bit each; owner's mutex */
    /* Whose it is while it is lent; the other runs of that allocator, by their references: under
     * its mutex, and only if it is not the allocator of the process. */
    uint32_t next_held;
    Allocator *allocator;
    uint32_t previous_held;
    uint16_t swept; /* slab: free_count when a sweep looked last, or VA_SLAB_CHANGED if slots were
                       taken since; owner's mutex */
    bool draining;  /* slab: its freed slots skip the stacks; owner's mutex */
    uint8_t stamp;  /* slab: the owner's epoch when slots were taken last, see sweep.h */
} Block;
static_assert(sizeof(Block) == 64, "a block record is one cache line");

#define VA_SLAB_CHANGED UINT16_MAX

/* A piece: a sixteenth of a block. What is known of a slab's pages is kept by pieces, whatever the
 * size of a page: one of 4 KiB is one piece, one of 64 KiB sixteen. */
#define VA_PIECE_SHIFT (VA_BLOCK_SHIFT - 4)
#define VA_PIECES 16u
#define VA_PIECES_ALL 0xffffu

/* The free blocks of a range: in a row at its start, at its end, and anywhere at most. */
typedef struct FreeSpan {
    uint32_t prefix, suffix, longest;
} FreeSpan;

#define VA_GROUP_BLOCKS 64

/* The state of 64 blocks, one bit each. Arena lock. old lies within dirty, dirty within free. */
typedef struct BlockGroup {
    _Alignas(64) uint64_t free; /* not lent */
    uint64_t dirty;             /* free; may hold other bytes than zero, and pages */
    uint64_t old;               /* dirty since the last pass, see arena_purge.c */
    _Atomic uint64_t states;    /* had states written since the last purge; any thread */
    FreeSpan spans[2];          /* two nodes of the tree of free runs, see run_set.c */
    uint8_t stated;             /* which tables of states are mapped, a bit each */
    uint8_t small;              /* its huge pages that are refused because of holes, a bit each */
} BlockGroup;
static_assert(sizeof(BlockGroup) == 64, "a group is one cache line");

/* The parts of an arena. What may never be filled should not lie on huge pages, which are resident
 * as a whole: the first slabs of a thread's class, slabs of slots larger than a page, runs and
 * large blocks go to the sparse zone; slabs of a class that grows go to the dense one. Small arenas
 * have no dense zone: it is empty. */
typedef enum ZoneKind { ZONE_SPARSE, ZONE_DENSE, ZONES } ZoneKind;

/* What is mapped of a table: addresses, multiples of the page size; 0 at first. */
typedef struct Mapped {
    uintptr_t start, end;
} Mapped;

/* The tables of which each zone has a part. The groups of an arena's first blocks count as records,
 * whose page they share. */
typedef enum ZoneTable { TABLE_GROUPS, TABLE_RECORDS, TABLE_BITMAPS, ZONE_TABLES } ZoneTable;

typedef struct Zone {
    _Alignas(64) size_t first; /* const. Zones share no group. */
    _Atomic size_t huge_from;  /* blocks from here on may lie on huge pages; read without lock */
    /* Arena lock. first <= top <= tabled; first <= committed <= tabled. */
    size_t committed;   /* blocks from here on are not mapped; those below top are free and clean */
    size_t tabled;      /* records and bitmaps from here on are not mapped */
    size_t end;         /* no block from here on; lowered where somebody else's mapping is */
    size_t top;         /* blocks from here on were never lent */
    size_t free_blocks; /* below top */
    size_t purge_end;   /* groups from here on have nothing to purge */
    size_t small_pages; /* huge pages that are refused because of holes */
    Mapped tables[ZONE_TABLES];
} Zone;

/* The tables of slots' states, with a byte for 16, for 64 and for 128 bytes. */
typedef enum StateTable { STATES_FINE, STATES_MIDDLE, STATES_COARSE, STATE_TABLES } StateTable;

VA_INLINE unsigned va_state_shift(StateTable table)
{
    return table == STATES_FINE ? 4 : table == STATES_MIDDLE ? 6 : 7;
}

/* That of slots from 128 bytes on: the middle one where pages are so large that a group's part of
 * the coarse one is none. Const once there is an arena. */
extern StateTable va_state_coarse;

VA_INLINE unsigned va_state_tables(void)
{
    return va_state_coarse + 1;
}

VA_INLINE StateTable va_state_table(unsigned class)
{
    if (class < VA_CLASS_MIDDLE)
        return STATES_FINE;
    return class < VA_CLASS_COARSE ? STATES_MIDDLE : va_state_coarse;
}

/* Who frees reads the first cache line; what changes under the lock stays off it. */
typedef struct Arena {
    _Alignas(64) char *base; /* const once published, like all pointers here */
    size_t blocks;           /* const: the range is so long */
    _Atomic uint32_t *entries;
    Block *records;
    uintptr_t bitmaps;     /* the free slots of a slab; see va_bitmap_of */
    _Atomic size_t tabled; /* entries from here on are not mapped; read without lock */
    size_t first;          /* const: index of the first block that is not table */
    BlockGroup *groups;    /* of group g: groups - g */
    Zone zones[ZONES];
    uintptr_t states[STATE_TABLES]; /* plus a slot's address, shifted: its state */
    Mapped entries_mapped;          /* arena lock */
} Arena;

extern Arena va_arenas[VA_ARENAS_MAX];
/* Arenas [0, count) are complete. The release store that raises it pairs with the acquire load
 * in va_arena_of. */
extern _Atomic unsigned va_arena_count;

VA_INLINE size_t va_block_index(const Arena *arena, const void *pointer)
{
    return ((uintptr_t)pointer - (uintptr_t)arena->base) >> VA_BLOCK_SHIFT;
}

/* The arena whose table covers the pointer; NULL if it is foreign. Any thread. */
Arena *va_arena_of(const void *pointer);

/* Reports a bad pointer and aborts: "valloc: <function>: <what> (pointer 0x..., <what the block
 * table says of it>); see docs/security.md#<anchor>". `what` up to its first comma is a heading
 * there. */
_Noreturn VA_COLD void va_fatal(const char *function, const char *what, const void *pointer);

/* Says whose cache an owner id stands for; in thread.c. */
VA_COLD void va_thread_describe_owner(Report *report, uint32_t owner);

/* The first time prints "valloc: <function>: ignored, as all that follow: <what> (pointer 0x...)":
 * `warned` is whether it has. A word: on riscv64 libatomic would exchange a byte. */
VA_COLD void va_warn_once(_Atomic uint32_t *warned, const char *function, const char *what,
                          const void *pointer);

VA_INLINE Arena *va_arena_find(const void *pointer)
{
    if (va_likely(va_block_index(&va_arenas[0], pointer) <
                  atomic_load_explicit(&va_arenas[0].tabled, memory_order_relaxed)))
        return &va_arenas[0];
    return va_arena_of(pointer);
}

/* A pointer's distance from its block's start: arenas start on the boundary of a block. */
VA_INLINE uint32_t va_block_offset(const void *pointer)
{
    return (uint32_t)((uintptr_t)pointer & (VA_BLOCK_BYTES - 1));
}

/* The record of the block that holds a slot. */
VA_INLINE Block *va_block_of(const void *slot)
{
    Arena *arena = va_arena_find(slot);
    return &arena->records[va_block_index(arena, slot)];
}

/* The record of a block whose entry still is what it was; else NULL, for the record may be somebody
 * else's by now. For those who only look around, under the mutex of a slab's owner, which gives a
 * slab up under it. */
VA_INLINE Block *va_block_if(void *address, uint32_t entry)
{
    Arena *arena = va_arena_find(address);
    size_t index = va_block_index(arena, address);
    bool same = atomic_load_explicit(&arena->entries[index], memory_order_acquire) == entry;
    return same ? &arena->records[index] : NULL;
}

VA_INLINE size_t va_block_number(const Block *block)
{
    return (size_t)(block - va_arenas[block->arena].records);
}

VA_INLINE ZoneKind va_zone_of(const Arena *arena, size_t number)
{
    return number < arena->zones[ZONE_DENSE].first ? ZONE_SPARSE : ZONE_DENSE;
}

VA_INLINE char *va_block_address(const Block *block)
{
    return va_arenas[block->arena].base + (va_block_number(block) << VA_BLOCK_SHIFT);
}

VA_INLINE _Atomic uint32_t *va_block_entry(const Block *block)
{
    return va_arenas[block->arena].entries + va_block_number(block);
}

/* Bitmaps lie downwards. Block 0 has none: where it would be are user's blocks, and tools that look
 * for pointers to these are not to find one. Hence the complement. */
VA_INLINE uint64_t *va_bitmap_of(const Arena *arena, size_t number)
{
    return (uint64_t *)~(arena->bitmaps + number * VA_SLAB_WORDS * sizeof(uint64_t));
}

VA_INLINE uint64_t *va_block_bitmap(const Block *block)
{
    return va_bitmap_of(&va_arenas[block->arena], va_block_number(block));
}

VA_INLINE BlockGroup *va_group(const Arena *arena, size_t group)
{
    return arena->groups - group;
}

/* A block as a number of 32 bits; 0 is none: there the first arena has its tables. */
#define VA_REFERENCE_SHIFT 24
static_assert((VA_RESERVE_BYTES >> VA_BLOCK_SHIFT) <= 1u << VA_REFERENCE_SHIFT &&
                  VA_ARENAS_MAX <= 1u << (32 - VA_REFERENCE_SHIFT),
              "a reference finds every block");

VA_INLINE uint32_t va_block_reference(const Block *block)
{
    return block == NULL
               ? 0
               : (uint32_t)block->arena << VA_REFERENCE_SHIFT | (uint32_t)va_block_number(block);
}

VA_INLINE Block *va_block_referred(uint32_t reference)
{
    if (reference == 0)
        return NULL;
    return &va_arenas[reference >> VA_REFERENCE_SHIFT]
                .records[reference & ((1u << VA_REFERENCE_SHIFT) - 1)];
}

VA_INLINE uint32_t va_entry_make(uint32_t owner, unsigned class)
{
    return owner << VA_OWNER_SHIFT | class << VA_CLASS_SHIFT;
}

VA_INLINE uint32_t va_entry_owner(uint32_t entry)
{
    return entry >> VA_OWNER_SHIFT;
}

/* Of a slab that is draining: its slots are not to be kept. No fast path takes them then. */
#define VA_ENTRY_DRAINING (1u << (VA_OWNER_SHIFT - 1))
static_assert(VA_CLASS_LOST << VA_CLASS_SHIFT < VA_ENTRY_DRAINING, "a class fits into an entry");

VA_INLINE unsigned va_entry_class(uint32_t entry)
{
    return (entry & (VA_ENTRY_DRAINING - 1)) >> VA_CLASS_SHIFT;
}

VA_INLINE uint32_t va_entry_load(const _Atomic uint32_t *entry)
{
    return atomic_load_explicit(entry, memory_order_relaxed);
}

VA_INLINE void va_entry_store(_Atomic uint32_t *entry, uint32_t value)
{
    atomic_store_explicit(entry, value, memory_order_release); /* pairs with va_arena_scan */
}

#endif
