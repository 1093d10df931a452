/* slab.c: taking and giving slots in batches; the record's fields stay in registers meanwhile. */
#include "slab/slab.h"

#include <string.h>

#include "arena/arena_space.h"
#include "table/bitmap.h"
#include "base/check.h"
#include "os/os.h"
#include "harden/secure.h"
#include "table/slot_state.h"

/* ---- Random order ---- */

#if VALLOC_SECURE_RANDOM

/* Never-used slots have their turn by chance like all others. */
static void free_all_slots(Block *slab)
{
    uint64_t *bitmap = va_block_bitmap(slab);
    for (size_t w = 0; w * 64 < slab->slots; w++)
        bitmap[w] = va_bitmap_mask(w, 0, slab->slots);
    slab->fresh = slab->free_count = slab->slots;
}

#endif

/* ---- The interface ---- */

void va_slab_start(Block *slab, unsigned class)
{
    const SizeClass *size_class = &va_size_classes[class];
    slab->next = slab->prev = NULL;
    slab->slot_bytes = size_class->bytes;
    slab->reciprocal = size_class->reciprocal;
    slab->class = (uint16_t) class;
    slab->slots = (uint16_t)va_guard_slots(slab, size_class->bytes, size_class->slots);
    slab->fresh = 0;
    slab->free_count = 0;
    slab->listed = slab->draining = false;
    /* A huge page is resident as a whole: in the dense zone nothing is known. */
    bool sparse = va_zone_of(&va_arenas[slab->arena], va_block_number(slab)) == ZONE_SPARSE;
    slab->absent = slab->zero && sparse ? VA_PIECES_ALL : 0;
    memset(va_block_bitmap(slab), 0, ((size_t)slab->slots + 63) / 64 * sizeof(uint64_t));
    va_states_start(slab, class);
#if VALLOC_SECURE_RANDOM
    free_all_slots(slab);
#endif
}

/* ---- Pages ---- */

/* Is no byte of [start, end) part of a used slot? */
static VA_COLD bool is_free(const Block *slab, const uint64_t *bitmap, size_t start, size_t end)
{
    size_t first = start / slab->slot_bytes;
    size_t last = va_min((end - 1) / slab->slot_bytes + 1, slab->fresh);
    return first >= last || va_bitmap_all(bitmap, first, last - first);
}

VA_COLD uint32_t va_slab_free_pieces(const Block *slab)
{
    const uint64_t *bitmap = va_block_bitmap(slab);
    size_t page = va_os_page_bytes();
    uint32_t page_pieces = (1u << (page >> VA_PIECE_SHIFT)) - 1;
    uint32_t pieces = 0;
    for (size_t start = 0; start < VA_BLOCK_BYTES; start += page)
        if (is_free(slab, bitmap, start, start + page))
            pieces |= page_pieces << (start >> VA_PIECE_SHIFT);
    return pieces;
}

VA_COLD void va_slab_purge(Block *slab)
{
    uint32_t pieces = va_slab_free_pieces(slab) & ~(uint32_t)slab->absent;
    bool any = false;
    while (pieces != 0) {
        unsigned first = va_lowest_bit(pieces);
        unsigned count = va_lowest_bit(~((uint64_t)pieces >> first));
        uint32_t run = ((1u << count) - 1) << first;
        size_t run_bytes = (size_t)count << VA_PIECE_SHIFT;
        if (va_os_purge(va_block_address(slab) + ((size_t)first << VA_PIECE_SHIFT), run_bytes)) {
            slab->absent = (uint16_t)(slab->absent | run);
            any = true;
        }
        pieces &= ~run;
    }
    if (any)
        va_space_purged(slab);
}

/* The pieces that hold parts of slots that were used before. */
static inline uint32_t used_pieces(const Block *slab)
{
    size_t end = (size_t)slab->fresh * slab->slot_bytes;
    return (1u << (va_align_up(end, (size_t)1 << VA_PIECE_SHIFT) >> VA_PIECE_SHIFT)) - 1;
}

