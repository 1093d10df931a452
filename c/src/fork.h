/* fork.h: what fork.c does around a fork. */
#ifndef VA_FORK_H
#define VA_FORK_H

/* From the first call on. Called with no lock held, by a thread that is about to take its first one
 * while there are others. */
void va_fork_register(void);

#endif
