/* stack_walk.h: the return addresses of the calling thread, by frame pointers.
 *
 *   frame pointer -> | next frame | return address |   as x86-64 and aarch64 keep it, if compiled
 *                           |                          with -fno-omit-frame-pointer
 *                           v upward
 *
 * No bounds of stacks are known or kept: a frame is followed if it lies above the one before, not
 * far, and is aligned; the kernel says of each new page whether it can be read. So a walk is right
 * on any stack, of the main thread or another, of a fibre or a signal handler, before and after a
 * fork. It ends at a frame that is not one. Takes no lock, allocates nothing, keeps errno. */
#ifndef VA_STACK_WALK_H
#define VA_STACK_WALK_H

#include "base/base.h"

typedef struct StackFrame {
    const struct StackFrame *next; /* the caller's */
    uintptr_t address;             /* to which it returns */
} StackFrame;

/* A copy of the frame of the function that this is written in, which gets one for it. That is one
 * that the program calls, or to which such a function has jumped with the frame pointer unchanged
 * (the slow half of a fast path). Then the walk begins at the program's call, meets no frame of
 * valloc's, and what it is handed to needs no frame pointers. Behind a call without a frame of its
 * own the program's innermost function would be missing. A copy, since calls may become jumps. */
#define VA_STACK_CALLER (*(const StackFrame *)__builtin_frame_address(0))

/* Stores up to max return addresses, that of `first` first; returns how many. `below` is a place on
 * the stack that the other frames must lie above. */
size_t va_stack_walk(StackFrame first, const void *below, uintptr_t *addresses, size_t max);

#endif
