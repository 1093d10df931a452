/* print.h: statistics as text for people, and as JSON and Prometheus metrics for programs. Any
 * thread; no lock is held while text is emitted. */
#ifndef VA_PRINT_H
#define VA_PRINT_H

#include "heap/allocator.h"

/* Emits pieces of text; to stderr if it is NULL. */
typedef void Emit(void *context, const char *text);

/* An allocator's blocks by size class. */
void va_print_allocator(Allocator *allocator, Emit *emit, void *context);

/* All statistics of the process. */
void va_print_stats(valloc_stats_format format, Emit *emit, void *context);

/* What can be told without a lock, as one line. May be called by a signal handler. */
void va_print_counters(int file);

#endif
