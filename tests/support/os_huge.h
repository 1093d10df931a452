/* os_huge.h: what os_linux.c hears of huge pages, for test builds of the core:
 * -DVALLOC_TEST_OS_HEADER="os_huge.h" includes it behind the system's headers.
 *
 *   test_page_ns   processor time between two readings of the clock
 *   test_setting   a file in the place of the kernel's settings, if not NULL
 *   test_advised   how often huge pages were asked for
 *   test_asked     how often prctl was */
#ifndef OS_HUGE_H
#define OS_HUGE_H

extern uint64_t test_page_ns;
extern const char *test_setting;
extern unsigned test_advised, test_asked;
uint64_t test_page_ns;
const char *test_setting;
unsigned test_advised, test_asked;

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

static int test_prctl(int option)
{
    test_asked++;
    return prctl(option, 0, 0, 0, 0);
}

static int test_open(const char *path, int flags)
{
    return open(test_setting != NULL ? test_setting : path, flags);
}

#define clock_gettime test_clock_gettime
#define madvise test_madvise
#define prctl(option, ...) test_prctl(option)
#define open test_open

#endif
