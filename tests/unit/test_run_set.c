/* test_run_set.c: a set of free blocks against an array of bytes: every search, at every length.
 */
#include "support.h"

#include "arena/run_set.h"

#define BLOCKS_MAX ((size_t)64 * 300)
#define FIRST 32 /* a zone may start in the middle of a group */

enum { TAKEN, CLEAN, DIRTY };

static BlockGroup groups[BLOCKS_MAX / 64];
static unsigned char is_free[BLOCKS_MAX];

static Arena arena;
static Zone *zone;

static void start(size_t first)
{
    memset(groups, 0, sizeof groups);
    memset(is_free, 0, sizeof is_free);
    arena = (Arena){.groups = &groups[BLOCKS_MAX / 64 - 1], .blocks = BLOCKS_MAX};
    zone = &arena.zones[ZONE_DENSE];
    *zone = (Zone){.first = first, .end = BLOCKS_MAX, .top = first};
}

static void take(size_t first, size_t count)
{
    va_runs_take(&arena, first, count);
    memset(is_free + first, 0, count);
}

static void give(size_t first, size_t count)
{
    bool dirty = count % 3 == 0;
    va_runs_return(&arena, first, count, dirty);
    memset(is_free + first, dirty ? DIRTY : CLEAN, count);
}

/* What lies between counts as lent. */
static void raise_top(size_t end)
{
    va_runs_raise_top(&arena, zone, end);
}

static size_t naive_find(size_t count)
{
    size_t length = 0;
    for (size_t i = zone->first; i < zone->top; i++) {
        length = is_free[i] ? length + 1 : 0;
        if (length == count)
            return i + 1 - count;
    }
    return SIZE_MAX;
}

static void check_length(size_t count)
{
    assert_int_equal(va_runs_find(&arena, zone, count), naive_find(count));
}

static void check_scans(void)
{
    size_t below_top = 0;
    while (zone->top - below_top > zone->first && is_free[zone->top - below_top - 1])
        below_top++;
    assert_int_equal(va_runs_free_below(&arena, zone, zone->top, false), below_top);
    for (size_t end = zone->top; end > zone->first; end -= va_min(end - zone->first, 29)) {
        size_t clean = 0;
        while (end - clean > zone->first && is_free[end - clean - 1] == CLEAN)
            clean++;
        assert_int_equal(va_runs_free_below(&arena, zone, end, true), clean);
    }
}

/* A run that is wholly free or wholly taken, from a random block on. */
static size_t random_run(uint64_t *seed, size_t *first, size_t most)
{
    size_t count = 0;
    *first = zone->first + random_next(seed) % (zone->top - zone->first);
    most = 1 + random_next(seed) % most;
    while (count < most && *first + count < zone->top &&
           (is_free[*first + count] != TAKEN) == (is_free[*first] != TAKEN))
        count++;
    return count;
}

static void searches_agree_with_a_scan(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (size_t most = 1; most < BLOCKS_MAX; most = most * 3 + 1) {
        start(most % 2 == 0 ? FIRST : 64);
        for (int i = 0; i < 4000; i++) {
            if (zone->top == zone->first || (random_next(&seed) % 16 == 0 && zone->top < zone->end))
                raise_top(va_min(zone->top + 1 + random_next(&seed) % most, zone->end));
            size_t first;
            size_t count = random_run(&seed, &first, most);
            if (is_free[first])
                take(first, count);
            else
                give(first, count);
            check_length(1 + random_next(&seed) % most);
            if (i % 256 == 0) {
                check_scans();
                for (size_t length = 1; length < 130; length++)
                    check_length(length);
            }
        }
    }
}

/* All blocks taken but one run, at every place and of every length around the borders of groups,
 * in sets of every height. */
static void a_single_run_is_found(void **state)
{
    (void)state;
    for (size_t end = 1; end <= 9; end++) {
        start(0);
        raise_top(end * 64 - 1);
        for (size_t first = 0; first < zone->top; first += first % 64 == 1 ? 61 : 1) {
            for (size_t count = 1; first + count <= zone->top; count += count % 64 == 1 ? 61 : 1) {
                give(first, count);
                assert_int_equal(va_runs_find(&arena, zone, count), first);
                assert_int_equal(va_runs_find(&arena, zone, count + 1), SIZE_MAX);
                take(first, count);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(searches_agree_with_a_scan),
        cmocka_unit_test(a_single_run_is_found),
    };
    return cmocka_run_group_tests_name("run_set", tests, NULL, NULL);
}
