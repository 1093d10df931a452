/* os_linux.c: the only file that makes system calls. Fulfils os.h on Linux.
 *
 * Every function leaves errno as it found it: free must keep it, and malloc's own value is set
 * by the API. Flags newer than the oldest kernels in use are spelled out here, since the libc
 * that valloc is built against may not know them; a kernel that lacks them refuses cleanly. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define HAS_SINGLE_THREADED 1
#endif
#include <time.h>
#include <unistd.h>

#include "config.h"

#ifdef VALLOC_TEST_OS_HEADER /* test builds put their own calls between */
#include VALLOC_TEST_OS_HEADER
#endif

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef PR_GET_THP_DISABLE
#define PR_GET_THP_DISABLE 42
#endif
#define MEMBARRIER_PRIVATE 8 /* MEMBARRIER_CMD_PRIVATE_EXPEDITED, since Linux 4.14 */
#define MEMBARRIER_REGISTER 16
#ifndef FUTEX_WAIT_PRIVATE
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#endif

size_t va_os_page_bytes(void)
{
    static _Atomic size_t page_bytes; /* relaxed: every writer stores the same value */
    size_t bytes = atomic_load_explicit(&page_bytes, memory_order_relaxed);
    if (va_unlikely(bytes == 0)) {
        bytes = (size_t)getauxval(AT_PAGESZ);
        atomic_store_explicit(&page_bytes, bytes, memory_order_relaxed);
    }
    return bytes;
}

static void *map(void *address, size_t bytes, int protection, int flags)
{
    int saved = errno;
    void *result = mmap(address, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    errno = saved;
    return result == MAP_FAILED ? NULL : result;
}

static void unmap(void *address, size_t bytes)
{
    int saved = errno;
    if (bytes != 0)
        munmap(address, bytes);
    errno = saved;
}

static bool advise(void *address, size_t bytes, int advice)
{
    int saved = errno;
    bool done = madvise(address, bytes, advice) == 0;
    errno = saved;
    return done;
}

/* Newer kernels align large mappings by themselves: that is tried before more is mapped than kept.
 */
void *va_os_reserve(size_t bytes, size_t alignment)
{
    if (bytes > SIZE_MAX - alignment)
        return NULL;
    char *start = map(NULL, bytes, PROT_NONE, MAP_NORESERVE);
    if (start == NULL || (uintptr_t)start % alignment == 0)
        return start;
    unmap(start, bytes);
    size_t mapped = bytes + alignment;
    start = map(NULL, mapped, PROT_NONE, MAP_NORESERVE);
    if (start == NULL)
        return NULL;
    size_t head = va_align_up((uintptr_t)start, alignment) - (uintptr_t)start;
    unmap(start, head);
    unmap(start + head + bytes, mapped - head - bytes);
    return start + head;
}

/* Kernels before 4.17 take the address for a hint. */
VA_COLD void *va_os_reserve_at(void *address, size_t bytes)
{
    void *start = map(address, bytes, PROT_NONE, MAP_NORESERVE | MAP_FIXED_NOREPLACE);
    if (start == address)
        return start;
    if (start != NULL)
        unmap(start, bytes);
    return NULL;
}

void va_os_unreserve(void *address, size_t bytes)
{
    unmap(address, bytes);
}

bool va_os_commit(void *address, size_t bytes)
{
    int saved = errno;
    bool done = mprotect(address, bytes, PROT_READ | PROT_WRITE) == 0;
    errno = saved;
    return done;
}

void *va_os_map(size_t bytes)
{
    void *address = map(NULL, bytes, PROT_READ | PROT_WRITE, 0);
    if (address != NULL)
        va_os_exclude_from_dump(address, bytes);
    return address;
}

void va_os_exclude_from_dump(void *address, size_t bytes)
{
    advise(address, bytes, MADV_DONTDUMP);
}

static _Atomic size_t purged_bytes; /* relaxed: a statistic */

bool va_os_purge(void *address, size_t bytes)
{
    bool done = advise(address, bytes, MADV_DONTNEED);
    if (done)
        atomic_fetch_add_explicit(&purged_bytes, bytes, memory_order_relaxed);
    return done;
}

void va_os_purge_again(void *address, size_t bytes)
{
    advise(address, bytes, MADV_DONTNEED);
}

size_t va_os_purged(void)
{
    return atomic_load_explicit(&purged_bytes, memory_order_relaxed);
}

void va_os_advise_huge(void *address, size_t bytes, bool on)
{
    advise(address, bytes, on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void va_os_populate(void *address, size_t bytes)
{
    static atomic_bool refused; /* relaxed: a stale false costs one more refused call */
    if (atomic_load_explicit(&refused, memory_order_relaxed))
        return;
    if (!advise(address, bytes, MADV_POPULATE_WRITE))
        atomic_store_explicit(&refused, true, memory_order_relaxed);
}

/* Is the range within one mapping? It asks for a page more behind it, where something else is
 * mapped: the kernel refuses, for that reason or because it ends here already. */
static VA_COLD bool is_one_mapping(void *start, size_t bytes)
{
    void *result = mremap(start, bytes, bytes + va_os_page_bytes(), 0, NULL);
    return result == MAP_FAILED && (errno == ENOMEM || errno == EAGAIN);
}

/* How much of the range is within the first mapping; 0 if that cannot be told. */
static VA_COLD size_t first_mapping(char *start, size_t bytes)
{
    size_t page = va_os_page_bytes();
    size_t low = 0;
    size_t high = bytes / page; /* low pages are within it, high pages are not */
    if (is_one_mapping(start, bytes))
        return bytes;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (is_one_mapping(start, middle * page))
            low = middle;
        else
            high = middle;
    }
    return low * page;
}

/* Mapping by mapping: the runs of a grown buffer came to lie side by side by earlier moves, and the
 * program may have given advice on parts of one. Before Linux 6.17 a kernel refuses to move several
 * at once, when it has unmapped the target already: what another thread then mapped there would be
 * lost; later ones may stop half way and do not say where. */
VA_COLD bool va_os_move(void *from, void *to, size_t bytes)
{
    const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    size_t parts[VA_MOVE_PARTS_MAX];
    size_t count = 0;
    size_t known = 0;
    size_t moved = 0;
    int saved = errno;
    for (; known < bytes && count < VA_MOVE_PARTS_MAX; known += parts[count++])
        if ((parts[count] = first_mapping((char *)from + known, bytes - known)) == 0)
            break;
    for (size_t i = 0; known == bytes && i < count; moved += parts[i++])
        if (mremap((char *)from + moved, parts[i], parts[i], flags, (char *)to + moved) ==
            MAP_FAILED)
            break;
    if (va_unlikely(known == bytes && moved < bytes)) {
        memcpy(from, to, moved);
        va_os_remap(to, bytes); /* the part that was refused may be unmapped */
    }
    errno = saved;
    return moved == bytes;
}

bool va_os_remap(void *address, size_t bytes)
{
    /* With the flag of its neighbours, or they would stay apart. */
    return map(address, bytes, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_NORESERVE) != NULL;
}

static VA_STARTUP size_t limit_bytes(bool known, const struct rlimit *limit)
{
    return known && limit->rlim_cur != RLIM_INFINITY ? (size_t)limit->rlim_cur : SIZE_MAX;
}

size_t va_os_address_limit(void)
{
    struct rlimit limit;
    int saved = errno;
    bool known = getrlimit(RLIMIT_AS, &limit) == 0;
    errno = saved;
    return limit_bytes(known, &limit);
}

size_t va_os_data_limit(void)
{
    struct rlimit limit;
    int saved = errno;
    bool known = getrlimit(RLIMIT_DATA, &limit) == 0;
    errno = saved;
    return limit_bytes(known, &limit);
}

uint64_t va_os_thread_ns(void)
{
    struct timespec used;
    int saved = errno;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    errno = saved;
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

uint64_t va_os_clock_ms(void)
{
    struct timespec now;
    int saved = errno;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    errno = saved;
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

VA_STARTUP bool va_os_is_single_threaded(void)
{
#ifdef HAS_SINGLE_THREADED
    return __libc_single_threaded != 0;
#else
    return false;
#endif
}

/* The kernel wants to know beforehand who will ask: then, with threads, it takes milliseconds. */
VA_COLD bool va_os_barrier(void)
{
    int saved = errno;
    bool done = syscall(SYS_membarrier, MEMBARRIER_PRIVATE, 0, 0) == 0 ||
                (errno == EPERM && syscall(SYS_membarrier, MEMBARRIER_REGISTER, 0, 0) == 0 &&
                 syscall(SYS_membarrier, MEMBARRIER_PRIVATE, 0, 0) == 0);
    errno = saved;
    return done;
}

VA_APART void va_os_wait(_Atomic uint32_t *word, uint32_t expected)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
    errno = saved;
}

VA_COLD void va_os_wait_for(_Atomic uint32_t *word, uint32_t expected, uint64_t ms)
{
    struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000 * 1000000)};
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &time, NULL, 0);
    errno = saved;
}

