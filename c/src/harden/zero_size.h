/* zero_size.h: allocations of no bytes, in secure builds: addresses of their own in memory that
 * nobody can access. A read or write of such a block traps.
 *
 * One bit for each of VA_ZERO_SIZES addresses, 16 bytes apart, in a range that is mapped without
 * access at the first use. Bits are set and cleared atomically: any thread, no lock. */
#ifndef VA_ZERO_SIZE_H
#define VA_ZERO_SIZE_H

#include "base/config.h"

#if VALLOC_SECURE_GUARD

/* NULL if all are in use, or there is no memory: then an allocation of 1 byte serves. */
void *va_zero_size_allocate(void);

/* Whether the range holds the pointer. */
bool va_zero_size_holds(const void *pointer);

/* False if it is not in use; then nothing changes. */
bool va_zero_size_free(const void *pointer);
bool va_zero_size_is_live(const void *pointer);

#else

VA_INLINE void *va_zero_size_allocate(void)
{
    return NULL;
}

VA_INLINE bool va_zero_size_holds(const void *pointer)
{
    (void)pointer;
    return false;
}

VA_INLINE bool va_zero_size_free(const void *pointer)
{
    (void)pointer;
    return false;
}

VA_INLINE bool va_zero_size_is_live(const void *pointer)
{
    (void)pointer;
    return false;
}

#endif

#endif
