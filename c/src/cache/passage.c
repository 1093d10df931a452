/* passage.c: see passage.h. */
#include "cache/passage.h"

#include "base/check.h"
#include "os/os.h"

#if VA_PASSAGE_CHECKED

static bool is_large(uint32_t entry)
{
    return va_entry_class(entry) == VA_CLASS_LARGE;
}

/* The bytes that the program may have had, its canary included. */
static size_t bytes_of(const Block *block, uint32_t entry)
{
    if (is_large(entry))
        return ((size_t)block->run_blocks << VA_BLOCK_SHIFT) - va_guard_bytes();
    return va_size_classes[va_entry_class(entry)].bytes;
}

#if VALLOC_SECURE_EXACT
VA_NOINLINE void *va_slot_begin_slow(const CacheFront *front, uint32_t class_offset, void *slot)
{
    size_t n;
    const Block *block = va_block_of(slot);
    va_slot_number(va_class_at(class_offset), va_block_offset(slot), &n);
    va_live_begin(va_live_words(va_arenas[block->arena].live, va_block_number(block), n), n,
                  va_is_own(front, va_entry_load(va_block_entry(block))));
    return slot;
}

static bool end_slow(const ThreadCache *cache, const Block *block, size_t n)
{
    bool is_own = cache != NULL && va_is_own(&cache->front, va_entry_load(va_block_entry(block)));
    return va_live_end(va_live_words(va_arenas[block->arena].live, va_block_number(block), n), n,
                       is_own);
}
#else
static bool end_slow(const ThreadCache *cache, const Block *block, size_t n)
{
    (void)cache, (void)block, (void)n;
    return true;
}
#endif

/* The number of the slot that starts there; what is none, or has lost its canary, is reported. */
static size_t check(const void *pointer, const Block *block, uint32_t entry, const char *function)
{
    size_t n = 0;
    bool starts = is_large(entry) ? va_block_address(block) == pointer
                                  : va_slot_number(&va_size_classes[va_entry_class(entry)],
                                                   va_block_offset(pointer), &n);
    if (va_unlikely(!starts))
        va_fatal(function, "not the start of an allocation", pointer);
    if (va_unlikely(!is_large(entry) && !va_slot_is_live(block, n)))
        va_fatal(function, "freed already", pointer);
    if (va_unlikely(!va_canary_is_whole((const char *)pointer + bytes_of(block, entry))))
        va_fatal(function, "written to beyond its end", pointer);
    return n;
}

/* Much of it in whole pages: clearing up to a MiB is quicker than to have its pages anew. */
VA_COLD bool va_pass_clear(char *start, size_t bytes)
{
    size_t page = va_os_page_bytes();
    size_t head = va_align_up((uintptr_t)start, page) - (uintptr_t)start;
    size_t tail = ((uintptr_t)start + bytes) % page;
    if (bytes <= VA_RUN_MAX || !va_os_purge(start + head, bytes - head - tail)) { /* if locked */
        memset(start, 0, bytes);
        return false;
    }
    memset(start, 0, head);
    memset(start + bytes - tail, 0, tail);
    return true;
}

void va_pass_check(const void *pointer, const Block *block, uint32_t entry, const char *function)
{
    check(pointer, block, entry, function);
}

void va_pass_in_slow(ThreadCache *cache, void *pointer, Block *block, uint32_t entry,
                     const char *function)
{
    size_t n = check(pointer, block, entry, function);
    size_t bytes = bytes_of(block, entry);
    if (is_large(entry)) {
        block->zero = VALLOC_SECURE_ZERO && va_pass_clear(pointer, bytes);
        return;
    }
    if (va_unlikely(!end_slow(cache, block, n)))
        va_fatal(function, "freed already", pointer);
    if (VALLOC_SECURE_ZERO)
        va_slot_clear(pointer, bytes);
    else
        va_canary_erase((char *)pointer + bytes);
}

void va_pass_out_run(Block *run)
{
    va_canary_write(va_block_address(run) + bytes_of(run, va_entry_load(va_block_entry(run))));
}

#endif
