/* api.c: the public functions of valloc.h. The only file that sets errno. */
#include "api.h"

#include <errno.h>
#include <string.h>

#define VALLOC_NO_SHORT_NAMES
#include "../include/valloc.h"
#include "stats.h"

static void *or_no_memory(void *result)
{
    if (va_unlikely(result == NULL))
        errno = ENOMEM;
    return result;
}

static bool multiply(size_t count, size_t size, size_t *product)
{
    return !__builtin_mul_overflow(count, size, product);
}

static bool is_alignment(size_t alignment)
{
    if (va_likely(va_is_power_of_two(alignment)))
        return true;
    errno = EINVAL;
    return false;
}

VA_NOINLINE void *va_api_malloc_slow(size_t size)
{
    void *run = va_allocate_run_fast(size);
    if (va_likely(run != NULL))
        return run;
    return or_no_memory(va_allocate(size, VA_MIN_ALIGN));
}

VA_NOINLINE void va_api_free_slow(void *pointer)
{
    if (!va_free_foreign_fast(pointer))
        va_free(pointer, "free");
}

static VA_NOINLINE void free_sized_slow(void *pointer, size_t size)
{
    if (!va_free_sized_foreign_fast(pointer, size))
        va_free_sized(pointer, size, VA_MIN_ALIGN, "free_sized");
}

void *valloc_malloc(size_t size)
{
    return va_api_malloc(size);
}

void *valloc_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (va_unlikely(!multiply(count, size, &bytes)))
        return or_no_memory(NULL);
    void *slot = va_allocate_fast(bytes);
    if (va_likely(slot != NULL))
        return memset(slot, 0, bytes);
    return or_no_memory(va_allocate_zeroed(bytes, VA_MIN_ALIGN));
}

void *valloc_realloc(void *ptr, size_t size)
{
    return or_no_memory(va_reallocate(ptr, size, VA_MIN_ALIGN, "realloc"));
}

void *valloc_reallocarray(void *ptr, size_t count, size_t size)
{
    size_t bytes;
    if (va_unlikely(!multiply(count, size, &bytes)))
        return or_no_memory(NULL);
    return valloc_realloc(ptr, bytes);
}

void valloc_free(void *ptr)
{
    va_api_free(ptr);
}

void valloc_free_sized(void *ptr, size_t size)
{
    if (va_unlikely(!va_free_sized_fast(ptr, size)))
        free_sized_slow(ptr, size);
}

void valloc_free_aligned_sized(void *ptr, size_t alignment, size_t size)
{
    va_free_sized(ptr, size, alignment, "free_aligned_sized");
}

void *valloc_aligned_alloc(size_t alignment, size_t size)
{
    if (va_unlikely(!is_alignment(alignment)))
        return NULL;
    return or_no_memory(va_allocate(size, alignment));
}

void *valloc_aligned_calloc(size_t alignment, size_t size)
{
    if (va_unlikely(!is_alignment(alignment)))
        return NULL;
    return or_no_memory(va_allocate_zeroed(size, alignment));
}

void *valloc_aligned_realloc(void *ptr, size_t alignment, size_t size)
{
    if (va_unlikely(!is_alignment(alignment)))
        return NULL;
    return or_no_memory(va_reallocate(ptr, size, alignment, "aligned_realloc"));
}

int valloc_posix_memalign(void **out, size_t alignment, size_t size)
{
    if (va_unlikely(!va_is_power_of_two(alignment) || alignment < sizeof(void *)))
        return EINVAL;
    void *result = va_allocate(size, alignment);
    if (va_unlikely(result == NULL))
        return ENOMEM;
    *out = result;
    return 0;
}

void *valloc_memalign(size_t alignment, size_t size)
{
    return valloc_aligned_alloc(alignment, size);
}

size_t valloc_usable_size(const void *ptr)
{
    return va_usable_size(ptr, "usable_size");
}

size_t valloc_good_size(size_t size)
{
    return va_good_size(size);
}

valloc_sized_ptr valloc_malloc_at_least(size_t size)
{
    valloc_sized_ptr result = {valloc_malloc(size), 0};
    if (va_likely(result.ptr != NULL))
        result.size = va_good_size(size);
    return result;
}

void *valloc_expand(void *ptr, size_t size)
{
    return ptr != NULL && va_expand(ptr, size, "expand") ? ptr : NULL;
}

size_t valloc_purge(void)
{
    return va_purge();
}

int valloc_version(void)
{
    return VALLOC_VERSION;
}

void valloc_get_stats(valloc_stats *stats)
{
    va_stats_collect(stats);
}
