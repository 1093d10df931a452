/* watch.h: builds whose allocations a tool sees: Valgrind's memcheck by its client requests
 * (VALLOC_VALGRIND), AddressSanitizer by poisoning (-fsanitize=address).
 *
 *   slot:  | the bytes asked for | slack | their number |
 *            accessible            not: 16 bytes at least, 8 of them the number
 *
 * The API then takes this route instead of the fast paths. Exactly the bytes asked for are
 * accessible, and they are the usable size, so that a write past them is seen, be it by one byte. A
 * free slot is not accessible, and small ones of the allocator of the process wait before they are
 * used again. A second free and a free of the middle of a slot are reported at once.
 *
 * In other builds there is none of it. Any thread. */
#ifndef VA_WATCH_H
#define VA_WATCH_H

#include "alloc.h"

#if VA_WATCHED

/* As the functions of alloc.h and allocator.h without `watched`. */
void *va_watched_allocate(Allocator *allocator, size_t size, size_t alignment);
void *va_watched_allocate_zeroed(Allocator *allocator, size_t size, size_t alignment);
void va_watched_free(void *pointer, const char *function);
void va_watched_free_sized(void *pointer, size_t size, size_t alignment, const char *function);
void *va_watched_reallocate(Allocator *allocator, void *pointer, size_t size, size_t alignment,
                            const char *function);
bool va_watched_expand(void *pointer, size_t size, const char *function);
size_t va_watched_usable_size(const void *pointer, const char *function);
size_t va_watched_good_size(size_t size);
void va_watched_destroy(Allocator *allocator);

/* Frees for good what waits. */
void va_watched_settle(void);

#endif
#endif
