/* orphans.h: what threads were carrying that a fork has left behind. */
#ifndef VA_ORPHANS_H
#define VA_ORPHANS_H

#include "base/base.h"

/* In the child after fork, when every lock is free again: blocks that are nobody's go back. */
void va_orphans_collect(void);

#endif
