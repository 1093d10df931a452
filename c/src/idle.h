/* idle.h: what lies on the stacks of threads that do nothing goes home without them.
 *
 * A thread's fast paths use its stacks with no lock and no atomic operation, so nobody else can
 * take from them at just any time. Whoever wants to:
 *
 *   suspends  the cache: where the thread finds its front now stands a front that is none, so that
 *             its next operation takes a slow path, sees that, and has its front back (it resumes);
 *   waits     for a barrier on all processors. After it the thread is on a slow path and says so
 *             (busy), or it cannot do anything unseen: but for the end of one operation on a fast
 *             path, in which it may have been interrupted for any time. That one takes the newest
 *             slot of a stack, or puts one on top, or both;
 *   takes     all but the newest slots, and leaves NULL in their place. The tops of the stacks stay
 *             where they are, for that one operation. Runs say when they are being popped
 * (popping): of them it takes the newest, too.
 *
 * The mutex orders it with the thread's return. tests/model/idle.pml is a model of it. */
#ifndef VA_IDLE_H
#define VA_IDLE_H

#include "thread_cache.h"

/* Lets the thread have its front back; where slots are missing its stacks are closed up first. */
void va_idle_resume(ThreadCache *cache);

/* Around what the cache's thread does on a slow path. */
VA_INLINE void va_idle_enter(ThreadCache *cache)
{
    atomic_store_explicit(&cache->busy, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* the barrier does the rest */
    if (va_unlikely(atomic_load_explicit(&cache->suspended, memory_order_relaxed)))
        va_idle_resume(cache);
}

VA_INLINE void va_idle_leave(ThreadCache *cache)
{
    atomic_store_explicit(&cache->busy, false, memory_order_release); /* pairs with takes */
}

/* The thread finds its front at that place, which has it, until va_idle_end. Another allocator's
 * cache keeps its place. */
VA_INLINE void va_idle_start(ThreadCache *cache, CacheFront **place)
{
    atomic_store_explicit(&cache->place, place, memory_order_release); /* it may be suspended now */
}

void va_idle_end(ThreadCache *cache);

/* The cache's thread has vanished at a fork, or its allocator comes to its end. */
void va_idle_forget(ThreadCache *cache);

/* Looks at a cache that a thread uses, and suspends it. False if no thread does, or the cache has
 * been empty since it was suspended. */
bool va_idle_suspend(ThreadCache *cache);

/* After va_os_barrier: gives back what lies on the stacks of a suspended cache and in its batches.
 * Not `all`: on those that looked the same the last two times; what becomes free was so for long,
 * and its pages go at once. False if the thread is at work, or no thread uses the cache. Between
 * va_idle_suspend and this no other thread calls either. */
bool va_idle_empty(ThreadCache *cache, bool all);

#endif
