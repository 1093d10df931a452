/* config.h: every constant and threshold of valloc, with its unit and its reason.
 *
 * What a user may change at run time starts here as a default and is read by options.c. */
#ifndef VA_CONFIG_H
#define VA_CONFIG_H

#include "base/base.h"

/* Double and invalid frees are reported at once, see slot_state.h. 0 leaves that out. */
#ifndef VALLOC_CHECKS
#define VALLOC_CHECKS 1
#endif

/* What a secure build does beyond the normal one, each by itself or, by VALLOC_SECURE, all of it.
 * The build system says so; docs/security.md tells what each of them promises, and costs. */
#ifndef VALLOC_SECURE
#define VALLOC_SECURE 0
#endif
#ifndef VALLOC_SECURE_RANDOM
#define VALLOC_SECURE_RANDOM VALLOC_SECURE
#endif
#ifndef VALLOC_SECURE_QUARANTINE
#define VALLOC_SECURE_QUARANTINE VALLOC_SECURE
#endif
#ifndef VALLOC_SECURE_ZERO
#define VALLOC_SECURE_ZERO VALLOC_SECURE
#endif
#ifndef VALLOC_SECURE_CANARY
#define VALLOC_SECURE_CANARY VALLOC_SECURE
#endif
#ifndef VALLOC_SECURE_GUARD
#define VALLOC_SECURE_GUARD VALLOC_SECURE
#endif
#ifndef VALLOC_SECURE_COPIES /* only of the override library, which alone has api/copies.c */
#define VALLOC_SECURE_COPIES 0
#endif
#ifndef VALLOC_SECURE_MEMTAG
#define VALLOC_SECURE_MEMTAG VALLOC_SECURE
#endif

#if !VALLOC_CHECKS &&                                                                              \
    (VALLOC_SECURE_RANDOM || VALLOC_SECURE_QUARANTINE || VALLOC_SECURE_ZERO ||                     \
     VALLOC_SECURE_CANARY || VALLOC_SECURE_GUARD || VALLOC_SECURE_COPIES || VALLOC_SECURE_MEMTAG)
#error "the features of the secure build need VALLOC_CHECKS"
#endif

/* A block is the unit of the block table and of a slab. 64 KiB: a multiple of every page size
 * that Linux uses on the supported machines (4, 16, 64 KiB), 16 slots of 4 KiB, and one table
 * load per free finds the class of any small slot. */
#define VA_BLOCK_SHIFT 16
#define VA_BLOCK_BYTES ((size_t)1 << VA_BLOCK_SHIFT)

/* Alignment of every address returned: what malloc promises on all platforms. */
#define VA_MIN_ALIGN ((size_t)16)

/* Small classes end at half a block, so that a slab has two slots or more. Classes of whole
 * runs go on to 1 MiB through the thread caches; above, an allocation is large. */
#define VA_SMALL_MAX ((size_t)32 << 10)
#define VA_RUN_MAX (((size_t)1 << 20) - VA_RUN_GUARD_BYTES)
/* The end of a run that secure builds guard: a page, where pages have 4 KiB. */
#define VA_RUN_GUARD_BYTES ((size_t)(VALLOC_SECURE_GUARD ? 4 << 10 : 0))

/* Slots of a slab at most, hence bits of its bitmap: a block of 16-byte slots. */
#define VA_SLAB_SLOTS_MAX (VA_BLOCK_BYTES / VA_MIN_ALIGN)
#define VA_SLAB_WORDS (VA_SLAB_SLOTS_MAX / 64)

/* The end of a slot or run that is no user's: the canary. */
#define VA_CANARY_BYTES ((size_t)(VALLOC_SECURE_CANARY ? 8 : 0))
/* The slack before it that is filled, and checked at the free. */
#define VA_SLACK_BYTES ((size_t)64)
/* Bytes of a free slot that are checked to be zero when it is allocated. */
#define VA_CHECKED_BYTES ((size_t)512)
/* Secure builds move four groups of an arena's tables by up to such a part of it: an index from a
 * block does not lead to them. 4 GiB of 1 TiB; the entries, which cover the tables too, then take
 * up to 1 MiB more address space. */
