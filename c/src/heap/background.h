/* background.h: a thread that gives memory back while the program's own threads idle. Opt-in, by
 * the API or by the option VALLOC_BACKGROUND. It is there while there is something to give back: it
 * starts at the end of a slow path that has freed some, and ends by itself. */
#ifndef VA_BACKGROUND_H
#define VA_BACKGROUND_H

#include "arena/arena_purge.h"

/* Whether there shall be such a thread when there is something to do; else one that is there ends
 * before this returns. Any thread. */
void va_background_set(bool on);

/* What the thread also does each time that it looks around, at least four times a second. It then
 * starts at once if it shall be there, and stays while the program has threads. Called once. */
typedef void BackgroundErrand(void);
void va_background_send(BackgroundErrand *function);

/* Changes the purge delay, also of such a thread. */
void va_background_set_delay(uint64_t ms);

/* Starts the thread. */
void va_background_start(void);

/* The same if it is called for; at the end of slow paths, without locks: starting a thread
 * allocates. */
VA_INLINE void va_background_visit(void)
{
    if (va_unlikely(atomic_load_explicit(&va_purge_helper, memory_order_relaxed) == HELPER_CALLED))
        va_background_start();
}

/* In the child after fork there is no such thread. Was there one in the parent? */
bool va_background_fork(void);

#endif
