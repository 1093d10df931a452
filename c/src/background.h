/* background.h: a thread that gives memory back while the program's own threads idle. Opt-in: it is
 * started by the API or at load time by the option VALLOC_BACKGROUND, never from inside malloc. */
#ifndef VA_BACKGROUND_H
#define VA_BACKGROUND_H

#include "base.h"

/* Starts or stops the thread. False if it could not be started. Any thread. */
bool va_background_set(bool on);

/* Is there one, or was there in the parent? Under its lock: around fork. */
bool va_background_is_on(void);

/* Around fork: the child has no such thread, and gets one if its parent had. */
void va_background_lock(void);
void va_background_unlock(void);
void va_background_restart(void);

#endif
