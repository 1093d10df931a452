/* test_sample_table.c: weights against libm and simulated heaps, the table against plain arrays.
 */
#include "support.h"

#include <math.h>

#include "profile/sample_table.h"

static double random_fraction(uint64_t *seed)
{
    return (double)(random_next(seed) >> 11) / 9007199254740992.0;
}

static void assert_close(double value, double expected, double error)
{
    if (fabs(value - expected) <= error * fabs(expected) || value == expected)
        return;
    fail_msg("%.17g, not %.17g", value, expected);
}

/* ---- Weights ---- */

static void probabilities_are_those_of_libm(void **state)
{
    (void)state;
    uint64_t seed = 6;
    for (int i = 0; i < 200000; i++) {
        size_t bytes = random_next(&seed) >> (random_next(&seed) % 63);
        size_t rate = 1 + (random_next(&seed) >> (16 + random_next(&seed) % 47));
        double x = (double)(bytes == 0 ? 1 : bytes) / (double)rate;
        assert_close(va_weight_probability(bytes, rate), -expm1(-x), 1e-14);
    }
    assert_true(va_weight_probability(SIZE_MAX, 1) == 1);
    assert_true(va_weight_probability(0, 1) > 0);
}

static void roots_are_those_of_libm(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int i = 0; i < 100000; i++) {
        double value = ldexp(random_fraction(&seed), (int)(random_next(&seed) % 200) - 60);
        assert_close(va_weight_root(value), sqrt(value), 1e-14);
    }
    assert_true(va_weight_root(0) == 0);
    assert_true(va_weight_root(-1) == 0);
    assert_true(va_weight_root(NAN) == 0);
}

/* Heaps of about a thousand samples: the mean of estimates is the truth within what their number
 * allows, and two standard errors around an estimate hold the truth 19 times out of 20. */
static void estimates_are_unbiased_and_know_their_error(void **state)
{
    (void)state;
    enum { HEAPS = 1000, OBJECTS = 3000 };
    const size_t rate = 16 << 10;
    uint64_t seed = 8;
    double objects = 0;
    double bytes = 0;
    double objects_variance = 0;
    double bytes_variance = 0;
    int within_objects = 0;
    int within_bytes = 0;
    size_t sizes[OBJECTS];
    double truth = 0;
    for (int i = 0; i < OBJECTS; i++) {
        sizes[i] = 256 + (random_next(&seed) % 4096 << random_next(&seed) % 5);
        truth += (double)sizes[i];
    }
    for (int heap = 0; heap < HEAPS; heap++) {
        Totals totals = {.samples = 0};
        for (int i = 0; i < OBJECTS; i++) {
            double probability = va_weight_probability(sizes[i], rate);
            if (random_fraction(&seed) < probability)
                va_weight_add(&totals, sizes[i], probability);
        }
        objects += totals.objects / HEAPS;
        bytes += totals.bytes / HEAPS;
        objects_variance += totals.objects_variance / HEAPS;
        bytes_variance += totals.bytes_variance / HEAPS;
        within_objects += fabs(totals.objects - OBJECTS) < 2 * sqrt(totals.objects_variance);
        within_bytes += fabs(totals.bytes - truth) < 2 * sqrt(totals.bytes_variance);
    }
    assert_true(fabs(objects - OBJECTS) < 4 * sqrt(objects_variance / HEAPS));
    assert_true(fabs(bytes - truth) < 4 * sqrt(bytes_variance / HEAPS));
    assert_in_range(within_objects, HEAPS * 92 / 100, HEAPS * 98 / 100);
    assert_in_range(within_bytes, HEAPS * 92 / 100, HEAPS * 98 / 100);
}

/* ---- SampleTable ---- */

static SampleTable table;

static void start_table(void)
{
    memset(&table, 0, sizeof table);
    va_sample_table_init(&table);
}

#define POINTERS 3000
#define STACKS 50

typedef struct Naive {
    Sample live[POINTERS]; /* probability 0: not there */
    Totals all[STACKS], peak[STACKS];
    double peak_bytes;
} Naive;

/* Of all stacks; they have the ids from 1 on. */
static void naive_live(const Naive *naive, Totals *totals)
{
    memset(totals, 0, STACKS * sizeof *totals);
    for (int i = 0; i < POINTERS; i++)
        if (naive->live[i].probability > 0)
            va_weight_add(&totals[naive->live[i].stack - 1], naive->live[i].size,
                          naive->live[i].probability);
}

