/* valloc.h: the public interface of valloc, a general-purpose memory allocator.
 *
 * It works with C99 and later, and with C++. Any thread may call any function at any time: before
 * main, in destructors of thread-local data, in atexit handlers, and in the child after fork. Only
 * valloc_stats_write is async-signal-safe. Sizes and alignments are in bytes.
 *
 * These rules hold unless a function says otherwise:
 *
 *   - Addresses are aligned to 16 bytes.
 *   - A function that fails returns NULL and sets errno to ENOMEM.
 *   - A request above PTRDIFF_MAX bytes fails.
 *   - A request of 0 bytes counts as 1 byte. Its result is unique and must be freed.
 *   - Any function may free or resize memory from any other function, on any thread.
 *   - Functions that free keep errno.
 *
 * It is a bug to pass a pointer that valloc did not return, a freed pointer, or a wrong size. If
 * valloc detects the bug, it prints one line to stderr and aborts. valloc_set_error_handler
 * redirects the line.
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

/* Allocates an array of count elements of size bytes each. All bytes are zero. Fails with ENOMEM
 * if count * size overflows, too. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED2(1, 2) void *valloc_calloc(size_t count, size_t size);

/* Changes the size of the allocation at ptr, and moves it if necessary. The first min(old, new)
 * bytes are kept. If ptr is NULL, it allocates. A size of 0 shrinks to the smallest size and does
 * not free. On failure the old allocation is unchanged. The result is aligned to 16 bytes, even if
 * the old allocation had a larger alignment. */
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED(2) void *valloc_realloc(void *ptr, size_t size);

/* valloc_realloc to count * size bytes. Fails with ENOMEM if the product overflows, too. */
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED2(2, 3) void *valloc_reallocarray(void *ptr, size_t count, size_t size);

/* Frees the allocation at ptr. NULL is ignored. */
VALLOC_API void valloc_free(void *ptr);

/* Frees the allocation at ptr. size is the size that was requested (count * size for arrays), or
 * any size from there to the usable size. This is faster than valloc_free and checks the size: one
 * of another size class is reported. With VALLOC_TOLERATE_SIZES=1 in the environment the first
 * wrong size prints a warning, and the memory is freed. The allocation is from valloc_malloc,
 * valloc_calloc or a realloc function. NULL is ignored. */
VALLOC_API void valloc_free_sized(void *ptr, size_t size);

/* The same for an allocation from an aligned function, with the alignment that was requested. */
VALLOC_API void valloc_free_aligned_sized(void *ptr, size_t alignment, size_t size);

/* Allocates size bytes at a multiple of alignment, a power of two. Another alignment fails with
 * EINVAL. The size need not be a multiple of the alignment. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED(2) void *valloc_aligned_alloc(size_t alignment,
                                                                         size_t size);

/* The same with all bytes zero. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED(2) void *valloc_aligned_calloc(size_t alignment,
                                                                          size_t size);

/* valloc_realloc with an alignment, a power of two. Another alignment fails with EINVAL; the
 * allocation is then unchanged. */
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED(3) void *valloc_aligned_realloc(void *ptr, size_t alignment, size_t size);

/* Allocates size bytes at a multiple of alignment and stores the address in *out. Returns 0, or
 * ENOMEM, or EINVAL if alignment is not a power of two or below sizeof(void *). On failure *out is
 * unchanged. errno is not set. */
VALLOC_API int valloc_posix_memalign(void **out, size_t alignment, size_t size);

/* The older name of valloc_aligned_alloc. */
VALLOC_API VALLOC_MALLOC_LIKE VALLOC_SIZED(2) void *valloc_memalign(size_t alignment, size_t size);

/* How many bytes of the allocation at ptr may be used: at least as many as requested. The number
 * changes only if the allocation is resized. 0 for NULL. */
VALLOC_API size_t valloc_usable_size(const void *ptr);

/* The usable size of a request of size bytes; size itself if the request would fail. */
VALLOC_API size_t valloc_good_size(size_t size);

/* The result of valloc_malloc_at_least. */
typedef struct valloc_sized_ptr {
    void *ptr;   /* the address, or NULL */
    size_t size; /* its usable bytes; 0 on failure */
} valloc_sized_ptr;