/* Never-used slots [first, first + count) leave: their pages come. */
static inline void touch(Block *slab, size_t first, size_t count)
{
    size_t start = first * slab->slot_bytes >> VA_PIECE_SHIFT;
    size_t end = ((first + count) * slab->slot_bytes - 1) >> VA_PIECE_SHIFT;
    size_t page_pieces = va_os_page_bytes() >> VA_PIECE_SHIFT;
    start = va_align_down(start, page_pieces);
    end = end | (page_pieces - 1);
    slab->absent = (uint16_t)(slab->absent & ~((2u << end) - (1u << start)));
}

/* ---- Slots ---- */
#if VALLOC_SECURE_RANDOM

/* From a random word of the bitmap on, and from a random bit on in each. */
uint32_t va_slab_take(Block *slab, void **last, uint32_t count, bool *zero)
{
    char *base = va_block_address(slab);
    uint64_t *bitmap = va_block_bitmap(slab);
    size_t words = ((size_t)slab->slots + 63) / 64;
    uint64_t random = va_random_shared();
    size_t w = (size_t)((random >> 32) * words >> 32);
    uint32_t taken = count < slab->free_count ? count : slab->free_count;
    uint32_t left = taken;
    *zero = false;
    slab->free_count = (uint16_t)(slab->free_count - taken);
    for (size_t looked_at = 0; left > 0; looked_at++, w = w + 1 == words ? 0 : w + 1) {
        unsigned turn = (unsigned)(random % va_min(slab->slots, 64));
        va_check(looked_at < words); /* the bits are as many as free_count */
        while (bitmap[w] != 0 && left > 0) {
            uint64_t above = bitmap[w] & (UINT64_MAX << turn);
            unsigned bit = va_lowest_bit(above != 0 ? above : bitmap[w]);
            bitmap[w] &= ~((uint64_t)1 << bit);
            *last-- = base + (w * 64 + bit) * slab->slot_bytes;
            left--;
        }
        random = random >> 6 | random << 58;
    }
    if (va_unlikely(slab->absent != 0))
        slab->absent = (uint16_t)(slab->absent & va_slab_free_pieces(slab));
    return taken;
}

#else

/* Stores `count` neighbours downwards from *last; returns the place of the next one. */
VA_INLINE void **put_neighbours(void **last, char *slot, size_t slot_bytes, uint32_t count)
{
    for (; count >= 4; count -= 4, last -= 4, slot += 4 * slot_bytes) {
        last[0] = slot;
        last[-1] = slot + slot_bytes;
        last[-2] = slot + 2 * slot_bytes;
        last[-3] = slot + 3 * slot_bytes;
    }
    for (; count > 0; count--, slot += slot_bytes)
        *last-- = slot;
    return last;
}