/* Rounding errors are those of the largest sum that there was. */
static void assert_sum(double value, double expected)
{
    assert_true(fabs(value - expected) <= 1e-9 * fabs(expected) + 1e-3);
}

static void assert_totals(const Totals *totals, const Totals *expected)
{
    assert_int_equal(totals->samples, expected->samples);
    assert_sum(totals->objects, expected->objects);
    assert_sum(totals->bytes, expected->bytes);
    assert_sum(totals->objects_variance, expected->objects_variance);
    assert_sum(totals->bytes_variance, expected->bytes_variance);
}

static void compare_to_naive(const Naive *naive)
{
    Totals live[STACKS];
    naive_live(naive, live);
    for (uint32_t i = 0; i < STACKS; i++) {
        const CallStack *stack = &table.stacks[i + 1];
        assert_totals(&stack->live, &live[i]);
        assert_totals(&stack->all, &naive->all[i]);
        assert_totals(va_sample_table_peak(&table, stack), &naive->peak[i]);
    }
    assert_sum(table.peak.bytes, naive->peak_bytes);
}

/* Samples come and go at random, few at first, then many; pointers that collide in the index, too.
 */
static void samples_are_found_by_their_pointers(void **state)
{
    (void)state;
    static Naive naive;
    uint64_t seed = 9;
    double live_bytes = 0;
    start_table();
    for (uint32_t i = 0; i < STACKS; i++) {
        uintptr_t addresses[2] = {0x1000, 0x2000 + i};
        assert_int_equal(va_sample_table_call_stack(&table, NULL, addresses, 2), i + 1);
    }
    for (int turn = 0; turn < 60000; turn++) {
        uint64_t r = random_next(&seed);
        uint32_t at = (uint32_t)(r % (turn % 20000 < 5000 ? 50 : POINTERS));
        uintptr_t pointer = ((uintptr_t)1 << 32 | at) << (at % 2 == 0 ? 4 : 17);
        Sample *live = &naive.live[at];
        if (r >> 40 & 1) {
            uint32_t stack = (uint32_t)(r >> 41) % STACKS;
            Sample sample = {.pointer = pointer, .size = 1 + (r >> 50), .stack = stack + 1};
            sample.probability = va_weight_probability(sample.size, 1000);
            if (live->probability > 0)
                live_bytes -= (double)live->size / live->probability;
            *live = sample;
            live_bytes += (double)live->size / live->probability;
            va_weight_add(&naive.all[stack], sample.size, sample.probability);
            assert_true(va_sample_table_add(&table, &sample));
            if (live_bytes > naive.peak_bytes * (1 + 1e-12)) {
                naive.peak_bytes = live_bytes;
                naive_live(&naive, naive.peak);
            }
        } else {
            assert_int_equal(va_sample_table_remove(&table, pointer), live->probability > 0);
            if (live->probability > 0)
                live_bytes -= (double)live->size / live->probability;
            live->probability = 0;
        }
        if (turn % 2000 == 0)
            compare_to_naive(&naive);
    }
    compare_to_naive(&naive);
    for (uint32_t i = table.samples_used; i > 0; i--)
        assert_true(va_sample_table_remove(&table, table.samples[i - 1].pointer));
    assert_true(table.live.bytes == 0 && table.live.bytes_variance == 0);
}

static void stacks_are_kept_once(void **state)
{
    (void)state;
    uint64_t seed = 10;
    static uint32_t ids[2][3][3][4][4]; /* label, depth, addresses */
    const char *labels[] = {NULL, "a name that has more characters than there is room for"};
    start_table();
    for (int i = 0; i < 5000; i++) {
        uint32_t label = (uint32_t)(random_next(&seed) % 2);
        uint32_t depth = (uint32_t)(random_next(&seed) % 3);
        uint32_t a = depth > 0 ? (uint32_t)(random_next(&seed) % 4) : 0;
        uint32_t b = depth > 1 ? (uint32_t)(random_next(&seed) % 4) : 0;
        uintptr_t addresses[2] = {0x1000 + a, 0x1000 + b};
        uint32_t stack = va_sample_table_call_stack(&table, labels[label], addresses, depth);
        uint32_t *id = &ids[label][depth][0][a][b];
        assert_int_not_equal(stack, 0);
        assert_true(*id == 0 || *id == stack);
        *id = stack;
        assert_int_equal(table.stacks[stack].depth, depth);
        for (uint32_t k = 0; k < depth; k++)
            assert_int_equal(table.locations[table.frames[table.stacks[stack].first + k]],
                             addresses[k]);
    }
    assert_int_equal(table.stacks_used, 1 + 2 * (1 + 4 + 16));
    assert_int_equal(table.locations_used, 4);
    assert_int_equal(table.labels_used, 2);
    assert_int_equal(strlen(table.labels[1]), VA_PROFILE_LABEL_BYTES - 1);
}

