/* profile_file.h: a profile for the whole run of a program, by options: VALLOC_PROFILE names the
 * file to which it is written at exit. Others are written while the program runs, with numbers
 * behind that name: when a signal comes (VALLOC_PROFILE_SIGNAL), and each time that the heap has
 * grown by so many bytes beyond its last such peak (VALLOC_PROFILE_GROWTH).
 *
 * Neither a signal handler nor a request that is being counted can write a file: they want one, and
 * the next request that has been served, of any thread, writes it without a lock. In an idle
 * process the background thread does, if that is on. */
#ifndef VA_PROFILE_FILE_H
#define VA_PROFILE_FILE_H

#include "base/base.h"

/* Wants a file if the samples in use have come to more than ever, by the option. */
void va_profile_file_grow(void);

extern atomic_bool va_profile_file_wanted; /* relaxed: which thread sees it first does not matter */
void va_profile_file_write(void);

/* Writes the file that is wanted. No locks held. */
VA_INLINE void va_profile_file_visit(void)
{
    if (va_unlikely(atomic_load_explicit(&va_profile_file_wanted, memory_order_relaxed)))
        va_profile_file_write();
}

#endif