#define VA_GAP_PART 256
/* Allocations of no bytes that secure builds make inaccessible at a time. */
#define VA_ZERO_SIZES ((size_t)1 << 16)

/* Slots of these classes and above start in different groups of 64 and of 128 bytes, see
 * slot_state.h. */
#define VA_CLASS_MIDDLE VA_CLASS_OF_BYTES(64)
#define VA_CLASS_COARSE VA_CLASS_OF_BYTES(128)

/* Memory tags are compiled in: where there may be a processor that has them, see memtag.h. */
#if VALLOC_SECURE_MEMTAG && defined(__aarch64__) && !VA_WATCHED
#define VA_MEMTAG 1
#else
#define VA_MEMTAG 0
#endif
/* Larger allocations have no memory tags. To store them makes all pages resident, whether or not
 * the program uses them, and takes a processor as long as to clear a part of the memory. All slots
 * have tags, and the smallest runs; the others end with a guard page. */
#define VA_MEMTAG_BYTES ((size_t)128 << 10)

/* Random order: an allocation takes one of this many slots at the top of the stack. To mix a whole
 * refill instead made python3 take 1.3 times as long: what is used together would lie apart. */
#define VA_RANDOM_CHOICE 16

/* Quarantine: freed slots wait in a pool, which they leave by chance, then in a queue. There are
 * four of both in a cache: for slots up to each of these sizes, for larger ones, and for runs. Up
 * to 2 KiB they have so many places that what waits, and is written to, stays in the processor's
 * first cache (of 48 KiB, with what random order chooses from): with the fine ones' places pairs of
 * 500 bytes take 1.9 times as long (with 32 1.2 times), of 1500 and 2000 bytes 1.8 times. Pairs of
 * 4 to 30 KiB take 1.05 to 1.1 times as long as without, with 2 places or 8. What is larger than
 * these parts of the cache's share does not wait: a share of 2 MiB lets all wait, 2.6 MiB at most.
 */
#define VA_QUARANTINE_FINE_BYTES ((size_t)256)
#define VA_QUARANTINE_FINE_SLOTS 128
#define VA_QUARANTINE_FINE_PART 512
#define VA_QUARANTINE_MIDDLE_BYTES ((size_t)512)
#define VA_QUARANTINE_MIDDLE_SLOTS 16
#define VA_QUARANTINE_COARSE_SLOTS 8
#define VA_QUARANTINE_COARSE_PART 64
#define VA_QUARANTINE_RUNS 1
#define VA_QUARANTINE_RUN_PART 2

/* Freed large runs that are sealed: the second mapping that each may cost is a part of the 65,530
 * that the kernel grants a process, and so much address space cannot be dense. */
#define VA_SEALED_RUNS ((size_t)64)
#define VA_SEALED_BLOCKS (((size_t)256 << 20) >> VA_BLOCK_SHIFT)

/* A freed slot is cleared by pieces of this size: above, glibc has the processor do it by one
 * instruction, which starts slowly. Pairs of 2100 bytes take 0.5 of the time so, of 4 KiB 0.7, of 8
 * KiB 0.8, of 12 KiB 0.9, larger ones gain nothing. */
#define VA_CLEAR_BYTES ((size_t)2 << 10)
#define VA_CLEAR_BYTES_MAX ((size_t)16 << 10)

/* Guard pages: every so many blocks a slab ends with one. Each splits the huge page around it. */
#define VA_GUARD_BLOCKS 16

/* The address range of an arena, of which nothing is claimed ahead, and the least that is worth
 * one. Where addresses have fewer bits the range is an eighth of the largest gap. */
#define VA_RESERVE_BYTES ((size_t)1 << 40)
#define VA_RESERVE_MIN_BYTES ((size_t)8 << 20)
#define VA_ARENAS_MAX 64
/* Each next one has this part of all before it at least: 64 of them, from 8 MiB on, 16 TiB. */
#define VA_RESERVE_PART 4
/* Random places tried for an arena, then as many of the kernel's choice: a random one has a
 * neighbour about once in 10,000 times, or overlaps another arena's range. */
