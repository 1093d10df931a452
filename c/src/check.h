/* check.h: the two ways in which valloc stops.
 *
 * A report tells of damage that a user's pointer revealed (see va_fatal in block_table.h): always
 * on, never allocates, one line on stderr, then abort. va_assert states what the code has proven;
 * debug builds execute it. */
#ifndef VA_CHECK_H
#define VA_CHECK_H

#include "base.h"

/* One line in the making; what does not fit is cut. */
typedef struct Report {
    size_t length;
    char line[256];
} Report;

VA_COLD void va_report_text(Report *report, const char *text);
VA_COLD void va_report_number(Report *report, uintptr_t value, unsigned base);
/* Prints the line and aborts. */
_Noreturn VA_COLD void va_report_abort(Report *report);

_Noreturn VA_COLD void va_broken_invariant(const char *function, const char *condition);

#if defined(VALLOC_DEBUG) && VALLOC_DEBUG
#define va_assert(condition) ((condition) ? (void)0 : va_broken_invariant(__func__, #condition))
#else
#define va_assert(condition) ((void)0)
#endif

#endif
