/* failing_core.c: the core as it is, its system calls through the wrappers below. os_linux.c is the
 * only file that makes any, but for the key of thread.c: their names are redefined before the core
 * is included, and the headers that declare them come first. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "inject.h"

static struct {
    Call call;
    unsigned nth; /* 0: nothing fails */
    bool onward;
    atomic_uint count;
    atomic_bool happened;
} plan;

void inject(Call call, unsigned nth, bool onward)
{
    plan.call = call;
    plan.nth = nth;
    plan.onward = onward;
    plan.count = 0;
    plan.happened = false;
}

bool inject_end(void)
{
    plan.nth = 0;
    return plan.happened;
}

bool inject_hits(Call call)
{
    if (plan.nth == 0 || call != plan.call)
        return false;
    unsigned count = atomic_fetch_add(&plan.count, 1) + 1;
    if (count != plan.nth && !(plan.onward && count > plan.nth))
        return false;
    plan.happened = true;
    return true;
}

static bool fails(Call call, int error)
{
    if (!inject_hits(call))
        return false;
    errno = error;
    return true;
}

static void *failing_mmap(void *address, size_t bytes, int protection, int flags, int file,
                          off_t offset)
{
    if (fails(flags & MAP_FIXED ? CALL_REMAP : CALL_MAP, ENOMEM))
        return MAP_FAILED;
    return mmap(address, bytes, protection, flags, file, offset);
}

static int failing_munmap(void *address, size_t bytes)
{
    return fails(CALL_UNMAP, ENOMEM) ? -1 : munmap(address, bytes);
}

static int failing_madvise(void *address, size_t bytes, int advice)
{
    Call call = advice == MADV_DONTNEED                                ? CALL_PURGE
                : advice == MADV_DONTDUMP                              ? CALL_DUMP
                : advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE ? CALL_HUGE
                                                                       : CALL_POPULATE;
    return fails(call, EAGAIN) ? -1 : madvise(address, bytes, advice);
}

static void *failing_mremap(void *from, size_t old_bytes, size_t bytes, int flags, void *to)
{
    if (to == NULL ? fails(CALL_GROW, ENOMEM) : fails(CALL_MOVE, EINVAL))
        return MAP_FAILED;
    if (to != NULL && inject_hits(CALL_MOVE_LATE)) {
        munmap(to, bytes);
        errno = EFAULT;
        return MAP_FAILED;
    }
    return mremap(from, old_bytes, bytes, flags, to);
}

static long failing_futex(_Atomic unsigned *word, int operation, unsigned value,
                          const struct timespec *time)
{
    bool wakes = operation % 128 == 1; /* FUTEX_WAKE */
    if (!wakes && fails(time == NULL ? CALL_WAIT : CALL_BARRIER, EINTR))
        return -1;
    long result = syscall(SYS_futex, word, operation, value, time, NULL, 0);
    return wakes && fails(CALL_WAKE, EFAULT) ? -1 : result;
}

static long failing_syscall(long number, ...)
{
    va_list rest;
    va_start(rest, number);
    long result;
    if (number == SYS_futex) {
        _Atomic unsigned *word = va_arg(rest, _Atomic unsigned *);
        int operation = va_arg(rest, int);
        unsigned value = va_arg(rest, unsigned);
        /* A wake has no time. */
        result = failing_futex(word, operation, value,
                               operation % 128 == 1 ? NULL : va_arg(rest, const struct timespec *));
    } else {
        long first = va_arg(rest, long);
        long second = va_arg(rest, long);
        long third = va_arg(rest, long);
        /* What is last is the mode of a file that is made, or the bytes of a set of signals. */
        result = syscall(number, first, second, third,
                         number == SYS_openat ? 0600 : (long)sizeof(uint64_t));
        Call call = number == SYS_getrandom        ? CALL_RANDOM
                    : number == SYS_rt_sigprocmask ? CALL_MASK
                                                   : CALL_FILE;
        if (fails(call, EIO)) {
            if (number == SYS_openat && result >= 0)
                close((int)result);
            result = -1;
        }
    }
    va_end(rest);
    return result;
}

static ssize_t failing_readlink(const char *path, char *buffer, size_t bytes)
{
    return fails(CALL_FILE, EACCES) ? -1 : readlink(path, buffer, bytes);
}

static int failing_key_create(pthread_key_t *key, void (*destructor)(void *))
{
    return inject_hits(CALL_KEY) ? EAGAIN : pthread_key_create(key, destructor);
}

#define mmap failing_mmap
#define munmap failing_munmap
#define madvise failing_madvise
#define mremap failing_mremap
#define syscall failing_syscall
#define readlink failing_readlink
#define pthread_key_create failing_key_create

#include "unity.c"