#define VA_PLACE_TRIES 6

/* Where the kernel refuses a step this much is left to the program, or a sixteenth of the heap. */
#define VA_LEAVE_BYTES ((size_t)4 << 20)
/* Blocks at the end of a zone, free and purged, that are worth unmapping: 16 MiB. */
#define VA_TRIM_BLOCKS ((size_t)256)
/* The tables follow in steps as large as the heap, between these bounds: 64 MiB of it have 0.6 MiB
 * of tables, 1 GiB 9.3. */
#define VA_TABLE_STEP_BLOCKS ((size_t)1 << 9)
#define VA_TABLE_STEP_MAX_BLOCKS ((size_t)1 << 14)
/* Longer runs have no states: 64 MiB. A gap in the states' mapping for
 * each of many shorter ones would take too many mappings. */
#define VA_STATED_BLOCKS ((size_t)1 << 10)

/* The groups of the first blocks lie before the records, on the same page: so many bytes of them,
 * of 32 groups, leave room for 32 records on the smallest page. */
#define VA_FIRST_GROUPS_BYTES ((size_t)2 << 10)

/* Huge pages: the kernel's size where pages have 4 KiB, and how much of a heap never
 * gets them: a small one would pay 2 MiB and more for what is not used of the last ones. Ten
 * whole programs, against none at all: from 4 MiB on 0.935 of the time and 1.044 of the memory,
 * from 32 MiB on 0.943 and 1.029. From 48 instead of 32: gawk, git and z3 0.93 to 0.97 of the
 * memory, python3 and perl 1.02, the same time. */
#define VA_HUGE_BYTES ((size_t)2 << 20)
#define VA_HUGE_AFTER_BYTES ((size_t)48 << 20)
/* The kernel needs 0.1 to 0.3 ms for a huge page, but 4 to 6 on a virtual machine whose host takes
 * free memory back; 512 small pages take 0.8 ms, there 1.0 to 2.4. So populating is timed: slow is
 * what takes longer than this. If more than half of a window of huge pages are slow, no others are
 * asked for until the heap has grown by so many times its size. redis on such a machine: 0.8 of the
 * time. */
#define VA_HUGE_SLOW_NS 1500000u
#define VA_HUGE_WINDOW 4
#define VA_HUGE_RETRY 3
/* So many huge pages of a zone are refused one by one because of holes, each as a mapping of its
 * own. With one more, all that is mapped are. */
#define VA_HUGE_HOLES 128
/* Arenas of this size have a sparse zone, this part of their range. Once the zone behind it is used
 * the entries of all its blocks are mapped, if not touched: 8 MiB in an arena of 1 TiB. */
#define VA_ZONED_BYTES ((size_t)8 << 30)
#define VA_SPARSE_PART 8
static_assert(VA_HUGE_AFTER_BYTES % VA_HUGE_BYTES == 0, "huge chunks start on their boundary");

/* From its third fresh block on, a class is growing: the pages of a block are then populated
 * by one call instead of a fault each. */
#define VA_POPULATE_AFTER_BLOCKS 2
/* Slots up to this size fill the pages that they lie on, so that a class that grows may have pages
 * in advance: by populating them, and huge ones. Of a larger slot nobody knows how much will be
 * touched. */
#define VA_FILLED_BYTES ((size_t)4 << 10)

/* A free block that stays unused for one to two of these is purged. Milliseconds. Against 500 ruby
 * and rocksdb take 0.94 of the memory, a server whose sizes change 0.83; the same time. With 100 a
 * hash map takes 0.94 of the memory and 1.02 of the time. */
