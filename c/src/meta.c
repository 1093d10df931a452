/* meta.c: carves metadata from mapped chunks, front to back. */
#include "meta.h"

#include "os.h"

Lock va_meta_lock;

static struct { /* va_meta_lock */
    char *next;
    char *end;
    size_t mapped_bytes;
} chunk;

void *va_meta_allocate(size_t bytes)
{
    void *result = NULL;
    bytes = va_align_up(bytes, 64);
    va_lock_acquire(&va_meta_lock);
    if ((size_t)(chunk.end - chunk.next) < bytes) {
        size_t mapped = va_align_up(va_max(bytes, VA_META_CHUNK_BYTES), va_os_page_bytes());
        char *start = va_os_map(mapped);
        if (start != NULL) {
            chunk.next = start;
            chunk.end = start + mapped;
            chunk.mapped_bytes += mapped;
        }
    }
    if ((size_t)(chunk.end - chunk.next) >= bytes) {
        result = chunk.next;
        chunk.next += bytes;
    }
    va_lock_release(&va_meta_lock);
    return result;
}

size_t va_meta_bytes(void)
{
    va_lock_acquire(&va_meta_lock);
    size_t bytes = chunk.mapped_bytes;
    va_lock_release(&va_meta_lock);
    return bytes;
}
