/* stack_walk.c: see stack_walk.h. Sandboxes forbid to open /proc/self/maps, and libc's functions
 * for the bounds of a stack allocate and lock. Bounds that were kept would be wrong once a fibre's
 * stack is unmapped. */
#include "profile/stack_walk.h"

#include "base/config.h"
#include "os/os.h"

/* aarch64 may have signed it. */
static uintptr_t plain_address(uintptr_t address)
{
#if defined(__aarch64__)
    register uintptr_t link __asm__("x30") = address;
    __asm__("hint 7" : "+r"(link)); /* xpaclri; nothing on processors that do not sign */
    return link;
#else
    return address;
#endif
}

/* If it is not above, the difference wraps around. */
static bool may_follow(const StackFrame *next, uintptr_t below)
{
    return (uintptr_t)next - below <= VA_STACK_FRAME_BYTES &&
           (uintptr_t)next % sizeof *next == 0; /* within one page then */
}

/* What is read are words of the stack: nothing that a sanitizer knows of. */
__attribute__((no_sanitize("address", "thread", "undefined"))) VA_COLD size_t
va_stack_walk(StackFrame first, const void *below, uintptr_t *addresses, size_t max)
{
    StackFrame frame = first;
    uintptr_t end = (uintptr_t)below + 1; /* of the last frame */
    uintptr_t readable = va_align_up(end, va_os_page_bytes());
    size_t depth = 0;
    while (depth < max) {
        const StackFrame *next = frame.next;
        uintptr_t address = plain_address(frame.address);
        if (address < VA_STACK_CODE_BYTES)
            break;
        addresses[depth++] = address;
        if (!may_follow(next, end))
            break;
        end = (uintptr_t)(next + 1);
        if (end > readable) {
            if (!va_os_is_readable(next))
                break;
            readable = va_align_up(end, va_os_page_bytes());
        }
        frame = *next;
    }
    return depth;
}
