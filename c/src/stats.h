/* stats.h: sums the counters that lower layers own. Any thread. */
#ifndef VA_STATS_H
#define VA_STATS_H

#include "../include/valloc.h"

void va_stats_collect(valloc_stats *stats);

#endif
