/* slab.h: one block cut into equal slots of a size class.
 *
 *   slots:   | 0 | 1 | ... | fresh | ... | slots - 1 |
 *            used or in the bitmap    never used
 *
 *   used + free_count + (slots - fresh) == slots, where `used` are live or in a thread cache.
 *
 * The bitmap of the free slots lies in the arena's tables: a slab never reads or writes the
 * memory of its slots. All functions: under the owner's mutex. */
#ifndef VA_SLAB_H
#define VA_SLAB_H

#include "table/block_table.h"

/* A slot freed that is none, or free already. */
typedef enum SlabError { SLAB_OK, SLAB_NOT_A_SLOT, SLAB_FREE_ALREADY } SlabError;

/* Makes a lent block of run length 1 a slab. The entry is not set. Pages that it surely does not
 * have yet are known as absent. */
void va_slab_start(Block *slab, unsigned class);

/* Slots that can be taken. */
VA_INLINE uint32_t va_slab_available(const Block *slab)
{
    return (uint32_t)slab->free_count + (uint32_t)(slab->slots - slab->fresh);
}

VA_INLINE uint32_t va_slab_used(const Block *slab)
{
    return (uint32_t)(slab->fresh - slab->free_count);
}

VA_INLINE bool va_slab_is_unused(const Block *slab)
{
    return slab->free_count == slab->fresh;
}

/* Takes min(count, available) slots, lowest addresses first, and stores them downwards from
 * *last: the first one taken lies highest. Returns how many. *zero tells whether the first one
 * taken is known to be zero. */
uint32_t va_slab_take(Block *slab, void **last, uint32_t count, bool *zero);

/* The pieces that lie in pages without a used slot. */
uint32_t va_slab_free_pieces(const Block *slab);

/* Purges the pages without a used slot that are not known as absent. */
void va_slab_purge(Block *slab);

/* Gives back slots[0], which lies in this slab, and the slots that follow it in the array as long
 * as each is the neighbour of the one before, all up or all down. *given tells how many. On an
 * error one of these is wrong; the process is about to be stopped. The bitmap is the slab's: a
 * caller that gives many slots back knows where it is. */
SlabError va_slab_give(Block *slab, uint64_t *bitmap, void *const *slots, uint32_t count,
                       uint32_t *given);

#endif
