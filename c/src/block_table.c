/* block_table.c: the arenas' descriptions and the search among them. Programs live in the first
 * arena; more exist only where the address space is limited, so a linear search will do. */
#include "block_table.h"

Arena va_arenas[VA_ARENAS_MAX];
_Atomic unsigned va_arena_count;

Arena *va_arena_of(const void *pointer)
{
    unsigned count = atomic_load_explicit(&va_arena_count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        Arena *arena = &va_arenas[i];
        if (va_block_index(arena, pointer) <
            atomic_load_explicit(&arena->tabled, memory_order_relaxed))
            return arena;
    }
    return NULL;
}
