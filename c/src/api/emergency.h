/* emergency.h: memory for a thread that has reported an error, until the process ends.
 *
 * Such a thread may hold locks, and its cache may be half changed. Yet the program's error handler
 * and its handler of SIGABRT may allocate: printf and backtrace do. So va_report_abort takes the
 * cache away from the thread (va_thread_begin_report), and its requests end up here. They move a
 * position up in one mapping, with the size before each allocation. Nothing is freed, be it valid
 * or not. Other threads use the heap until they need a lock that the thread holds.
 *
 * No locks; several threads may report at once. */
#ifndef VA_EMERGENCY_H
#define VA_EMERGENCY_H

#include "base/base.h"

/* Zeroed. NULL if there is no memory, or if all of it is used. */
void *va_emergency_allocate(size_t size, size_t alignment);

/* An allocation of the heap or of this file moves. */
void *va_emergency_reallocate(void *pointer, size_t size, size_t alignment);

/* 0 for what is no allocation. */
size_t va_emergency_usable_size(const void *pointer);

#endif
