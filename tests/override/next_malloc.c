/* next_malloc.c: an allocator preloaded behind valloc: it hands out bytes of one array, and counts
 * what comes back. */
#include <stddef.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static _Alignas(64) char memory[1 << 16];
static size_t used = 64;
int next_frees, next_reallocs, next_sizes;

EXPORT void *next_allocate(size_t size)
{
    size_t *block = (size_t *)(void *)(memory + used);
    used += (size + 2 * sizeof *block + 15) & ~(size_t)15;
    *block = size;
    return block + 2;
}

EXPORT void *malloc(size_t size)
{
    return next_allocate(size);
}

EXPORT void free(void *ptr)
{
    next_frees += ptr != NULL;
}

EXPORT void *realloc(void *ptr, size_t size)
{
    void *moved = next_allocate(size);
    size_t old = ((size_t *)ptr)[-2];
    next_reallocs++;
    return memcpy(moved, ptr, old < size ? old : size);
}

EXPORT size_t malloc_usable_size(void *ptr)
{
    next_sizes++;
    return ((size_t *)ptr)[-2];
}
