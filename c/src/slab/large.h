/* large.h: allocations that own whole runs of blocks, above 1 MiB or aligned above a block.
 *
 * The entry has the class VA_CLASS_LARGE and owner 0: a large run is nobody's slab, and of all
 * thread caches only the freeing thread's keeps one, the last. Any thread; no lock of its own. */
#ifndef VA_LARGE_H
#define VA_LARGE_H

#include "arena/block_pool.h"
#include "harden/secure.h"

VA_INLINE size_t va_large_blocks(size_t size)
{
    size += va_guard_bytes();
    return size == 0 ? 1 : (size + VA_BLOCK_BYTES - 1) >> VA_BLOCK_SHIFT;
}

/* A run from an allocator. size is at most PTRDIFF_MAX; alignment a power of two. NULL when there
 * is no memory. */
void *va_large_allocate(Allocator *allocator, size_t size, size_t alignment, bool *zero);

/* Makes an occupied run an allocation, and back: the pointer must be its start, else it is
 * reported. */
void *va_large_start(Block *run);
void va_large_end(Block *run, void *pointer, const char *function);

/* Gives a run that is no allocation any more back to its allocator. */
void va_large_give_back(Block *run);

#endif