/* Allocates at least size bytes and returns how many it allocated. */
VALLOC_API __attribute__((warn_unused_result)) valloc_sized_ptr valloc_malloc_at_least(size_t size);

/* Grows the allocation at ptr to size bytes without moving it. Returns ptr. If that is impossible,
 * returns NULL and leaves the allocation and errno unchanged. Never shrinks. */
VALLOC_API __attribute__((warn_unused_result)) void *valloc_expand(void *ptr, size_t size);

/* Allocates count blocks of size bytes each, and stores their addresses in pointers. Each is an
 * allocation of its own, as from valloc_malloc. Returns how many it allocated: fewer than count
 * only if there is no more memory; errno is then ENOMEM, and the rest of pointers is unspecified.
 * For many small blocks this takes a third of the time of a loop. */
VALLOC_API __attribute__((warn_unused_result)) size_t
valloc_allocate_batch(size_t size, size_t count, void **pointers);

/* Frees count allocations, of any functions, sizes and allocators. NULLs are ignored. This is fast
 * for small blocks of which several in a row lie near each other. */
VALLOC_API void valloc_free_batch(void *const *pointers, size_t count);

/* Purges: returns all free pages to the kernel, in free blocks and inside slabs that are partly
 * used. Other threads' caches are emptied, too, except for one slot of each size; a thread that is
 * inside valloc at that moment empties its cache later. Returns the number of bytes purged. Takes
 * time in proportion to the heap, and some milliseconds more if there are other threads. */
VALLOC_API size_t valloc_purge(void);

/* Tells a program that can move its objects whether to move the one at ptr. Returns 1 if that may
 * help to free a slab: the slab is less used than those that have room for what it holds. Else, and
 * if ptr is no allocation, returns 0. After a 1 allocate, copy, and free ptr, in the same thread:
 * from then on the slab lends nothing as long as others have room, so that the copy lies elsewhere.
 * A pass over all objects calls this for each; when none is told to move, nothing is left to gain.
 * Allocations above 32 KiB, and those in slabs of other threads, need not move. Takes bounded time,
 * some 20 ns. */
VALLOC_API int valloc_defrag_hint(const void *ptr);

/* Starts (on is not 0) or stops purging in the background, while the program's threads are idle.
 * Once per purge delay a thread purges memory that was not used for a delay, including what the
 * caches of all threads hold, except for one slot of each size. The thread starts when about 1 MiB
 * has been freed, or when the heap reaches 16 MiB. With nothing left to purge it ends, or sleeps if
 * the heap is still that large. It does not keep the process alive. The child after fork may have
 * one, too. VALLOC_BACKGROUND=1 in the environment does the
 * same; by default there is no such thread. Returns 0. */
VALLOC_API int valloc_background_purge(int on);

/* Sets how long a free block stays before it may return to the kernel; 0: it returns at once. As
 * VALLOC_PURGE_DELAY_MS in the environment; the default is 200 milliseconds. */
VALLOC_API void valloc_set_purge_delay(size_t milliseconds);

/* As VALLOC_HUGE_PAGES in the environment: for memory that is mapped from now on. NEVER also takes
 * the advice back that earlier memory has; huge pages that are resident there stay. */
typedef enum valloc_huge_pages {
    VALLOC_HUGE_PAGES_AUTO, /* for small slots, once the heap is large */
    VALLOC_HUGE_PAGES_ALWAYS,
    VALLOC_HUGE_PAGES_NEVER
} valloc_huge_pages;
VALLOC_API void valloc_set_huge_pages(valloc_huge_pages choice);

/* A program may define this variable: options that are compiled into it, in the form
 * "name=value,name=value". The names are those of the environment, in lower case and without their
 * prefix: const char *valloc_conf = "purge_delay_ms=1000,background=1"; The environment overrides
 * it, and functions override both. It is read once, at the first allocation, also by programs that
 * ignore their environment since they have more rights than their caller. The library defines no
 * such variable. docs/using.md lists the options. */
VALLOC_API extern const char *valloc_conf;

/* The version of the loaded library, in the form of VALLOC_VERSION. */
VALLOC_API int valloc_version(void);

