/* background.c: see background.h.
 *
 * The thread allocates nothing and has no cache: it works on the caches of others under their
 * mutexes, once per tick of the purge clock. When nothing has changed for some ticks, it ends if
 * the heap is small: most processes have one thread when they fork, or enter another namespace. If
 * the heap is large, it sleeps until much is freed again: frees of small slots can wake a thread,
 * but not start one. It also ends when no other thread is left, and so keeps no process alive. Its
 * states, in va_purge_helper:
 *
 *   OFF  <->  RESTS  ->  CALLED  ->  STARTS  ->  RUNS  <->  SLEEPS
 *                                                ->  RESTS     by itself, also from SLEEPS
 *                                                ->  STOPS     when it is switched off, too
 *
 * With an errand it sleeps instead of ending: that may be wanted in an idle process. */
#include "heap/background.h"

#include <pthread.h>

#include "heap/allocator.h"
#include "arena/arena.h"
#include "os/options.h"
#include "os/os.h"

static pthread_t thread; /* of whoever changes the state from STARTS, or to STOPS */

/* NULL: none. Relaxed: a function that does not change. */
static BackgroundErrand *_Atomic errand;

static BackgroundErrand *find_errand(void)
{
    return atomic_load_explicit(&errand, memory_order_relaxed);
}

static bool change(Helper from, Helper to)
{
    uint32_t expected = from;
    bool done = atomic_compare_exchange_strong_explicit(&va_purge_helper, &expected, to,
                                                        memory_order_acq_rel, memory_order_relaxed);
    if (done)
        va_os_wake_all(&va_purge_helper);
    return done;
}

/* Whether it has a reason to be there. What is free may have been freed before it was wanted. */
static VA_COLD bool has_reason(void)
{
    ArenaStats arena;
    va_arena_stats(&arena);
    return find_errand() != NULL || arena.dirty >= VA_HELPER_BYTES ||
           arena.lent >= VA_HELPER_HEAP_BYTES;
}

/* Until the time is over or the state is another one. False if no other thread is left. */
static VA_COLD bool wait_in(Helper state, uint64_t rest_ms)
{
    while (rest_ms != 0 &&
           atomic_load_explicit(&va_purge_helper, memory_order_acquire) == (uint32_t)state) {
        uint64_t ms = va_min(rest_ms, VA_BACKGROUND_LOOK_MS);
        va_os_wait_for(&va_purge_helper, state, ms);
        rest_ms -= ms;
        if (!va_registry_has_threads())
            return false;
        if (find_errand() != NULL)
            find_errand()();
    }
    return true;
}

static VA_COLD void *run(void *unused)
{
    unsigned quiet = 0;
    bool ends = false;
    while (atomic_load_explicit(&va_purge_helper, memory_order_acquire) == HELPER_STARTS)
        va_os_wait(&va_purge_helper, HELPER_STARTS);
    while (!ends && atomic_load_explicit(&va_purge_helper, memory_order_acquire) == HELPER_RUNS) {
        size_t purged = va_os_purged();
        bool changed;
        uint64_t rest_ms = va_allocators_decay(&changed) + VA_BACKGROUND_LATE_MS;
        quiet = changed || purged != va_os_purged() ? 0 : quiet + 1;
        Helper state = HELPER_RUNS;
        if (quiet < VA_BACKGROUND_QUIET) {
            ends = !wait_in(state, rest_ms);
        } else if (!has_reason()) {
            ends = true;
        } else if (change(HELPER_RUNS, HELPER_SLEEPS)) {
            state = HELPER_SLEEPS;
            quiet = 0;
            ends = !wait_in(state, UINT64_MAX);
        }
        ends = ends && change(state, HELPER_RESTS);
    }
    if (ends)
        pthread_detach(pthread_self());
    return unused;
}

VA_COLD void va_background_start(void)
{
    if (!change(HELPER_CALLED, HELPER_STARTS))
        return;
    va_fork_register();
    bool done = va_os_start_thread(&thread, run);
    change(HELPER_STARTS, done ? HELPER_RUNS : HELPER_RESTS);
}

static VA_COLD void stop(void)
{
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old); /* it would be stopping for ever */
    pthread_join(thread, NULL);
    change(HELPER_STOPS, HELPER_OFF);
    pthread_setcancelstate(old, NULL);
}

VA_COLD void va_background_set(bool on)
{
    for (;;) {
        uint32_t state = atomic_load_explicit(&va_purge_helper, memory_order_acquire);
        if (state == HELPER_STARTS || state == HELPER_STOPS)
            va_os_wait(&va_purge_helper, state);
        else if (on ? state != HELPER_OFF || change(HELPER_OFF, HELPER_RESTS)
                    : state == HELPER_OFF || change(HELPER_RESTS, HELPER_OFF) ||
                          change(HELPER_CALLED, HELPER_OFF))
            break;
        else if (!on &&
                 (change(HELPER_RUNS, HELPER_STOPS) || change(HELPER_SLEEPS, HELPER_STOPS))) {
            stop();
            break;
        }
    }
    if (on && has_reason()) {
        va_purge_call_helper();
        va_background_visit();
    }
}

VA_COLD void va_background_send(BackgroundErrand *function)
{
    atomic_store_explicit(&errand, function, memory_order_relaxed);
    va_purge_call_helper();
    va_background_visit();
}

VA_COLD void va_background_set_delay(uint64_t ms)
{
    va_arena_start();
    va_purge_set_delay(ms);
    if (atomic_load_explicit(&va_purge_helper, memory_order_relaxed) == HELPER_OFF)
        return;
    va_background_set(false); /* it may sleep for the old delay */
    va_background_set(true);
}

__attribute__((constructor(102))) static VA_STARTUP void set_by_option(void)
{
    va_arena_start();
    if (va_unlikely(va_options.background))
        va_background_set(true);
}

VA_COLD bool va_background_fork(void)
{
    uint32_t state = atomic_load_explicit(&va_purge_helper, memory_order_relaxed);
    bool was_there = state >= HELPER_RUNS;
    if (state != HELPER_OFF)
        atomic_store_explicit(&va_purge_helper, state == HELPER_STOPS ? HELPER_OFF : HELPER_RESTS,
                              memory_order_relaxed);
    return was_there;
}
