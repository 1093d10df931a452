/* sampling.h: which allocations a heap profile samples, and how the functions that allocate join
 * in.
 *
 * While a profile is on every thread's caches are covered (thread.h): each request takes a slow
 * path, is counted here, and is then served from the thread's stacks as by the fast path. No fast
 * path has an instruction for it, whether a profile is on or not. A thread joins at its first slow
 * path after the start.
 *
 * The bytes asked for are one line on which points lie at random, a mean of R bytes apart: a
 * request is sampled if it covers a point. The distance to the next point is drawn in advance, and
 * requests are subtracted from it. It has no memory, so p = 1 - e^(-S/R) for each, whatever came
 * before. Requests of no bytes are not sampled.
 *
 * A sampled slot has a state of its own, by which its free leaves the fast paths, also after the
 * profile has stopped. Builds without states, and those that a tool watches, have no profiler. */
#ifndef VA_SAMPLING_H
#define VA_SAMPLING_H

#include "api/fast.h"
#include "api/profile_file.h"
#include "profile/profile.h"

#define VA_SAMPLING (VALLOC_CHECKS && !VA_WATCHED)

/* Does a request have to go through here? */
VA_INLINE bool va_sampling_wants(size_t size)
{
    return VA_SAMPLING &&
           va_unlikely(size > atomic_load_explicit(&va_profile_above, memory_order_relaxed));
}

/* The thread's next point. */
typedef struct SamplingAhead {
    uint64_t distance;
    size_t rate; /* for which the distance was drawn; 0 at first */
    uint64_t random;
} SamplingAhead;
extern VA_THREAD_LOCAL SamplingAhead va_sampling_ahead;

/* Is nothing to be done for a request but to count it? */
VA_INLINE bool va_sampling_passes(size_t size)
{
    return VA_SAMPLING && size <= va_sampling_ahead.distance &&
           va_sampling_ahead.rate == va_profile_rate() &&
           !atomic_load_explicit(&va_profile_file_wanted, memory_order_relaxed);
}

/* Most requests of a covered thread: a slot of its stacks, if no point is covered. NULL with
 * nothing changed: then va_sampling_wants. */
VA_INLINE void *va_sampling_allocate_fast(size_t size)
{
    if (!va_sampling_passes(size))
        return NULL;
    void *slot = VA_ALLOCATE_FROM(VA_THREAD_FRONT, size);
    if (va_likely(slot != NULL))
        va_sampling_ahead.distance -= size;
    return slot;
}

/* The same for realloc. */
VA_INLINE void *va_sampling_reallocate_fast(void *pointer, size_t size)
{
    if (VA_PASSAGE_CHECKED || size > VA_SMALL_MAX || !va_sampling_passes(size))
        return NULL;
    void *block = va_reallocate_from(VA_THREAD_FRONT, pointer, size);
    if (va_likely(block != NULL))
        va_sampling_ahead.distance -= size;
    return block;
}

/* The requests, by a function with this frame. As va_route_allocate and so on. */
void *va_sampling_allocate(Allocator *allocator, size_t size, size_t alignment, bool zero,
                           StackFrame caller);
void *va_sampling_reallocate(Allocator *allocator, void *pointer, size_t size, size_t alignment,
                             const char *function, StackFrame caller);
bool va_sampling_expand(void *pointer, size_t size, StackFrame caller);

/* 0, or an error number. */
int va_sampling_start(size_t rate, ProfileMode mode);

#endif
