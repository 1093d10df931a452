/* meta.c: carves metadata from chunks, back to front: the first stacks, which are made when the
 * first cache is there, then lie before it, on the page of what its fast paths use. Keeps what is
 * released by size. The first chunk, all that a small program needs, lies with the library's
 * variables; others are mapped. */
#include "meta.h"

#include <string.h>

#include "check.h"
#include "os.h"

Lock va_meta_lock;

typedef struct Released {
    struct Released *next;
} Released;

static VA_ARRAY_LAST _Alignas(64) char first_chunk[VA_META_FIRST_BYTES];

static struct { /* va_meta_lock */
    char *start;
    char *end;                   /* what lies from here on is in use */
    _Atomic size_t mapped_bytes; /* read without the lock, for statistics */
    Released *released[64];      /* lists by log2 of the size */
} chunk = {first_chunk, first_chunk + sizeof first_chunk, sizeof first_chunk, {NULL}};

/* The list for a size, NULL if there is none. */
static Released **list_for(size_t bytes)
{
    return va_is_power_of_two(bytes) ? &chunk.released[va_highest_bit(bytes)] : NULL;
}

VA_STARTUP void *va_meta_allocate(size_t bytes)
{
    void *result = NULL;
    bytes = va_align_up(bytes, 64);
    Released **list = list_for(bytes);
    va_lock_acquire(&va_meta_lock);
    if (list != NULL && *list != NULL) {
        result = *list;
        *list = (*list)->next;
        va_lock_release(&va_meta_lock);
        return memset(result, 0, bytes);
    }
    if (chunk.end == first_chunk + sizeof first_chunk) /* up to the end of a page */
        chunk.end -= (uintptr_t)chunk.end % va_min(VA_META_PAGE_BYTES, sizeof first_chunk);
    if ((size_t)(chunk.end - chunk.start) < bytes) {
        size_t mapped = va_align_up(va_max(bytes, VA_META_CHUNK_BYTES), va_os_page_bytes());
        char *start = va_os_map(mapped);
        if (start != NULL) {
            chunk.start = start;
            chunk.end = start + mapped;
            atomic_store_explicit(&chunk.mapped_bytes, chunk.mapped_bytes + mapped,
                                  memory_order_relaxed);
        }
    }
    if ((size_t)(chunk.end - chunk.start) >= bytes)
        result = chunk.end -= bytes;
    va_lock_release(&va_meta_lock);
    return result;
}

VA_STARTUP void va_meta_release(void *memory, size_t bytes)
{
    Released **list = list_for(va_align_up(bytes, 64));
    va_assert(list != NULL);
    va_lock_acquire(&va_meta_lock);
    Released *released = memory;
    released->next = *list;
    *list = released;
    va_lock_release(&va_meta_lock);
}

VA_COLD size_t va_meta_bytes(void)
{
    return chunk.mapped_bytes;
}

VA_COLD size_t va_meta_used(void)
{
    va_lock_acquire(&va_meta_lock);
    size_t bytes = chunk.mapped_bytes - (size_t)(chunk.end - chunk.start);
    va_lock_release(&va_meta_lock);
    return va_align_up(bytes, va_os_page_bytes());
}
