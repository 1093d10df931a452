/* stats.h: where memory stands, derived on demand from what lower layers hold. No path of an
 * allocation or a free counts anything for it. Any thread; one lock at a time is taken inside. */
#ifndef VA_STATS_H
#define VA_STATS_H

#include "heap/allocator.h"

/* A count of all blocks, by size class; the last row is of large runs. Bytes but for the rows. */
typedef struct Census {
    valloc_class_stats rows[VA_CLASSES + 1];
    size_t lent, live, cached, free_slots, spare, slack; /* see valloc_stats */
    size_t free;     /* of arenas, below the highest block ever lent; the process's or all */
    size_t resident; /* of what is lent, at most */
} Census;

/* Counts the blocks of an allocator, NULL for those of all. Exact if no thread allocates or frees
 * meanwhile. Takes time in proportion to the number of blocks and of thread caches. */
void va_stats_count(Census *census, const Allocator *allocator);

/* The sums of a census of all. */
void va_stats_collect(valloc_stats *stats, const Census *census);

/* Visits what every thread cache holds, until the visitor returns another value than 0. */
int va_stats_caches(int (*visit)(const valloc_cache_stats *, void *), void *context);

#endif
