/* os_huge.h: what os_linux.c hears of huge pages, for test builds of the core:
 * -DVALLOC_TEST_OS_HEADER="os_huge.h" includes it behind the system's headers.
 *
 *   test_page_ns   processor time between two readings of the clock
 *   test_advised   how often huge pages were asked for */
#ifndef OS_HUGE_H
#define OS_HUGE_H

extern uint64_t test_page_ns;
extern unsigned test_advised;
uint64_t test_page_ns;
unsigned test_advised;

static int test_clock_gettime(clockid_t clock, struct timespec *time)
{
    static uint64_t now;
    if (clock != CLOCK_THREAD_CPUTIME_ID)
        return clock_gettime(clock, time);
    now += test_page_ns;
    *time = (struct timespec){(time_t)(now / 1000000000), (long)(now % 1000000000)};
    return 0;
}

static int test_madvise(void *address, size_t bytes, int advice)
{
    test_advised += advice == MADV_HUGEPAGE;
    return madvise(address, bytes, advice);
}

#define clock_gettime test_clock_gettime
#define madvise test_madvise

#endif
