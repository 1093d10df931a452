/* slot_state.h: one byte per slot tells whether the program holds it. It makes every double free
 * and every free of what is no allocation visible at once.
 *
 *   states:  | coarse: a byte for 128 bytes | middle: for 64 | fine: for 16 |    tables of an arena
 *
 * Slots of 128 bytes and more start in different 128 bytes, so a state is found by one shift of the
 * slot's address. Smaller slots use the other tables, whose pages no larger class touches. The
 * denser the states, the fewer cache lines and pages.
 *
 *   live:     the lowest byte of the slot's address
 *   free:     the same with its highest bit flipped
 *   sampled:  the same with its lowest bit set, too: live, and a heap profile has a sample of it
 *
 * All addresses that share a state agree in the highest bit. So the state of a free slot matches
 * none of them, and that of a live slot only the slot's own address: not one inside it, not an
 * unaligned one. A sampled slot matches none either: the fast paths leave it to the slow ones,
 * which know it. All states of a block are free when it becomes a slab or a run.
 *
 * Who frees a slot holds it, and who allocates it has taken it from a stack or a slab: nobody else
 * uses its byte meanwhile, so plain loads and stores are enough. Two threads that free one slot in
 * the same instant are an error; both may find it live. Then its slab finds it free twice. */
#ifndef VA_SLOT_STATE_H
#define VA_SLOT_STATE_H

#include "table/block_table.h"

#if VALLOC_CHECKS

#define VA_STATE_FLIP 0x80u

VA_INLINE uint8_t va_state_live(const void *slot)
{
    return (uint8_t)(uintptr_t)slot;
}

/* The state of a slot of a class in an arena. */
VA_INLINE uint8_t *va_state_of(const Arena *arena, unsigned class, const void *slot)
{
    StateTable table = va_state_table(class);
    return (uint8_t *)(arena->states[table] + ((uintptr_t)slot >> va_state_shift(table)));
}

VA_INLINE bool va_state_is_live(const uint8_t *state, const void *slot)
{
    return VA_GLANCE(*state) == va_state_live(slot);
}

VA_INLINE bool va_state_is_sampled(const uint8_t *state, const void *slot)
{
    return VA_GLANCE(*state) == (va_state_live(slot) ^ VA_STATE_FLIP ^ 1) &&
           (va_state_live(slot) & 1) == 0;
}

VA_INLINE void va_state_begin(uint8_t *state, const void *slot)
{
    VA_PUBLISH(*state, va_state_live(slot));
}

/* Of a live slot. */
VA_INLINE void va_state_end(uint8_t *state)
{
#if VA_TSAN
    VA_PUBLISH(*state, *state ^ VA_STATE_FLIP);
#else
    VA_FOLD(state);
    *state ^= VA_STATE_FLIP; /* one instruction */
#endif
}

#endif

/* Makes all slots of a block free that becomes a slab or run of a class. */
void va_states_start(const Block *block, unsigned class);

/* Whether the program holds this slot or run of a class, which starts there; sampled or not. */
bool va_slot_is_live(const Block *block, unsigned class, const void *slot);

/* A slot or run goes to the program, or comes back. Any thread. */
void va_slot_begin(const Block *block, unsigned class, const void *slot);
void va_slot_end(const Block *block, unsigned class, const void *slot);

/* A live one is sampled from now on, until it comes back, or no more: then, was it? */
void va_slot_sample(const Block *block, unsigned class, const void *slot);
bool va_slot_end_sample(const Block *block, unsigned class, const void *slot);

#endif
