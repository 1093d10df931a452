/* large.c: a thin layer between the API and the arena. */
#include "large.h"

#include "arena.h"
#include "check.h"

void *va_large_start(Block *run)
{
    run->class = VA_CLASS_LARGE;
    va_entry_store(va_block_entry(run), va_entry_make(0, VA_CLASS_LARGE));
    return va_block_address(run);
}

void *va_large_allocate(size_t size, size_t alignment, bool *zero)
{
    size_t align_blocks = va_max(alignment >> VA_BLOCK_SHIFT, 1);
    Block *run = va_arena_lend(va_large_blocks(size), align_blocks);
    if (run == NULL)
        return NULL;
    *zero = run->zero;
    return va_large_start(run);
}

void va_large_end(Block *run, void *pointer, const char *function)
{
    if (va_unlikely(va_block_address(run) != pointer))
        va_fatal(function, "not the start of an allocation", pointer);
    va_entry_store(va_block_entry(run), 0);
}
