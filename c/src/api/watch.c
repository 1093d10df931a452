/* watch.c: see watch.h. Each slot is asked for with 16 bytes more. */
#include "api/watch.h"

#if VA_WATCHED
#include <string.h>

#include "base/check.h"
#include "report/inspect.h"
#include "slab/large.h"

/* Bytes behind those asked for that are never accessible. */
#define REDZONE_BYTES 16

/* Slots that wait before they are used again, and the largest that do: 2 MiB in all. */
#define WAITING_SLOTS 1024
#define WAITING_MAX_BYTES 2048

/* ---- The tools ---- */

#if VA_MEMCHECK

#if !__has_include(<valgrind/memcheck.h>)
#error "VALLOC_VALGRIND needs valgrind/memcheck.h: install Valgrind with its headers"
#endif
#include <valgrind/memcheck.h>

static void tool_allocated(char *slot, size_t size, bool zero)
{
    VALGRIND_MALLOCLIKE_BLOCK(slot, size, 0, zero);
}

static void tool_freed(char *slot, size_t slot_bytes)
{
    (void)slot_bytes; /* beyond what was asked for nothing was accessible */
    VALGRIND_FREELIKE_BLOCK(slot, 0);
}

static void tool_resized(char *slot, size_t from, size_t to)
{
    VALGRIND_RESIZEINPLACE_BLOCK(slot, from, to, 0);
}

static void tool_hide(char *start, size_t bytes)
{
    VALGRIND_MAKE_MEM_NOACCESS(start, bytes);
}

static void tool_open(void *start, size_t bytes)
{
    VALGRIND_MAKE_MEM_DEFINED(start, bytes);
}

#else

#include <sanitizer/asan_interface.h>

/* Of a larger block only this much is poisoned after its free: a byte of memory for every 8. */
#define HIDE_MAX_BYTES (64 * VA_MIB)

static void tool_allocated(char *slot, size_t size, bool zero)
{
    (void)zero;
    ASAN_UNPOISON_MEMORY_REGION(slot, size);
}

static void tool_freed(char *slot, size_t slot_bytes)
{
    ASAN_POISON_MEMORY_REGION(slot, va_min(slot_bytes, HIDE_MAX_BYTES));
}

static void tool_resized(char *slot, size_t from, size_t to)
{
    (void)from;
    ASAN_UNPOISON_MEMORY_REGION(slot, to);
}

static void tool_hide(char *start, size_t bytes)
{
    ASAN_POISON_MEMORY_REGION(start, bytes);
}

/* What looks at hidden bytes here is not instrumented. */
static void tool_open(void *start, size_t bytes)
{
    (void)start;
    (void)bytes;
}

#endif

/* ---- The number at a slot's end ---- */

/* It is hashed with the place, so that what a former slot left there is no number; 0 if the slot
 * is free. */
static size_t seal(const char *slot, size_t slot_bytes)
{
    return ((uintptr_t)slot + slot_bytes) * 0x9e3779b97f4a7c15u;
}

__attribute__((no_sanitize("address"))) static size_t read_number(char *slot, size_t slot_bytes)
{
    size_t *number = (size_t *)(void *)(slot + slot_bytes) - 1;
    tool_open(number, sizeof *number);
    size_t value = *(volatile size_t *)number;
    tool_hide((char *)number, sizeof *number);
    return value;
}

__attribute__((no_sanitize("address"))) static void write_number(char *slot, size_t slot_bytes,
                                                                 size_t value)
{
    size_t *number = (size_t *)(void *)(slot + slot_bytes) - 1;
    tool_open(number, sizeof *number);
    *(volatile size_t *)number = value;
    tool_hide((char *)number, sizeof *number);
}

/* How many bytes of a slot were asked for; false if it is free. */
static bool size_of(char *slot, size_t slot_bytes, size_t *size)
{
    *size = read_number(slot, slot_bytes) - seal(slot, slot_bytes);
    return *size <= slot_bytes - REDZONE_BYTES;
}

/* The bytes of a slot that starts at the pointer. */
static size_t slot_of(const void *pointer, const char *function)
{
    size_t slot_bytes = va_usable_size(pointer, function);
    size_t offset = va_block_offset(pointer);
    if (va_owner(pointer) == NULL)
        va_fatal(function, "not a pointer of this allocator", pointer);
    if (offset % va_min(slot_bytes, VA_BLOCK_BYTES) != 0 ||
        offset + slot_bytes > va_max(slot_bytes, VA_BLOCK_BYTES))
        va_fatal(function, "not the start of an allocation", pointer);
    return slot_bytes;
}

/* The same, with the bytes that were asked for; a slot that is free is reported. */
static size_t live_slot_of(const void *pointer, size_t *size, const char *function)
{
    size_t slot_bytes = slot_of(pointer, function);
    if (!size_of((char *)(uintptr_t)pointer, slot_bytes, size))
        va_fatal(function, "freed already, or not the start of an allocation", pointer);
    return slot_bytes;
}

/* ---- Allocation ---- */

static void *allocate_watched(Allocator *allocator, size_t size, size_t alignment, bool zeroed)
{
    size = va_max(size, 1);
    if (va_thread_reports)
        return va_emergency_allocate(size, alignment);
    if (size > PTRDIFF_MAX - REDZONE_BYTES)
        return NULL;
    bool zero = zeroed;
    char *slot = va_allocate_told(allocator, size + REDZONE_BYTES, alignment, &zero);
    if (slot == NULL) {
        va_watched_settle();
        slot = va_allocate_told(allocator, size + REDZONE_BYTES, alignment, &zero);
        if (slot == NULL)
            return NULL;
    }
    size_t slot_bytes = va_usable_size(slot, "malloc");
    tool_allocated(slot, size, zeroed);
    if (zeroed && !zero)
        memset(slot, 0, size);
    tool_hide(slot + size, slot_bytes - size);
    write_number(slot, slot_bytes, seal(slot, slot_bytes) + size);
    return slot;
}

