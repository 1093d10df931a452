/* os_linux.c: the only file that makes system calls. Fulfils os.h on Linux.
 *
 * Every function leaves errno as it found it: free must keep it, and malloc's own value is set
 * by the API. Flags newer than the oldest kernels in use are spelled out here, since the libc
 * that valloc is built against may not know them; a kernel that lacks them refuses cleanly. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os.h"

#include "base/probe.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define HAS_SINGLE_THREADED 1
#endif
#include <time.h>
#include <unistd.h>

#include "base/config.h"

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
#ifndef HWCAP2_MTE
#define HWCAP2_MTE (1ul << 18)
#endif
#ifndef PR_SET_TAGGED_ADDR_CTRL
#define PR_SET_TAGGED_ADDR_CTRL 55
#endif
#ifndef PROT_MTE
#define PROT_MTE 0x20
#endif
#ifndef FUTEX_WAIT_PRIVATE
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#endif

#ifdef VALLOC_TEST_OS_HEADER /* test builds put their own calls between */
#include VALLOC_TEST_OS_HEADER
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

VA_STARTUP bool va_os_is_privileged(void)
{
    return getauxval(AT_SECURE) != 0;
}

VA_STARTUP bool va_os_is_real_time(void)
{
    int saved = errno;
    long policy = syscall(SYS_sched_getscheduler, 0) & ~SCHED_RESET_ON_FORK;
    errno = saved;
    return policy == SCHED_FIFO || policy == SCHED_RR;
}

#if VA_MEMTAG
static int accessible = PROT_READ | PROT_WRITE; /* const once blocks are mapped */
#else
enum { accessible = PROT_READ | PROT_WRITE };
#endif

