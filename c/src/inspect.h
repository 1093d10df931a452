/* inspect.h: what an allocator holds, for programs and for people. Any thread; no lock is held
 * while the caller's function runs. */
#ifndef VA_INSPECT_H
#define VA_INSPECT_H

#include "allocator.h"

int va_inspect_blocks(MemoryAllocator *allocator, int (*visit)(const MemoryBlock *, void *),
                      void *context);
void va_inspect_dump(MemoryAllocator *allocator, void (*emit)(void *, const char *), void *context);

#endif
