/* valloc.h: the public interface of valloc, a general-purpose memory allocator.
 *
 * Usable from C99 on and from C++. Every function may be called from any thread at any time,
 * also before main, in destructors of thread-local data, in atexit handlers and in the child
 * after fork; none of them is async-signal-safe but valloc_stats_write. Sizes and alignments are in
 * bytes.
 *
 * Unless said otherwise an address returned is aligned to 16 bytes, a failure is a NULL result
 * with errno set to ENOMEM, and a request above PTRDIFF_MAX bytes fails. A request of 0 bytes
 * is served as one of 1 byte: the result is unique and must be freed. Memory obtained from one
 * function may be freed or resized by any other, on any thread. Functions that free keep errno.
 *
 * A pointer that valloc never returned, a freed one, or a size that contradicts the block is a
 * bug of the caller; where it is detected, one line on stderr (or to valloc_set_error_handler's
 * function) says what was wrong and the process aborts.
 */
#ifndef VALLOC_H
#define VALLOC_H

#include <stddef.h>
#include <stdint.h>

#define VALLOC_VERSION_MAJOR 0
#define VALLOC_VERSION_MINOR 1
#define VALLOC_VERSION_PATCH 0
/* One number for comparisons: major * 10000 + minor * 100 + patch. */
#define VALLOC_VERSION 100

#if defined(__GNUC__) || defined(__clang__)
#define VALLOC_API __attribute__((visibility("default")))
#define VALLOC_MALLOC_LIKE __attribute__((malloc, warn_unused_result))
#define VALLOC_SIZED(n) __attribute__((alloc_size(n)))
#define VALLOC_SIZED2(n, m) __attribute__((alloc_size(n, m)))
#else
#error "valloc needs gcc or clang"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Allocates size bytes. The contents are unspecified. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED(1) void *valloc_malloc(size_t size);

/* Allocates an array of count elements of size bytes each, all bytes zero. Fails with ENOMEM
 * also when count * size overflows. Memory known to be zero is not cleared again. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED2(1, 2) void *valloc_calloc(size_t count, size_t size);

/* Changes the block at ptr to size bytes, moving it if need be; the first min(old, new) bytes
 * are kept. NULL as ptr allocates. A size of 0 shrinks the block to the smallest one: it does
 * not free. On failure the old block is untouched. The alignment kept is 16 bytes, whatever the
 * block was allocated with. */
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED(2) void *valloc_realloc(void *ptr, size_t size);

/* valloc_realloc to count * size bytes; ENOMEM also when the product overflows. */
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED2(2, 3) void *valloc_reallocarray(void *ptr, size_t count, size_t size);

/* Frees the block at ptr. NULL is ignored. */
VALLOC_API void valloc_free(void *ptr);

/* Frees the block at ptr, which was allocated by valloc_malloc, valloc_calloc or a realloc
 * function with this size (count * size), or any size from there to its usable size. Faster
 * than valloc_free where the size is at hand, and checks it: another size is reported, or with
 * VALLOC_TOLERATE_SIZES=1 in the environment warned of once, and the block freed. NULL is ignored.
 */
VALLOC_API void valloc_free_sized(void *ptr, size_t size);

/* The same for a block from an aligned function, with the alignment it was asked for. */
VALLOC_API void valloc_free_aligned_sized(void *ptr, size_t alignment, size_t size);

/* Allocates size bytes at a multiple of alignment, which must be a power of two (else NULL and
 * EINVAL). The size need not be a multiple of the alignment. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED(2) void *valloc_aligned_alloc(size_t alignment,
                                                                         size_t size);

/* valloc_aligned_alloc with all bytes zero. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED(2) void *valloc_aligned_calloc(size_t alignment,
                                                                          size_t size);

/* valloc_realloc that keeps the given alignment (a power of two, else NULL and EINVAL, the
 * block untouched). */
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED(3) void *valloc_aligned_realloc(void *ptr, size_t alignment, size_t size);

