/* fork.c: handlers take every lock, in the documented order, so that the child finds no structure
 * half changed; caches of threads that the child does not have count as exited, and what these
 * threads were carrying goes back.
 *
 * Handlers of other libraries may run while the locks are held. The forking thread passes through
 * its own locks (lock.h), so they can allocate. They cannot wait for threads that allocate: on
 * glibc the override library therefore registers valloc's handlers before anybody else's, so that
 * they run next to the fork. Where nobody else does, they can wait for a second thread: libc lets
 * whoever registers wait for a fork that is under way. An empty program saves 100 KiB of libc's
 * pages so.
 *
 * Where no other thread is, none can hold a lock, and the handlers do nothing: whatever they wrote
 * would be copied, page by page, for the parent and for the child. Nor do they where a signal
 * handler forks that interrupted malloc: the thread holds locks already, and its child finishes
 * what was interrupted. Secure builds draw other random numbers in the child in any case. */
#include <pthread.h>

#include "heap/allocator.h"
#include "arena/arena.h"
#include "heap/background.h"
#include "table/meta.h"
#include "heap/orphans.h"
#include "profile/profile.h"
#include "os/os.h"

/* Beside libc's own thread-local data, on a page that libc writes in the child. */
VA_THREAD_LOCAL uint32_t va_lock_forks;

static VA_COLD void lock_all(void)
{
    va_os_lock_streams();
    va_lock_acquire_for_fork(&va_thread_shared_lock);
    va_allocators_lock_all();
    va_registry_lock_all();
    va_lock_acquire_for_fork(&va_use.lock);
    va_lock_acquire_for_fork(&va_meta_lock);
    va_lock_acquire_for_fork(&va_profile_lock);
}

static VA_COLD void unlock_all(void)
{
    va_lock_release_after_fork(&va_profile_lock);
    va_lock_release_after_fork(&va_meta_lock);
    va_lock_release_after_fork(&va_use.lock);
    va_registry_unlock_all();
    va_allocators_unlock_all();
    va_lock_release_after_fork(&va_thread_shared_lock);
    va_os_unlock_streams();
}

static VA_COLD void reset_all(void)
{
    const ThreadCache *survivor = va_thread_cache();
    CacheStats stats;
    va_lock_forks = 0;
    va_os_reset_streams();
    va_profile_fork();
    va_lock_reset(&va_meta_lock);
    va_lock_reset(&va_use.lock);
    va_registry_reset_all(survivor);
    va_allocators_reset_all();
    va_lock_reset(&va_thread_shared_lock);
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
    if (va_lock_forks == 0 && (va_os_is_single_threaded() || va_thread_is_inside()))
        return;
    if (va_lock_forks == 0)
        lock_all(); /* before the count: two threads may fork at once */
    va_lock_forks++;
}

static VA_STARTUP void after_fork_in_parent(void)
{
    if (va_lock_forks != 0 && --va_lock_forks == 0)
        unlock_all();
}

static VA_STARTUP void after_fork_in_child(void)
{
    va_secure_fork();
    va_registry_draw();
    if (va_lock_forks != 0)
        reset_all();
}

VA_STARTUP void va_fork_register(void)
{
    static atomic_flag registered = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&registered))
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

#if VA_RANDOMNESS || !defined(VALLOC_OVERRIDE) || !defined(__GLIBC__)
__attribute__((constructor(101))) static void register_early(void)
{
    va_fork_register();
}
#endif
