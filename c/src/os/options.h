/* options.h: what the program, by valloc_conf, and the environment may change, read once in this
 * order; nothing of the environment in a program that has more rights than whoever started it.
 *
 *   VALLOC_HUGE_PAGES=auto|always|never   where huge pages are advised (auto: for slots up to a
 *                                         page, past the first MiBs)
 *   VALLOC_PURGE_DELAY_MS=N               how long a free block stays dirty; 0 purges at once
 *   VALLOC_RESERVE_MIB=N                  address range of one arena; nothing is claimed ahead
 *   VALLOC_FOREIGN=abort|forward|ignore   what the override library does with foreign pointers
 *   VALLOC_SOFT_LIMIT_MIB=N               above it no free memory is kept; 0: none
 *   VALLOC_HARD_LIMIT_MIB=N               above it allocations fail; 0: none
 *   VALLOC_CGROUP=0|1                     the soft limit follows the limit of the cgroup
 *   VALLOC_TOLERATE_SIZES=0|1             a sized free with a wrong size gets a warning and is done
 *   VALLOC_STATS=0|1|json|prometheus      statistics on stderr when the process exits
 *   VALLOC_STATS_FD=N                     they, and leaks, go to this file descriptor
 *   VALLOC_BACKGROUND=0|1                 a thread gives memory back while the others idle
 *   VALLOC_SHOW_LEAKS=0|1                 what is still allocated at exit is listed on stderr
 *   VALLOC_PROFILE=FILE                   a heap profile, written at exit; %p is the process id
 *   VALLOC_PROFILE_RATE=N                 the mean of bytes between its samples
 *   VALLOC_PROFILE_MODE=live|all          what is in use at exit, or also what was allocated
 *   VALLOC_PROFILE_SIGNAL=N               it is also written when this signal comes
 *   VALLOC_PROFILE_GROWTH=N               and each time that the heap has grown by so many bytes
 */
#ifndef VA_OPTIONS_H
#define VA_OPTIONS_H

#include "base/config.h"

/* Choices, in the order of their names in options.c. */
typedef enum HugePages { HUGE_PAGES_AUTO, HUGE_PAGES_ALWAYS, HUGE_PAGES_NEVER } HugePages;
typedef enum Foreign { FOREIGN_ABORT, FOREIGN_FORWARD, FOREIGN_IGNORE } Foreign;
typedef enum StatsOption { STATS_NONE, STATS_TEXT, STATS_JSON, STATS_PROMETHEUS } StatsOption;

typedef struct Options {
    _Atomic uint64_t huge_pages;                             /* HugePages; arena lock */
    uint64_t foreign;                                        /* Foreign */
    uint64_t stats;                                          /* StatsOption */
    uint64_t background, cgroup, show_leaks, tolerate_sizes; /* 0 or 1 */
    const char *profile;                                     /* NULL: none. Not terminated */
    uint64_t profile_bytes;                                  /* its length */
    uint64_t profile_rate, profile_mode;                     /* 0: the default; ProfileMode */
    uint64_t profile_signal, profile_growth;                 /* 0: none */
    uint64_t stats_file;
    _Atomic uint64_t purge_delay_ms; /* written under the arena lock; relaxed: a bare number */
    uint64_t reserve_bytes, soft_limit_bytes, hard_limit_bytes;
} Options;

/* Const after va_options_read, which the first arena calls under its lock, but for atomic ones. A
 * value that is not understood is reported on stderr, with those that are, and leaves the default.
 */
extern Options va_options;
void va_options_read(void);

#endif