uint32_t va_slab_take(Block *slab, void **last, uint32_t count, bool *zero)
{
    char *base = va_block_address(slab);
    size_t slot_bytes = slab->slot_bytes;
    uint32_t from_bitmap = count < slab->free_count ? count : slab->free_count;
    uint32_t left = from_bitmap;
    *zero = left == 0 && slab->zero;
    va_check(slab->free_count <= slab->fresh && slab->fresh <= slab->slots);
    if (left > 0) {
        uint64_t *bitmap = va_block_bitmap(slab);
        for (size_t w = 0;; w++) {
            va_check(w < VA_SLAB_WORDS); /* the bits are as many as free_count */
            uint64_t word = bitmap[w];
            char *word_base = base + w * 64 * slot_bytes;
            uint32_t in_row = va_word_only_ones(word);
            if (in_row != 0) {
                unsigned first = va_lowest_bit(word);
                in_row = left < in_row ? left : in_row;
                last = put_neighbours(last, word_base + first * slot_bytes, slot_bytes, in_row);
                word &= ~va_bitmap_mask(0, first, in_row);
                left -= in_row;
            }
            while (word != 0 && left > 0) {
                *last-- = word_base + va_lowest_bit(word) * slot_bytes;
                word &= word - 1;
                left--;
            }
            bitmap[w] = word;
            if (left == 0)
                break;
        }
        slab->free_count = (uint16_t)(slab->free_count - from_bitmap);
        if (va_unlikely((slab->absent & used_pieces(slab)) != 0))
            slab->absent = (uint16_t)(slab->absent & va_slab_free_pieces(slab));
    }
    uint32_t never_used = (uint32_t)(slab->slots - slab->fresh);
    uint32_t from_fresh = count - from_bitmap < never_used ? count - from_bitmap : never_used;
    put_neighbours(last, base + slab->fresh * slot_bytes, slot_bytes, from_fresh);
    if (va_unlikely(slab->absent != 0) && from_fresh != 0)
        touch(slab, slab->fresh, from_fresh);
    slab->fresh = (uint16_t)(slab->fresh + from_fresh);
    return from_bitmap + from_fresh;
}

#endif

/* How many of the slots, up to the bounds for going up and going down, are neighbours in one
 * direction, starting with the first. */
static inline uint32_t neighbours(void *const *slots, ptrdiff_t slot_bytes, uint32_t most_up,
                                  uint32_t most_down)
{
    ptrdiff_t step = (char *)slots[1] - (char *)slots[0];
    uint32_t most = step == slot_bytes ? most_up : step == -slot_bytes ? most_down : 1;
    size_t n = 1; /* one of 32 bits would be extended for every access */
    char *next = slots[1];
    for (; n + 4 <= most && slots[n] == next && slots[n + 1] == next + step &&
           slots[n + 2] == next + 2 * step && slots[n + 3] == next + 3 * step;
         n += 4)
        next += 4 * step;
    for (; n < most && slots[n] == next; n++)
        next += step;
    return (uint32_t)n;
}

/* Sets bits [first, first + count); false if one was set before: then some may be set. */
static bool set_free(uint64_t *bitmap, uint32_t first, uint32_t count)
{
    for (uint32_t w = first / 64; w * 64 < first + count; w++) {
        uint64_t mask = va_bitmap_mask(w, first, count);
        if (va_unlikely((bitmap[w] & mask) != 0))
            return false;
        bitmap[w] |= mask;
    }
    return true;
}

SlabError va_slab_give(Block *slab, uint64_t *bitmap, void *const *slots, uint32_t count,
                       uint32_t *given)
{
    uint32_t slot_bytes = slab->slot_bytes;
    uint64_t offset = va_block_offset(slots[0]);
    uint32_t slot = (uint32_t)(offset * slab->reciprocal >> 32);
    uint32_t n = 1;
    if (va_unlikely((uint64_t)slot * slot_bytes != offset || slot >= slab->fresh)) {
        *given = n;
        return SLAB_NOT_A_SLOT;
    }
    if (count > 1) {
        uint32_t up = slab->fresh - slot;
        uint32_t down = slot + 1;
        n = neighbours(slots, (ptrdiff_t)slot_bytes, up < count ? up : count,
                       down < count ? down : count);
        if ((uintptr_t)slots[n - 1] < (uintptr_t)slots[0])
            slot -= n - 1;
    }
    *given = n;
    if (va_likely(n == 1)) {
        uint64_t bit = (uint64_t)1 << (slot % 64);
        if (va_unlikely((bitmap[slot / 64] & bit) != 0))
            return SLAB_FREE_ALREADY;
        bitmap[slot / 64] |= bit;
    } else if (va_unlikely(!set_free(bitmap, slot, n))) {
        return SLAB_FREE_ALREADY;
    }
    slab->free_count = (uint16_t)(slab->free_count + n);
    va_check(slab->free_count <= slab->fresh);
    return SLAB_OK;
}
