/* meta.h: memory for valloc's own structures: thread caches and their stacks.
 *
 * Mapped apart from the arenas, so that no user's block is its neighbour. Addresses stay: what
 * is released serves later requests of the same size. Caches of exited threads may purge their
 * pages. Any thread; the lock is the last in the lock order. */
#ifndef VA_META_H
#define VA_META_H

#include "os/lock.h"

extern Lock va_meta_lock;

/* Zeroed memory, aligned to 64 bytes; NULL when there is none. */
void *va_meta_allocate(size_t bytes);

/* The same on pages of its own, so that its owner can purge them. Not to be released. */
void *va_meta_allocate_apart(size_t bytes);

/* Takes memory back. Its size must be a power of two. */
void va_meta_release(void *memory, size_t bytes);

/* Bytes mapped so far; takes no lock. And how many of them were handed out, in whole pages. */
size_t va_meta_bytes(void);
size_t va_meta_used(void);

#endif
