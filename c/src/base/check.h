/* check.h: the two ways in which valloc stops.
 *
 * A report tells of damage that a user's pointer revealed (see va_fatal in block_table.h): always
 * on, never allocates, one line on stderr or to the program's handler, then abort. va_assert states
 * what the code has proven; debug builds execute it. */
#ifndef VA_CHECK_H
#define VA_CHECK_H

#include "base/base.h"

/* One line in the making; what does not fit is cut. */
typedef struct Report {
    size_t length;
    char line[320];
} Report;

VA_COLD void va_report_text(Report *report, const char *text);
VA_COLD void va_report_number(Report *report, uintptr_t value, unsigned base);
/* "; see docs/security.md#<anchor>": the anchor of what was wrong, up to the first comma. */
VA_COLD void va_report_hint(Report *report, const char *what);
/* Hands the line to the program's handler, or prints it, and aborts. From then on the thread leaves
 * the heap alone: see emergency.h. */
_Noreturn VA_COLD void va_report_abort(Report *report);

/* The thread's part of that; in thread.c. */
VA_COLD void va_thread_begin_report(void);

/* What gets the next report instead of stderr; NULL restores that. */
VA_COLD void va_report_to(void (*handler)(const char *message, void *context), void *context);

_Noreturn VA_COLD void va_broken_invariant(const char *function, const char *condition);

/* Always on, in slow paths: what valloc itself wrote must still be there. Tables lie between
 * inaccessible pages, so that only a wild write can have changed them. */
_Noreturn VA_COLD void va_corrupted(const char *function);
#define va_check(condition) (va_likely(condition) ? (void)0 : va_corrupted(__func__))

#if defined(VALLOC_DEBUG) && VALLOC_DEBUG
#define va_assert(condition) ((condition) ? (void)0 : va_broken_invariant(__func__, #condition))
#else
#define va_assert(condition) ((void)0)
#endif

#endif