/* Sets a function that receives reports of bugs and of damaged memory, instead of stderr. NULL
 * restores stderr. Two threads must not call this at the same time.
 *
 * The thread that found the bug calls handler(message, context). The message is one line without a
 * newline: "valloc: free: freed already (pointer ...". When the handler returns, the process
 * aborts. A second report, even from inside the handler, goes to stderr.
 *
 * The heap may be damaged and valloc's locks may be held. Therefore the thread no longer uses the
 * heap: it allocates from 16 MiB of separate memory, and its frees do nothing. So the handler may
 * allocate, print, take a stack trace, fork, and call exit. It must not use longjmp, or create or
 * wait for threads: they may need a lock that is held. Of the functions for statistics it may call
 * valloc_stats_write only. The same rules apply to a handler of SIGABRT, which runs next. */
VALLOC_API void valloc_set_error_handler(void (*handler)(const char *message, void *context),
                                         void *context);

typedef struct MemoryAllocator MemoryAllocator;

/* ---- Statistics ----
 *
 * Statistics are always available and cost allocations and frees nothing. They are counted on
 * request, in time proportional to the blocks of 64 KiB in use and to the thread caches: about a
 * millisecond for a gigabyte of small objects. They are exact while no other thread allocates or
 * frees. Otherwise each figure may be off by what the other threads do in the meantime. */

/* The memory of the process, all allocators together. In bytes, except for counts.
 *
 *   lent == live + cached + free_slots + spare + slack
 *   committed == lent + dirty + blocks that were never used or are purged
 *
 * resident assumes that the program writes to everything it allocates. If so, the kernel counts
 * less by at most the sum of
 *
 *   - 256 KiB,
 *   - 2 % of its own maximum so far, and
 *   - the parts of cached, slack and dirty that were never touched.
 *
 * Runs of 64 KiB to 1 MiB are lent several at a time, and count as dirty even if they return
 * unused. The kernel counts more only if huge pages are in use. The difference is less than two of
 * them for each reserved range of addresses, or less than one if the range is not short. */
typedef struct valloc_stats {
    size_t reserved;    /* mapped address space: blocks and tables */
    size_t committed;   /* the accessible part of it, without tables */
    size_t resident;    /* the part of committed and metadata in memory, estimated */
    size_t lent;        /* slabs and runs */
    size_t live;        /* allocations that the program has not freed, rounded up to their size
                           class */
    size_t cached;      /* freed slots in thread caches, and in batches for other threads' slabs */
    size_t free_slots;  /* slots in slabs, freed or never used */
    size_t spare;       /* unused blocks kept for large requests, and by a MemoryAllocator */
    size_t slack;       /* ends of slabs that are too short for a slot */
    size_t dirty;       /* free blocks that are not purged yet */
    size_t purged;      /* returned to the kernel since the start, a running total */
    size_t metadata;    /* accessible for valloc's own tables; mostly not resident */
    size_t cache_limit; /* what the stacks of all thread caches may hold now. Of slots of a class
                           1/128 of a thread's share of 32 MiB (256 KiB to 4 MiB), or 1/16 of its
                           slabs; of runs 1/4; more while allocations and frees take turns, up to
                           the share together */
    size_t threads;     /* count: thread caches in use */
    size_t caches;      /* count: thread caches ever made */
} valloc_stats;

/* Fills *stats. */
VALLOC_API void valloc_get_stats(valloc_stats *stats);

/* A size class: slots == live + cached + free_slots. */
typedef struct valloc_class_stats {
    size_t slot_size;  /* bytes; 0 for all allocations above 1 MiB, which count as one slot each */
    size_t blocks;     /* blocks of 64 KiB */
    size_t slots;      /* slots in these blocks */
    size_t live;       /* slots that the program has not freed */
    size_t cached;     /* freed slots in thread caches, and in batches for other threads' slabs */
    size_t free_slots; /* slots in slabs, freed or never used */
    size_t live_bytes;
    size_t refilled; /* slots taken from these blocks by refills since the start, a running total:
                        refilled - live - cached of them were flushed. Frees that stay in a thread
                        cache serve the next allocations, which are not counted */
} valloc_class_stats;

/* Calls visit(class, context) for every size class in use, the smallest first. allocator selects
 * one allocator; NULL means all. Stops when visit returns a value other than 0, and returns it;
 * else returns 0. No lock is held during a call. */
VALLOC_API int valloc_stats_classes(const MemoryAllocator *allocator,
                                    int (*visit)(const valloc_class_stats *stats, void *context),
                                    void *context);

