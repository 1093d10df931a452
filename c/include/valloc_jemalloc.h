/* valloc_jemalloc.h: jemalloc's own functions on valloc, for programs that were written for
 * jemalloc.
 *
 * Use it instead of jemalloc/jemalloc.h, and link libvalloc-jemalloc.so, which also has malloc and
 * its family. docs/jemalloc.md tells which names of mallctl there are, and what differs. */
#ifndef VALLOC_JEMALLOC_H
#define VALLOC_JEMALLOC_H

#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* The version of jemalloc whose interface this is. */
#define JEMALLOC_VERSION "5.3.0-0-gvalloc"
#define JEMALLOC_VERSION_MAJOR 5
#define JEMALLOC_VERSION_MINOR 3
#define JEMALLOC_VERSION_BUGFIX 0
#define JEMALLOC_VERSION_NREV 0
#define JEMALLOC_VERSION_GID "valloc"

/* Redis looks for this before it uses je_get_defrag_hint. */
#define JEMALLOC_FRAG_HINT

/* What jemalloc's header has for declarations: some programs repeat them. */
#define JEMALLOC_ALLOCATOR
#define JEMALLOC_ATTR(s) __attribute__((s))
#define JEMALLOC_ALLOC_SIZE(n) __attribute__((alloc_size(n)))
#define JEMALLOC_EXPORT __attribute__((visibility("default")))
#define JEMALLOC_USABLE_SIZE_CONST
#ifdef __cplusplus
#define JEMALLOC_NOTHROW __attribute__((nothrow))
#define JEMALLOC_CXX_THROW noexcept
extern "C" {
#else
#define JEMALLOC_NOTHROW __attribute__((nothrow))
#define JEMALLOC_CXX_THROW
#endif

/* Flags of the functions below, to be combined by |. */
#define MALLOCX_LG_ALIGN(lg) ((int)(lg))
/* The alignment, a power of two. */
#define MALLOCX_ALIGN(alignment) ((int)__builtin_ctzll(alignment))
/* All bytes that are new are zero. */
#define MALLOCX_ZERO ((int)0x40)
/* Accepted, without effect. */
#define MALLOCX_TCACHE(id) ((int)(((unsigned)(id) + 2) << 8))
#define MALLOCX_TCACHE_NONE MALLOCX_TCACHE(-1)
/* Allocates from an arena that mallctl("arenas.create") made. */
#define MALLOCX_ARENA(arena) ((int)(((unsigned)(arena) + 1) << 20))

/* Instead of the number of an arena: all arenas; those that were destroyed. */
#define MALLCTL_ARENAS_ALL 4096
#define MALLCTL_ARENAS_DESTROYED 4097

/* Allocates size bytes. NULL: there is no memory, or no such arena. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW __attribute__((malloc, alloc_size(1))) void *mallocx(size_t size,
                                                                                      int flags);

/* Changes the size of an allocation, and moves it if necessary. It stays in its arena. NULL, with
 * the allocation unchanged: there is no memory. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW __attribute__((alloc_size(2))) void *
rallocx(void *ptr, size_t size, int flags);

/* Grows an allocation in place to size + extra bytes, or else to size bytes. Returns its usable
 * size, which is below size if neither was possible. Never shrinks. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW size_t xallocx(void *ptr, size_t size, size_t extra, int flags);

/* The usable size of an allocation. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW size_t sallocx(const void *ptr, int flags);

/* Frees an allocation. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW void dallocx(void *ptr, int flags);

/* The same with its size: any from the size that was requested to the usable size, and with the
 * alignment in flags that it was requested with. A wrong size is reported. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW void sdallocx(void *ptr, size_t size, int flags);

/* The usable size that an allocation would have; 0: it would fail. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW size_t nallocx(size_t size, int flags);

/* Prints valloc's statistics by write(context, text), or to stderr if write is NULL. 'J' in options
 * selects valloc's JSON; the other letters have no effect. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW void malloc_stats_print(void (*write)(void *, const char *),
                                                         void *context, const char *options);

/* Reads and writes the values that docs/jemalloc.md lists. Returns 0, or
 *
 *   ENOENT  there is no such name, arena or size class
 *   EINVAL  *old_bytes or new_bytes is not the size of the value; as much as fits was read
 *   EPERM   the value cannot be read, or cannot be written
 *   EAGAIN  there is no memory
 *   EFAULT  what was asked for cannot be done */
JEMALLOC_EXPORT JEMALLOC_NOTHROW int mallctl(const char *name, void *old_value, size_t *old_bytes,
                                             void *new_value, size_t new_bytes);

/* Translates a name to numbers for mallctlbymib, which finds the value faster. Stores at most
 * *mib_length numbers, and how many it stored. A number in the name is stored in its place, and may
 * be changed: mib[2] of "arenas.bin.0.size" is the bin. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW int mallctlnametomib(const char *name, size_t *mib,
                                                      size_t *mib_length);
JEMALLOC_EXPORT JEMALLOC_NOTHROW int mallctlbymib(const size_t *mib, size_t mib_length,
                                                  void *old_value, size_t *old_bytes,
                                                  void *new_value, size_t new_bytes);

/* Whether to move an allocation, so that a slab becomes empty: valloc_defrag_hint, by the name that
 * Redis uses. */
JEMALLOC_EXPORT JEMALLOC_NOTHROW int je_get_defrag_hint(void *ptr);

#ifdef __cplusplus
}
#endif

/* The names with jemalloc's prefix. */
#ifndef JEMALLOC_NO_RENAME
#define je_malloc malloc
#define je_calloc calloc
#define je_realloc realloc
#define je_free free
#define je_posix_memalign posix_memalign
#define je_aligned_alloc aligned_alloc
#define je_memalign memalign
#define je_malloc_usable_size malloc_usable_size
#define je_mallocx mallocx
#define je_rallocx rallocx
#define je_xallocx xallocx
#define je_sallocx sallocx
#define je_dallocx dallocx
#define je_sdallocx sdallocx
#define je_nallocx nallocx
#define je_malloc_stats_print malloc_stats_print
#define je_mallctl mallctl
#define je_mallctlnametomib mallctlnametomib
#define je_mallctlbymib mallctlbymib
#endif

#endif
