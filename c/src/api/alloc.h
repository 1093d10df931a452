/* alloc.h: routes a request to the thread cache or to a run of its own.
 *
 * Sizes arrive unchecked; NULL or false means that there is no memory or the request is too
 * large. errno is the API's business. Any thread. */
#ifndef VA_ALLOC_H
#define VA_ALLOC_H

#include "heap/allocator.h"
#include "cache/passage.h"
#include "cache/quarantine.h"

/* The large run that the thread's cache keeps, if a request above VA_RUN_MAX has its length; else
 * NULL: then va_allocate. */
void *va_allocate_kept(size_t size);

/* Frees such a run so that the cache keeps it for the next one of its length, which the last one
 * had, too. Of a sized free the size, else 0. False with nothing changed: then va_free. */
bool va_free_kept(void *pointer, size_t size);

/* ptr may be NULL. The function's name is for the report of a bad pointer. */
void va_free(void *pointer, const char *function);

void *va_allocate(Allocator *allocator, size_t size, size_t alignment);
void *va_allocate_zeroed(Allocator *allocator, size_t size, size_t alignment);

/* *zero tells whether the memory should be zero, then whether it is known to be. */
void *va_allocate_told(Allocator *allocator, size_t size, size_t alignment, bool *zero);

/* Reports that size or alignment are not the block's. Comes back, after a warning, if an option
 * tolerates that. */
VA_COLD void va_wrong_size(const char *function, const void *pointer);

/* Frees after checking that size and alignment belong to the block. */
void va_free_sized(void *pointer, size_t size, size_t alignment, const char *function);

/* The block stays with its allocator; a NULL is served by the one given. On failure the block is
 * untouched. */
void *va_reallocate(Allocator *allocator, void *pointer, size_t size, size_t alignment,
                    const char *function);

/* Makes the block hold `size` bytes where it is; never shrinks. */
bool va_expand(void *pointer, size_t size, const char *function);

size_t va_usable_size(const void *pointer, const char *function);

/* The same without checks; 0 for what is in no block in use. */
size_t va_usable_size_unchecked(const void *pointer);

/* The usable size of a request; `size` itself if it cannot be served. */
size_t va_good_size(size_t size);

/* The entry and the record of a block in use, 0 for any other pointer. */
uint32_t va_find_entry(const void *pointer, Block **block);

/* The allocator of a block in use, NULL if there is none. */
Allocator *va_owner(const void *pointer);

#endif
