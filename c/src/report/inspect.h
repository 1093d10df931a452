/* inspect.h: the blocks of an allocator, one by one. Any thread; no lock is held while the caller's
 * function runs. */
#ifndef VA_INSPECT_H
#define VA_INSPECT_H

#include "heap/allocator.h"

int va_inspect_blocks(Allocator *allocator, int (*visit)(const MemoryBlock *, void *),
                      void *context);

#endif
