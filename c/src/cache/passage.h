/* passage.h: where a slot passes to the program (out) and comes back (in). In the normal build
 * nothing happens there: freed memory is not looked at, and what is wrong shows in the slab's
 * bitmap. In secure builds the live bits, canaries and zeroing have their place here.
 *
 * The inline halves know slots of the first arena, with the caller's own front; the others find out
 * for themselves. Whatever is wrong, the inline half only says so and changes nothing; the slow one
 * reports it. */
#ifndef VA_PASSAGE_H
#define VA_PASSAGE_H

#include <string.h>

#include "cache/cache.h"

#if VA_PASSAGE_CHECKED

VA_INLINE const SizeClass *va_class_at(uint32_t class_offset)
{
    return (const SizeClass *)((const char *)va_size_classes + class_offset);
}

/* The number of the slot at an offset in its block; false if no slot starts there. Behind the last
 * one there is none that would be live. */
VA_INLINE bool va_slot_number(const SizeClass *class, uint32_t offset, size_t *n)
{
    uint64_t product = (uint64_t)offset * class->reciprocal;
    *n = (size_t)(product >> 32);
    return (uint32_t)product < class->reciprocal &&
           (VALLOC_SECURE_EXACT || *n == 0 || *n < class->slots);
}

#if VALLOC_SECURE_EXACT

/* Does this entry's block belong to the front, and do its slots stay that? Not in caches of other
 * allocators than that of the process. */
VA_INLINE bool va_is_own(const CacheFront *front, uint32_t entry)
{
    return ((entry & ~VA_ENTRY_DRAINING) ^ front->tag) < VA_CLASSES << VA_CLASS_SHIFT &&
           (entry & VA_OWNERS_HALF << VA_OWNER_SHIFT) == 0;
}

VA_INLINE bool va_slot_is_live(const Block *block, size_t n)
{
    return va_live_is(va_live_words(va_arenas[block->arena].live, va_block_number(block), n), n);
}

__attribute__((returns_nonnull)) void *va_slot_begin_slow(const CacheFront *front,
                                                          uint32_t class_offset, void *slot);

/* Makes a slot out of the front live, and returns it. */
VA_INLINE void *va_slot_begin(const CacheFront *front, uint32_t class_offset, void *slot,
                              bool of_process)
{
    size_t index = va_index_fast(front, slot);
    if (va_unlikely(index >= front->blocks))
        return va_slot_begin_slow(front, class_offset, slot);
    size_t n = (uint64_t)va_block_offset(slot) * va_class_at(class_offset)->reciprocal >> 32;
    va_live_begin(va_live_words(front->secure.live, index, n), n,
                  of_process && ((va_entry_load(front->entries + index) & ~VA_ENTRY_DRAINING) ^
                                 front->tag) < VA_CLASSES << VA_CLASS_SHIFT);
    return slot;
}

VA_INLINE bool va_slot_end(const CacheFront *front, size_t index, size_t n, bool is_own)
{
    return va_live_end(va_live_words(front->secure.live, index, n), n, is_own);
}

#else

VA_INLINE bool va_slot_is_live(const Block *block, size_t n)
{
    (void)block, (void)n;
    return true;
}

VA_INLINE void *va_slot_begin(const CacheFront *front, uint32_t class_offset, void *slot,
                              bool of_process)
{
    (void)front, (void)class_offset, (void)of_process;
    return slot;
}

VA_INLINE bool va_slot_end(const CacheFront *front, size_t index, size_t n, bool is_own)
{
    (void)front, (void)index, (void)n, (void)is_own;
    return true;
}

#endif

/* A slot or a run of a class goes to the program, from a front of a cache of the process or of
 * another allocator. */
VA_INLINE void *va_pass_out(const CacheFront *front, uint32_t class_offset, void *slot,
                            bool of_process)
{
    va_canary_write((char *)slot + va_class_at(class_offset)->bytes);
    return va_slot_begin(front, class_offset, slot, of_process);
}

/* A slot that was a user's. */
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

/* It comes back, in the block with this index; is_own: which is the front's, and that of the
 * process. False if something is wrong. */
VA_INLINE bool va_pass_in(const CacheFront *front, size_t index, uint32_t class_offset, void *slot,
                          bool is_own)
{
    size_t n;
    const SizeClass *class = va_class_at(class_offset);
    if (va_unlikely(!va_slot_number(class, va_block_offset(slot), &n) ||
                    !va_canary_is_whole((char *)slot + class->bytes) ||
                    !va_slot_end(front, index, n, is_own)))
        return false;
    if (VALLOC_SECURE_ZERO)
        va_slot_clear(slot, class->bytes);
    else
        va_canary_erase((char *)slot + class->bytes);
    return true;
}

/* The same for any slot, run or large run; the cache is the one that frees, or NULL. */
void va_pass_in_slow(ThreadCache *cache, void *pointer, Block *block, uint32_t entry,
                     const char *function);

/* A large run goes to the program, or has been resized in its hands: so has a run of a class. */
void va_pass_out_run(Block *run);

/* Clears memory that was a user's; true if pages went back to the kernel for that. */
bool va_pass_clear(char *start, size_t bytes);

/* Reports what is no live allocation, or has lost its canary. */
void va_pass_check(const void *pointer, const Block *block, uint32_t entry, const char *function);

#else

VA_INLINE void *va_pass_out(const CacheFront *front, uint32_t class_offset, void *slot,
                            bool of_process)
{
    (void)front, (void)class_offset, (void)of_process;
    return slot;
}

VA_INLINE bool va_pass_in(const CacheFront *front, size_t index, uint32_t class_offset, void *slot,
                          bool is_own)
{
    (void)front, (void)index, (void)class_offset, (void)slot, (void)is_own;
    return true;
}

VA_INLINE void va_pass_in_slow(ThreadCache *cache, void *pointer, Block *block, uint32_t entry,
                               const char *function)
{
    (void)cache, (void)pointer, (void)block, (void)entry, (void)function;
}

VA_INLINE void va_pass_out_run(Block *run)
{
    (void)run;
}

VA_INLINE bool va_pass_clear(char *start, size_t bytes)
{
    (void)start, (void)bytes;
    return false;
}

VA_INLINE void va_pass_check(const void *pointer, const Block *block, uint32_t entry,
                             const char *function)
{
    (void)pointer, (void)block, (void)entry, (void)function;
}

#endif

/* A block that had `old` bytes keeps only the first `size`, or has more. */
VA_INLINE void va_pass_give_up(void *pointer, size_t size, size_t old)
{
    if (VALLOC_SECURE_ZERO && size < old)
        va_pass_clear((char *)pointer + size, old - size);
}

/* The newest slot of a stack, or with random order one of the newest; NULL if there is none. */
VA_INLINE void *va_pop(CacheFront *front, uint32_t class_offset)
{
    SlotStack *stack = (SlotStack *)((char *)front + class_offset);
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

/* A slot out of a stack for the program; NULL if there is none. */
VA_INLINE void *va_pop_out(CacheFront *front, uint32_t class_offset, bool of_process)
{
    void *slot = va_pop(front, class_offset);
    if (VA_PASSAGE_CHECKED && va_likely(slot != NULL))
        return va_pass_out(front, class_offset, slot, of_process);
    return slot;
}

#endif