/* A thread cache. */
typedef struct valloc_cache_stats {
    size_t id;      /* id of the thread; a number of its own in a MemoryAllocator */
    size_t cached;  /* bytes that it holds, as in valloc_stats */
    size_t limit;   /* bytes that its stacks may hold */
    int in_use;     /* whether it has a thread now; always 1 in a MemoryAllocator */
    int of_process; /* whether it belongs to the allocator of the process */
} valloc_cache_stats;

/* Calls visit(cache, context) for every thread cache ever made, in the same way. */
VALLOC_API int valloc_stats_caches(int (*visit)(const valloc_cache_stats *stats, void *context),
                                   void *context);

/* Prints all statistics, as text, as JSON, or in Prometheus' text format. The JSON is one object
 * with the members of valloc_stats, "version", and the arrays "classes" and "thread_caches". The
 * metrics are those of valloc_stats and of the classes; docs/statistics.md lists them. Calls
 * write(context, text) with pieces of the text; if write is NULL, prints to stderr. VALLOC_STATS=1,
 * json or prometheus in the environment prints this when the process exits, to the file descriptor
 * VALLOC_STATS_FD or to stderr. */
typedef enum valloc_stats_format {
    VALLOC_STATS_TEXT,
    VALLOC_STATS_JSON,
    VALLOC_STATS_PROMETHEUS
} valloc_stats_format;
VALLOC_API void valloc_stats_print(valloc_stats_format format,
                                   void (*write)(void *context, const char *text), void *context);

/* Writes one line to a file descriptor: "valloc: reserved=N committed=N lent=N dirty=N purged=N
 * metadata=N threads=N". This is the only function here that is async-signal-safe: it takes no lock
 * and reads atomic counters one by one. Each may be off by what other threads do at that moment,
 * and by one run that the interrupted code was changing. The line counts as threads the thread
 * caches in use of all allocators. Keeps errno. */
VALLOC_API void valloc_stats_write(int file);

/* ---- Heap profile ----
 *
 * Tells where the memory in use was allocated, by samples: of the bytes that the program asks for,
 * one in `rate` is chosen at random, and the allocation that has it is recorded with its call
 * stack. An allocation of S bytes is sampled with probability p = 1 - e^(-S/rate), and stands for
 * 1/p objects and S/p bytes; sums of these are unbiased. Call stacks are followed by frame
 * pointers: compile with -fno-omit-frame-pointer. docs/profiling.md is a guide.
 *
 * VALLOC_PROFILE=FILE in the environment starts a profile before main, and writes it for pprof when
 * the process exits; by options also at a signal, and whenever the heap has grown. */

typedef enum valloc_profile_mode {
    VALLOC_PROFILE_LIVE, /* only of what is in use */
    VALLOC_PROFILE_ALL   /* dumps also tell what was allocated since the start */
} valloc_profile_mode;

typedef enum valloc_profile_format {
    VALLOC_PROFILE_PPROF,       /* profile.proto, for `go tool pprof` */
    VALLOC_PROFILE_HEAP,        /* the text that google-pprof reads */
    VALLOC_PROFILE_FOLDED,      /* "main;f;g BYTES" in use, for flame graphs */
    VALLOC_PROFILE_FOLDED_PEAK, /* the same at the peak of the heap */
    VALLOC_PROFILE_FOLDED_ALL,  /* the same of all that was allocated */
    VALLOC_PROFILE_TEXT,        /* for a person */
    VALLOC_PROFILE_PPROF_ALL    /* as the first one; pprof shows first what was allocated */
} valloc_profile_format;

/* Starts a profile, with a mean of so many bytes between samples; 0 is the default, 512 KiB. An
 * earlier one is dropped. While it is on malloc and free take slower paths. Other threads take part
 * from the next time that they find their cache empty; what they allocate before is not sampled.
 * Purges, so that this is soon. Returns 0, or -1 with errno EBUSY if a profile is on, ENOMEM, or
 * ENOTSUP in a build without the profiler (VALLOC_CHECKS=OFF, Valgrind, AddressSanitizer). */
VALLOC_API int valloc_profile_start(size_t rate, valloc_profile_mode mode);

/* Takes no more samples. Those in use are followed until they are freed or reallocated, and can be
 * dumped. */
VALLOC_API void valloc_profile_stop(void);

