/* fuzz_slot_stack.c: a stack of slots, against an array and a count. */
#include "fuzz.h"

#include "cache/slot_stack.h"

#define ROOM 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, data + size};
    void *storage[ROOM + 1] = {NULL};
    void *model[ROOM];
    static char slots[256];
    size_t count = 0;
    size_t capacity = take_below(&input, ROOM + 1);
    SlotStack stack = {.top = storage, .limit = storage + capacity};
    while (!input_is_over(&input)) {
        uint8_t what = take_byte(&input);
        demand(va_slot_stack_is_full(&stack) == (count == capacity));
        if (what % 2 == 0 && count < capacity) {
            model[count] = &slots[what];
            va_slot_stack_push(&stack, model[count++]);
        } else if (what % 16 == 15 && what / 16 >= count) { /* its owner changes what it may hold */
            capacity = (size_t)what / 16;
            stack.limit = storage + capacity;
        } else {
            demand(va_slot_stack_pop(&stack) == (count == 0 ? NULL : model[--count]));
        }
        demand(stack.top == storage + count && storage[0] == NULL);
        for (size_t i = 0; i < count; i++)
            demand(storage[i + 1] == model[i]);
    }
    return 0;
}
