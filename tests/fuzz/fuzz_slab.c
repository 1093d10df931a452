/* fuzz_slab.c: slots taken from a slab and given back, rightly and wrongly, against a set. */
#include "fuzz.h"

#include "arena/arena.h"
#include "table/bitmap.h"
#include "slab/slab.h"

static bool used[VA_SLAB_SLOTS_MAX];
static void *batch[VA_SLAB_SLOTS_MAX];
static Block *slab;
static uint32_t used_count;
static uint32_t fresh; /* slots from here on were never taken */

static char *slot_at(uint32_t number)
{
    return va_block_address(slab) + (size_t)number * slab->slot_bytes;
}

static uint32_t number_of(const void *slot)
{
    size_t offset = (size_t)((const char *)slot - va_block_address(slab));
    demand(offset % slab->slot_bytes == 0 && offset / slab->slot_bytes < slab->slots);
    return (uint32_t)(offset / slab->slot_bytes);
}

/* The lowest slots that were given back, then those never taken. */
static uint32_t lowest_free(uint32_t from)
{
    while (from < fresh && used[from])
        from++;
    return from;
}

static void take(uint32_t want)
{
    bool zero;
    uint32_t given_back = fresh - used_count;
    uint32_t available = slab->slots - used_count;
    bool was_zero = slab->zero && given_back == 0;
    demand(va_slab_available(slab) == available);
    uint32_t taken = va_slab_take(slab, batch + want - 1, want, &zero);
    demand(taken == (want < available ? want : available));
    demand(taken == 0 || zero == was_zero);
    uint32_t expected = 0;
    for (uint32_t i = 0; i < taken; i++) {
        uint32_t number = number_of(batch[want - 1 - i]);
        expected = lowest_free(expected);
        demand(number == expected && !used[number]);
        used[number] = true;
        expected++;
        if (number >= fresh)
            fresh = number + 1;
    }
    used_count += taken;
}

/* Gives used slots back: up or down from one on, or in steps. */
static void give(uint32_t start, uint32_t most, int32_t step)
{
    uint32_t count = 0;
    for (int64_t i = start; i >= 0 && i < slab->slots && count < most; i += step)
        if (used[i])
            batch[count++] = slot_at((uint32_t)i);
    for (uint32_t done = 0; done < count;) {
        uint32_t given = 0;
        demand(va_slab_give(slab, va_block_bitmap(slab), batch + done, count - done, &given) ==
               SLAB_OK);
        demand(given >= 1 && given <= count - done);
        for (uint32_t i = 0; i < given; i++)
            used[number_of(batch[done + i])] = false;
        used_count -= given;
        done += given;
    }
}

/* A wrong slot alone is refused, and nothing changes. */
static void give_wrongly(uint32_t number, uint32_t inside)
{
    uint32_t given;
    void *wrong = slot_at(number) + inside;
    SlabError expected = inside != 0 || number >= fresh ? SLAB_NOT_A_SLOT : SLAB_FREE_ALREADY;
    if (inside != 0 || !used[number])
        demand(va_slab_give(slab, va_block_bitmap(slab), &wrong, 1, &given) == expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, data + size};
    slab = va_arena_lend(1, 1);
    demand(slab != NULL);
    bool zero = slab->zero;
    va_slab_start(slab, (unsigned)take_below(&input, VA_CLASSES_SMALL));
    memset(used, 0, sizeof used);
    used_count = fresh = 0;
    while (!input_is_over(&input)) {
        uint8_t what = take_byte(&input);
        uint32_t number = (uint32_t)take_short(&input) % slab->slots;
        uint32_t amount = 1u + take_byte(&input);
        if (what % 8 < 3) {
            take(what & 8 ? amount * 16 : amount);
        } else if (what % 8 < 7) {
            static const int32_t steps[] = {1, -1, 2, 7};
            give(number, amount, steps[what / 8 % 4]);
        } else {
            give_wrongly(number, what & 8 ? 0 : amount % slab->slot_bytes);
        }
        demand(va_slab_is_unused(slab) == (used_count == 0));
        demand(used_count + slab->free_count + (slab->slots - slab->fresh) == slab->slots);
        for (uint32_t i = 0; i < fresh; i++)
            demand(va_bitmap_test(va_block_bitmap(slab), i) == !used[i]);
    }
    slab->zero = zero;
    va_arena_reclaim(slab);
    return 0;
}
