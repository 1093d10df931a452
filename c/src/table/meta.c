/* meta.c: carves metadata from chunks, back to front: the first stacks, which are made when the
 * first cache is there, then lie before it, on the page of what its fast paths use. Keeps what is
 * released by size. The first chunk, all that a small program needs, lies with the library's
 * variables; others are mapped. */
#include "table/meta.h"

#include <string.h>

#include "base/check.h"
#include "os/os.h"

Lock va_meta_lock;

typedef struct Released {
    struct Released *next;
} Released;

static VA_ARRAY_LAST _Alignas(64) char first_chunk[VA_META_FIRST_BYTES];

typedef struct Chunk {
    char *start;
    char *end; /* what lies from here on is in use */
} Chunk;

static struct { /* va_meta_lock */
    Chunk chunk;
    _Atomic size_t mapped_bytes; /* read without the lock, for statistics */
    Released *released[64];      /* lists by log2 of the size */
} meta = {.chunk = {first_chunk, first_chunk + sizeof first_chunk},
          .mapped_bytes = sizeof first_chunk};

/* The list for a size, NULL if there is none. */
static Released **list_for(size_t bytes)
{
    return va_is_power_of_two(bytes) ? &meta.released[va_highest_bit(bytes)] : NULL;
}

static size_t rest_of_chunk(void)
{
    return (size_t)(meta.chunk.end - meta.chunk.start);
}

/* Carves from the chunk, or a new one; what the old one has left is lost. */
static VA_STARTUP void *carve(size_t bytes)
{
    if (rest_of_chunk() < bytes) {
        size_t mapped = va_align_up(va_max(bytes, VA_META_CHUNK_BYTES), va_os_page_bytes());
        char *start = va_os_map(mapped);
        if (start == NULL)
            return NULL;
        atomic_store_explicit(&meta.mapped_bytes, meta.mapped_bytes + mapped, memory_order_relaxed);
        meta.chunk = (Chunk){start, start + mapped};
    }
    if (meta.chunk.end == first_chunk + sizeof first_chunk) /* up to the end of a page */
        meta.chunk.end -=
            (uintptr_t)meta.chunk.end % va_min(VA_META_PAGE_BYTES, sizeof first_chunk);
    meta.chunk.end -= bytes;
    return meta.chunk.end;
}

VA_STARTUP void *va_meta_allocate(size_t bytes)
{
    bytes = va_align_up(bytes, 64);
    Released **list = list_for(bytes);
    va_lock_acquire(&va_meta_lock);
    void *result = list != NULL ? *list : NULL;
    if (result != NULL) {
        *list = (*list)->next;
        memset(result, 0, bytes);
    } else {
        result = carve(bytes);
    }
    va_lock_release(&va_meta_lock);
    return result;
}

VA_STARTUP void *va_meta_allocate_apart(size_t bytes)
{
    size_t page = va_os_page_bytes();
    va_lock_acquire(&va_meta_lock);
    meta.chunk.end -= va_min((uintptr_t)meta.chunk.end % page, rest_of_chunk());
    char *result = carve(va_align_up(bytes, page));
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
    return meta.mapped_bytes;
}

VA_COLD size_t va_meta_used(void)
{
    va_lock_acquire(&va_meta_lock);
    size_t bytes = meta.mapped_bytes - rest_of_chunk();
    va_lock_release(&va_meta_lock);
    return va_align_up(bytes, va_os_page_bytes());
}
