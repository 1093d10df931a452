/* background.c: see background.h.
 *
 * The thread allocates nothing and has no cache: it works on the caches of others under their
 * mutexes, once per tick of the purge clock. Its lock comes before all others. */
#include "background.h"

#include <pthread.h>
#include <signal.h>

#include "allocator.h"
#include "arena.h"
#include "options.h"
#include "os.h"

static struct { /* lock */
    Lock lock;
    bool running;
    pthread_t thread;
    _Atomic uint32_t stop; /* the thread's sleep: 1 ends it; read without the lock */
} background;

static void *run(void *unused)
{
    (void)unused;
    while (atomic_load_explicit(&background.stop, memory_order_acquire) == 0)
        va_os_wait_for(&background.stop, 0, va_allocators_decay() + VA_BACKGROUND_LATE_MS);
    return NULL;
}

/* A signal handler of the program must not run on a thread that it does not know. */
static VA_COLD bool start_locked(void)
{
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    atomic_store_explicit(&background.stop, 0, memory_order_relaxed);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    background.running = pthread_create(&background.thread, NULL, run, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return background.running;
}

static VA_COLD void stop_locked(void)
{
    int old;
    atomic_store_explicit(&background.stop, 1, memory_order_release);
    va_os_wake_one(&background.stop);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old); /* the lock would stay held */
    pthread_join(background.thread, NULL);
    pthread_setcancelstate(old, NULL);
    background.running = false;
}

VA_COLD bool va_background_set(bool on)
{
    bool done = true;
    va_arena_start();
    va_lock_acquire(&background.lock);
    if (on && !background.running)
        done = start_locked();
    else if (!on && background.running)
        stop_locked();
    va_lock_release(&background.lock);
    return done;
}

__attribute__((constructor(102))) static VA_STARTUP void start_by_option(void)
{
    va_arena_start();
    if (va_unlikely(va_options.background))
        va_background_set(true);
}

VA_COLD bool va_background_is_on(void)
{
    return background.running;
}

VA_COLD void va_background_lock(void)
{
    va_lock_acquire(&background.lock);
}

VA_COLD void va_background_unlock(void)
{
    va_lock_release(&background.lock);
}

VA_COLD void va_background_restart(void)
{
    va_lock_reset(&background.lock);
    if (background.running)
        start_locked();
}
