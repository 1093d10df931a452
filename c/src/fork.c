/* fork.c: handlers take every lock, in the documented order, so that the child finds no structure
 * half changed; caches of threads that the child does not have count as exited, and what these
 * threads were carrying goes back.
 *
 * Where no other thread is, none can hold a lock, and the handlers do nothing: whatever they wrote
 * would be copied, page by page, for the parent and for the child. Secure builds draw other random
 * numbers in the child and therefore go the whole way. */
#include <pthread.h>

#include "allocator.h"
#include "arena.h"
#include "background.h"
#include "meta.h"
#include "orphans.h"
#include "os.h"

/* Whether this fork took the locks. Beside libc's own thread-local data, on a page that libc writes
 * in the child. */
static _Thread_local bool locked;

static VA_COLD void lock_all(void)
{
    locked = true;
    va_os_lock_streams();
    va_thread_lock_shared();
    va_allocators_lock_all();
    va_registry_lock_all();
    va_lock_acquire(&va_use.lock);
    va_lock_acquire(&va_meta_lock);
}

static VA_COLD void unlock_all(void)
{
    locked = false;
    va_lock_release(&va_meta_lock);
    va_lock_release(&va_use.lock);
    va_registry_unlock_all();
    va_allocators_unlock_all();
    va_thread_unlock_shared();
    va_os_unlock_streams();
}

static VA_COLD void reset_all(void)
{
    const ThreadCache *survivor = va_thread_cache();
    CacheStats stats;
    locked = false;
    va_os_reset_streams();
    va_lock_reset(&va_meta_lock);
    va_lock_reset(&va_use.lock);
    va_secure_fork();
    va_registry_reset_all(survivor);
    va_allocators_reset_all();
    va_thread_reset_shared();
    va_purge_fork();
    va_registry_stats(&stats);
    for (uint32_t i = 0; i < stats.all; i++) {
        ThreadCache *cache = va_registry_nth(stats.made, i);
        if (i < stats.made && cache != survivor)
            va_idle_forget(cache);
        else
            va_idle_leave(cache); /* another allocator's waits for the next thread with its id */
    }
    if (va_background_fork() || stats.all > 1)
        va_orphans_collect();
}

static VA_STARTUP void before_fork(void)
{
    if (VA_RANDOMNESS || !va_os_is_single_threaded())
        lock_all();
}

static VA_STARTUP void after_fork_in_parent(void)
{
    if (locked)
        unlock_all();
}

static VA_STARTUP void after_fork_in_child(void)
{
    if (locked)
        reset_all();
}

/* Early: handlers that others register later run before ours in the parent, and may allocate. */
__attribute__((constructor(101))) static void register_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
