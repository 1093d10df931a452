/* test_size_class.c: every size up to 1 MiB against a search through the classes. */
#include "support.h"

#include "table/size_class.h"

static unsigned search(size_t size, size_t alignment)
{
    for (unsigned class = 0; class < VA_CLASSES; class ++) {
        size_t bytes = va_size_classes[class].bytes;
        size_t slot_alignment = bytes & -bytes;
        if (slot_alignment > VA_BLOCK_BYTES || class >= VA_CLASSES_SMALL)
            slot_alignment = VA_BLOCK_BYTES;
        if (bytes >= size && slot_alignment >= alignment)
            return class;
    }
    return VA_CLASS_LARGE;
}

static void every_size_gets_the_smallest_class(void **state)
{
    (void)state;
    for (size_t size = 0; size <= VA_RUN_MAX + 1; size++)
        assert_int_equal(va_class_of(size), search(size, 16));
}

static void aligned_sizes_get_a_class_whose_slots_are_aligned(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= VA_BLOCK_BYTES; alignment *= 2) {
        for (size_t size = 0; size <= VA_RUN_MAX; size += size < 70000 ? 1 : 997) {
            unsigned class = va_class_of_aligned(size, alignment);
            assert_true(class < VA_CLASSES);
            assert_true(va_size_classes[class].bytes >= size);
            if (class < VA_CLASSES_SMALL)
                assert_int_equal(va_size_classes[class].bytes % va_min(alignment, 1 << 15), 0);
            if (alignment <= 16)
                assert_int_equal(class, va_class_of(size));
        }
    }
    assert_int_equal(va_class_of_aligned(1, 2 * VA_BLOCK_BYTES), VA_CLASS_LARGE);
    assert_int_equal(va_class_of_aligned(VA_RUN_MAX + 1, 64), VA_CLASS_LARGE);
}

static void sizes_grow_and_waste_at_most_an_eighth(void **state)
{
    (void)state;
    for (unsigned class = 1; class < VA_CLASSES; class ++)
        assert_true(va_size_classes[class].bytes > va_size_classes[class - 1].bytes);
    for (size_t size = 129; size <= VA_SMALL_MAX; size++) {
        size_t bytes = va_size_classes[va_class_of(size)].bytes;
        assert_true((bytes - size) * 8 <= bytes);
    }
}

static void powers_of_two_with_a_header_have_classes(void **state)
{
    (void)state;
    assert_int_equal(va_size_classes[va_class_of(1024 + 16)].slots, 63);
    assert_int_equal(va_class_of(1024 + 17), va_class_of(1152));
    assert_int_equal(va_size_classes[va_class_of(4096 + 272)].slots, 15);
    assert_int_equal(va_class_of(4096 + 273), va_class_of(4608));
    assert_int_equal(va_class_of(7169), va_class_of(8192));
    assert_int_equal(va_class_of(28673), va_class_of(32768));
}

static void the_reciprocal_divides_every_offset(void **state)
{
    (void)state;
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class ++) {
        const SizeClass *c = &va_size_classes[class];
        assert_int_equal(c->slots, VA_BLOCK_BYTES / c->bytes);
        for (uint64_t offset = 0; offset < VA_BLOCK_BYTES; offset++)
            assert_int_equal(offset * c->reciprocal >> 32, offset / c->bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_gets_the_smallest_class),
        cmocka_unit_test(aligned_sizes_get_a_class_whose_slots_are_aligned),
        cmocka_unit_test(sizes_grow_and_waste_at_most_an_eighth),
        cmocka_unit_test(powers_of_two_with_a_header_have_classes),
        cmocka_unit_test(the_reciprocal_divides_every_offset),
    };
    return cmocka_run_group_tests_name("size_class", tests, NULL, NULL);
}
