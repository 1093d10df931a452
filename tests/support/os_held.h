/* os_held.h: system calls of os_linux.c that wait at a gate, or are refused, for test builds of the
 * core: -DVALLOC_TEST_OS_HEADER="os_held.h" includes it behind the system's headers.
 *
 *   test_hold       purges wait while it is set
 *   test_held       how many do
 *   test_no_purge   purges are refused
 *   test_no_commit  the heap does not grow
 *   test_purged     bytes purged so far */
#ifndef OS_HELD_H
#define OS_HELD_H

#include <stdatomic.h>
#include <time.h>

extern atomic_bool test_hold, test_no_purge, test_no_commit;
extern atomic_int test_held;
extern atomic_size_t test_purged;
atomic_bool test_hold, test_no_purge, test_no_commit;
atomic_int test_held;
atomic_size_t test_purged;

static int test_refuse(int error)
{
    errno = error;
    return -1;
}

static int test_madvise(void *address, size_t bytes, int advice)
{
    struct timespec moment = {0, 1000000};
    if (advice != MADV_DONTNEED)
        return madvise(address, bytes, advice);
    test_held++;
    while (test_hold)
        nanosleep(&moment, NULL);
    test_held--;
    if (test_no_purge)
        return test_refuse(EAGAIN);
    test_purged += bytes;
    return madvise(address, bytes, advice);
}

static void *test_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (test_no_commit && address != NULL) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return mmap(address, bytes, protection, flags, fd, offset);
}

static void *test_mremap(void *from, size_t old_bytes, size_t new_bytes, int flags, void *to)
{
    if (test_no_commit && to == NULL) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return mremap(from, old_bytes, new_bytes, flags, to);
}

#define madvise test_madvise
#define mmap test_mmap
#define mremap test_mremap

#endif
