/* mallocx.c: jemalloc's functions that allocate and free, by those of valloc.h. */
#include <string.h>

#include "arenas.h"
#include "valloc_jemalloc.h"

/* Every address has at least this alignment. */
#define MIN_ALIGN 16
/* Above this size an allocation is a run of blocks of its own. */
#define LARGE ((size_t)1 << 20)

/* What flags ask for. */
static size_t alignment_of(int flags)
{
    size_t alignment = (size_t)1 << (flags & 63);
    return alignment < MIN_ALIGN ? MIN_ALIGN : alignment;
}

static bool wants_zeros(int flags)
{
    return (flags & MALLOCX_ZERO) != 0;
}

/* The part of flags for an arena is its number and 1; 0 is the caller's own arena. */
static size_t arena_of(int flags)
{
    size_t named = (unsigned)flags >> 20;
    return named == 0 ? 0 : named - 1;
}

static void *allocate_in(MemoryAllocator *arena, size_t size, int flags)
{
    if (arena == NULL)
        return NULL;
    return wants_zeros(flags) ? valloc_allocate_aligned_zeroed(arena, alignment_of(flags), size)
                              : valloc_allocate_aligned(arena, alignment_of(flags), size);
}

void *mallocx(size_t size, int flags)
{
    if (arena_of(flags) != 0)
        return allocate_in(va_jemalloc_arenas_find(arena_of(flags)), size, flags);
    size_t alignment = alignment_of(flags);
    if (alignment > MIN_ALIGN)
        return wants_zeros(flags) ? valloc_aligned_calloc(alignment, size)
                                  : valloc_aligned_alloc(alignment, size);
    return wants_zeros(flags) ? valloc_calloc(1, size) : valloc_malloc(size);
}

/* Bytes from the former usable size on are new. */
static void clear_new(void *ptr, size_t old_bytes, int flags)
{
    size_t bytes = valloc_usable_size(ptr);
    if (wants_zeros(flags) && bytes > old_bytes)
        memset((char *)ptr + old_bytes, 0, bytes - old_bytes);
}

void *rallocx(void *ptr, size_t size, int flags)
{
    size_t alignment = alignment_of(flags);
    size_t old_bytes = wants_zeros(flags) ? valloc_usable_size(ptr) : 0;
    void *moved = alignment > MIN_ALIGN ? valloc_aligned_realloc(ptr, alignment, size)
                                        : valloc_realloc(ptr, size);
    if (moved != NULL)
        clear_new(moved, old_bytes, flags);
    return moved;
}

size_t xallocx(void *ptr, size_t size, size_t extra, int flags)
{
    size_t old_bytes = valloc_usable_size(ptr);
    bool aligned = ((uintptr_t)ptr & (alignment_of(flags) - 1)) == 0;
    if (!aligned || size + extra <= old_bytes)
        return old_bytes;
    if (valloc_expand(ptr, size + extra) == NULL &&
        (size <= old_bytes || valloc_expand(ptr, size) == NULL))
        return old_bytes;
    clear_new(ptr, old_bytes, flags);
    return valloc_usable_size(ptr);
}

size_t sallocx(const void *ptr, int flags)
{
    (void)flags;
    return valloc_usable_size(ptr);
}

void dallocx(void *ptr, int flags)
{
    (void)flags;
    valloc_free(ptr);
}

void sdallocx(void *ptr, size_t size, int flags)
{
    size_t alignment = alignment_of(flags);
    if (alignment > MIN_ALIGN)
        valloc_free_aligned_sized(ptr, alignment, size);
    else
        valloc_free_sized(ptr, size);
}

size_t nallocx(size_t size, int flags)
{
    size_t alignment = alignment_of(flags);
    if (size > PTRDIFF_MAX || alignment > PTRDIFF_MAX - size)
        return 0;
    if (alignment == MIN_ALIGN)
        return valloc_good_size(size);
    if (alignment > VALLOC_BLOCK_BYTES) /* whole blocks, as everything above 1 MiB */
        return valloc_good_size(size + LARGE) - LARGE;
    /* The first size class from the request on whose slots are multiples of the alignment. */
    size_t slot = size;
    do
        slot = valloc_good_size((slot + alignment - 1) & ~(alignment - 1));
    while ((slot & (alignment - 1)) != 0);
    return slot;
}

void malloc_stats_print(void (*write)(void *, const char *), void *context, const char *options)
{
    bool json = options != NULL && strchr(options, 'J') != NULL;
    valloc_stats_print(json ? VALLOC_STATS_JSON : VALLOC_STATS_TEXT, write, context);
}

int je_get_defrag_hint(void *ptr)
{
    return valloc_defrag_hint(ptr);
}
