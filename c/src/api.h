/* api.h: malloc and free as both api.c and override.c define them: the fast path inline, the
 * slow half shared. */
#ifndef VA_API_H
#define VA_API_H

#include "watch.h"

/* Sets errno to ENOMEM on failure. */
void *va_api_malloc_slow(size_t size);
void va_api_free_slow(void *pointer);

VA_INLINE void *va_api_malloc(size_t size)
{
    void *slot = va_allocate_fast(size);
    if (va_likely(slot != NULL))
        return slot;
    return va_api_malloc_slow(size);
}

VA_INLINE void va_api_free(void *pointer)
{
    if (va_unlikely(!va_free_fast(pointer)))
        va_api_free_slow(pointer);
}

#endif
