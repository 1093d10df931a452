/* simulated.h: the controls of valloc_simulated, the core on a machine that tests control, and its
 * clock. With another library pass_ms sleeps, and the clock cannot be stopped. */
#ifndef SIMULATED_H
#define SIMULATED_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

extern _Atomic size_t test_commit_rest; /* bytes that may still become writable, as under
                                           overcommit_memory=2; what is unmapped comes back;
                                           beyond that: ENOMEM */
extern atomic_bool test_hold;           /* purges wait while it is set */
extern atomic_int test_held;            /* how many do */
extern atomic_bool test_no_purge;       /* purges are refused */
extern atomic_bool test_no_growth;      /* the heap does not grow */
extern atomic_size_t test_purged;       /* bytes purged so far */
extern unsigned test_advised;           /* how often huge pages were asked for */
extern size_t test_huge_bytes;          /* for how much */
extern unsigned test_slow;              /* once the clock stands: the next so many populating calls
                                           take 4 ms, all others no time */
extern _Atomic uint64_t test_now_ns;    /* 0: the clock is the machine's */

/* From now on time passes by pass_ms alone. */
static inline void stop_clock(void)
{
#ifdef TEST_SIMULATED
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    test_now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
#endif
}

static inline void pass_ms(unsigned ms)
{
#ifdef TEST_SIMULATED
    test_now_ns += (uint64_t)ms * 1000000;
#else
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&time, NULL);
#endif
}

/* Other threads get a chance to do what the time that has passed is the reason for. */
static inline void let_others_run(void)
{
    struct timespec moment = {0, 1000000};
    nanosleep(&moment, NULL);
}

/* How often a condition that other threads bring about is looked at, with let_others_run in
 * between: minutes of a busy machine. */
#define PATIENCE 100000

#endif