VA_APART void va_os_wake_one(_Atomic uint32_t *word)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved;
}

#if VALLOC_SECURE_RANDOM || VALLOC_SECURE_QUARANTINE || VALLOC_SECURE_CANARY
/* Before the kernel's pool is ready, or without the call, what it gave this process at its start.
 * In libc's function a thread may be cancelled. */
void va_os_random(void *buffer, size_t bytes)
{
    int saved = errno;
    const unsigned char *given = (const unsigned char *)getauxval(AT_RANDOM);
    if (syscall(SYS_getrandom, buffer, bytes, GRND_NONBLOCK) != (long)bytes)
        for (size_t i = 0; i < bytes; i++)
            ((unsigned char *)buffer)[i] = (unsigned char)(given[i % 16] ^ va_os_thread_ns());
    errno = saved;
}
#endif

#if VALLOC_SECURE_GUARD
bool va_os_guard(void *address, size_t bytes)
{
    return advise(address, bytes, MADV_GUARD_INSTALL);
}

void va_os_unguard(void *address, size_t bytes)
{
    if (!advise(address, bytes, MADV_GUARD_REMOVE))
        va_os_remap(address, bytes); /* nothing is kept there */
}
#endif

/* In libc's function a thread may be cancelled, with locks of ours held. */
VA_COLD void va_os_write(int file, const char *text, size_t length)
{
    int saved = errno;
    long written;
    while (length > 0 && ((written = syscall(SYS_write, file, text, length)) > 0 ||
                          (written < 0 && errno == EINTR))) {
        size_t done = written > 0 ? (size_t)written : 0;
        text += done;
        length -= done;
    }
    errno = saved;
}

void va_os_report(const char *text, size_t length)
{
    va_os_write(STDERR_FILENO, text, length);
}
