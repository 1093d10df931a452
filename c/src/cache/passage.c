/* passage.c: see passage.h. */
#include "cache/passage.h"

#include "base/check.h"
#include "os/os.h"
#include "profile/profile.h"

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

/* Whether a slot or run could start there. */
static bool is_start(const void *pointer, uint32_t entry)
{
    uint64_t offset = va_block_offset(pointer);
    if (va_entry_class(entry) < VA_CLASSES_SMALL) {
        const SizeClass *class = &va_size_classes[va_entry_class(entry)];
        uint64_t n = offset * class->reciprocal >> 32;
        return offset == n * class->bytes && n < class->slots;
    }
    return offset == 0;
}

void va_pass_check(const void *pointer, const Block *block, uint32_t entry, const char *function)
{
    if (va_unlikely(!is_start(pointer, entry)))
        va_fatal(function, "not the start of an allocation", pointer);
    if (va_unlikely(!is_large(entry) && !va_slot_is_live(block, va_entry_class(entry), pointer)))
        va_fatal(function, "freed already", pointer);
    size_t bytes = bytes_of(block, entry);
    if (va_unlikely(!va_canary_is_whole((const char *)pointer + bytes, bytes)))
        va_fatal(function, "written to beyond its end", pointer);
    if (va_entry_class(entry) < VA_CLASSES_SMALL && va_slot_before_is_damaged(pointer, bytes))
        va_fatal(function, "written to before its start, or beyond the end of the slot before",
                 pointer);
}

VA_COLD size_t va_pass_size(const void *pointer, const Block *block, uint32_t entry)
{
    size_t bytes = bytes_of(block, entry);
    return bytes - VA_CANARY_BYTES - va_canary_slack((const char *)pointer + bytes, bytes);
}

VA_COLD void va_pass_resize(void *pointer, const Block *block, uint32_t entry, size_t size)
{
    size_t bytes = bytes_of(block, entry);
    char *end = (char *)pointer + bytes;
    size_t slack = va_canary_slack(end, bytes);
    if (slack != 0 && slack != SIZE_MAX)
        memset(end - VA_CANARY_BYTES - slack, 0, va_min(slack, VA_SLACK_BYTES));
    va_canary_write(end, bytes - VA_CANARY_BYTES - size);
}

VA_COLD void va_pass_fail_out(const void *slot)
{
    const Block *block = va_block_of(slot);
    unsigned class = va_entry_class(va_entry_load(va_block_entry(block)));
    va_fatal("malloc",
             va_slot_is_live(block, class, slot) ? "corrupted: a slot in use was free"
                                                 : "written to after its free",
             slot);
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

VA_APART void va_pass_clear_run(char *run, size_t bytes)
{
    for (size_t page = 0; page < bytes; page += VA_META_PAGE_BYTES) {
        size_t zero = 0;
        while (zero < VA_META_PAGE_BYTES && va_slot_is_zero(run + page + zero, VA_CHECKED_BYTES))
            zero += VA_CHECKED_BYTES;
        if (zero < VA_META_PAGE_BYTES)
            memset(run + page + zero, 0, VA_META_PAGE_BYTES - zero);
    }
}

void va_pass_end_sample(const void *pointer, Block *block, uint32_t entry)
{
    bool sampled = is_large(entry) ? block->sampled
                                   : va_slot_end_sample(block, va_entry_class(entry), pointer);
    if (va_likely(!sampled))
        return;
    if (is_large(entry))
        block->sampled = false;
    va_profile_forget(pointer);
}

void va_pass_in_slow(void *pointer, Block *block, uint32_t entry, const char *function)
{
    va_pass_check(pointer, block, entry, function);
    va_pass_end_sample(pointer, block, entry);
    size_t bytes = bytes_of(block, entry);
    if (is_large(entry)) {
        block->zero = VALLOC_SECURE_ZERO && va_pass_clear(pointer, bytes);
        return;
    }
    va_slot_end(block, va_entry_class(entry), pointer);
    va_slot_wipe(pointer, bytes);
}

void va_pass_out_slow(void *slot, unsigned class, size_t size)
{
    size_t bytes = va_size_classes[class].bytes;
    const Block *block = va_block_of(slot);
    if (VA_PASSAGE_CHECKED &&
        va_unlikely(!va_slot_is_zero(slot, bytes) || va_slot_is_live(block, class, slot)))
        va_pass_fail_out(slot);
    va_canary_write((char *)slot + bytes, bytes - VA_CANARY_BYTES - size);
    va_slot_begin(block, class, slot);
}

void va_pass_keep_run(const Block *run, size_t size)
{
    size_t bytes = bytes_of(run, va_entry_load(va_block_entry(run)));
    va_canary_write(va_block_address(run) + bytes, bytes - VA_CANARY_BYTES - size);
}

void va_pass_out_run(Block *run, size_t size)
{
    unsigned class = va_entry_class(va_entry_load(va_block_entry(run)));
    va_pass_keep_run(run, size);
    if (class != VA_CLASS_LARGE) {
        va_states_start(run, class);
        va_slot_begin(run, class, va_block_address(run));
    }
}
