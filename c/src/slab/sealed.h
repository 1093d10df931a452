/* sealed.h: large runs that were freed, in secure builds: without pages, inaccessible, and out of
 * use for long. A stale pointer traps there.
 *
 * A ring under the arena's lock: the oldest runs leave for new ones, and return to their allocator.
 * Only runs of the allocator of the process are sealed. Sealed by mprotect: on every kernel, and
 * at a cost that does not depend on the size; the ring bounds how many mappings that splits. */
#ifndef VA_SEALED_H
#define VA_SEALED_H

#include "table/block_table.h"

#if VALLOC_SECURE_QUARANTINE

/* Seals a run that is no allocation any more; false if it cannot, with nothing changed. */
bool va_sealed_put(Block *run);

/* Returns all sealed runs: there is no other memory. */
void va_sealed_end(void);

/* The sealed runs, for orphans.c: NULL behind the last one. Arena lock held, or one thread. */
const Block *va_sealed_nth(size_t n);

/* Bytes of address space; relaxed. */
size_t va_sealed_bytes(void);

#else

VA_INLINE bool va_sealed_put(const Block *run)
{
    (void)run;
    return false;
}

VA_INLINE void va_sealed_end(void)
{
}

VA_INLINE const Block *va_sealed_nth(size_t n)
{
    (void)n;
    return NULL;
}

VA_INLINE size_t va_sealed_bytes(void)
{
    return 0;
}

#endif

#endif
