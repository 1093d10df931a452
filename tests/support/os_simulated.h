/* os_simulated.h: the system calls of os_linux.c on a machine that tests control, for the library
 * valloc_simulated: -DVALLOC_TEST_OS_HEADER="os_simulated.h" includes it behind the system's
 * headers. simulated.h declares the controls. Untouched, they leave everything as it is.
 * Environment:
 *
 *   TEST_PAGE_BYTES     the page size: what getauxval says, how mmap aligns, and what every range
 *                       given to the kernel must be a multiple of, else the process aborts
 *   TEST_ADDRESS_BITS   mappings lie below 2^bits, densely from the top; beyond that: ENOMEM */
#ifndef OS_SIMULATED_H
#define OS_SIMULATED_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "simulated.h"

_Atomic size_t test_commit_rest = SIZE_MAX;
atomic_bool test_hold, test_no_purge, test_no_growth;
atomic_int test_held;
atomic_size_t test_purged;
unsigned test_advised, test_slow;
size_t test_huge_bytes;
_Atomic uint64_t test_now_ns;

static unsigned long test_option(const char *name, unsigned long otherwise)
{
    const char *value = getenv(name);
    return value != NULL ? strtoul(value, NULL, 10) : otherwise;
}

/* ---- Time ---- */

static int test_clock_gettime(clockid_t clock, struct timespec *time)
{
    uint64_t ns = test_now_ns;
    if (ns == 0)
        return clock_gettime(clock, time);
    *time = (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    return 0;
}

/* Once the clock stands, a wait ends when a test has moved the clock that far. (What waits for a
 * millisecond at most waits for other processors: they have the machine's clock.) */
static long test_futex_wait(_Atomic uint32_t *word, int operation, uint32_t value,
                            const struct timespec *time)
{
    const struct timespec moment = {0, 1000000};
    if (test_now_ns == 0 || time == NULL || (time->tv_sec == 0 && time->tv_nsec <= 1000000))
        return syscall(SYS_futex, word, operation, value, time, NULL, 0);
    uint64_t end = test_now_ns + (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
    while (test_now_ns < end)
        if (syscall(SYS_futex, word, operation, value, &moment, NULL, 0) == 0 || errno != ETIMEDOUT)
            return 0;
    errno = ETIMEDOUT;
    return -1;
}

static long test_syscall(long number, ...)
{
    va_list rest;
    va_start(rest, number);
    long result;
    if (number == SYS_futex) {
        _Atomic uint32_t *word = va_arg(rest, _Atomic uint32_t *);
        int operation = va_arg(rest, int);
        uint32_t value = va_arg(rest, uint32_t);
        result =
            operation % 128 == 1 /* FUTEX_WAKE */
                ? syscall(number, word, operation, value, NULL, NULL, 0)
                : test_futex_wait(word, operation, value, va_arg(rest, const struct timespec *));
    } else { /* write, getrandom; rt_sigprocmask has a set's size behind */
        long first = va_arg(rest, long);
        long second = va_arg(rest, long);
        result = syscall(number, first, second, va_arg(rest, long), sizeof(uint64_t));
    }
    va_end(rest);
    return result;
}

/* ---- Pages and addresses ---- */

static uintptr_t test_page_bytes(void)
{
    static _Atomic uintptr_t bytes;
    if (bytes == 0)
        bytes = test_option("TEST_PAGE_BYTES", getauxval(AT_PAGESZ));
    return bytes;
}

/* UINTPTR_MAX: that of the machine. */
static uintptr_t test_address_end(void)
{
    static _Atomic uintptr_t end;
    if (end == 0) {
        unsigned long bits = test_option("TEST_ADDRESS_BITS", 64);
        end = bits < 64 ? (uintptr_t)1 << bits : UINTPTR_MAX;
    }
    return end;
}

static void test_aligned(const char *call, const void *address, size_t bytes)
{
    if (((uintptr_t)address | bytes) % test_page_bytes() == 0)
        return;
    dprintf(2, "%s: %p, %zu bytes: not whole pages of %zu\n", call, address, bytes,
            (size_t)test_page_bytes());
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

static _Atomic uintptr_t test_floor; /* everything mapped lies above it */

static void *test_map_below(size_t bytes, int protection, int flags)
{
    uintptr_t none = 0;
    atomic_compare_exchange_strong(&test_floor, &none, test_address_end());
    uintptr_t floor = test_floor;
    uintptr_t start = floor;
    /* As the kernel does, below what somebody mapped at a place of their choice. */
    while (start >= bytes && start - bytes >= (uintptr_t)1 << 30) { /* programs lie there */
        start -= bytes;
        void *address = mmap((void *)start, bytes, protection, flags | MAP_FIXED_NOREPLACE, -1, 0);
        if (address != MAP_FAILED) {
            if (start + bytes == floor)
                atomic_compare_exchange_strong(&test_floor, &floor, start);
            return address;
        }
        if (errno != EEXIST)
            return MAP_FAILED;
        start += bytes - test_page_bytes() * ((bytes / 16 / test_page_bytes()) + 1);
    }
    errno = ENOMEM;
    return MAP_FAILED;
}

static void *test_map_anywhere(size_t bytes, int protection, int flags)
{
    uintptr_t page = test_page_bytes();
    if (test_address_end() != UINTPTR_MAX)
        return test_map_below(bytes, protection, flags);
    if (page == getauxval(AT_PAGESZ))
        return mmap(NULL, bytes, protection, flags, -1, 0);
    char *start = mmap(NULL, bytes + page, protection, flags, -1, 0);
    if (start == MAP_FAILED)
        return start;
    size_t head = -(uintptr_t)start % page;
    if (head != 0)
        munmap(start, head);
    munmap(start + head + bytes, page - head);
    return start + head;
}

/* What was mapped without access last: it was never charged. */
static uintptr_t test_without_access;

static int test_munmap(void *address, size_t bytes)
{
    test_aligned("munmap", address, bytes);
    int result = munmap(address, bytes);
    uintptr_t floor = (uintptr_t)address;
    if (result == 0)
        atomic_compare_exchange_strong(&test_floor, &floor, floor + bytes);
    if (result == 0 && (uintptr_t)address != test_without_access)
        test_uncommit(bytes);
    return result;
}

static int test_is_within(const void *address, size_t bytes)
{
    return (uintptr_t)address + bytes <= test_address_end();
}

static void *test_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    test_aligned("mmap", address, bytes);
    if (test_no_growth && address != NULL) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
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

static int test_purge(void *address, size_t bytes)
{
    struct timespec moment = {0, 1000000};
    test_held++;
    while (test_hold)
        nanosleep(&moment, NULL);
    test_held--;
    if (test_no_purge) {
        errno = EAGAIN;
        return -1;
    }
    test_purged += bytes;
    return madvise(address, bytes, MADV_DONTNEED);
}

static int test_madvise(void *address, size_t bytes, int advice)
{
    test_aligned("madvise", address, bytes);
    if (advice == MADV_DONTNEED)
        return test_purge(address, bytes);
    test_advised += advice == MADV_HUGEPAGE;
    test_huge_bytes += advice == MADV_HUGEPAGE ? bytes : 0;
    if (advice == MADV_POPULATE_WRITE && test_slow != 0) {
        test_slow--;
        test_now_ns += 4000000;
    }
    return madvise(address, bytes, advice);
}

/* Growth in place, or a move that leaves its source mapped and replaces its target. */
static void *test_mremap(void *from, size_t old_bytes, size_t new_bytes, int flags, void *to)
{
    test_aligned("mremap", from, old_bytes);
    test_aligned("mremap", to, new_bytes);
    size_t charge = new_bytes - old_bytes;
    if (test_no_growth && to == NULL) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
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
    uintptr_t end = test_address_end();
    if (type == AT_PAGESZ)
        return test_page_bytes();
    if (end == UINTPTR_MAX)
        return getauxval(type);
    if (type == AT_PHDR) /* the layout of a program there */
        return end / 3 * 2;
    if (type == AT_BASE || type == AT_SYSINFO_EHDR || type == AT_EXECFN)
        return end - ((uintptr_t)1 << 30);
    return getauxval(type);
}

#define mmap test_mmap
#define munmap test_munmap
#define madvise test_madvise
#define mremap test_mremap
#define getauxval test_getauxval
#define clock_gettime test_clock_gettime
#define syscall test_syscall

#endif