/* Writes the profile, of now: calls write(context, bytes, count) with one piece after another until
 * it returns other than 0. It may allocate. Returns 0, or -1: no profile was started, write ended
 * it, or there is no memory. */
VALLOC_API int valloc_profile_dump(valloc_profile_format format,
                                   int (*write)(void *context, const void *bytes, size_t count),
                                   void *context);

/* A sample in use. */
typedef struct valloc_profile_sample {
    const void *ptr;
    size_t size;            /* bytes that were asked for */
    double objects, bytes;  /* that it stands for */
    uint64_t age_ms;        /* since it was allocated */
    const char *allocator;  /* the name of its allocator */
    const uintptr_t *stack; /* return addresses, the innermost first; valid during the call */
    size_t depth;
    uint32_t thread; /* id of the thread that allocated it */
} valloc_profile_sample;

/* Calls visit(sample, context) for each sample in use until it returns other than 0; returns that,
 * or 0. It may allocate and free. */
VALLOC_API int valloc_profile_visit(int (*visit)(const valloc_profile_sample *sample,
                                                 void *context),
                                    void *context);

/* ---- Allocators ----
 *
 * A MemoryAllocator is an allocator of your own, for example for one request or one subsystem. Its
 * memory can be limited, inspected and freed as a whole. It holds blocks of VALLOC_BLOCK_BYTES, or
 * runs of them, which valloc_blocks describes as MemoryBlocks. Any thread may allocate from any
 * allocator, and free any pointer by any function. The functions above use the allocator of the
 * process. */

#define VALLOC_BLOCK_BYTES 65536
/* The most threads that can have a cache of their own in one allocator. */
#define VALLOC_MAX_THREADS 65536
/* The size of an allocator's name, with the terminating zero. */
#define VALLOC_NAME_BYTES 32

/* The structure may be static, on the stack or in other memory. From valloc_init to valloc_destroy
 * it must not be copied or moved. Before valloc_init its bytes may have any value. To use it then
 * is a bug, which is reported if the bytes are zero.
 *
 * The first four members may be read at any time. They are exact while no other thread uses the
 * allocator. In the child after fork they are exact from the first call that names the allocator.
 * The other members are internal. */
struct MemoryAllocator {
    size_t total_blocks;    /* blocks that it holds, free or occupied */
    size_t used_blocks;     /* occupied blocks: a slot is in use or in a thread cache */
    size_t recycled_blocks; /* how often a freed block was occupied again, a running total */
    int num_threads;        /* threads that can have a cache of their own */
    uint32_t mutex;         /* reserved */
    void **thread_caches;   /* by thread id, from 1 */
    uint32_t thread_places; /* how many there are: num_threads + 1 */
    const void *self;       /* this allocator while it is initialised */
    void *allocator;        /* the rest, in valloc's own memory */
    char name[VALLOC_NAME_BYTES];
};

/* Options for valloc_init_with. Zero means the default. */
typedef struct valloc_options {
    size_t soft_limit; /* bytes; above it no free memory is kept */
    size_t hard_limit; /* bytes; allocations that need more fail with ENOMEM */
    const char *name;  /* for dumps, or NULL; the first VALLOC_NAME_BYTES - 1 bytes are copied */
} valloc_options;

/* Initialises an allocator. It holds initial_blocks blocks of accessible memory from the start, and
 * never fewer. Threads with an id up to num_threads have caches of their own; all others share one
 * under a mutex. A thread's id is a small number that it gets at its first use of valloc; after its
 * exit another thread may get it. Takes some microseconds, or milliseconds while memory is taken
 * from the caches of other threads: by the background thread, a purge, or a request at a limit.
 *
 * Returns 0, or -1 with errno ENOMEM or EINVAL: allocator is NULL or initialised already,
 * initial_blocks is 0, or num_threads is not in 1 .. VALLOC_MAX_THREADS. */
VALLOC_API int valloc_init(MemoryAllocator *allocator, size_t initial_blocks, int num_threads);

/* The same with options, which may be NULL. EINVAL, too, if a limit other than 0 is below the
 * initial blocks, or the hard limit is below the soft limit. */
VALLOC_API int valloc_init_with(MemoryAllocator *allocator, size_t initial_blocks, int num_threads,
                                const valloc_options *options);

