/* drain.h: of a class whose slabs are mostly free, the emptier ones drain: what is freed there goes
 * home instead of to a stack, and nothing is taken from them as long as others have slots, so that
 * they become empty as their objects are freed and replaced elsewhere.
 *
 * Without it a class that shrinks keeps all its slabs, a few used slots in each: a stack hands out
 * what was freed last, wherever it lies. A thread that only frees gains nothing by it, so slabs are
 * looked at when slots are taken, and once a purge delay. Owner thread. */
#ifndef VA_DRAIN_H
#define VA_DRAIN_H

#include "cache/registry.h"

/* Lets some of a class's slabs drain if more than half of their slots are free. Mutex held. */
void va_drain_look_locked(ThreadCache *cache, unsigned class);

/* Counts slots taken or given back: enough of them, and it is time for a look. Mutex held. */
VA_INLINE void va_drain_count_locked(ThreadCache *cache, unsigned class, uint32_t slots)
{
    cache->classes[class].until_look -= (int32_t)slots;
}

/* The same, with the look, if there are slabs to choose from. Mutex held. */
VA_INLINE void va_drain_visit_locked(ThreadCache *cache, unsigned class, uint32_t slots)
{
    ClassState *state = &cache->classes[class];
    va_drain_count_locked(cache, class, slots);
    if (va_likely(state->until_look >= 0))
        return;
    if (state->open.first != NULL && state->open.first->next != NULL)
        va_drain_look_locked(cache, class);
    else
        state->until_look = 0;
}

/* Of a class that has no other slab to take from, one that was draining. Mutex held. */
Block *va_drain_end_locked(ThreadCache *cache, unsigned class);

#endif
