/* check.h: the two ways in which valloc stops.
 *
 * va_fatal reports damage that a user's pointer revealed: always on, never allocates, prints one
 * line and aborts. va_assert states what the code has proven; debug builds execute it. */
#ifndef VA_CHECK_H
#define VA_CHECK_H

#include "base.h"

/* Prints "valloc: <function>: <what> (pointer 0x...)" on stderr and aborts. */
_Noreturn VA_COLD void va_fatal(const char *function, const char *what, const void *pointer);

#if defined(VALLOC_DEBUG) && VALLOC_DEBUG
#define va_assert(condition)                                                                       \
    ((condition) ? (void)0 : va_fatal(__func__, "broken invariant: " #condition, NULL))
#else
#define va_assert(condition) ((void)0)
#endif

#endif