static void *map(void *address, size_t bytes, int protection, int flags)
{
    int saved = errno;
    void *result = mmap(address, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    errno = saved;
    return result == MAP_FAILED ? NULL : result;
}

static bool unmap(void *address, size_t bytes)
{
    int saved = errno;
    bool done = bytes == 0 || munmap(address, bytes) == 0;
    errno = saved;
    return done;
}

static bool advise(void *address, size_t bytes, int advice)
{
    int saved = errno;
    bool done = madvise(address, bytes, advice) == 0;
    errno = saved;
    return done;
}

/* ---- Places ---- */

/* A number that differs from process to process and from call to call, of what the kernel gave this
 * process at its start: no system call, and none of it shows. */
static VA_STARTUP uint64_t place_number(void)
{
    static _Atomic uint64_t calls; /* relaxed: each call gets another number */
    uint64_t given[2] = {0, 0};
    const void *random = (const void *)getauxval(AT_RANDOM);
    if (random != NULL)
        memcpy(given, random, sizeof given);
    uint64_t x = given[0] ^ (given[1] << 23 | given[1] >> 41);
    x += 0x9e3779b97f4a7c15u * (1 + atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed));
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

typedef struct Gap {
    uintptr_t start, end;
} Gap;

/* The highest wide gap between what the kernel mapped at the start: the program, the loader, the
 * vDSO, the stack. Between the program and the libraries in all usual layouts. */
static VA_STARTUP Gap find_gap(void)
{
#if VA_TSAN && defined(__x86_64__)
    /* ThreadSanitizer knows a few ranges only: this one lies behind where programs are. */
    return (Gap){0x565600000000, 0x568000000000};
#endif
    int saved = errno; /* of a mark that is missing, as where there is no vDSO */
    uintptr_t marks[] = {getauxval(AT_PHDR), getauxval(AT_BASE), getauxval(AT_SYSINFO_EHDR),
                         getauxval(AT_EXECFN)}; /* on the stack */
    errno = saved;
    enum { MARKS = sizeof marks / sizeof *marks };
    for (unsigned i = 1; i < MARKS; i++) {
        for (unsigned k = i; k > 0 && marks[k - 1] > marks[k]; k--) {
            uintptr_t lower = marks[k];
            marks[k] = marks[k - 1];
            marks[k - 1] = lower;
        }
    }
    Gap gap = {0, marks[0]};
    for (unsigned i = 1; i < MARKS; i++)
        if (marks[i] - marks[i - 1] >= marks[MARKS - 1] / 8)
            gap = (Gap){marks[i - 1], marks[i]};
    return gap;
}

/* In the middle half: the program's heap grows into one end of the gap, mappings into the other. */
static VA_STARTUP void *find_random_place(size_t *bytes, size_t least, size_t alignment)
{
    Gap gap = find_gap();
    size_t half = (gap.end - gap.start) / 2;
    *bytes = va_max(va_min(*bytes, va_align_down(half / 4, alignment)), least);
    if (half < *bytes + alignment)
        return NULL;
    size_t offset = (size_t)(place_number() % (half - *bytes - alignment + 1));
    return (void *)va_align_up(gap.start + half / 2 + offset, alignment);
}

/* Maps inaccessible memory and unmaps it: nobody else is there. Half of it and so on, if refused.
 */
static VA_COLD void *find_kernels_place(size_t *bytes, size_t least, size_t alignment)
{
    char *start;
    while ((start = map(NULL, *bytes + alignment, PROT_NONE, MAP_NORESERVE)) == NULL &&
           *bytes > least)
        *bytes = va_max(va_align_down(*bytes / 2, alignment), least);
    if (start == NULL)
        return NULL;
    unmap(start, *bytes + alignment);
    return (void *)va_align_up((uintptr_t)start, alignment);
}

VA_STARTUP void *va_os_find_place(size_t *bytes, size_t least, size_t alignment, bool at_random)
{
    return at_random ? find_random_place(bytes, least, alignment)
                     : find_kernels_place(bytes, least, alignment);
}

/* ---- Mapping ---- */

/* Kernels before 4.17 take the address for a hint. */
VA_STARTUP MapResult va_os_map_at(void *address, size_t bytes)
{
    int saved = errno;
    void *start =
        mmap(address, bytes, accessible, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    MapResult result = start == address                         ? MAP_DONE
                       : start == MAP_FAILED && errno != EEXIST ? MAP_REFUSED
                                                                : MAP_BLOCKED;
    if (start != MAP_FAILED && start != address)
        munmap(start, bytes);
    errno = saved;
    return result;
}

/* The last page stands for the mapping that it belongs to. The kernel does not say why it refuses:
 * a mapping beside it tells, and serves as well. */
VA_STARTUP MapResult va_os_extend(void *end, size_t bytes)
{
    size_t page = va_os_page_bytes();
    int saved = errno;
    void *grown = mremap((char *)end - page, page, page + bytes, 0, NULL);
    errno = saved;
    return va_likely(grown != MAP_FAILED) ? MAP_DONE : va_os_map_at(end, bytes);
}

bool va_os_unmap(void *address, size_t bytes)
{
    return unmap(address, bytes);
}

void *va_os_map(size_t bytes)
{
    void *address = map(NULL, bytes, PROT_READ | PROT_WRITE, 0);
    if (address != NULL)
        advise(address, bytes, MADV_DONTDUMP);
    return address;
}

void *va_os_map_inaccessible(size_t bytes)
{
    return map(NULL, bytes, PROT_NONE, MAP_NORESERVE);
}

static _Atomic size_t purged_bytes; /* relaxed: a statistic */

/* Emulators and sandboxes exist where the advice does nothing and is said to be done: a page of our
 * own tells. Looked at once; threads that look at the same time find the same. */
static VA_COLD bool purging_works(void)
{
    static _Atomic unsigned known; /* relaxed: 0 not yet, 1 works, 2 does not */
    unsigned answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (va_likely(answer != 0))
        return answer == 1;
    size_t bytes = va_os_page_bytes();
    volatile char *page = map(NULL, bytes, PROT_READ | PROT_WRITE, 0);
    if (page == NULL)
        return true; /* until it can be known */
    *page = 1;
    bool emptied = advise((void *)(uintptr_t)page, bytes, MADV_DONTNEED);
    if (emptied) /* a refusal may have other reasons, and is seen anyway */
        atomic_store_explicit(&known, *page == 0 ? 1 : 2, memory_order_relaxed);
    emptied = *page == 0;
    unmap((void *)(uintptr_t)page, bytes);
    return emptied;
}

bool va_os_purge(void *address, size_t bytes)
{
    bool done = purging_works() && advise(address, bytes, MADV_DONTNEED);
    if (done) {
        atomic_fetch_add_explicit(&purged_bytes, bytes, memory_order_relaxed);
        VA_PROBE2(valloc, purge, address, bytes);
    }
    return done;
}

size_t va_os_purged(void)
{
    return atomic_load_explicit(&purged_bytes, memory_order_relaxed);
}

void va_os_advise_huge(void *address, size_t bytes, bool on)
{
    advise(address, bytes, on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t va_os_populate(void *address, size_t bytes)
{
    static atomic_bool refused; /* relaxed: a stale false costs one more refused call */
    if (atomic_load_explicit(&refused, memory_order_relaxed))
        return 0;
    uint64_t start = clock_ns();
    if (!advise(address, bytes, MADV_POPULATE_WRITE))
        atomic_store_explicit(&refused, true, memory_order_relaxed);
    return clock_ns() - start;
}

/* Whether the range is within one mapping. It asks for a page more behind it, where something else
 * is mapped: the kernel refuses, for that reason or because the mapping ends before. */
static VA_COLD bool is_one_mapping(void *start, size_t bytes)
{
    void *result = mremap(start, bytes, bytes + va_os_page_bytes(), 0, NULL);
    return result == MAP_FAILED && (errno == ENOMEM || errno == EAGAIN);
}

/* Not several mappings at once: kernels before 6.17 refuse, but unmap the target first; later ones
 * may stop half way and do not say where. */
VA_COLD bool va_os_move(void *from, void *to, size_t bytes, size_t to_bytes)
{
    const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    char *rest = (char *)to + bytes;
    size_t rest_bytes = to_bytes - bytes;
    bool moved = false;
    int saved = errno;
    if (is_one_mapping(from, bytes)) {
        moved = mremap(from, bytes, bytes, flags, to) != MAP_FAILED;
        if (moved && rest_bytes != 0) { /* the rest becomes part of the mapping */
            unmap(rest, rest_bytes);
            moved = va_os_extend(rest, rest_bytes) == MAP_DONE;
            if (va_unlikely(!moved))
                memcpy(from, to, bytes);
        }
        if (va_unlikely(!moved))
            va_os_remap(to, to_bytes); /* it may be unmapped */
    }
    errno = saved;
    return moved;
}

bool va_os_remap(void *address, size_t bytes)
{
    return map(address, bytes, accessible, MAP_FIXED) != NULL;
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

/* Time takes the place of membarrier, for which a sandbox that closes later would kill the process;
 * what mprotect sends to other processors is no barrier on all machines. A processor passes on what
 * it stored within microseconds, and forgets as soon what it read ahead. */
VA_COLD bool va_os_barrier(void)
{
    static _Atomic uint32_t never; /* wakes nobody */
    const struct timespec time = {0, VA_BARRIER_US * 1000};
    bool over = false;
    int saved = errno;
    for (unsigned tries = 0; tries < VA_BARRIER_TRIES && !over; tries++) /* signals end it early */
        over = syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0) != 0 &&
               errno == ETIMEDOUT;
    errno = saved;
    return over;
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

VA_COLD void va_os_wake_all(_Atomic uint32_t *word)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    errno = saved;
}

/* The kernel reads the set before it finds that there is no such way to use it. As cheap as a call
 * gets, 0.2 us, and sandboxes allow it, since libc needs it for threads. */
VA_COLD bool va_os_is_readable(const void *address)
{
    int saved = errno;
    bool readable =
        syscall(SYS_rt_sigprocmask, -1L, address, NULL, sizeof(uint64_t)) != 0 && errno == EINVAL;
    errno = saved;
    return readable;
}

/* The kernel's vector has the name of a script, too, or a relative path. */
VA_COLD void va_os_program_path(char *path, size_t bytes)
{
    int saved = errno;
    (void)!readlink("/proc/self/exe", path, bytes);
    errno = saved;
}

VA_COLD bool va_os_start_thread(pthread_t *thread, void *(*run)(void *))
{
    int saved = errno;
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool done = pthread_create(thread, NULL, run, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = saved;
    return done;
}

VA_COLD bool va_os_handle(int signal, void (*handler)(int signal))
{
    int saved = errno;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    bool done = sigaction(signal, &action, NULL) == 0;
    errno = saved;
    return done;
}

void _IO_list_lock(void) __attribute__((weak));
void _IO_list_unlock(void) __attribute__((weak));
void _IO_list_resetlock(void) __attribute__((weak));

VA_COLD void va_os_lock_streams(void)
{
    if (_IO_list_lock != NULL && _IO_list_unlock != NULL && _IO_list_resetlock != NULL)
        _IO_list_lock();
}

VA_COLD void va_os_unlock_streams(void)
{
    if (_IO_list_lock != NULL && _IO_list_unlock != NULL && _IO_list_resetlock != NULL)
        _IO_list_unlock();
}

VA_COLD void va_os_reset_streams(void)
{
    if (_IO_list_resetlock != NULL)
        _IO_list_resetlock();
}

/* Where robust mutexes are not supported (emulators) it is an ordinary one: always held. */
VA_COLD void va_os_life_make(Life *life)
{
    pthread_mutexattr_t robust;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    if (pthread_mutex_init(&life->held, &robust) != 0)
        pthread_mutex_init(&life->held, NULL);
    pthread_mutexattr_destroy(&robust);
}

/* After a fork it may be held by a thread that the child does not have. */
VA_COLD void va_os_life_begin(Life *life)
{
    if (va_likely(pthread_mutex_trylock(&life->held) == 0))
        return;
    va_os_life_make(life);
    (void)pthread_mutex_trylock(&life->held);
}

VA_COLD void va_os_life_end(Life *life)
{
    if (va_unlikely(pthread_mutex_unlock(&life->held) != 0))
        va_os_life_make(life);
}

VA_COLD bool va_os_life_take_over(Life *life)
{
    int result = pthread_mutex_trylock(&life->held);
    if (result == 0)
        pthread_mutex_unlock(&life->held);
    if (result == EOWNERDEAD)
        pthread_mutex_consistent(&life->held);
    return result == EOWNERDEAD;
}

/* In shared libraries of ours the linker sees to it. A program without a dynamic linker may have
 * none of these functions, and its linker warns of the use of dlopen. In the program itself, which
 * is no library, the start of its image says so. */
#if !defined(VALLOC_STAYS_LOADED)
#pragma weak dladdr
#pragma weak dlsym
#endif
VA_STARTUP void va_os_stay_loaded(void)
{
#if !defined(VALLOC_STAYS_LOADED)
    int saved = errno;
    Dl_info self;
    void *(*open)(const char *, int) = NULL;
    if (dladdr != NULL && dlsym != NULL &&
        dladdr((void *)(uintptr_t)&va_os_stay_loaded, &self) != 0 && self.dli_fname != NULL &&
        getauxval(AT_PHDR) - (uintptr_t)self.dli_fbase >= va_os_page_bytes())
        *(void **)&open = dlsym(RTLD_DEFAULT, "dlopen");
    if (open != NULL)
        open(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
    errno = saved;
#endif
}

/* Before the kernel's pool is ready, or without the call, what it gave this process at its start.
 * In libc's function a thread may be cancelled. */
void va_os_random(void *buffer, size_t bytes)
{
    int saved = errno;
    const unsigned char *given = (const unsigned char *)getauxval(AT_RANDOM);
    if (syscall(SYS_getrandom, buffer, bytes, GRND_NONBLOCK) != (long)bytes)
        for (size_t i = 0; i < bytes; i++)
            ((unsigned char *)buffer)[i] =
                (unsigned char)(given[i % 16] ^ (unsigned char)(place_number() >> 11));
    errno = saved;
}

#if VALLOC_SECURE_QUARANTINE
bool va_os_protect(void *address, size_t bytes, bool open)
{
    int saved = errno;
    bool done = mprotect(address, bytes, open ? accessible : PROT_NONE) == 0;
    errno = saved;
    return done;
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

#if VA_MEMTAG
/* A fault comes at the access (1 << 1), and the kernel takes addresses with tags (1 << 0). The
 * processor draws from the tags 1 to 15. */
VA_STARTUP bool va_os_start_memtags(void)
{
    int saved = errno;
    bool done = (getauxval(AT_HWCAP2) & HWCAP2_MTE) != 0 &&
                prctl(PR_SET_TAGGED_ADDR_CTRL, 1ul | 1ul << 1 | 0xfffeul << 3, 0, 0, 0) == 0;
    if (done)
        accessible |= PROT_MTE;
    errno = saved;
    return done;
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

VA_COLD uint64_t va_os_process_id(void)
{
    return (uint64_t)getpid();
}

VA_COLD int va_os_create(const char *path)
{
    int saved = errno;
    long file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    errno = saved;
    return (int)file;
}

VA_COLD size_t va_os_read_file(const char *path, char *buffer, size_t bytes)
{
    int saved = errno;
    size_t length = 0;
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    long count = file >= 0 ? 1 : 0;
    while (count > 0 && length < bytes) {
        count = syscall(SYS_read, file, buffer + length, bytes - length);
        length += count > 0 ? (size_t)count : 0;
    }
    if (file >= 0)
        syscall(SYS_close, file);
    errno = saved;
    return length;
}

VA_COLD void va_os_close(int file)
{
    int saved = errno;
    syscall(SYS_close, file);
    errno = saved;
}

void va_os_report(const char *text, size_t length)
{
    va_os_write(VA_STDERR, text, length);
}
