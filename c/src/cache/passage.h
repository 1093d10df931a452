/* passage.h: where a slot passes to the program (out) and comes back (in). Its state changes there.
 * Secure builds also write and check canaries, and clear what comes back; other builds do not look
 * at freed memory.
 *
 * The inline halves know slots of the first arena, by their class's stack; the others find out for
 * themselves. Whatever is wrong, the inline half only says so and changes nothing; the slow one
 * reports it. */
#ifndef VA_PASSAGE_H
#define VA_PASSAGE_H

#include <string.h>

#include "cache/cache.h"
#include "harden/memtag.h"

/* Is a free slot as its free left it? */
VA_INLINE bool va_slot_is_zero(const char *slot, size_t bytes)
{
    typedef uint64_t Part __attribute__((vector_size(16), may_alias));
    Part all = {0, 0};
    const Part *part = (const Part *)(const void *)slot;
    size_t parts = VALLOC_SECURE_ZERO ? va_min(bytes, VA_CHECKED_BYTES) / sizeof *part : 0;
    for (; parts >= 4; parts -= 4, part += 4)
        all |= part[0] | part[1] | part[2] | part[3];
    for (; parts > 0; parts--, part++)
        all |= *part;
    return (all[0] | all[1]) == 0;
}

/* Reports what is wrong with a slot that is about to be allocated. */
_Noreturn void va_pass_fail_out(const void *slot);

/* A slot or run of a class goes to the program for a request: one that was on a stack, and any. */
VA_INLINE void va_pass_out(CacheFront *front, uint32_t class_offset, void *slot, size_t size)
{
    size_t bytes = va_size_classes[class_offset >> VA_CLASS_SHIFT].bytes;
    if (VA_PASSAGE_CHECKED &&
        va_unlikely(!va_slot_is_zero(slot, bytes) || va_front_is_live(front, class_offset, slot)))
        va_pass_fail_out(slot);
    va_canary_write((char *)slot + bytes, bytes - VA_CANARY_BYTES - size);
    va_front_begin(front, class_offset, slot);
}
void va_pass_out_slow(void *slot, unsigned class, size_t size);

/* A run goes to the program that is large, or becomes so there, or ceases to be. */
void va_pass_out_run(Block *run, size_t size);

/* A run that could not be resized has its canary again. */
void va_pass_keep_run(const Block *run, size_t size);

/* An allocation that stays where it is serves another request from now on. */
void va_pass_resize(void *pointer, const Block *block, uint32_t entry, size_t size);

/* The bytes that its user may use, as far as they are known, of all that the block has. */
size_t va_pass_size(const void *pointer, const Block *block, uint32_t entry);

/* Clears a slot that was a user's. */
VA_INLINE void va_slot_clear(char *slot, size_t bytes)
{
    while (bytes > VA_CLEAR_BYTES && bytes <= VA_CLEAR_BYTES_MAX) {
        size_t some = VA_CLEAR_BYTES;
        VA_FORGET(some); /* or the compiler would use that very instruction */
        memset(slot, 0, some);
        slot += some;
        bytes -= some;
    }
    memset(slot, 0, bytes);
}

/* Clears a run that was a user's, but not the pages that are zero: what was never written to does
 * not become resident. */
void va_pass_clear_run(char *run, size_t bytes);

/* What is done to a slot's memory when it comes back. */
VA_INLINE void va_slot_wipe(char *slot, size_t bytes)
{
    if (VALLOC_SECURE_ZERO && bytes > VA_SMALL_MAX)
        va_pass_clear_run(slot, bytes);
    else if (VALLOC_SECURE_ZERO)
        va_slot_clear(slot, bytes);
    else
        va_canary_erase(slot + bytes);
}

/* Whether the slot before was written to beyond its end, or this one before its start. Memory that
 * is nobody's is zero there. Only on the same page: a page that was purged stays away. */
VA_INLINE bool va_slot_before_is_damaged(const void *slot, size_t bytes)
{
    uint64_t before = va_memtag_ignore();
    bool damaged = VALLOC_SECURE_ZERO && (uintptr_t)slot % VA_META_PAGE_BYTES != 0 &&
                   va_block_offset(slot) >= bytes &&
                   va_canary_is_damaged((const char *)slot, bytes);
    va_memtag_heed(before);
    return damaged;
}

/* A slot comes back that a stack of the first arena may take. False if something is wrong. */
VA_INLINE bool va_pass_in(CacheFront *front, uint32_t class_offset, void *slot)
{
    size_t bytes = va_size_classes[class_offset >> VA_CLASS_SHIFT].bytes;
    if (va_unlikely(!va_front_is_live(front, class_offset, slot) ||
                    !va_canary_is_whole((const char *)slot + bytes, bytes) ||
                    va_slot_before_is_damaged(slot, bytes)))
        return false;
    uintptr_t offset = class_offset;
    va_front_end(front, &offset, slot);
    va_slot_wipe(slot, bytes);
    return true;
}

/* The same for any slot, run or large run: reports what is wrong. */
void va_pass_in_slow(void *pointer, Block *block, uint32_t entry, const char *function);

/* An allocation that was checked ends for the heap profile, if there is a sample of it. */
void va_pass_end_sample(const void *pointer, Block *block, uint32_t entry);

/* Reports what is no live allocation, or has lost its canary. */
void va_pass_check(const void *pointer, const Block *block, uint32_t entry, const char *function);

/* Clears memory that was a user's; true if pages went back to the kernel for that. */
bool va_pass_clear(char *start, size_t bytes);

/* A block that had `old` bytes keeps only the first `size`, or has more. */
VA_INLINE void va_pass_give_up(void *pointer, size_t size, size_t old)
{
    if (VALLOC_SECURE_ZERO && size < old)
        va_pass_clear((char *)pointer + size, old - size);
}

/* The newest slot of a stack, or with random order one of the newest; NULL if there is none. */
VA_INLINE void *va_pop(CacheFront *front, uint32_t class_offset)
{
    SlotStack *stack = va_front_stack(front, class_offset);
    void *slot = va_slot_stack_pop(stack);
#if VALLOC_SECURE_RANDOM
    if (va_likely(slot != NULL)) {
        /* Where the slot lay nothing is now: the slots [1, count) lie below. */
        ClassState *state = &((ThreadCache *)front)->classes[class_offset >> VA_CLASS_SHIFT];
        size_t count = (size_t)(stack->top - state->storage) + 1;
        void **other = stack->top + 1 -
                       va_random_below(&front->secure, (uint32_t)va_min(count, VA_RANDOM_CHOICE));
        void *chosen = *other;
        atomic_signal_fence(memory_order_seq_cst); /* a fork finds no slot twice */
        *other = slot;
        slot = chosen;
    }
#endif
    return slot;
}

/* A slot out of a stack for a request; NULL if there is none. */
VA_INLINE void *va_pop_out(CacheFront *front, uint32_t class_offset, size_t size)
{
    void *slot = va_pop(front, class_offset);
    if (va_likely(slot != NULL))
        va_pass_out(front, class_offset, slot, size);
    return slot;
}

#endif