#define VA_PURGE_DELAY_MS 200
/* The ceiling of dirty memory. It never exceeds this: */
#define VA_DIRTY_MAX_BYTES ((size_t)1 << 30)
/* What is lent and so much more, or all of it goes. redis after FLUSHALL keeps 46 MiB instead of
 * 223. A part of what is lent as the ceiling makes bulk phases slower that free half of a heap. */
#define VA_SHRINK_KEEP_BYTES ((size_t)8 << 20)
/* When a heap grows beyond its recent peak: so many bytes, or such a part of what is lent. Peak
 * memory of rendering markdown: 0.81. */
#define VA_DIRTY_LEAST_BYTES ((size_t)2 << 20)
#define VA_DIRTY_LEAST_SHIFT 4
/* So much above it is worth the system calls. */
#define VA_PURGE_STEP_BYTES ((size_t)1 << 20)
/* No more than the heap's size is purged for the ceiling in so many milliseconds: a program may
 * fill and free its heap again and again. */
#define VA_PURGE_AGAIN_MS 4000
/* Bytes of old blocks that one visit purges: bounds what one malloc pays for all. */
#define VA_PURGE_VISIT_BYTES ((size_t)32 << 20)

/* A thread looks at the clock after its first slow paths, so many, and sweeps its cache once a
 * purge delay, but no more often than every so many milliseconds; also when it has taken so many
 * blocks since the last sweep, or such a part of its own: 4 MiB, an eighth. */
#define VA_SWEEP_VISITS 64
#define VA_SWEEP_MIN_MS 10
#define VA_SWEEP_GROWTH_BLOCKS 64
#define VA_SWEEP_GROWTH_SHIFT 3
/* Slabs may drain whenever as many slots have been taken and put as this part of theirs. */
#define VA_DRAIN_PART 16
/* Slabs purged per hold of their owner's mutex. */
#define VA_SWEEP_SLABS ((size_t)16)

/* The background thread comes by so long after the purge clock's tick is due: the clock that it
 * reads may be late by a few milliseconds. */
#define VA_BACKGROUND_LATE_MS 5
/* It is started once so much free memory has come together, or the heap has this size. It sleeps or
 * ends when nothing has changed for so many ticks. It looks for other threads this often. */
#define VA_HELPER_BYTES ((size_t)1 << 20)
#define VA_HELPER_HEAP_BYTES ((size_t)16 << 20)
#define VA_BACKGROUND_QUIET 4
#define VA_BACKGROUND_LOOK_MS ((uint64_t)250)

/* So long after a store no processor can hold it back any more: they do for microseconds at most. A
 * signal ends the wait; after so many of them nothing is taken from other threads this time. */
#define VA_BARRIER_US 1000L
#define VA_BARRIER_TRIES 20u

/* The large run that a thread freed last stays with it, for loops that allocate and free one
 * size: in all threads together at most this many bytes. Such a loop looks at the purge clock every
 * so many turns: the clock takes a fifth of one. */
#define VA_LARGE_KEEP_BYTES ((size_t)64 << 20)
#define VA_LARGE_PUTS 16
/* Caches are emptied for an allocation that would fail, unless it is larger than this and than so
 * many times what they hold: programs that ask until they get no more would empty them each time.
 */
#define VA_RELIEF_RATIO 8

/* Thread caches: the bytes of free slots that the stacks of all threads may hold, shared out
 * evenly, and the bounds of a thread's share. */
#define VA_CACHE_ALL_BYTES ((size_t)32 << 20)
#define VA_CACHE_MIN_BYTES ((size_t)256 << 10)
#define VA_CACHE_MAX_BYTES ((size_t)4 << 20)
/* A stack of slots holds this part of the share, or this part of what the class's slabs come to if
 * that is more, within the bounds. One of runs holds a part of its runs, at least one. */
#define VA_STACK_SHARE_SHIFT 7
#define VA_STACK_USE_SHIFT 4
/* After so many flushes without a refill a class is only freed: its stack halves with each flush,
 * down to twice its part of the share, or a part of its runs. Else slots that nobody wants keep
 * slabs in use: a heap of 256 MiB of which 95 % is freed stays at 280 MiB instead of 145. */
