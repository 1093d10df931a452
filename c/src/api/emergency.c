/* emergency.c: see emergency.h. */
#include "api/emergency.h"

#include <string.h>

#include "api/alloc.h"
#include "os/os.h"

static struct {
    char *_Atomic start; /* mapped at first use, and then const */
    _Atomic size_t used; /* bytes; relaxed: each range has one user */
} emergency;

/* Threads may map it at the same time: the first one's stays. */
static VA_COLD char *find_memory(void)
{
    char *found = atomic_load_explicit(&emergency.start, memory_order_acquire);
    if (found != NULL)
        return found;
    char *mapped = va_os_map(VA_EMERGENCY_BYTES);
    if (mapped == NULL ||
        atomic_compare_exchange_strong_explicit(&emergency.start, &found, mapped,
                                                memory_order_acq_rel, memory_order_acquire))
        return mapped;
    va_os_unmap(mapped, VA_EMERGENCY_BYTES);
    return found;
}

VA_COLD void *va_emergency_allocate(size_t size, size_t alignment)
{
    char *start = find_memory();
    if (start == NULL || size > VA_EMERGENCY_BYTES || alignment > VA_EMERGENCY_BYTES)
        return NULL;
    alignment = va_max(alignment, VA_MIN_ALIGN);
    size = va_align_up(va_max(size, 1), VA_MIN_ALIGN);
    size_t used = atomic_load_explicit(&emergency.used, memory_order_relaxed);
    char *pointer;
    do {
        pointer = (char *)va_align_up((uintptr_t)start + used + VA_MIN_ALIGN, alignment);
        if (pointer + size > start + VA_EMERGENCY_BYTES)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&emergency.used, &used,
                                                    (size_t)(pointer - start) + size,
                                                    memory_order_relaxed, memory_order_relaxed));
    memcpy(pointer - sizeof size, &size, sizeof size);
    return pointer;
}

VA_COLD size_t va_emergency_usable_size(const void *pointer)
{
    const char *start = atomic_load_explicit(&emergency.start, memory_order_acquire);
    size_t size;
    if (start == NULL || (uintptr_t)pointer - (uintptr_t)start >= VA_EMERGENCY_BYTES)
        return va_usable_size_unchecked(pointer);
    memcpy(&size, (const char *)pointer - sizeof size, sizeof size);
    return size;
}

VA_COLD void *va_emergency_reallocate(void *pointer, size_t size, size_t alignment)
{
    void *moved = va_emergency_allocate(size, alignment);
    if (moved != NULL && pointer != NULL)
        memcpy(moved, pointer, va_min(size, va_emergency_usable_size(pointer)));
    return moved;
}
