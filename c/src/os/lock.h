/* lock.h: a mutex of four bytes. Zero is unlocked, so static memory needs no initialisation.
 *
 * pthread_mutex_t is ten times as large, and libraries that replace it may allocate. Critical
 * sections here are short: a waiter looks again a few times, then sleeps in the kernel.
 *
 *   0 free    1 held    2 held, and somebody may sleep    3, 4 the same, held for a fork
 *
 * The thread that forks holds all locks, and they do not stop it: handlers of other libraries that
 * run meanwhile may allocate, since it finds nothing half changed. */
#ifndef VA_LOCK_H
#define VA_LOCK_H

#include "base/config.h"
#include "os/os.h"

typedef struct Lock {
    _Atomic uint32_t state;
} Lock;

#define LOCK_FORK 2 /* added to the state */

/* Forks that the thread is in, one inside the other's handlers; while it holds all locks. */
extern VA_THREAD_LOCAL uint32_t va_lock_forks;

VA_INLINE void va_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#else /* pause, which processors without Zihintpause take for a fence of nothing */
    __asm__ volatile(".insn i 0x0f, 0, x0, x0, 0x010");
#endif
}

VA_INLINE bool va_lock_change(Lock *lock, uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong_explicit(&lock->state, &from, to, memory_order_acquire,
                                                   memory_order_relaxed);
}

static VA_COLD void va_lock_wait(Lock *lock)
{
    for (unsigned i = 0;; i++) {
        uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);
        if (state > LOCK_FORK && va_lock_forks != 0)
            return;
        if (state == 0) {
            /* Whoever has slept leaves 2 behind: others may sleep too. */
            if (va_lock_change(lock, 0, i < VA_LOCK_SPINS ? 1 : 2))
                return;
        } else if (i < VA_LOCK_SPINS) {
            va_cpu_relax();
        } else if (state % 2 == 0 || va_lock_change(lock, state, state + 1)) {
            va_os_wait(&lock->state, state + state % 2);
        }
    }
}

/* The acquire pairs with the release in va_lock_release. */
VA_INLINE void va_lock_acquire(Lock *lock)
{
    if (va_unlikely(!va_lock_change(lock, 0, 1)))
        va_lock_wait(lock);
}

static VA_COLD void va_lock_release_slow(Lock *lock)
{
    if (atomic_load_explicit(&lock->state, memory_order_relaxed) > LOCK_FORK)
        return;
    atomic_store_explicit(&lock->state, 0, memory_order_release);
    va_os_wake_one(&lock->state);
}

VA_INLINE void va_lock_release(Lock *lock)
{
    uint32_t held = 1;
    if (va_unlikely(!atomic_compare_exchange_strong_explicit(
            &lock->state, &held, 0, memory_order_release, memory_order_relaxed)))
        va_lock_release_slow(lock);
}

/* ---- Around fork, for the thread that forks ---- */

VA_INLINE void va_lock_acquire_for_fork(Lock *lock)
{
    va_lock_acquire(lock);
    atomic_fetch_add_explicit(&lock->state, LOCK_FORK, memory_order_relaxed);
}

/* One made meanwhile is free. */
VA_INLINE void va_lock_release_after_fork(Lock *lock)
{
    if (atomic_load_explicit(&lock->state, memory_order_relaxed) <= LOCK_FORK)
        return;
    if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2 + LOCK_FORK)
        va_os_wake_one(&lock->state);
}

/* In the child: no other thread is left. */
VA_INLINE void va_lock_reset(Lock *lock)
{
    atomic_store_explicit(&lock->state, 0, memory_order_relaxed);
}

#endif