#define VA_STACK_TURNS 4
#define VA_STACK_SLOTS_MAX ((size_t)1023)
#define VA_STACK_BYTES_MAX ((size_t)1 << 20)
#define VA_RUN_USE_SHIFT 2
#define VA_STACK_RUN_BYTES_MAX ((size_t)4 << 20)
/* Runs of the smallest class in so many bytes. */
#define VA_STACK_RUNS_MAX (VA_STACK_RUN_BYTES_MAX / (VA_BLOCK_BYTES - VA_RUN_GUARD_BYTES))

/* Slots given back per hold of the mutex. */
#define VA_FLUSH_SLOTS ((size_t)256)

/* Slabs that one refill obtains at most: a slab of the largest classes has two slots. */
#define VA_REFILL_SLABS 8
/* How many slots ahead of the one given back its slab is fetched into the processor's cache. */
#define VA_PREFETCH_SLOTS 8

/* Slots of this class and above (a cache line) that another owner's slabs lent are kept and used
 * again like one's own; smaller ones go home, so that no two threads write to one line. */
#define VA_CLASS_KEPT VA_CLASS_OF_BYTES(64)

/* Slots freed for other owners: batches kept at a time, the bound of one, and that of all as a
 * part of the thread's share. */
#define VA_OUTGOING_BATCHES 64
#define VA_OUTGOING_SLOTS 61
#define VA_OUTGOING_SHARE_SHIFT 4

/* An exiting thread leaves its stacks filled for the next one, up to this many bytes, as long as no
 * more than this many others have no thread. A thread per request 0.87 of the time. */
#define VA_WARM_BYTES ((size_t)128 << 10)
#define VA_WARM_CACHES 8

/* Rounds of destructors in which an exiting thread keeps its cache, the last one included: POSIX
 * promises four, and the thread may get its cache in the first of them. */
#if VA_TSAN /* which ends its own state in the last round */
#define VA_EXIT_ROUNDS 1
#else
#define VA_EXIT_ROUNDS 3
#endif
/* Caches that a thread which starts looks at for one whose thread has vanished unseen, before a new
 * one is made. */
#define VA_REAP_LOOKS 2

/* Exited owners looked at for a partial slab before a fresh block is taken. */
#define VA_ADOPT_LOOKS 32
/* Owner ids are 20 bits of a table entry; 0 means no owner, the last one matches nothing. The upper
 * half are caches of other allocators than that of the process. */
#define VA_OWNER_SHIFT 12
#define VA_OWNERS_HALF ((uint32_t)1 << (31 - VA_OWNER_SHIFT))
/* The least share of a cache of another allocator: there can be many of them. */
#define VA_CACHE_OTHER_MIN_BYTES ((size_t)64 << 10)
/* The share of a cache of a limited allocator is at most this part of the limit. */
#define VA_CACHE_LIMIT_SHIFT 6

/* The first caches lie close together. Each later one has pages of its own, so many bytes with room
 * for its stacks, which are purged when its thread has exited and it holds nothing: as soon as so
 * many others have no thread. With 27 KiB each, 10,000 threads that had exited left 250 MiB. */
#define VA_CACHES_CLOSE 8
#define VA_CACHE_PAGES_BYTES ((size_t)32 << 10)
#define VA_EXITED_KEPT 256

/* Internal memory: a first chunk that has room for some threads' caches and first stacks, then
 * chunks that are mapped, and kept out of core dumps: in secure builds all are. */
#define VA_META_FIRST_BYTES                                                                        \
    (VALLOC_SECURE_RANDOM || VALLOC_SECURE_QUARANTINE || VALLOC_SECURE_CANARY ? (size_t)64         \
                                                                              : (size_t)64 << 10)
/* The first chunk ends with a page, of the smallest size that there is. */
#define VA_META_PAGE_BYTES ((size_t)4 << 10)
#define VA_META_CHUNK_BYTES ((size_t)256 << 10)
/* What threads that have reported an error may allocate until the process ends. Address space: only
 * what they use becomes resident. Symbols of a stack trace take some MiB. */
