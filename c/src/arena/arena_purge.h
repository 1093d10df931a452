/* arena_purge.h: gives free memory back to the kernel. Any thread.
 *
 * One policy. A dirty block is free and may have pages. It is purged when it is old, when there is
 * more dirty memory than the ceiling allows, or when somebody asks. */
#ifndef VA_ARENA_PURGE_H
#define VA_ARENA_PURGE_H

#include "arena/run_set.h"

/* The state of the background thread, see background.c. It is called when there is something to
 * give back, or will be after the delay, and when the heap is large: small slots may be freed then.
 */
typedef enum Helper {
    HELPER_OFF,
    HELPER_RESTS,
    HELPER_CALLED,
    HELPER_STARTS,
    HELPER_RUNS,
    HELPER_SLEEPS,
    HELPER_STOPS
} Helper;
extern _Atomic uint32_t va_purge_helper;
void va_purge_call_helper(void);

/* Calls it each time that so much was freed, which *sum counts. */
VA_INLINE void va_purge_count_freed(size_t *sum, size_t bytes)
{
    *sum += bytes;
    if (va_unlikely(*sum >= VA_HELPER_BYTES)) {
        *sum = 0;
        va_purge_call_helper();
    }
}

/* After blocks were lent or returned: whether va_purge_excess has something to do. Arena lock held.
 */
bool va_purge_is_excess_locked(void);

/* A run longer than a group is about to be returned. Purges it if most of it would be above the
 * ceiling; true if its bytes are zero then. Without the lock, which it takes: the caller returns
 * the run under it. */
bool va_purge_run_locking(const Block *run);

/* Purges dirty memory above the ceiling. No locks held. */
void va_purge_excess(void);

/* Changes the purge delay. The arenas are started. */
void va_purge_set_delay(uint64_t ms);

/* Purges what is old, a bounded part of it. Called without locks wherever blocks come and go. */
void va_purge_visit(void);

/* The same for the background thread: all that is old. What is still dirty counts as old from now
 * on. Returns the milliseconds until the next pass, and tells whether anything is dirty. */
uint64_t va_purge_decay(bool *dirty);

/* Purges every free block. Returns the bytes given back. */
size_t va_purge_all(void);

#endif
