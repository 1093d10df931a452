/* os_simulated.h: the system calls of os_linux.c on a machine that is not there, for test builds of
 * the core: -DVALLOC_TEST_OS_HEADER="os_simulated.h" includes it behind the system's headers.
 *
 *   TEST_PAGE_BYTES     the page size: what getauxval says, how mmap aligns, and what every range
 *                       given to the kernel must be a multiple of, else the process aborts
 *   TEST_ADDRESS_BITS   mappings lie below 2^bits, densely from the top; beyond that: ENOMEM
 *   test_commit_rest    bytes that may still become writable, as under overcommit_memory=2; what is
 *                       unmapped comes back; beyond that: ENOMEM */
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

static int test_may_commit(size_t bytes)
{
    size_t rest = test_commit_rest;
    if (rest == SIZE_MAX)
        return 1;
    while (rest >= bytes)
        if (atomic_compare_exchange_weak(&test_commit_rest, &rest, rest - bytes))
            return 1;
    errno = ENOMEM;
    return 0;
}

static void test_uncommit(size_t bytes)
{
    size_t rest = test_commit_rest;
    while (rest != SIZE_MAX &&
           !atomic_compare_exchange_weak(&test_commit_rest, &rest, rest + bytes))
        ;
}

#ifdef TEST_ADDRESS_BITS
#define TEST_ADDRESS_END ((uintptr_t)1 << TEST_ADDRESS_BITS)
static _Atomic uintptr_t test_floor = TEST_ADDRESS_END;

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
#else
#define TEST_ADDRESS_END UINTPTR_MAX
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
#endif

/* What was mapped without access last: it was never charged. */
static uintptr_t test_without_access;

static int test_munmap(void *address, size_t bytes)
{
    test_aligned("munmap", address, bytes);
    int result = munmap(address, bytes);
#ifdef TEST_ADDRESS_BITS
    uintptr_t floor = (uintptr_t)address;
    if (result == 0)
        atomic_compare_exchange_strong(&test_floor, &floor, floor + bytes);
#endif
    if (result == 0 && (uintptr_t)address != test_without_access)
        test_uncommit(bytes);
    return result;
}

static int test_is_within(const void *address, size_t bytes)
{
    return (uintptr_t)address + bytes <= TEST_ADDRESS_END;
}

static void *test_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    test_aligned("mmap", address, bytes);
    size_t charge = (flags & MAP_FIXED) != 0 || (protection & PROT_WRITE) == 0 ? 0 : bytes;
    if (!test_may_commit(charge))
        return MAP_FAILED;
    if (!test_is_within(address, bytes)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *start = address != NULL ? mmap(address, bytes, protection, flags, fd, offset)
                                  : test_map_anywhere(bytes, protection, flags);
    if (start == MAP_FAILED)
        test_uncommit(charge);
    else if ((protection & PROT_WRITE) == 0)
        test_without_access = (uintptr_t)start;
    return start;
}

static int test_madvise(void *address, size_t bytes, int advice)
{
    test_aligned("madvise", address, bytes);
    return madvise(address, bytes, advice);
}

/* Growth in place, or a move that leaves its source mapped and replaces its target. */
static void *test_mremap(void *from, size_t old_bytes, size_t new_bytes, int flags, void *to)
{
    test_aligned("mremap", from, old_bytes);
    test_aligned("mremap", to, new_bytes);
    size_t charge = new_bytes - old_bytes;
    if (!test_may_commit(charge))
        return MAP_FAILED;
    void *start = MAP_FAILED;
    if (test_is_within(from, new_bytes))
        start = mremap(from, old_bytes, new_bytes, flags, to);
    else
        errno = ENOMEM;
    if (start == MAP_FAILED)
        test_uncommit(charge);
    return start;
}

static unsigned long test_getauxval(unsigned long type)
{
    if (type == AT_PAGESZ)
        return TEST_PAGE_BYTES;
#ifdef TEST_ADDRESS_BITS /* the layout of a program there */
    if (type == AT_PHDR)
        return TEST_ADDRESS_END / 3 * 2;
    if (type == AT_BASE || type == AT_SYSINFO_EHDR || type == AT_EXECFN)
        return TEST_ADDRESS_END - ((uintptr_t)1 << 30);
#endif
    return getauxval(type);
}

#define mmap test_mmap
#define munmap test_munmap
#define madvise test_madvise
#define mremap test_mremap
#define getauxval test_getauxval

#endif
