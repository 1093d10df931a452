/* valloc.h: the public interface of valloc, a general-purpose memory allocator.
 *
 * Usable from C99 on and from C++. Every function may be called from any thread at any time,
 * also before main, in destructors of thread-local data, in atexit handlers and in the child
 * after fork; none of them is async-signal-safe. Sizes and alignments are in bytes.
 *
 * Unless said otherwise an address returned is aligned to 16 bytes, a failure is a NULL result
 * with errno set to ENOMEM, and a request above PTRDIFF_MAX bytes fails. A request of 0 bytes
 * is served as one of 1 byte: the result is unique and must be freed. Memory obtained from one
 * function may be freed or resized by any other, on any thread. Functions that free keep errno.
 *
 * A pointer that valloc never returned, a freed one, or a size that contradicts the block is a
 * bug of the caller; where it is detected, one line on stderr says what was wrong and the
 * process aborts.
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
 * than valloc_free where the size is at hand, and checks it. NULL is ignored. */
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

/* Gives every free page that valloc holds back to the kernel, also those of other threads'
 * slabs; blocks in other threads' caches stay. Returns the bytes given back. Takes time in
 * proportion to the heap. */
VALLOC_API size_t valloc_purge(void);

/* The version of the library in use, as VALLOC_VERSION. */
VALLOC_API int valloc_version(void);

/* Where the process's memory stands, in bytes unless named otherwise. The figures are read one
 * after another: threads that allocate meanwhile may change some between. */
typedef struct valloc_stats {
    size_t reserved;  /* address space set aside */
    size_t committed; /* of it, accessible: the upper bound of what can be resident */
    size_t lent;      /* in blocks cut into slots, or lent whole: live or in thread caches */
    size_t dirty;     /* in free blocks not given back to the kernel yet */
    size_t metadata;  /* accessible for valloc's own tables */
    size_t purged;    /* given back to the kernel since the start, a running total */
    size_t cached;    /* of lent, what the stacks of all thread caches may hold at most: 32 MiB
                         shared out evenly (8 MiB a thread at most, 256 KiB at least), 1/16 of
                         what the threads have in use, and a few slots of each class in use */
    size_t threads;   /* thread caches in use (count) */
    size_t caches;    /* thread caches ever made (count) */
} valloc_stats;

/* Fills *stats. */
VALLOC_API void valloc_get_stats(valloc_stats *stats);

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