/* Stores in *out the address of size bytes at a multiple of alignment. Returns 0, EINVAL when
 * alignment is no power of two multiple of sizeof(void *), or ENOMEM; then *out is unchanged.
 * errno is not set. */
VALLOC_API int valloc_posix_memalign(void **out, size_t alignment, size_t size);

/* The older name of valloc_aligned_alloc. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED(2) void *valloc_memalign(size_t alignment, size_t size);

/* How many bytes of the block at ptr may be used: at least what was asked for, the same
 * throughout the block's life unless it is resized. 0 for NULL. */
VALLOC_API size_t valloc_usable_size(const void *ptr);

/* The usable size that a request of size bytes would get; size itself when it would fail. */
VALLOC_API size_t valloc_good_size(size_t size);

/* What valloc_malloc_at_least returns. */
typedef struct valloc_sized_ptr {
    void *ptr;   /* the block, or NULL */
    size_t size; /* its usable bytes; 0 on failure */
} valloc_sized_ptr;

/* Allocates at least size bytes and tells how many there are. */
VALLOC_API __attribute__((warn_unused_result)) valloc_sized_ptr valloc_malloc_at_least(size_t size);

/* Makes the block at ptr hold size bytes without moving it. Returns ptr, or NULL when that is
 * impossible: then the block is as it was, and errno is unchanged. Never shrinks. */
VALLOC_API __attribute__((warn_unused_result)) void *valloc_expand(void *ptr, size_t size);

/* Gives every free page that valloc holds back to the kernel: free blocks, and within the slabs of
 * all threads the pages that hold no slot in use, also what lies in the caches of other threads,
 * but for one slot of each size (of a thread at work in valloc at that moment: when it next comes
 * by). Returns the bytes given back. Takes time in proportion to the heap; where there are other
 * threads, some milliseconds more. Any thread. */
VALLOC_API size_t valloc_purge(void);

/* Allows (on not 0) or stops a thread that gives free memory back while the program's own threads
 * idle: every purge delay it does for all of them what they do when they come by, and what their
 * caches have not used for a delay goes, but for one slot of each size. It starts when a thread of
 * the program has freed about 1 MiB, and ends when nothing is left to give back; the child after
 * fork may have one, too. It keeps no process alive. A program that never calls this, and is not
 * run with the option VALLOC_BACKGROUND=1, gets no thread. Returns 0. */
VALLOC_API int valloc_background_purge(int on);

/* The version of the library in use, as VALLOC_VERSION. */
VALLOC_API int valloc_version(void);

/* Sets what gets the report of a bug or of corrupted memory, instead of stderr: handler(message,
 * context) is called with one line, without its end ("valloc: free: freed already (pointer ..."),
 * by the thread that found it. When it returns the process aborts; a second report, be it from
 * within the handler, goes to stderr. The heap may be damaged and valloc's locks may be held: the
 * handler must not allocate, free, fork (vfork and posix_spawn take no locks) or leave by longjmp,
 * or it may wait for ever; it may write, keep the message elsewhere, or end the process by _exit.
 * The same holds for a handler of SIGABRT, which follows. The report to stderr does nothing of all
 * that. NULL as handler restores stderr. Not to be called by two threads at once. */
VALLOC_API void valloc_set_error_handler(void (*handler)(const char *message, void *context),
                                         void *context);

typedef struct MemoryAllocator MemoryAllocator;

/* ---- Statistics ----
 *
 * Always there, at no cost to allocations and frees: they are counted when asked for, in time
 * proportional to the number of blocks (64 KiB) in use and of thread caches; about a millisecond
 * for a gigabyte of small objects. Exact as long as no other thread allocates or frees; else every
 * figure is off by what they do meanwhile. */

/* Where the process's memory stands, all allocators together, in bytes unless named otherwise.
 *
 *   lent == live + cached + free_slots + spare + slack
 *   committed == lent + dirty + what was never used or has been given back
 *
 * resident is an upper bound of what the kernel counts: it takes all that was allocated for written
 * to. If it was, the kernel counts less by at most 256 KiB, 2 % of the most it ever counted, and
 * those parts of `cached`, `slack` and `dirty` that were never touched: blocks of 64 KiB to 1 MiB
 * are fetched several at a time, and are dirty when they go back unused. It counts more only where
 * huge pages are in use, by less than two of them in every range of addresses reserved (one, unless
 * they are short). */
