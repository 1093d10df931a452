/* no_mremap.c: in place of libc's mremap, for programs under qemu's user mode on a processor with
 * memory tags: version 7.2 loses the tags of pages that it extends or moves. The kernel keeps them.
 * valloc then maps what it needs beside the old mapping, and copies. */
#include <errno.h>
#include <stddef.h>

void *mremap(void *address, size_t bytes, size_t to_bytes, int flags, ...);

void *mremap(void *address, size_t bytes, size_t to_bytes, int flags, ...)
{
    (void)address, (void)bytes, (void)to_bytes, (void)flags;
    errno = ENOMEM;
    return (void *)-1;
}
