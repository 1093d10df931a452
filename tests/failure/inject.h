/* inject.h: which of the core's system calls fail, and when. failing_core.c is the core with every
 * call of the kernel led through a wrapper that counts and obeys. */
#ifndef INJECT_H
#define INJECT_H

#include <stdbool.h>

typedef enum Call {
    CALL_MAP,   /* mmap of memory */
    CALL_GROW,  /* mremap in place */
    CALL_REMAP, /* mmap over a range */
    CALL_UNMAP,
    CALL_PURGE, /* madvise, by advice */
    CALL_POPULATE,
    CALL_HUGE,
    CALL_DUMP,
    CALL_MOVE,      /* mremap, refused at once */
    CALL_MOVE_LATE, /* mremap, refused when it has unmapped the target, as kernels do that find
                       the source to be more than one mapping */
    CALL_WAIT,      /* futex, until woken */
    CALL_WAKE,      /* the wake itself takes place: the kernel never loses one */
    CALL_BARRIER,   /* futex, for a time */
    CALL_KEY,       /* pthread_key_create */
    CALL_RANDOM,
    CALL_MASK,   /* rt_sigprocmask, by which a stack walk asks what can be read */
    CALL_FILE,   /* openat, read, write, close, readlink */
    CALL_THREAD, /* the test's own: a thread that cannot be created */
    CALLS
} Call;

/* From now on the nth call (from 1 on) of this kind fails, and if `onward` all after it. */
void inject(Call call, unsigned nth, bool onward);
/* Nothing fails any more. Returns whether anything did. */
bool inject_end(void);
/* Counts a call; true if it is to fail. */
bool inject_hits(Call call);

#endif