typedef struct valloc_stats {
    size_t reserved;    /* address space mapped: blocks and tables */
    size_t committed;   /* of it, accessible to the program's data */
    size_t resident;    /* of that and of metadata, in memory, as an estimate */
    size_t lent;        /* in blocks cut into slots, or lent whole */
    size_t live;        /* in slots and whole blocks that the program has not freed: as rounded up
                           for their size class */
    size_t cached;      /* in slots freed that thread caches hold, or have on the way to the slab
                           of another thread */
    size_t free_slots;  /* in slots of slabs, freed or never used */
    size_t spare;       /* in blocks kept for the next slabs and large requests */
    size_t slack;       /* in the ends of slabs, too short for a slot */
    size_t dirty;       /* in free blocks not given back to the kernel yet */
    size_t purged;      /* given back to the kernel since the start, a running total */
    size_t metadata;    /* accessible for valloc's own tables; mostly not resident */
    size_t cache_limit; /* what the stacks of all thread caches may hold at most: 32 MiB shared out
                           evenly (2 MiB a thread at most, 256 KiB at least), 1/16 of what the
                           threads have in use, and a few slots of each class in use; of runs
                           512 KiB a thread and 1/4 of those in use, or one */
    size_t threads;     /* thread caches in use (count) */
    size_t caches;      /* thread caches ever made (count) */
} valloc_stats;

/* Fills *stats. */
VALLOC_API void valloc_get_stats(valloc_stats *stats);

/* A size class: slots == live + cached + free_slots. */
typedef struct valloc_class_stats {
    size_t slot_size;  /* bytes; 0 for all allocations above 1 MiB, each one slot */
    size_t blocks;     /* of 64 KiB that they lie in */
    size_t slots;      /* that these are cut into */
    size_t live;       /* slots that the program has not freed */
    size_t cached;     /* slots in thread caches, or on the way to the slab of another thread */
    size_t free_slots; /* slots that slabs have, freed or never used */
    size_t live_bytes;
} valloc_class_stats;

/* Calls visit(class, context) for every size class in use, the smallest first, of an allocator or,
 * if it is NULL, of all, until it returns another value than 0, and returns that, else 0. No lock
 * is held during a call. */
VALLOC_API int valloc_stats_classes(const MemoryAllocator *allocator,
                                    int (*visit)(const valloc_class_stats *stats, void *context),
                                    void *context);

/* A thread cache. */
typedef struct valloc_cache_stats {
    size_t id;      /* of the thread; of another allocator's a number of its own */
    size_t cached;  /* bytes that it holds, as in valloc_stats */
    size_t limit;   /* bytes that its stacks may hold */
    int in_use;     /* whether it has a thread at present; always, if it is another allocator's */
    int of_process; /* whether it belongs to the allocator of the process */
} valloc_cache_stats;

/* The same for every thread cache ever made. */
VALLOC_API int valloc_stats_caches(int (*visit)(const valloc_cache_stats *stats, void *context),
                                   void *context);

/* Describes all of that: as text for a person, or as JSON, one object with the members of
 * valloc_stats, "version", and the arrays "classes" and "thread_caches". Calls write(context, text)
 * with pieces of text; NULL writes to stderr. With VALLOC_STATS=1 or VALLOC_STATS=json in the
 * environment this is done when the process exits; VALLOC_STATS_FD is then the file descriptor
 * instead of that of stderr. */
typedef enum valloc_stats_format { VALLOC_STATS_TEXT, VALLOC_STATS_JSON } valloc_stats_format;
VALLOC_API void valloc_stats_print(valloc_stats_format format,
                                   void (*write)(void *context, const char *text), void *context);

