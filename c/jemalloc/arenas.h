/* arenas.h: jemalloc's explicit arenas. Each is a MemoryAllocator with a number; number 0 is the
 * allocator of the process. */
#ifndef JEMALLOC_ARENAS_H
#define JEMALLOC_ARENAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

/* A flag holds a number in 12 bits, and 4095 would be no arena. */
#define ARENAS_MAX 4095

/* The allocator with this number; NULL if there is none. */
MemoryAllocator *va_jemalloc_arenas_find(size_t number);

/* How many numbers were given out, number 0 included. */
size_t va_jemalloc_arenas_count(void);

/* Makes an arena, and stores its number. Returns 0, or EAGAIN. A number that was destroyed is used
 * again. */
int va_jemalloc_arenas_create(uint64_t *number);

/* Frees all allocations of an arena, and the arena itself unless it is to stay. Returns 0; ENOENT:
 * there is no such arena; EFAULT: it is the allocator of the process; EAGAIN: it could not be
 * made again. */
int va_jemalloc_arenas_destroy(size_t number, bool stays);

#endif
