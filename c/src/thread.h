/* thread.h: which ThreadCache the calling thread uses; first use, exit, fork.
 *
 * One pointer of thread-local storage, which never holds NULL: before the first use it points at
 * a static front whose stacks are all empty and whose tag matches nothing, so that the fast
 * paths need no test for it; after the thread's exit handler has run, at another such front. */
#ifndef VA_THREAD_H
#define VA_THREAD_H

#include "thread_cache.h"

/* initial-exec: no call to find it. 12 bytes fit into the reserve for libraries loaded late. */
extern _Thread_local CacheFront *va_thread_front __attribute__((tls_model("initial-exec")));

ThreadCache *va_thread_acquire_slow(void);

/* What threads past their exit share. The first lock in the lock order. */
void va_thread_lock_shared(void);
void va_thread_unlock_shared(void);
void va_thread_reset_shared(void);

/* A cache that the caller may use until va_thread_release: its own, made at need; after its
 * exit one shared by all such threads, locked. NULL if there is no memory for one. */
VA_INLINE ThreadCache *va_thread_acquire(void)
{
    CacheFront *front = va_thread_front;
    return va_likely(front->tag != VA_TAG_NONE) ? (ThreadCache *)front : va_thread_acquire_slow();
}

VA_INLINE void va_thread_release(ThreadCache *cache)
{
    if (va_unlikely(cache != NULL && &cache->front != va_thread_front))
        va_thread_unlock_shared();
}

/* The front of a cache that is none: every stack empty, no tag matches. */
extern const CacheFront va_no_front;
#define VA_NO_FRONT ((CacheFront *)(uintptr_t)&va_no_front)

/* The id of the calling thread: of its cache. 0 before its first use and after its exit. */
extern _Thread_local uint32_t va_thread_id __attribute__((tls_model("initial-exec")));

/* Gives the thread its cache and id, unless it is past its exit or there is no memory. */
void va_thread_attach(void);

#endif
