/* os_simulated.h: the system calls of os_linux.c on a machine that is not there, for test builds of
 * the core: -DVALLOC_TEST_OS_HEADER="os_simulated.h" includes it behind the system's headers.
 *
 *   TEST_PAGE_BYTES     the page size: what getauxval says, how mmap aligns, and what every range
 *                       given to the kernel must be a multiple of, else the process aborts
 *   TEST_ADDRESS_BITS   mappings lie below 2^bits, densely from the top; beyond that: ENOMEM
 *   test_commit_rest    bytes that may still become writable, as under overcommit_memory=2, where
 *                       pages once charged stay so; beyond that: ENOMEM */
#ifndef OS_SIMULATED_H
#define OS_SIMULATED_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef TEST_PAGE_BYTES
#define TEST_PAGE_BYTES 4096
#endif

extern _Atomic size_t test_commit_rest;
_Atomic size_t test_commit_rest = SIZE_MAX;

static void test_aligned(const char *call, const void *address, size_t bytes)
{
    if (((uintptr_t)address | bytes) % TEST_PAGE_BYTES == 0)
        return;
    dprintf(2, "%s: %p, %zu bytes: not whole pages of %d\n", call, address, bytes, TEST_PAGE_BYTES);
    abort();
}

static int test_may_commit(size_t bytes, int protection)
{
    size_t rest = test_commit_rest;
    if ((protection & PROT_WRITE) == 0 || rest == SIZE_MAX)
        return 1;
    while (rest >= bytes)
        if (atomic_compare_exchange_weak(&test_commit_rest, &rest, rest - bytes))
            return 1;
    errno = ENOMEM;
    return 0;
}

#ifdef TEST_ADDRESS_BITS
static _Atomic uintptr_t test_floor = (uintptr_t)1 << TEST_ADDRESS_BITS;

static void *test_map_anywhere(size_t bytes, int protection, int flags)
{
    uintptr_t floor = test_floor;
    do {
        if (bytes > floor || floor - bytes < (uintptr_t)1 << 30) { /* programs lie there */
            errno = ENOMEM;
            return MAP_FAILED;
        }
    } while (!atomic_compare_exchange_weak(&test_floor, &floor, floor - bytes));
    return mmap((void *)(floor - bytes), bytes, protection, flags | MAP_FIXED_NOREPLACE, -1, 0);
}

static int test_munmap(void *address, size_t bytes)
{
    uintptr_t floor = (uintptr_t)address;
    test_aligned("munmap", address, bytes);
    int result = munmap(address, bytes);
    if (result == 0)
        atomic_compare_exchange_strong(&test_floor, &floor, floor + bytes);
    return result;
}
#else
static void *test_map_anywhere(size_t bytes, int protection, int flags)
{
    char *start = mmap(NULL, bytes + TEST_PAGE_BYTES, protection, flags, -1, 0);
    if (start == MAP_FAILED)
        return start;
    size_t head = -(uintptr_t)start % TEST_PAGE_BYTES;
    if (head != 0)
        munmap(start, head);
    munmap(start + head + bytes, TEST_PAGE_BYTES - head);
    return start + head;
}

static int test_munmap(void *address, size_t bytes)
{
    test_aligned("munmap", address, bytes);
    return munmap(address, bytes);
}
#endif

static void *test_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    test_aligned("mmap", address, bytes);
    if (!test_may_commit(bytes, protection))
        return MAP_FAILED;
    return address != NULL ? mmap(address, bytes, protection, flags, fd, offset)
                           : test_map_anywhere(bytes, protection, flags);
}

/* Pages once made writable stay charged: ranges that grow at their ends. Under the arena's lock. */
static struct {
    uintptr_t start, end;
} test_writable[256];

static int test_mprotect(void *address, size_t bytes, int protection)
{
    uintptr_t start = (uintptr_t)address;
    uintptr_t end = start + bytes;
    size_t i = 0;
    test_aligned("mprotect", address, bytes);
    while (i < 255 && test_writable[i].end != 0 &&
           (start < test_writable[i].start || start > test_writable[i].end))
        i++;
    uintptr_t charged = test_writable[i].end > start ? test_writable[i].end : start;
    if (end <= charged)
        return mprotect(address, bytes, protection);
    if (!test_may_commit(end - charged, protection))
        return -1;
    if (test_writable[i].end == 0)
        test_writable[i].start = start;
    test_writable[i].end = end;
    return mprotect(address, bytes, protection);
}

static int test_madvise(void *address, size_t bytes, int advice)
{
    test_aligned("madvise", address, bytes);
    return madvise(address, bytes, advice);
}

/* MREMAP_DONTUNMAP leaves a second charge behind. */
static void *test_mremap(void *from, size_t old_bytes, size_t new_bytes, int flags, void *to)
{
    test_aligned("mremap", from, old_bytes);
    test_aligned("mremap", to, new_bytes);
    if (!test_may_commit(new_bytes, PROT_WRITE))
        return MAP_FAILED;
    return mremap(from, old_bytes, new_bytes, flags, to);
}

static unsigned long test_getauxval(unsigned long type)
{
    return type == AT_PAGESZ ? TEST_PAGE_BYTES : getauxval(type);
}

#define mmap test_mmap
#define munmap test_munmap
#define mprotect test_mprotect
#define madvise test_madvise
#define mremap test_mremap
#define getauxval test_getauxval

#endif