static void what_does_not_fit_is_counted(void **state)
{
    (void)state;
    uintptr_t addresses[VA_PROFILE_DEPTH_MAX] = {0};
    start_table();
    for (uintptr_t i = 1; i < VA_PROFILE_CALL_STACKS; i++) {
        addresses[0] = 0x1000 + i;
        assert_int_equal(va_sample_table_call_stack(&table, NULL, addresses, 1), i);
    }
    addresses[0] = 0x1000;
    assert_int_equal(va_sample_table_call_stack(&table, NULL, addresses, 1), 0);
    addresses[0] = 0x1001;
    assert_int_equal(va_sample_table_call_stack(&table, NULL, addresses, 1), 1);
    for (uintptr_t i = 0; i <= VA_PROFILE_SAMPLES; i++) {
        Sample sample = {.pointer = 16 * i + 16, .size = 10, .probability = 0.5, .stack = i % 2};
        assert_int_equal(va_sample_table_add(&table, &sample), i < VA_PROFILE_SAMPLES);
    }
    assert_int_equal(table.lost.samples, 1);
    assert_int_equal(table.all.samples, VA_PROFILE_SAMPLES + 1);
    assert_int_equal(table.live.samples, VA_PROFILE_SAMPLES);
    assert_int_equal(table.lost_stacks, VA_PROFILE_SAMPLES / 2 + 1);
    assert_false(va_sample_table_remove(&table, 16 * (VA_PROFILE_SAMPLES + 1)));

    start_table(); /* frames, then locations, run out before stacks do */
    for (uintptr_t i = 0; i < VA_PROFILE_FRAMES / VA_PROFILE_DEPTH_MAX; i++) {
        addresses[0] = 0x1000 + i;
        assert_int_not_equal(
            va_sample_table_call_stack(&table, NULL, addresses, VA_PROFILE_DEPTH_MAX), 0);
    }
    addresses[0] = 0x10;
    assert_int_equal(va_sample_table_call_stack(&table, NULL, addresses, VA_PROFILE_DEPTH_MAX), 0);
    start_table();
    for (uintptr_t i = 0; i < VA_PROFILE_LOCATIONS / VA_PROFILE_DEPTH_MAX; i++) {
        for (uintptr_t k = 0; k < VA_PROFILE_DEPTH_MAX; k++)
            addresses[k] = 0x1000 + i * VA_PROFILE_DEPTH_MAX + k;
        assert_int_not_equal(
            va_sample_table_call_stack(&table, NULL, addresses, VA_PROFILE_DEPTH_MAX), 0);
    }
    addresses[5] = 0x10;
    assert_int_equal(va_sample_table_call_stack(&table, NULL, addresses, 6), 0);
    addresses[5] = 0x1000;
    assert_int_not_equal(va_sample_table_call_stack(&table, NULL, addresses, 6), 0);
}

static void an_allocators_samples_end_with_it(void **state)
{
    (void)state;
    int allocators[3];
    start_table();
    for (uintptr_t i = 1; i <= 3000; i++) {
        Sample sample = {.pointer = i * 64, .size = i, .probability = 0.5, .stack = 0};
        sample.allocator = &allocators[i * i % 7 % 3];
        assert_true(va_sample_table_add(&table, &sample));
    }
    uint32_t before = table.samples_used;
    va_sample_table_remove_allocator(&table, &allocators[1]);
    for (uintptr_t i = 1; i <= 3000; i++)
        before -= i * i % 7 % 3 == 1;
    assert_int_equal(table.samples_used, before);
    for (uintptr_t i = 1; i <= 3000; i++)
        assert_int_equal(va_sample_table_remove(&table, i * 64), i * i % 7 % 3 != 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_are_those_of_libm),
        cmocka_unit_test(roots_are_those_of_libm),
        cmocka_unit_test(estimates_are_unbiased_and_know_their_error),
        cmocka_unit_test(samples_are_found_by_their_pointers),
        cmocka_unit_test(stacks_are_kept_once),
        cmocka_unit_test(what_does_not_fit_is_counted),
        cmocka_unit_test(an_allocators_samples_end_with_it),
    };
    return cmocka_run_group_tests_name("sample_table", tests, NULL, NULL);
}
