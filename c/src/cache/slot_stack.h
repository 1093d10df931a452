/* slot_stack.h: the bounded array stack of slot addresses, one per class in a thread cache.
 *
 *        storage[0]      [1]  ...  [n]          ...   [capacity]
 *        NULL            oldest    newest = *top      limit
 *
 * The NULL below the slots makes the emptiness test of malloc the test of the slot it loaded
 * anyway. Freed memory is never linked through: only its address is kept. Owner thread only.
 *
 * All slots on a stack lie in the first arena: that of their states is then the only table that the
 * fast paths have to know. Slots of other arenas go straight to their slabs, and come from there.
 */
#ifndef VA_SLOT_STACK_H
#define VA_SLOT_STACK_H

#include "base/check.h"

typedef struct SlotStack {
    void **top;   /* the newest slot, or the NULL below */
    void **limit; /* where top stands when the stack is full */
#if VALLOC_CHECKS
    uintptr_t states; /* plus a slot's address, shifted: its state, see slot_state.h */
    uint64_t shift;
#endif
} SlotStack;

/* Overwrites addresses of slots that have left. Only tools mind them: a lost slot whose address is
 * still somewhere is not reported as a leak. */
VA_INLINE void va_slots_forget(void **slots, size_t count)
{
    for (size_t i = 0; VA_WATCHED && i < count; i++)
        slots[i] = NULL;
}

/* The newest slot, removed; NULL if there is none. */
VA_INLINE void *va_slot_stack_pop(SlotStack *stack)
{
    void **top = stack->top;
    void *slot = VA_GLANCE(*top);
    if (va_likely(slot != NULL)) {
        atomic_signal_fence(memory_order_seq_cst);
        VA_PUBLISH(stack->top, top - 1);
        atomic_signal_fence(memory_order_seq_cst); /* before the thread's next operation */
        va_slots_forget(top, 1);
    }
    return slot;
}

VA_INLINE bool va_slot_stack_is_full(const SlotStack *stack)
{
    return stack->top == stack->limit;
}

/* The slot is stored before top: a fork in between copies a stack that is consistent. */
VA_INLINE void va_slot_stack_push(SlotStack *stack, void *slot)
{
    va_assert(stack->top < stack->limit);
    VA_PUBLISH(stack->top[1], slot);
    atomic_signal_fence(memory_order_seq_cst);
    VA_PUBLISH_NEXT(stack->top);
    atomic_signal_fence(memory_order_seq_cst); /* before the thread's next operation */
}

#endif
