/* arena_purge.h: gives free memory back to the kernel after a while: the purge clock. Any thread;
 * takes the arena lock, but makes its system calls without it. */
#ifndef VA_ARENA_PURGE_H
#define VA_ARENA_PURGE_H

#include "run_set.h"

/* The background thread, see background.c. It is called when there is something to give back, or
 * will be after the delay. */
typedef enum Helper {
    HELPER_OFF,
    HELPER_RESTS,
    HELPER_CALLED,
    HELPER_STARTS,
    HELPER_RUNS,
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

/* Counts what was just lent, which makes more resident than lately, and what is free and dirty a
 * surplus. Arena lock held. */
void va_purge_count_growth_locked(void);

/* Purges the surplus. */
void va_purge_surplus(void);

/* A thread has given back what it had, without locks: nobody may come by later. Purges what is free
 * if that is most of the heap, and more than is kept. */
void va_purge_after_exit(void);

/* Called without locks wherever blocks come and go: keeps the purge clock. */
void va_purge_visit(void);

/* Whether a run that is returned is purged at once: a large one if the heap shrinks by it, any
 * where memory is short. Arena lock held. */
bool va_purge_is_excess(size_t blocks, bool large);

/* Around the purge of blocks that are in no set meanwhile: the arena lock is released, and taken
 * again. */
void va_purge_begin_locked(void);
void va_purge_end_locking(void);

/* Lets a purge come to its end, if any is going on, with the arena lock released: who finds no
 * memory then looks again. May return early. False if there is none. */
bool va_purge_wait_locked(void);

/* In the child after fork: nobody purges there, and nobody waits. */
void va_purge_fork(void);

/* va_purge_visit for a thread with time, which has given up free memory since then: nothing that is
 * due stays, and what came after a tick since then counts as there at the tick. Returns the
 * milliseconds until the next one, and tells whether anything is left that will be due. */
uint64_t va_arena_decay(uint64_t since_ms, bool *dirty);

/* Purges every free block. Returns the bytes given back. */
size_t va_arena_purge_all(void);

/* More is free and dirty than lent: all of it becomes due, as if the purge delay had passed, since
 * this may be the last slow path for long. In a time no more than the heap was large, so that a
 * program that frees everything again and again pays little. */
VA_INLINE bool va_purge_is_shrunk_locked(void)
{
    return va_use.dirty_blocks > va_use.lent_blocks + (VA_SHRINK_KEEP_BYTES >> VA_BLOCK_SHIFT);
}
void va_purge_shrink_locked(void);

#endif
