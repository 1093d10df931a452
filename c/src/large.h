/* large.h: allocations that own whole runs of blocks, above 1 MiB or aligned above a block.
 *
 * They pass no thread cache: a large run kept by every thread would be the heap's largest waste.
 * The arena finds the run just freed again, because it lends the lowest address first. The entry
 * has the class VA_CLASS_LARGE and owner 0. Any thread; no lock of its own. */
#ifndef VA_LARGE_H
#define VA_LARGE_H

#include "block_table.h"

VA_INLINE size_t va_large_blocks(size_t size)
{
    return size == 0 ? 1 : (size + VA_BLOCK_BYTES - 1) >> VA_BLOCK_SHIFT;
}

/* size is at most PTRDIFF_MAX; alignment a power of two. NULL when there is no memory. */
void *va_large_allocate(size_t size, size_t alignment, bool *zero);

/* Frees the run that starts at the pointer; anything else is reported. */
void va_large_free(Block *run, void *pointer, const char *function);

#endif