void *va_watched_allocate(Allocator *allocator, size_t size, size_t alignment)
{
    return allocate_watched(allocator, size, alignment, false);
}

void *va_watched_allocate_zeroed(Allocator *allocator, size_t size, size_t alignment)
{
    return allocate_watched(allocator, size, alignment, true);
}

/* ---- Frees ---- */

/* Who takes a place's slot out has it alone: acquire and release hand it over. Slots of other
 * allocators do not wait: these may be destroyed meanwhile. */
static _Atomic(void *) waiting[WAITING_SLOTS];
static _Atomic size_t waiting_next; /* relaxed: any order will do */

static void *take_place(size_t place, void *slot)
{
    return atomic_exchange_explicit(&waiting[place], slot, memory_order_acq_rel);
}

static void free_later(void *slot, size_t slot_bytes, const char *function)
{
    if (slot_bytes <= WAITING_MAX_BYTES && va_owner(slot) == &va_process) {
        size_t turn = atomic_fetch_add_explicit(&waiting_next, 1, memory_order_relaxed);
        slot = take_place(turn % WAITING_SLOTS, slot);
    }
    va_free(slot, function);
}

void va_watched_settle(void)
{
    for (size_t i = 0; i < WAITING_SLOTS; i++)
        va_free(take_place(i, NULL), "free");
}

void va_watched_free(void *pointer, const char *function)
{
    size_t size;
    if (pointer == NULL)
        return;
    size_t slot_bytes = slot_of(pointer, function);
    tool_freed(pointer, slot_bytes); /* memcheck tells who freed it before */
    live_slot_of(pointer, &size, function);
    write_number(pointer, slot_bytes, 0);
    free_later(pointer, slot_bytes, function);
}

void va_watched_free_sized(void *pointer, size_t size, size_t alignment, const char *function)
{
    size_t asked;
    if (pointer == NULL)
        return;
    size = va_max(size, 1);
    size_t slot_bytes = live_slot_of(pointer, &asked, function);
    unsigned class = size > PTRDIFF_MAX - REDZONE_BYTES
                         ? VA_CLASS_LARGE
                         : va_class_of_aligned(size + REDZONE_BYTES, alignment);
    if (size != asked || (class < VA_CLASSES && va_size_classes[class].bytes != slot_bytes))
        va_wrong_size(function, pointer);
    va_watched_free(pointer, function);
}

/* ---- What is asked of a pointer ---- */

size_t va_watched_usable_size(const void *pointer, const char *function)
{
    size_t size = 0;
    if (pointer != NULL)
        live_slot_of(pointer, &size, function);
    return size;
}

size_t va_watched_good_size(size_t size)
{
    return va_max(size, 1);
}

static void resize(char *slot, size_t slot_bytes, size_t from, size_t to)
{
    tool_resized(slot, from, to);
    tool_hide(slot + to, slot_bytes - to);
    write_number(slot, slot_bytes, seal(slot, slot_bytes) + to);
}

bool va_watched_expand(void *pointer, size_t size, const char *function)
{
    size_t asked;
    live_slot_of(pointer, &asked, function);
    if (size <= asked)
        return true;
    if (size > PTRDIFF_MAX - REDZONE_BYTES || !va_expand(pointer, size + REDZONE_BYTES, function))
        return false;
    resize(pointer, va_usable_size(pointer, function), asked, size);
    return true;
}

void *va_watched_reallocate(Allocator *allocator, void *pointer, size_t size, size_t alignment,
                            const char *function)
{
    size_t asked;
    if (pointer == NULL)
        return va_watched_allocate(allocator, size, alignment);
    size = va_max(size, 1);
    size_t slot_bytes = live_slot_of(pointer, &asked, function);
    if (size > PTRDIFF_MAX - REDZONE_BYTES)
        return NULL;
    unsigned class = va_class_of_aligned(size + REDZONE_BYTES, alignment);
    if (class < VA_CLASSES && va_size_classes[class].bytes == slot_bytes) {
        resize(pointer, slot_bytes, asked, size);
        return pointer;
    }
    if (class == VA_CLASS_LARGE && alignment <= VA_BLOCK_BYTES && size > asked &&
        va_watched_expand(pointer, size, function))
        return pointer;
    void *moved = va_watched_allocate(va_owner(pointer), size, alignment);
    if (moved == NULL)
        return NULL;
    memcpy(moved, pointer, va_min(asked, size));
    va_watched_free(pointer, function);
    return moved;
}

/* ---- Allocators ---- */

static int end_block(const MemoryBlock *block, void *unused)
{
    size_t size;
    (void)unused;
    for (size_t i = 0; block->live_slots != 0 && i < block->slots; i++) {
        char *slot = (char *)block->address + i * block->slot_size;
        if (size_of(slot, block->slot_size, &size)) {
            tool_freed(slot, block->slot_size);
            write_number(slot, block->slot_size, 0);
        }
    }
    return 0;
}

void va_watched_destroy(Allocator *allocator)
{
    va_inspect_blocks(allocator, end_block, NULL);
    va_allocator_destroy(allocator);
}

#endif
