/* leaks.h: VALLOC_SHOW_LEAKS=1 lists at exit what is still allocated from the allocator of the
 * process, by size of slot. Programs leave some on purpose, and libc does. */
#ifndef VA_LEAKS_H
#define VA_LEAKS_H

#include "heap/allocator.h"

/* Writes the list to stderr. Any thread. */
void va_leaks_report(void);

#endif
