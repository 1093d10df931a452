/* thread.h: which ThreadCache the calling thread uses; first use, exit, fork.
 *
 * One pointer of thread-local storage, which never holds NULL: before the first use it points at
 * a static front whose stacks are all empty and whose tag matches nothing, so that the fast
 * paths need no test for it; after the thread's exit handler has run, at another such front. */
#ifndef VA_THREAD_H
#define VA_THREAD_H

#include "thread_cache.h"

/* initial-exec: no call to find it. 8 bytes fit into the reserve for libraries loaded late. */
extern _Thread_local CacheFront *va_thread_front __attribute__((tls_model("initial-exec")));

/* A cache that the caller may use until va_thread_release: its own, made at need; after its
 * exit one shared by all such threads, locked. NULL if there is no memory for one. */
ThreadCache *va_thread_acquire(void);
void va_thread_release(ThreadCache *cache);

#endif
