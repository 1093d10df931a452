/* memtag.h: memory tags (MTE) in secure builds on aarch64. The processor compares four bits of each
 * address with four that it keeps for 16 bytes of memory, and a difference is a fault.
 *
 *   address:  | 63..60 | memory tag, 59..56 | 55..0 |
 *
 * Memory that nobody has, and all of valloc's own, has the tag 0. An allocation of up to
 * VA_MEMTAG_BYTES gets one from 1 to 15 by chance, another than its neighbours in the slab. So a
 * stale pointer faults until its memory is in use again, and mostly then, too; an overflow faults
 * in the next slot.
 *
 * Only the API knows of it: an address gets its tag when it leaves (va_memtag_out), and loses it
 * when it comes back (va_memtag_in). A free also takes the memory's tags away, before the core
 * writes there. The core reads live allocations in few places, without checks (va_memtag_ignore).
 *
 * Decided once, before any block is mapped; off where the processor or the kernel has no tags, or
 * threads exist already: the kernel keeps the mode for each thread and its later children. Any
 * thread; no locks. Without VA_MEMTAG nothing of this is compiled. */
#ifndef VA_MEMTAG_H
#define VA_MEMTAG_H

#include "base/config.h"

#if VA_MEMTAG

extern bool va_memtag_on; /* const after va_memtag_start */

void va_memtag_start(void);

void *va_memtag_give(void *slot);
void *va_memtag_check(void *pointer, bool ends, const char *function);

/* An address without its tag. One that no arena has stays as it is. */
void *va_memtag_strip(const void *pointer);

/* The same address as the program has it. */
void *va_memtag_of(const void *slot);

/* All memory of the allocation at this address has the address's tag, also where it has grown. */
void va_memtag_restore(const void *pointer);

/* What a realloc of an address returned gets a tag. NULL: the old allocation gets its own back. It
 * also does where it was resized in place: programs expect to find the same address. */
void *va_memtag_resize(void *slot, void *pointer);

/* Memory that was allocated gets the tag 0. Purged memory has it. */
void va_memtag_drop(char *start, size_t bytes);

/* No access of the thread is checked until va_memtag_heed gets what this returned. */
uint64_t va_memtag_ignore(void);
void va_memtag_heed(uint64_t before);

#else

#define va_memtag_on false

VA_INLINE void va_memtag_start(void)
{
}

VA_INLINE void *va_memtag_give(void *slot)
{
    return slot;
}

VA_INLINE void *va_memtag_check(void *pointer, bool ends, const char *function)
{
    (void)ends, (void)function;
    return pointer;
}

VA_INLINE void *va_memtag_strip(const void *pointer)
{
    return (void *)(uintptr_t)pointer;
}

VA_INLINE void *va_memtag_of(const void *slot)
{
    return (void *)(uintptr_t)slot;
}

VA_INLINE void va_memtag_restore(const void *pointer)
{
    (void)pointer;
}

VA_INLINE void va_memtag_drop(char *start, size_t bytes)
{
    (void)start, (void)bytes;
}

VA_INLINE void *va_memtag_resize(void *slot, void *pointer)
{
    (void)pointer;
    return slot;
}

VA_INLINE uint64_t va_memtag_ignore(void)
{
    return 0;
}

VA_INLINE void va_memtag_heed(uint64_t before)
{
    (void)before;
}

#endif

/* An allocation goes to the program: its address with a tag. NULL stays NULL. */
VA_INLINE void *va_memtag_out(void *slot)
{
    return va_memtag_on ? va_memtag_give(slot) : slot;
}

/* An address comes back, for a free or a realloc: without its tag, which the memory loses, too. Of
 * a live allocation another tag than the memory's is reported; all else is left to the core. */
VA_INLINE void *va_memtag_in(void *pointer, const char *function)
{
    return va_memtag_on ? va_memtag_check(pointer, true, function) : pointer;
}

/* The same for an allocation that stays in use as it is. */
VA_INLINE void *va_memtag_look(const void *pointer, const char *function)
{
    void *given = (void *)(uintptr_t)pointer;
    return va_memtag_on ? va_memtag_check(given, false, function) : given;
}

/* What a realloc of an address that came in so returned. */
VA_INLINE void *va_memtag_again(void *slot, void *pointer)
{
    return va_memtag_on ? va_memtag_resize(slot, pointer) : slot;
}

#endif
