/* sampling.c: see sampling.h. */
#include "api/sampling.h"

#include <errno.h>
#include <string.h>

#include "os/os.h"

VA_THREAD_LOCAL SamplingAhead va_sampling_ahead;

static VA_COLD uint64_t draw(size_t rate)
{
    if (va_sampling_ahead.random == 0)
        va_os_random(&va_sampling_ahead.random, sizeof va_sampling_ahead.random);
    uint64_t x = va_sampling_ahead.random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    va_sampling_ahead.rate = rate;
    return va_weight_distance(x ^ (x >> 31), rate);
}

/* Does a request cover a point? */
VA_INLINE bool covers_point(size_t size, size_t rate)
{
    if (va_unlikely(va_sampling_ahead.rate != rate))
        va_sampling_ahead.distance = draw(rate);
    if (va_likely(size <= va_sampling_ahead.distance)) {
        va_sampling_ahead.distance -= size;
        return false;
    }
    va_sampling_ahead.distance = draw(rate);
    return true;
}

/* The record comes first: nobody else frees it yet. */
static VA_COLD void sample(const void *pointer, size_t size, size_t rate, StackFrame caller)
{
    Block *block;
    uint32_t entry = va_find_entry(pointer, &block);
    if (entry == 0)
        return;
    Allocator *allocator = va_owner(pointer);
    const ThreadCache *cache = va_thread_cache();
    ProfileAllocation allocation = {.pointer = pointer,
                                    .size = size,
                                    .probability = va_weight_probability(size, rate),
                                    .allocator = allocator,
                                    .label =
                                        allocator != &va_process ? allocator->shown.name : NULL,
                                    .thread = cache != NULL ? cache->id : 0,
                                    .class = va_entry_class(entry)};
    if (!va_profile_sample(&allocation, caller))
        return;
    if (va_entry_class(entry) == VA_CLASS_LARGE)
        block->sampled = true;
    else
        va_slot_sample(block, va_entry_class(entry), pointer);
    va_profile_file_grow();
}

/* A request was served. */
VA_INLINE void count(const void *pointer, size_t size, StackFrame caller)
{
    size_t rate = va_profile_rate();
    if (rate == 0 || pointer == NULL || va_unlikely(va_thread_reports))
        return;
    if (va_unlikely(covers_point(size, rate)))
        sample(pointer, size, rate, caller);
    if (va_unlikely(VA_THREAD_SOURCE != VA_NO_FRONT))
        va_thread_cover();
    va_profile_file_visit();
}

/* From the thread's stacks as the fast path would, if it can. */
VA_INLINE void *allocate(Allocator *allocator, size_t size, size_t alignment, bool zero)
{
    void *slot = NULL;
    if (va_likely(allocator == &va_process && alignment <= VA_MIN_ALIGN))
        slot = VA_ALLOCATE_FROM(VA_THREAD_FRONT, size);
    if (va_likely(slot != NULL))
        return zero ? memset(slot, 0, size) : slot;
    return zero ? va_route_allocate_zeroed(allocator, size, alignment)
                : va_route_allocate(allocator, size, alignment);
}

VA_APART void *va_sampling_allocate(Allocator *allocator, size_t size, size_t alignment, bool zero,
                                    StackFrame caller)
{
    void *pointer = allocate(allocator, size, alignment, zero);
    count(pointer, size, caller);
    return pointer;
}

/* Where an allocation stays in its place, that of the old size ends, too. */
static VA_APART void count_again(const void *pointer, size_t size, StackFrame caller)
{
    Block *block;
    uint32_t entry = va_find_entry(pointer, &block);
    if (entry != 0)
        va_pass_end_sample(pointer, block, entry);
    count(pointer, size, caller);
}

VA_APART void *va_sampling_reallocate(Allocator *allocator, void *pointer, size_t size,
                                      size_t alignment, const char *function, StackFrame caller)
{
    void *result = va_route_reallocate(allocator, pointer, size, alignment, function);
    if (result == pointer && result != NULL)
        count_again(result, size, caller);
    else
        count(result, size, caller);
    return result;
}

VA_COLD bool va_sampling_expand(void *pointer, size_t size, StackFrame caller)
{
    if (!va_route_expand(pointer, size, "expand"))
        return false;
    count_again(pointer, size, caller);
    return true;
}

/* Threads with full caches would not come by for long: the caches are emptied. */
VA_COLD int va_sampling_start(size_t rate, ProfileMode mode)
{
    if (!VA_SAMPLING)
        return ENOTSUP;
    if (va_profile_rate() != 0)
        return EBUSY;
    if (!va_profile_start(rate, mode, 0))
        return va_profile_rate() != 0 ? EBUSY : ENOMEM;
    va_route_purge();
    return 0;
}
