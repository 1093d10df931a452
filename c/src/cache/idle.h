/* idle.h: what lies on the stacks of threads that do nothing is given back without them.
 *
 * A thread's fast paths use its stacks with no lock and no atomic operation, so nobody else can
 * take from them at just any time. Nor may anybody follow a pointer into its thread-local memory,
 * which can vanish unseen. Whoever wants to take slots:
 *
 *   suspends  the cache: its thread's next slow path sees that, waits for the mutex, and resumes;
 *   fences    each stack, after a barrier on all processors, unless the thread is on a slow path
 *             (busy): NULL stands in the place of a slot below the newest. For the fast path that
 *             comes there the stack is empty, so that a slow path follows;
 *   takes     what lies below the fence, after another barrier, unless the thread was there before.
 *             The thread may be at work above, or have been interrupted for any time in one
 *             operation, which takes one slot. Runs say when they are being popped (popping): of
 *             them the fence takes the place of the newest.
 *
 * With random order a fast path takes any of some slots. It looks whether the cache is suspended
 * instead of meeting a fence.
 *
 * The mutex orders it with the thread's return. tests/model/idle.pml is a model of it. */
#ifndef VA_IDLE_H
#define VA_IDLE_H

#include "cache/thread_cache.h"

/* Takes the fences away; where slots are missing the stacks are closed up. */
void va_idle_resume(ThreadCache *cache);

/* Around what the cache's thread does on a slow path. */
VA_INLINE void va_idle_enter(ThreadCache *cache)
{
    atomic_store_explicit(&cache->idle.busy, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* the barrier does the rest */
    if (va_unlikely(atomic_load_explicit(&cache->idle.suspended, memory_order_relaxed)))
        va_idle_resume(cache);
}

VA_INLINE void va_idle_leave(ThreadCache *cache)
{
    atomic_store_explicit(&cache->idle.busy, false, memory_order_release); /* pairs with takes */
}

/* The cache's thread has vanished at a fork, or its allocator comes to its end. */
void va_idle_forget(ThreadCache *cache);

/* Suspends a cache. False if it is not used by one thread. */
bool va_idle_suspend(ThreadCache *cache);

/* After va_os_barrier: fences the stacks, those of unused classes (see sweep.h) or all. */
void va_idle_fence(ThreadCache *cache, bool all);

/* After va_os_barrier: gives back what lies below the fences and in the batches, unless the thread
 * is at work. Tells whether that was anything. Between va_idle_suspend and this no other thread
 * calls any of them. */
bool va_idle_empty(ThreadCache *cache, bool all);

#endif
