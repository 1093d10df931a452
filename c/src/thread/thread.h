/* thread.h: which ThreadCache the calling thread uses; first use, exit, fork.
 *
 * Pointers of thread-local storage, which never hold NULL: before the first use they point at
 * a static front whose stacks are all empty and whose tag matches nothing, so that the fast
 * paths need no test for it; after the thread's exit handler has run, at that again. Frees use
 * the front, allocations the source. They are the same, but while a heap profile is on. */
#ifndef VA_THREAD_H
#define VA_THREAD_H

#include "cache/idle.h"

/* Others write it, see idle.h: every operation reads it once. */
extern VA_THREAD_LOCAL CacheFront *va_thread_front;
extern VA_THREAD_LOCAL CacheFront *va_thread_source;
#if VA_TSAN
#define VA_THREAD_FRONT __atomic_load_n(&va_thread_front, __ATOMIC_RELAXED)
#define VA_THREAD_SOURCE __atomic_load_n(&va_thread_source, __ATOMIC_RELAXED)
#else
#define VA_THREAD_FRONT va_thread_front
#define VA_THREAD_SOURCE va_thread_source
#endif

ThreadCache *va_thread_acquire_slow(void);

/* Of the cache that threads share for which there was no memory. The first in the lock order. */
extern Lock va_thread_shared_lock;
void va_thread_flush_shared(void);

/* A cache that the caller may use until va_thread_release: its own, made at need; without memory
 * for that one shared by all such threads, locked. NULL if there is none. */
VA_INLINE ThreadCache *va_thread_acquire(void)
{
    CacheFront *front = VA_THREAD_SOURCE;
    ThreadCache *cache =
        va_likely(front->tag != VA_TAG_NONE) ? (ThreadCache *)front : va_thread_acquire_slow();
    if (va_likely(cache != NULL))
        va_idle_enter(cache);
    return cache;
}

VA_INLINE void va_thread_release(ThreadCache *cache)
{
    if (va_unlikely(cache == NULL))
        return;
    va_idle_leave(cache);
    if (va_unlikely(cache->shared))
        va_lock_release(&va_thread_shared_lock);
}

/* The calling thread's cache, NULL if it has none. */
ThreadCache *va_thread_cache(void);

/* Is the thread on a slow path, or has it reported an error? In a signal handler: did it interrupt
 * a slow path? */
bool va_thread_is_inside(void);

/* Has the thread reported an error? It then has no cache, and gets none: see emergency.h. */
extern VA_THREAD_LOCAL bool va_thread_reports;

/* The id of the calling thread: of its cache. 0 before its first use, after its exit, and while its
 * caches are covered. */
extern VA_THREAD_LOCAL uint32_t va_thread_id;

/* Gives the thread its cache and id, unless there is no memory. Returns the id, or 0. */
uint32_t va_thread_attach(void);

/* While a heap profile is on: hides the thread's caches from the fast paths that allocate, as if it
 * had none yet. These requests then take the slow paths, which find the caches. The first one after
 * the profile has stopped ends that. */
void va_thread_cover(void);

/* Registers the handlers of fork.c, at its first call. Called with no lock held, by a thread that
 * is about to take its first one while there are others. */
void va_fork_register(void);

/* Looks at so many caches for those whose threads have vanished unseen, and retires them. */
void va_thread_reap(uint32_t looks);

#endif
