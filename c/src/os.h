/* os.h: what valloc asks of the kernel, and nothing else does.
 *
 * Contracts only; os_linux.c fulfils them and is the one file with system calls. Addresses and
 * sizes are multiples of the page size. Functions that return bool or a pointer report failure
 * by false or NULL, change nothing then, and keep errno. Any thread; no locks. */
#ifndef VA_OS_H
#define VA_OS_H

#include "base.h"

/* The kernel's page size in bytes. */
size_t va_os_page_bytes(void);

/* Sets aside address space without access and without a claim on memory; NULL if refused. */
void *va_os_reserve(size_t bytes, size_t alignment);
/* The same there; NULL also if something else lies in the way. */
void *va_os_reserve_at(void *address, size_t bytes);
void va_os_unreserve(void *address, size_t bytes);

/* Makes reserved pages readable and writable; they read as zero until written. */
bool va_os_commit(void *address, size_t bytes);

/* New zeroed memory for valloc's own tables, kept out of core dumps. */
void *va_os_map(size_t bytes);

/* Keeps reserved address space out of core dumps. */
void va_os_exclude_from_dump(void *address, size_t bytes);

/* Drops the pages: the memory stays accessible and reads as zero. */
bool va_os_purge(void *address, size_t bytes);

/* The same for what was purged before and may have come back with its neighbours; not counted. */
void va_os_purge_again(void *address, size_t bytes);

/* The bytes of all purges since the start; may be called by a signal handler. */
size_t va_os_purged(void);

/* Allows or forbids huge pages in the range; a hint. */
void va_os_advise_huge(void *address, size_t bytes, bool on);

/* Makes the pages resident at once; a hint. */
void va_os_populate(void *address, size_t bytes);

/* Moves the pages of [from, from + bytes) to [to, to + bytes) without copying. Both ranges are
 * committed before and after; what was at `to` is gone, and `from` reads as zero. Behind the source
 * something has to be mapped. If that fails only `to` may have changed. */
bool va_os_move(void *from, void *to, size_t bytes);

/* Replaces a range that va_os_move wrote by a plain committed one, zeroed, so that it becomes
 * one mapping with its neighbours again. */
bool va_os_remap(void *address, size_t bytes);

/* Bytes of address space that the process may still take (RLIMIT_AS), SIZE_MAX if unlimited. */
size_t va_os_address_limit(void);

/* Bytes that may be accessible and private (RLIMIT_DATA), SIZE_MAX if unlimited. */
size_t va_os_data_limit(void);

/* Nanoseconds of processor time that the calling thread has used, with the kernel's for it. */
uint64_t va_os_thread_ns(void);

/* Milliseconds of a monotonic clock with a few milliseconds' resolution; cheap. */
uint64_t va_os_clock_ms(void);

/* Whether libc knows of no other thread than the calling one; false where it does not tell. */
bool va_os_is_single_threaded(void);

/* When it returns every other thread of the process has passed a full memory barrier, wherever it
 * was. False if the kernel has no such thing. */
bool va_os_barrier(void);

/* Sleeps while *word == expected, until woken; may return early. */
void va_os_wait(_Atomic uint32_t *word, uint32_t expected);
/* The same for at most so many milliseconds. */
void va_os_wait_for(_Atomic uint32_t *word, uint32_t expected, uint64_t ms);
void va_os_wake_one(_Atomic uint32_t *word);

/* For secure builds: random bytes; pages that trap whatever touches them, which stay so when purged
 * (false if the kernel has no such thing), and back. */
void va_os_random(void *buffer, size_t bytes);
bool va_os_guard(void *address, size_t bytes);
void va_os_unguard(void *address, size_t bytes);

/* Writes to stderr, or to a file descriptor. Async-signal-safe. */
void va_os_report(const char *text, size_t length);
void va_os_write(int file, const char *text, size_t length);

#endif
