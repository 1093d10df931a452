/* large.c: a thin layer between the API and the arena. */
#include "slab/large.h"

#include <string.h>

VA_APART void *va_large_start(Block *run)
{
    run->class = VA_CLASS_LARGE;
    va_guard_run(run);
    va_entry_store(va_block_entry(run), va_entry_make(0, VA_CLASS_LARGE));
    return va_block_address(run);
}

VA_APART void *va_large_allocate(Allocator *allocator, size_t size, size_t alignment, bool *zero)
{
    size_t align_blocks = va_max(alignment >> VA_BLOCK_SHIFT, 1);
    size_t front_blocks = va_guard_front_blocks(align_blocks);
    Block *run = va_pool_lend(allocator, va_large_blocks(size) + front_blocks, align_blocks);
    if (run == NULL)
        return NULL;
    if (front_blocks != 0)
        run = va_guard_split(run);
    /* What a tool watches may not be written to yet. */
    *zero = *zero && run->dirty_blocks < (VA_WATCHED ? 1 : run->run_blocks);
    if (*zero) /* behind these blocks it is */
        memset(va_block_address(run), 0, (size_t)run->dirty_blocks << VA_BLOCK_SHIFT);
    va_pool_occupy(&run, 1);
    return va_large_start(run);
}

VA_APART void va_large_end(Block *run, void *pointer, const char *function)
{
    if (va_unlikely(va_block_address(run) != pointer))
        va_fatal(function, "not the start of an allocation", pointer);
    if (!VALLOC_SECURE_ZERO) /* where va_pass_in_slow knows better */
        run->zero = false;   /* its allocator's end may come before va_pool_reclaim */
    uint32_t spare = va_entry_make(0, VA_CLASS_SPARE);
    uint32_t entry = atomic_exchange_explicit(va_block_entry(run), spare, memory_order_release);
    if (va_unlikely(entry != va_entry_make(0, VA_CLASS_LARGE))) /* two threads free it at once */
        va_fatal(function, "freed already", pointer);
}

void va_large_give_back(Block *run)
{
    va_pool_vacate(run);
    va_pool_reclaim(va_guard_whole(run));
}
