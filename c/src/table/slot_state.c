/* slot_state.c: see slot_state.h. */
#include "table/slot_state.h"

#if VALLOC_CHECKS

/* States of free slots. 128 bytes of a block have the highest bit of their addresses' lowest byte
 * clear, then 128 have it set. Rows of 64 states, which are stored quickly. */
#define ROW 64
#define FLIP_2 VA_STATE_FLIP, VA_STATE_FLIP
#define FLIP_8 FLIP_2, FLIP_2, FLIP_2, FLIP_2
#define MIDDLE_8 FLIP_2, 0, 0, FLIP_2, 0, 0
#define COARSE_8 VA_STATE_FLIP, 0, VA_STATE_FLIP, 0, VA_STATE_FLIP, 0, VA_STATE_FLIP, 0
#define FINE_16 FLIP_8, 0, 0, 0, 0, 0, 0, 0, 0
typedef struct StateRow {
    uint8_t states[ROW];
} StateRow;
static VA_TABLE const StateRow free_states[STATE_TABLES] = {
    [STATES_COARSE] = {{COARSE_8, COARSE_8, COARSE_8, COARSE_8, COARSE_8, COARSE_8, COARSE_8,
                        COARSE_8}},
    [STATES_MIDDLE] = {{MIDDLE_8, MIDDLE_8, MIDDLE_8, MIDDLE_8, MIDDLE_8, MIDDLE_8, MIDDLE_8,
                        MIDDLE_8}},
    [STATES_FINE] = {{FINE_16, FINE_16, FINE_16, FINE_16}}};

void va_states_start(const Block *block, unsigned class)
{
    const Arena *arena = &va_arenas[block->arena];
    size_t number = va_block_number(block);
    _Atomic uint64_t *written = &va_group(arena, number / VA_GROUP_BLOCKS)->states;
    uint64_t bit = (uint64_t)1 << number % VA_GROUP_BLOCKS;
    if ((atomic_load_explicit(written, memory_order_relaxed) & bit) == 0)
        atomic_fetch_or_explicit(written, bit, memory_order_relaxed);
    StateTable table = va_state_table(class);
    uint8_t *state = va_state_of(arena, class, va_block_address(block));
    const uint8_t *end = state + (VA_BLOCK_BYTES >> va_state_shift(table));
    for (; state < end; state += ROW)
        *(StateRow *)(void *)state = free_states[table];
}

bool va_slot_is_live(const Block *block, unsigned class, const void *slot)
{
    const uint8_t *state = va_state_of(&va_arenas[block->arena], class, slot);
    return va_state_is_live(state, slot) || va_state_is_sampled(state, slot);
}

void va_slot_begin(const Block *block, unsigned class, const void *slot)
{
    va_state_begin(va_state_of(&va_arenas[block->arena], class, slot), slot);
}

void va_slot_end(const Block *block, unsigned class, const void *slot)
{
    va_state_end(va_state_of(&va_arenas[block->arena], class, slot));
}

VA_COLD void va_slot_sample(const Block *block, unsigned class, const void *slot)
{
    VA_PUBLISH(*va_state_of(&va_arenas[block->arena], class, slot),
               va_state_live(slot) ^ VA_STATE_FLIP ^ 1);
}

bool va_slot_end_sample(const Block *block, unsigned class, const void *slot)
{
    uint8_t *state = va_state_of(&va_arenas[block->arena], class, slot);
    if (va_likely(!va_state_is_sampled(state, slot)))
        return false;
    va_state_begin(state, slot);
    return true;
}

#else

void va_states_start(const Block *block, unsigned class)
{
    (void)block, (void)class;
}

bool va_slot_is_live(const Block *block, unsigned class, const void *slot)
{
    (void)block, (void)class, (void)slot;
    return true;
}

void va_slot_begin(const Block *block, unsigned class, const void *slot)
{
    (void)block, (void)class, (void)slot;
}

void va_slot_end(const Block *block, unsigned class, const void *slot)
{
    (void)block, (void)class, (void)slot;
}

void va_slot_sample(const Block *block, unsigned class, const void *slot)
{
    (void)block, (void)class, (void)slot;
}

bool va_slot_end_sample(const Block *block, unsigned class, const void *slot)
{
    (void)block, (void)class, (void)slot;
    return false;
}

#endif
