/* os_huge.h: what os_linux.c asks of huge pages, for test builds of the core:
 * -DVALLOC_TEST_OS_HEADER="os_huge.h" includes it behind the system's headers.
 *
 *   test_advised   how often huge pages were asked for */
#ifndef OS_HUGE_H
#define OS_HUGE_H

extern unsigned test_advised;
unsigned test_advised;

static int test_madvise(void *address, size_t bytes, int advice)
{
    test_advised += advice == MADV_HUGEPAGE;
    return madvise(address, bytes, advice);
}

#define madvise test_madvise

#endif
