/* lock.h: a mutex of four bytes. Zero is unlocked, so static memory needs no initialisation.
 *
 * pthread_mutex_t is ten times as large, and libraries that replace it may allocate. Critical
 * sections here are short: a waiter looks again a few times, then sleeps in the kernel.
 *
 *   0 free    1 held    2 held, and somebody may sleep
 */
#ifndef VA_LOCK_H
#define VA_LOCK_H

#include "config.h"
#include "os.h"

typedef struct Lock {
    _Atomic uint32_t state;
} Lock;

VA_INLINE void va_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

static VA_COLD void va_lock_wait(Lock *lock)
{
    for (unsigned i = 0; i < VA_LOCK_SPINS; i++) {
        uint32_t unlocked = 0;
        va_cpu_relax();
        if (atomic_load_explicit(&lock->state, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&lock->state, &unlocked, 1,
                                                    memory_order_acquire, memory_order_relaxed))
            return;
    }
    /* Whoever gets it from here on leaves 2 behind: others may sleep too. */
    while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0)
        va_os_wait(&lock->state, 2);
}

/* The acquire pairs with the release in va_lock_release. */
VA_INLINE void va_lock_acquire(Lock *lock)
{
    uint32_t unlocked = 0;
    if (va_unlikely(!atomic_compare_exchange_strong_explicit(
            &lock->state, &unlocked, 1, memory_order_acquire, memory_order_relaxed)))
        va_lock_wait(lock);
}

VA_INLINE void va_lock_release(Lock *lock)
{
    if (va_unlikely(atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2))
        va_os_wake_one(&lock->state);
}

/* In the child after fork: the forking thread held it, and no other thread is left. */
VA_INLINE void va_lock_reset(Lock *lock)
{
    atomic_store_explicit(&lock->state, 0, memory_order_relaxed);
}

#endif