#define VA_EMERGENCY_BYTES ((size_t)16 << 20)
/* realloc moves pages instead of copying bytes from this size on. Below, copying into pages that
 * are resident already is cheaper than the system calls, and than faulting in anew what the move
 * and the new mappings lose: four buffers that grow to 2 MiB in turn took 6.5 times as long with 1
 * MiB here, to 8 MiB 1.5 times, to 32 MiB 1.1 times. */
#define VA_MOVE_PAGES_BYTES ((size_t)4 << 20)
/* A run that pages were moved to or from is a mapping of its own, and splits its neighbours'. So
 * many at a time make a quarter of the mappings that the kernel grants a process by default. */
#define VA_MOVED_RUNS_MAX ((size_t)8 << 10)

/* The heap profiler: so many bytes per sample, as jemalloc has it, and frames of a call stack. */
#define VA_PROFILE_RATE_BYTES ((size_t)512 << 10)
#define VA_PROFILE_DEPTH ((size_t)64)
#define VA_PROFILE_DEPTH_MAX ((size_t)128)
/* What it can hold: live samples for a heap of 32 GiB at the default rate, call stacks, their
 * frames and the addresses in them, names of allocators; 10 MiB of address space. Powers of two. A
 * profile of 2,000 samples and 500 call stacks makes 0.9 MiB resident. */
#define VA_PROFILE_SAMPLES ((size_t)64 << 10)
#define VA_PROFILE_CALL_STACKS ((size_t)16 << 10)
#define VA_PROFILE_FRAMES ((size_t)512 << 10)
#define VA_PROFILE_LOCATIONS ((size_t)64 << 10)
#define VA_PROFILE_LABELS ((size_t)64)
#define VA_PROFILE_LABEL_BYTES ((size_t)32)
#define VA_PROFILE_FILE_BYTES ((size_t)1 << 10)
#define VA_PROFILE_PROGRAM_BYTES ((size_t)1 << 10)
/* A dump: segments of code, their files' paths and build ids; its buffer, and the largest message
 * in it; call stacks that the text for a person shows. */
#define VA_PROFILE_MODULES ((size_t)512)
#define VA_PROFILE_PATHS_BYTES ((size_t)64 << 10)
#define VA_PROFILE_BUILD_ID_BYTES ((size_t)32)
#define VA_PROFILE_BUFFER_BYTES ((size_t)4 << 10)
#define VA_PROFILE_MESSAGE_BYTES ((size_t)1 << 10)
#define VA_PROFILE_TEXT_STACKS 30u
/* A walk ends at a frame larger than this, or a return address below that: both are of code that
 * uses the frame pointer for something else. */
#define VA_STACK_FRAME_BYTES ((uintptr_t)256 << 10)
#define VA_STACK_CODE_BYTES ((uintptr_t)4 << 10)

/* The limit of a cgroup, by option: the soft limit leaves this part of it to what else the cgroup
 * has in memory, such as valloc's tables, stacks, code, and other processes. Bytes that are read of
 * the list of cgroups, and of a path. */
#define VA_CGROUP_LEFT 8
#define VA_CGROUP_LIST_BYTES ((size_t)4 << 10)
#define VA_CGROUP_PATH_BYTES ((size_t)1 << 10)

/* Slabs that one hint for defragmentation compares a slab with. */
#define VA_DEFRAG_LOOKS 16u

/* How often a lock is looked at again before its waiter sleeps. */
#define VA_LOCK_SPINS 64

/* The override library's memcpy and memset check the program's copies, see api/copies.c. valloc
 * itself also uses memory that is nobody's: its calls, with those that the compiler adds, go past
 * that. */
#if defined(VALLOC_OVERRIDE) && VALLOC_SECURE_COPIES && !defined(VA_CHECKS_COPIES)
__asm__("memcpy = va_copies_move\n"
        "memmove = va_copies_move\n"
        "memset = va_copies_fill\n");
#endif

#endif
