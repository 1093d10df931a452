/* fast_secure.h: how slots leave and enter stacks in secure builds, see passage.h. */
#ifndef VA_FAST_SECURE_H
#define VA_FAST_SECURE_H

#include "cache/passage.h"
#include "cache/quarantine.h"

/* A slot of a class for a request; NULL if there is none, or while another thread may be taking
 * slots: with random order there is no fence to meet, see idle.h. */
VA_INLINE void *va_pop_fast(CacheFront *front, uint32_t class_offset, size_t size)
{
#if VALLOC_SECURE_RANDOM
    if (va_unlikely(atomic_load_explicit(&front->secure.suspended, memory_order_relaxed)))
        return NULL;
    atomic_signal_fence(memory_order_seq_cst);
#endif
    return VA_WATCHED ? NULL : va_pop_out(front, class_offset, size);
}

/* Puts a slot on the stack of its class, or into the quarantine; false if the stack is full, or
 * something is wrong with the slot. */
VA_INLINE bool va_push_fast(CacheFront *front, uint32_t class_offset, void *slot)
{
    SlotStack *stack = va_front_stack(front, class_offset);
    if (va_unlikely(VA_WATCHED || va_slot_stack_is_full(stack) ||
                    !va_pass_in(front, class_offset, slot)))
        return false;
    if (VALLOC_SECURE_QUARANTINE && va_quarantine_takes(front, class_offset))
        va_quarantine_free_fast(front, class_offset, slot);
    else
        va_slot_stack_push(stack, slot);
    return true;
}

#endif
