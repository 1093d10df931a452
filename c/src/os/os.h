/* os.h: what valloc asks of the kernel, and nothing else does.
 *
 * Contracts only; os_linux.c fulfils them and is the one file with system calls. Addresses and
 * sizes are multiples of the page size. Functions that return bool or a pointer report failure
 * by false or NULL, change nothing then, and keep errno. Any thread; no locks. */
#ifndef VA_OS_H
#define VA_OS_H

#include <pthread.h>

#include "base/base.h"

/* The kernel's page size in bytes. */
size_t va_os_page_bytes(void);

/* Whether the program has more rights than whoever started it and gave it its environment. */
bool va_os_is_privileged(void);

/* Whether the calling thread has a real-time scheduling policy. */
bool va_os_is_real_time(void);

/* What became of a mapping at a given place: there; refused by a limit or for lack of memory; or
 * something else is mapped there already, which stays. */
typedef enum MapResult { MAP_DONE, MAP_REFUSED, MAP_BLOCKED } MapResult;

/* A range of address space for *bytes bytes, a multiple of the alignment, where nothing is mapped
 * as far as is known, and the kernel puts little by itself. At random: amid the largest gap between
 * the program and its libraries; *bytes is lowered to fit into a part of it, but not below `least`.
 * Else where the kernel has room. Claims nothing. NULL if there is no such range. */
void *va_os_find_place(size_t *bytes, size_t least, size_t alignment, bool at_random);

/* New zeroed memory in this place. */
MapResult va_os_map_at(void *address, size_t bytes);

/* The same right behind a mapping that ends there: it grows, with its advice. */
MapResult va_os_extend(void *end, size_t bytes);

/* False, with nothing changed, if the kernel refuses. */
bool va_os_unmap(void *address, size_t bytes);

/* New zeroed memory for valloc's own tables, kept out of core dumps. */
void *va_os_map(size_t bytes);

/* A range that traps; nothing of it counts as memory. NULL if a limit has no room for it. */
void *va_os_map_inaccessible(size_t bytes);

/* Drops the pages: the memory stays accessible and reads as zero. False if that is refused, or is
 * never done here whatever the kernel says. */
bool va_os_purge(void *address, size_t bytes);

/* The bytes of all purges since the start; may be called by a signal handler. */
size_t va_os_purged(void);

/* Allows or forbids huge pages in the range; a hint. */
void va_os_advise_huge(void *address, size_t bytes, bool on);

/* Makes the pages resident at once; a hint. Returns how many nanoseconds that took. */
uint64_t va_os_populate(void *address, size_t bytes);

/* Moves the pages of [from, from + bytes) to [to, to + bytes) without copying; [to, to + to_bytes)
 * then is one mapping, and `from` reads as zero. Both ranges are mapped before, and something
 * behind the source. False, for one if the source is several mappings: the source is as it was, the
 * target may be unmapped. */
bool va_os_move(void *from, void *to, size_t bytes, size_t to_bytes);

/* Replaces a range that va_os_move wrote by a plain one, zeroed, so that it becomes one mapping
 * with its neighbours again. False: it may be unmapped. */
bool va_os_remap(void *address, size_t bytes);

/* Milliseconds of a monotonic clock with a few milliseconds' resolution; cheap. */
uint64_t va_os_clock_ms(void);

/* glibc locks its list of streams for a fork, behind the handlers. A thread that has this lock may
 * wait for a stream whose user waits for memory: so the handlers take it before valloc's locks.
 * Nothing with other libcs. The last one is for the child. */
void va_os_lock_streams(void);
void va_os_unlock_streams(void);
void va_os_reset_streams(void);

/* Whether libc knows of no other thread than the calling one; false where it does not tell. */
bool va_os_is_single_threaded(void);

/* Waits until every other thread of the process must have passed a full memory barrier, wherever it
 * was. False if signals kept it from waiting. */
bool va_os_barrier(void);

/* Sleeps while *word == expected, until woken; may return early. */
void va_os_wait(_Atomic uint32_t *word, uint32_t expected);
/* The same for at most so many milliseconds. */
void va_os_wait_for(_Atomic uint32_t *word, uint32_t expected, uint64_t ms);
void va_os_wake_one(_Atomic uint32_t *word);
void va_os_wake_all(_Atomic uint32_t *word);

/* Whether the word at the address, other than NULL, can be read; false in case of doubt. */
bool va_os_is_readable(const void *address);

/* Stores the path of the program's file without a terminating zero; nothing if it is unknown. */
void va_os_program_path(char *path, size_t bytes);

/* A thread on which no signal handler of the program runs. */
bool va_os_start_thread(pthread_t *thread, void *(*run)(void *));

/* Sets the handler of a signal; system calls that it interrupts go on where they can. False if it
 * can have none. */
bool va_os_handle(int signal, void (*handler)(int signal));

/* A sign of life of a thread, which the kernel ends with the thread, however that ends. Made before
 * all else; begun and ended by the thread, which succeeds in any case. */
typedef struct Life {
    pthread_mutex_t held; /* robust */
} Life;
void va_os_life_make(Life *life);
void va_os_life_begin(Life *life);
void va_os_life_end(Life *life);
/* Has its thread vanished without an end? Then it is the caller's. */
bool va_os_life_take_over(Life *life);

/* Lets the library that this code is in stay loaded for ever. */
void va_os_stay_loaded(void);

/* Random bytes. */
void va_os_random(void *buffer, size_t bytes);

/* For secure builds: takes the access to a range away, or gives it back. False if the mappings
 * would be too many. */
bool va_os_protect(void *address, size_t bytes, bool open);
/* Pages that trap whatever touches them, which stay so when purged (false if the
 * kernel has no such thing), and back. */
bool va_os_guard(void *address, size_t bytes);
void va_os_unguard(void *address, size_t bytes);

/* For secure builds: from now on what is mapped for arenas has memory tags, and the processor
 * checks them in this thread and those that it starts. False, with nothing changed, if it has none,
 * or the kernel does not. */
bool va_os_start_memtags(void);

#define VA_STDERR 2

/* Writes to stderr, or to a file descriptor. Async-signal-safe. */
void va_os_report(const char *text, size_t length);
void va_os_write(int file, const char *text, size_t length);

uint64_t va_os_process_id(void);

/* The first bytes of a file; returns how many, 0 if it cannot be read. */
size_t va_os_read_file(const char *path, char *buffer, size_t bytes);

/* A new file, or an old one made empty, and its end. -1 if that fails. */
int va_os_create(const char *path);
void va_os_close(int file);

#endif