/* Frees all memory of the allocator at once, whatever is allocated. The structure is zero
 * afterwards, and valloc_init may initialise it again. No thread may use the allocator or its
 * memory from this call on; any thread may have used it before. Does nothing if the allocator is
 * NULL or not initialised. */
VALLOC_API void valloc_destroy(MemoryAllocator *allocator);

/* Like valloc_malloc, valloc_calloc and the aligned functions, from an initialised allocator. */
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

/* Like valloc_allocate_batch, from an initialised allocator. valloc_free_batch frees the blocks. */
VALLOC_API __attribute__((warn_unused_result)) size_t
valloc_allocate_batch_from(MemoryAllocator *allocator, size_t size, size_t count, void **pointers);

/* Like valloc_realloc. An allocation stays in its own allocator, even if another one is passed. If
 * ptr is NULL, the allocator that is passed allocates. */
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED(3) void *valloc_reallocate(MemoryAllocator *allocator, void *ptr, size_t size);
VALLOC_API __attribute__((warn_unused_result))
VALLOC_SIZED(4) void *valloc_reallocate_aligned(MemoryAllocator *allocator, void *ptr,
                                                size_t alignment, size_t size);

/* Frees the allocation at ptr. This is fast if ptr is from this allocator, and correct if it is
 * from another one. Does nothing if either argument is NULL. */
VALLOC_API void free_valloc(MemoryAllocator *allocator, void *ptr);

/* The allocator of the process, which valloc_malloc and malloc use. All functions of this section
 * accept it, but it cannot be initialised or destroyed. Its num_threads is 0: the number of threads
 * is not limited. */
VALLOC_API MemoryAllocator *valloc_process(void);

/* The allocator of the allocation at ptr. NULL if there is none: valloc did not return ptr, or it
 * was freed. In an allocation above VALLOC_BLOCK_BYTES, only its first VALLOC_BLOCK_BYTES are
 * recognised. */
VALLOC_API MemoryAllocator *valloc_owner(const void *ptr);

/* Changes the limits, in bytes; 0 means none. They are rounded to whole blocks, at least one. If
 * the allocator holds more than a new soft limit, free memory is purged at once. If it holds more
 * than a new hard limit, allocations that need more blocks fail. Limits of the allocator of the
 * process count all allocators. Returns 0, or -1 with errno EINVAL: the soft limit is above the
 * hard limit, or the allocator is not initialised. */
VALLOC_API int valloc_set_limits(MemoryAllocator *allocator, size_t soft_limit, size_t hard_limit);

/* A block or run of an allocator, as valloc_blocks describes it. */
typedef enum valloc_block_status { VALLOC_BLOCK_FREE, VALLOC_BLOCK_OCCUPIED } valloc_block_status;
typedef struct MemoryBlock {
    void *address;
    size_t size; /* bytes, a multiple of VALLOC_BLOCK_BYTES */
    valloc_block_status status;
    size_t slot_size;  /* bytes of a slot; 0 if free */
    size_t slots;      /* number of slots; 1 if it is lent as a whole, 0 if free */
    size_t live_slots; /* slots in use; slots in other threads' caches count, too */
} MemoryBlock;

/* Calls visit(block, context) for every block and run of the allocator, in the order of addresses
 * within each arena. Stops when visit returns a value other than 0, and returns it; else returns 0.
 * Flushes the calling thread's cache first. No lock is held during a call, so visit may allocate
 * and free. Changes by visit and by other threads may be seen or not. In the allocator of the
 * process, adjacent free blocks count as one. */
VALLOC_API int valloc_blocks(MemoryAllocator *allocator,
                             int (*visit)(const MemoryBlock *block, void *context), void *context);

/* Prints a description of the allocator: its blocks by slot size, how full they are, its limits.
 * Calls write(context, text) with pieces of the text; if write is NULL, prints to stderr. */
VALLOC_API void valloc_dump(MemoryAllocator *allocator,
                            void (*write)(void *context, const char *text), void *context);

#ifdef __cplusplus
}
#endif

/* Short names: valloc(size) allocates and vfree(ptr, size) frees. They are macros of this header
 * and in no library. libc declares another function named valloc in stdlib.h and malloc.h, so these
 * are included first. Define VALLOC_NO_SHORT_NAMES before the header to omit the short names. */
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
