/* os_huge.h: what os_linux.c asks of huge pages and how long they take, for test builds of the
 * core: -DVALLOC_TEST_OS_HEADER="os_huge.h" includes it behind the system's headers.
 *
 *   test_advised    how often huge pages were asked for, test_huge_bytes for how much
 *   test_slow       the next so many populating calls take as long as slow huge pages do; no other
 *                   takes any time */
#ifndef OS_HUGE_H
#define OS_HUGE_H

extern unsigned test_advised, test_slow;
extern size_t test_huge_bytes;
unsigned test_advised, test_slow;
size_t test_huge_bytes;
static uint64_t test_now_ns;

static int test_madvise(void *address, size_t bytes, int advice)
{
    test_advised += advice == MADV_HUGEPAGE;
    test_huge_bytes += advice == MADV_HUGEPAGE ? bytes : 0;
    if (advice == MADV_POPULATE_WRITE && test_slow != 0) {
        test_slow--;
        test_now_ns += 4000000;
    }
    return madvise(address, bytes, advice);
}

static int test_clock_gettime(clockid_t clock, struct timespec *time)
{
    if (clock != CLOCK_MONOTONIC)
        return clock_gettime(clock, time);
    *time = (struct timespec){(time_t)(test_now_ns / 1000000000), (long)(test_now_ns % 1000000000)};
    return 0;
}

#define madvise test_madvise
#define clock_gettime test_clock_gettime

#endif
