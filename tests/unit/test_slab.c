/* test_slab.c: slots taken and given back at random, for every class, against a set of bytes. */
#include "support.h"

#include "arena/arena.h"
#include "os/os.h"
#include "slab/slab.h"

static unsigned char used[VA_SLAB_SLOTS_MAX];

static size_t slot_number(const Block *slab, const void *slot)
{
    size_t offset = (size_t)((const char *)slot - va_block_address(slab));
    assert_int_equal(offset % slab->slot_bytes, 0);
    assert_true(offset / slab->slot_bytes < slab->slots);
    return offset / slab->slot_bytes;
}

static void every_slot_is_lent_once(void **state)
{
    (void)state;
    static void *live[VA_SLAB_SLOTS_MAX];
    static void *batch[VA_SLAB_SLOTS_MAX];
    uint64_t seed = 3;
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class ++) {
        bool zero;
        uint32_t count = 0;
        Block *slab = va_arena_lend(1, 1);
        va_slab_start(slab, class);
        memset(used, 0, sizeof used);
        for (int i = 0; i < 2000; i++) {
            uint64_t r = random_next(&seed);
            if ((r >> 60) % 2 == 0) {
                uint32_t want = 1 + (uint32_t)(r % 200);
                uint32_t available = va_slab_available(slab);
                uint32_t n = va_slab_take(slab, batch + want - 1, want, &zero);
                assert_int_equal(n, want < available ? want : available);
                for (uint32_t k = want - n; k < want; k++) {
                    size_t slot = slot_number(slab, batch[k]);
                    assert_int_equal(used[slot], 0);
                    used[slot] = 1;
                    live[count++] = batch[k];
                }
            } else if (count > 0) {
                uint32_t n = 1 + (uint32_t)(r % count);
                if (r >> 61 & 1) /* in random order, else in the order they came */
                    for (uint32_t k = 0; k < n; k++) {
                        uint32_t other = (uint32_t)(random_next(&seed) % count);
                        void *swap = live[count - 1 - k];
                        live[count - 1 - k] = live[other];
                        live[other] = swap;
                    }
                for (uint32_t k = count - n; k < count;) {
                    uint32_t given;
                    assert_int_equal(
                        va_slab_give(slab, va_block_bitmap(slab), live + k, count - k, &given),
                        SLAB_OK);
                    assert_true(given >= 1 && given <= count - k);
                    for (uint32_t g = 0; g < given; g++)
                        used[slot_number(slab, live[k + g])] = 0;
                    k += given;
                }
                count -= n;
            }
            assert_int_equal(va_slab_available(slab), slab->slots - count);
            assert_int_equal(va_slab_is_unused(slab), count == 0);
        }
        va_arena_reclaim(slab);
    }
}

/* The pieces of pages without a byte of a used slot, one by one. */
static uint32_t pieces_by_looking(const Block *slab)
{
    uint32_t pieces = VA_PIECES_ALL;
    size_t page = va_os_page_bytes();
    uint32_t page_pieces = (1u << (page >> VA_PIECE_SHIFT)) - 1;
    for (size_t slot = 0; slot < slab->slots; slot++)
        if (used[slot] != 0)
            for (size_t byte = slot * slab->slot_bytes; byte < (slot + 1) * slab->slot_bytes;
                 byte++)
                pieces &= ~(page_pieces << (va_align_down(byte, page) >> VA_PIECE_SHIFT));
    return pieces;
}

/* Pages that were purged read as zero, those that were used since are no longer known as absent. */
static void holes_are_what_no_used_slot_touches(void **state)
{
    (void)state;
    static void *batch[VA_SLAB_SLOTS_MAX];
    uint64_t seed = 9;
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class += 5) {
        Block *slab = va_arena_lend(1, 1);
        va_slab_start(slab, class);
        memset(used, 0, sizeof used);
        for (int i = 0; i < 60; i++) {
            bool zero;
            uint32_t given;
            uint32_t want = 1 + (uint32_t)(random_next(&seed) % slab->slots);
            uint32_t n = va_slab_take(slab, batch + want - 1, want, &zero);
            for (uint32_t k = want - n; k < want; k++) {
                used[slot_number(slab, batch[k])] = 1;
                memset(batch[k], 1, slab->slot_bytes);
            }
            for (size_t slot = 0; slot < slab->slots; slot++) {
                void *address = va_block_address(slab) + slot * slab->slot_bytes;
                if (used[slot] == 0 || random_next(&seed) % 8 == 0)
                    continue;
                used[slot] = 0;
                assert_int_equal(va_slab_give(slab, va_block_bitmap(slab), &address, 1, &given),
                                 SLAB_OK);
            }
            uint32_t pieces = pieces_by_looking(slab);
            assert_int_equal(va_slab_free_pieces(slab), pieces);
            assert_int_equal(slab->absent & ~pieces, 0);
            if (i % 2 == 0)
                continue;
            va_slab_purge(slab);
            assert_int_equal(slab->absent, pieces);
            for (size_t piece = 0; piece < VA_PIECES; piece++)
                if ((pieces >> piece & 1) != 0)
                    assert_int_equal(va_block_address(slab)[piece << VA_PIECE_SHIFT], 0);
        }
        slab->zero = false;
        va_arena_reclaim(slab);
    }
}

static void wrong_slots_are_named(void **state)
{
    (void)state;
    bool zero;
    uint32_t given;
    void *slots[4];
    Block *slab = va_arena_lend(1, 1);
    va_slab_start(slab, va_class_of(100));
    assert_int_equal(va_slab_take(slab, slots + 3, 4, &zero), 4);
    void *inside = (char *)slots[0] + 8;
    void *never_used = (char *)slots[0] + 2 * slab->slot_bytes;
    assert_int_equal(va_slab_give(slab, va_block_bitmap(slab), &inside, 1, &given),
                     SLAB_NOT_A_SLOT);
    /* In random order any slot may be the next: none is known as never used. */
    assert_int_equal(va_slab_give(slab, va_block_bitmap(slab), &never_used, 1, &given),
                     VALLOC_SECURE_RANDOM ? SLAB_FREE_ALREADY : SLAB_NOT_A_SLOT);
    assert_int_equal(va_slab_give(slab, va_block_bitmap(slab), slots, 1, &given), SLAB_OK);
    assert_int_equal(va_slab_give(slab, va_block_bitmap(slab), slots, 1, &given),
                     SLAB_FREE_ALREADY);
    assert_int_equal(va_slab_give(slab, va_block_bitmap(slab), slots, 4, &given),
                     SLAB_FREE_ALREADY);
    va_arena_reclaim(slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_slot_is_lent_once),
        cmocka_unit_test(holes_are_what_no_used_slot_touches),
        cmocka_unit_test(wrong_slots_are_named),
    };
    return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
