/* defrag.h: advice for programs that move their objects to make room, as Valkey and Redis do. */
#ifndef VA_DEFRAG_H
#define VA_DEFRAG_H

#include "base/base.h"

/* Would it help to free a slab if the program moved this slot elsewhere? In bounded time. If so the
 * slab drains from now on (va_slab_drain_locked): the copy will not come from there, and no stack
 * keeps the slot that is freed, which the next copy would else get. */
bool va_defrag_hint(const void *pointer);

#endif
