/* memtag.c: see memtag.h. The instructions by their codes, with x0 and x1 as operands: assemblers
 * would else need to be told of another architecture, for the rest of the file. */
#include "harden/memtag.h"

#include "harden/secure.h"
#include "os/os.h"
#include "table/slot_state.h"

#if VA_MEMTAG

#define TAG_SHIFT 56
#define TAG_MASK ((uintptr_t)15 << TAG_SHIFT)
#define GRANULE_BYTES ((size_t)16)

bool va_memtag_on;

/* The constructor runs in the first thread; another constructor may allocate before it does. */
VA_STARTUP void va_memtag_start(void)
{
    static atomic_flag decided = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&decided))
        va_memtag_on = va_os_is_single_threaded() && va_os_start_memtags();
}

__attribute__((constructor(101))) static VA_STARTUP void start_early(void)
{
    va_memtag_start();
}

/* ---- Instructions ---- */

/* The address with the memory's tag. */
VA_INLINE char *load_tag(const char *address)
{
    register const char *x0 __asm__("x0") = address;
    __asm__ volatile(".inst 0xd9600000" : "+r"(x0) : : "memory"); /* ldg x0, [x0] */
    return (char *)(uintptr_t)x0;
}

/* The address with a random tag, none of those whose bits are set. */
VA_INLINE char *draw_tag(char *address, uint64_t excluded)
{
    register char *x0 __asm__("x0") = address;
    register uint64_t x1 __asm__("x1") = excluded;
    __asm__ volatile(".inst 0x9ac11000" : "+r"(x0) : "r"(x1)); /* irg x0, x0, x1 */
    return x0;
}

/* The memory from an address on gets the tag of the address. */
static void store_tags(char *address, size_t bytes)
{
    register char *x0 __asm__("x0") = address;
    for (; bytes >= 2 * GRANULE_BYTES; bytes -= 2 * GRANULE_BYTES, x0 += 2 * GRANULE_BYTES)
        __asm__ volatile(".inst 0xd9a00800" : : "r"(x0) : "memory"); /* st2g x0, [x0] */
    if (bytes != 0)
        __asm__ volatile(".inst 0xd9200800" : : "r"(x0) : "memory"); /* stg x0, [x0] */
}

#define TCO "s3_3_c4_c2_7" /* the register of one bit, tag check override */
#define TCO_BIT ((uint64_t)1 << 25)

uint64_t va_memtag_ignore(void)
{
    uint64_t before = 0;
    if (va_memtag_on) {
        __asm__ volatile("mrs %0, " TCO : "=r"(before));
        va_memtag_heed(TCO_BIT);
    }
    return before;
}

void va_memtag_heed(uint64_t before)
{
    if (va_memtag_on)
        __asm__ volatile("msr " TCO ", %0" : : "r"(before) : "memory");
}

/* ---- Allocations ---- */

VA_INLINE unsigned tag_of(const void *address)
{
    return (unsigned)((uintptr_t)address >> TAG_SHIFT) & 15;
}

VA_INLINE char *without_tag(const void *pointer)
{
    return (char *)((uintptr_t)pointer & ~TAG_MASK);
}

/* The bytes of the live allocation that starts at an address, and its block; 0 if none does. */
static size_t live_bytes(const char *start, Block **block)
{
    const Arena *arena = va_arena_find(start);
    if (arena == NULL)
        return 0;
    size_t index = va_block_index(arena, start);
    uint32_t entry = va_entry_load(&arena->entries[index]);
    unsigned class = va_entry_class(entry);
    *block = &arena->records[index];
    if (entry == 0 || class > VA_CLASS_LARGE)
        return 0;
    if (class < VA_CLASS_LARGE)
        return va_slot_is_live(*block, class, start) ? va_size_classes[class].bytes : 0;
    size_t bytes = ((size_t)(*block)->run_blocks << VA_BLOCK_SHIFT) - va_guard_bytes();
    return va_block_offset(start) == 0 ? bytes : 0;
}

/* Of slots no larger than half a block: what lies beside a run may be inaccessible. */
static uint64_t tags_of_neighbours(const char *slot, size_t bytes, const Block *slab)
{
    size_t offset = va_block_offset(slot);
    uint64_t tags = 0;
    if (offset >= bytes)
        tags |= (uint64_t)1 << tag_of(load_tag(slot - GRANULE_BYTES));
    if (offset + bytes < slab->slots * bytes)
        tags |= (uint64_t)1 << tag_of(load_tag(slot + bytes));
    return tags;
}

void *va_memtag_give(void *slot)
{
    Block *block;
    size_t bytes = live_bytes(slot, &block);
    if (bytes == 0 || bytes > VA_MEMTAG_BYTES)
        return slot;
    uint64_t excluded = bytes <= VA_SMALL_MAX ? tags_of_neighbours(slot, bytes, block) : 0;
    char *given = draw_tag(slot, excluded | 1);
    store_tags(given, bytes);
    return given;
}

void *va_memtag_check(void *pointer, bool ends, const char *function)
{
    Block *block;
    char *slot = without_tag(pointer);
    size_t bytes = live_bytes(slot, &block);
    if (bytes == 0)
        return va_memtag_strip(pointer);
    if (va_unlikely(load_tag(slot) != pointer))
        va_fatal(function, "freed already, or not the start of an allocation", slot);
    if (ends && pointer != slot)
        store_tags(slot, bytes);
    return slot;
}

void *va_memtag_strip(const void *pointer)
{
    char *slot = without_tag(pointer);
    return va_memtag_on && va_arena_find(slot) != NULL ? slot : (void *)(uintptr_t)pointer;
}

VA_COLD void *va_memtag_of(const void *slot)
{
    return va_memtag_on ? load_tag(slot) : (void *)(uintptr_t)slot;
}

VA_COLD void va_memtag_restore(const void *pointer)
{
    Block *block;
    if (va_memtag_on && tag_of(pointer) != 0)
        store_tags((char *)(uintptr_t)pointer, live_bytes(without_tag(pointer), &block));
}

void *va_memtag_resize(void *slot, void *pointer)
{
    Block *block;
    bool same = slot == without_tag(pointer) && live_bytes(slot, &block) <= VA_MEMTAG_BYTES;
    if (slot != NULL && (!same || slot == pointer))
        return va_memtag_give(slot);
    va_memtag_restore(pointer);
    return slot != NULL ? pointer : NULL;
}

VA_COLD void va_memtag_drop(char *start, size_t bytes)
{
    if (va_memtag_on)
        store_tags(start, bytes);
}

#endif