/* Writes one line to a file descriptor, "valloc: reserved=N committed=N lent=N dirty=N purged=N
 * metadata=N threads=N". Async-signal-safe, the only function here that is: it takes no lock and
 * reads counters that change by whole words, each as it stands at that moment, exact but for what
 * other threads do, or the code that the signal interrupted has half done: one run of blocks.
 * threads counts the thread caches in use, also of other allocators. errno is kept. */
VALLOC_API void valloc_stats_write(int file);

/* ---- Allocators ----
 *
 * A MemoryAllocator owns a table of blocks, the MemoryBlocks, and lends parts of them: memory of
 * one kind, for one request or one subsystem, that is bounded, inspected and freed as a whole.
 * Blocks are VALLOC_BLOCK_BYTES long, or runs of that. Any thread may allocate from any allocator
 * and free any pointer by any function. The functions above use the allocator of the process. */

#define VALLOC_BLOCK_BYTES 65536
/* Threads that can have a cache of their own in one allocator. */
#define VALLOC_MAX_THREADS 65536
/* Of an allocator's name, with its end. */
#define VALLOC_NAME_BYTES 32

/* Lives where its user puts it, static, on the stack or in other memory, and must stay there from
 * valloc_init to valloc_destroy: it can be neither copied nor moved. Before valloc_init its bytes
 * may hold anything; to use it then is an error that is reported if they are zero.
 *
 * The first four members may be read at any time. They are exact while no other thread uses the
 * allocator; in the child after a fork, from the first call on that names it. The others are
 * valloc's. */
struct MemoryAllocator {
    size_t total_blocks;    /* held, free or occupied */
    size_t used_blocks;     /* occupied: a slot of it is in use, or in a thread's cache */
    size_t recycled_blocks; /* occupied anew after having been freed, a running total */
    int num_threads;        /* threads that can have a cache of their own */
    uint32_t mutex;         /* reserved; valloc's own is not here */
    void **thread_caches;   /* by thread id, from 1 */
    uint32_t thread_places; /* how many there are: num_threads + 1 */
    const void *self;       /* this allocator while it is initialised */
    void *allocator;        /* all else; in memory of valloc's */
    char name[VALLOC_NAME_BYTES];
};

/* What valloc_init_with may be told. Zero means the default. */
typedef struct valloc_options {
    size_t soft_limit; /* bytes; above it free memory is given back at once */
    size_t hard_limit; /* bytes; allocations that would need more fail with ENOMEM */
    const char *name;  /* for dumps; copied, cut after VALLOC_NAME_BYTES - 1 bytes; may be NULL */
} valloc_options;

/* Makes an allocator that holds initial_blocks blocks of accessible memory from the start and
 * never fewer, with room for the caches of num_threads threads: threads whose id (a small number,
 * given at a thread's first use of valloc and used again after its exit) is above share one, under
 * a mutex. Returns 0, or -1 with errno EINVAL (allocator NULL or initialised already,
 * initial_blocks 0, num_threads not in 1 .. VALLOC_MAX_THREADS) or ENOMEM. Takes some microseconds.
 */
VALLOC_API int valloc_init(MemoryAllocator *allocator, size_t initial_blocks, int num_threads);

/* The same with options, which may be NULL. EINVAL also when a limit is below the one before it:
 * initial blocks, soft limit, hard limit. */
VALLOC_API int valloc_init_with(MemoryAllocator *allocator, size_t initial_blocks, int num_threads,
                                const valloc_options *options);

/* Frees all memory of the allocator at once, without looking at what is allocated, and leaves it
 * zeroed, ready for valloc_init. No other thread may use the allocator or its memory meanwhile or
 * afterwards; that other threads have used it is no matter. Of one that is not initialised, or
 * NULL: nothing. */
VALLOC_API void valloc_destroy(MemoryAllocator *allocator);

/* Like valloc_malloc and so on, from an allocator, which must be initialised. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED(2) void *valloc_allocate(MemoryAllocator *allocator,
                                                                    size_t size);
VALLOC_API
VALLOC_MALLOC_LIKE VALLOC_SIZED2(2, 3) void *valloc_allocate_zeroed(MemoryAllocator *allocator,
                                                                    size_t count, size_t size);
VALLOC_API
VALLOC_MALLOC_LIKE VALLOC_SIZED(3) void *valloc_allocate_aligned(MemoryAllocator *allocator,
                                                                 size_t alignment, size_t size);
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED(3) void *valloc_allocate_aligned_zeroed(
    MemoryAllocator *allocator, size_t alignment, size_t size);

/* Like valloc_realloc. A block stays with the allocator that it came from, whichever is named
 * here; the one named serves a NULL. */
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED(3) void *valloc_reallocate(MemoryAllocator *allocator, void *ptr, size_t size);
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED(4) void *valloc_reallocate_aligned(MemoryAllocator *allocator, void *ptr,
                                                size_t alignment, size_t size);

/* Frees the block at ptr into the allocator that it came from: fast if that is the one named,
 * correct if not. Does nothing if either is NULL. */
VALLOC_API void free_valloc(MemoryAllocator *allocator, void *ptr);

/* The allocator of the process, which valloc_malloc and malloc use: for the functions below. It
 * can be allocated from, too, but neither initialised nor destroyed. Its num_threads is 0: its
 * threads have no limit. */
VALLOC_API MemoryAllocator *valloc_process(void);

/* The allocator of the block at ptr; NULL if there is none: a pointer that is not valloc's, or
 * that was freed. Of a block larger than VALLOC_BLOCK_BYTES only the start is known. */
VALLOC_API MemoryAllocator *valloc_owner(const void *ptr);

/* Changes the limits, in bytes, 0 for none; they count in whole blocks, at least one. A soft limit
 * below what is held gives back free memory at once; a hard one below it makes allocations that
 * need more blocks fail. For the allocator of the process the limits count all allocators. Returns
 * 0, or -1 with errno EINVAL if the soft limit is above the hard one or the allocator is not
 * initialised. */
VALLOC_API int valloc_set_limits(MemoryAllocator *allocator, size_t soft_limit, size_t hard_limit);

/* A block of an allocator as valloc_blocks saw it. */
typedef enum valloc_block_status { VALLOC_BLOCK_FREE, VALLOC_BLOCK_OCCUPIED } valloc_block_status;
typedef struct MemoryBlock {
    void *address;
    size_t size; /* bytes, a multiple of VALLOC_BLOCK_BYTES */
    valloc_block_status status;
    size_t slot_size;  /* bytes of each of its slots; 0 if free */
    size_t slots;      /* that it is cut into; 1 if it is lent as a whole, 0 if free */
    size_t live_slots; /* in use; those in other threads' caches count as well */
} MemoryBlock;

/* Calls visit(block, context) for every block of the allocator, in the order of their addresses
 * (where the address space is limited, within each reserved range), until it returns another value
 * than 0, and returns that, else 0. First flushes the calling
 * thread's cache. No lock is held during a call, which may allocate and free; what other threads
 * or visit itself change meanwhile may be seen or not. Of the allocator of the process all free
 * blocks of the address space in use are visited, neighbours as one. */
VALLOC_API int valloc_blocks(MemoryAllocator *allocator,
                             int (*visit)(const MemoryBlock *block, void *context), void *context);

/* Describes the allocator to a person: its blocks by size of slot, how full they are, its limits.
 * Calls write(context, text) with pieces of text; NULL writes to stderr. */
VALLOC_API void valloc_dump(MemoryAllocator *allocator,
                            void (*write)(void *context, const char *text), void *context);

#ifdef __cplusplus
}
#endif

/* The founding short names: valloc(size) allocates and vfree(ptr, size) frees. They are names
 * of this header only, not of any library: libc has a valloc of its own, declared in stdlib.h
 * and malloc.h, which is why these are included first. Define VALLOC_NO_SHORT_NAMES before the
 * header to go without. */
#ifndef VALLOC_NO_SHORT_NAMES
#include <stdlib.h>
#if defined(__has_include)
#if __has_include(<malloc.h>)
#include <malloc.h>
#endif
#endif
#define valloc(size) valloc_malloc(size)
#define vfree(ptr, size) valloc_free_sized((ptr), (size))
#endif

#endif
