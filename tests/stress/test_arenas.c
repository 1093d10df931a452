/* test_arenas.c: many arenas, the first ones small: blocks in all of them are found, kept apart,
 * resized and freed, by any thread; pointers beside them are told apart; their number bounds no
 * heap. */
#include "support.h"

#include <errno.h>
#include <pthread.h>

#include "table/block_table.h"

#define BLOCKS 10000
#define ARENAS_LEAST 5 /* that so many blocks need */
#define THREADS 4
#ifdef SANITIZED
#define TURNS 8000
#define ROUNDS 1
#else
#define TURNS 40000
#define ROUNDS 3
#endif

typedef struct Held {
    unsigned char *block;
    size_t size;
    unsigned char value;
} Held;

static Held all[BLOCKS];

static size_t random_size(uint64_t *seed)
{
    uint64_t r = random_next(seed);
    size_t most = r % 50 == 0 ? (size_t)3 << 20 : r % 4 == 0 ? 100000 : 8000;
    return 1 + (size_t)(r >> 20) % most;
}

static void begin(Held *one, uint64_t *seed)
{
    one->size = random_size(seed);
    one->value = (unsigned char)(1 + random_next(seed) % 250);
    one->block = valloc_malloc(one->size);
    require(one->block != NULL);
    fill_bytes(one->block, one->size, one->value);
}

static void end(Held *one)
{
    if (one->block == NULL)
        return;
    require(bytes_hold(one->block, one->size, one->value));
    valloc_free(one->block);
    one->block = NULL;
}

static void end_all(void)
{
    for (size_t i = 0; i < BLOCKS; i++)
        end(&all[i]);
}

/* Takes all blocks: many arenas have some. */
static void fill_arenas(uint64_t seed)
{
    size_t in_arena[VA_ARENAS_MAX] = {0};
    for (size_t i = 0; i < BLOCKS; i++)
        begin(&all[i], &seed);
    require(va_arena_count >= ARENAS_LEAST && va_arena_count < VA_ARENAS_MAX);
    for (size_t i = 0; i < BLOCKS; i++) {
        Arena *arena = va_arena_find(all[i].block);
        require(arena != NULL && arena == va_arena_of(all[i].block));
        in_arena[arena - va_arenas]++;
        require(valloc_owner(all[i].block) == valloc_process());
        require(valloc_usable_size(all[i].block) >= all[i].size);
    }
    for (size_t i = 0; i < ARENAS_LEAST; i++) /* the lowest first */
        require(in_arena[i] > 0);
}

/* The first and the last byte of every arena that is in use to its end are its own, those beside it
 * are not; its tables are no allocation. */
static void look_at_edges(void)
{
    for (size_t i = 0; i < va_arena_count; i++) {
        char *start = va_arenas[i].base;
        char *behind = start + (va_arenas[i].blocks << VA_BLOCK_SHIFT);
        require(va_arena_of(start) == &va_arenas[i]);
        require(va_arenas[i].tabled < va_arenas[i].blocks ||
                va_arena_of(behind - 1) == &va_arenas[i]);
        require(va_arena_of(start - 1) != &va_arenas[i]);
        require(va_arena_of(behind) != &va_arenas[i]);
        require(valloc_owner(start) == NULL && valloc_owner(start + 100) == NULL);
        require(valloc_owner(start + (va_arenas[i].first << VA_BLOCK_SHIFT) - 1) == NULL);
    }
    int local;
    require(valloc_owner(&local) == NULL && valloc_owner(NULL) == NULL);
}

/* Replaces, resizes and frees blocks of a quarter of all places, whoever allocated them. */
static void *replace(void *number)
{
    size_t first = (uintptr_t)number;
    uint64_t seed = first + 99;
    for (int i = 0; i < TURNS; i++) {
        Held *one = &all[first + random_next(&seed) % (BLOCKS / THREADS) * THREADS];
        uint64_t r = random_next(&seed);
        if (one->block != NULL && r % 4 == 0) {
            size_t size = random_size(&seed);
            size_t kept = size < one->size ? size : one->size;
            unsigned char *moved = valloc_realloc(one->block, size);
            if (moved == NULL)
                continue;
            kept = kept < FILL_EDGE / 2 ? kept : FILL_EDGE / 2;
            require(bytes_hold(moved, kept, one->value));
            one->block = moved;
            one->size = size;
            fill_bytes(moved, size, one->value);
        } else {
            end(one);
            if (r % 3 != 0)
                begin(one, &seed);
        }
        if (i % 10000 == 0)
            valloc_purge();
    }
    return NULL;
}

static void a_block_larger_than_the_reserve(void **state)
{
    (void)state;
    size_t size = (size_t)1000 << 20; /* larger than any arena so far */
    unsigned char *small = valloc_malloc(100);
    unsigned char *block = valloc_malloc(size);
    assert_non_null(small);
    assert_non_null(block);
    fill_bytes(block, size, 1);
    block = valloc_realloc(block, size * 2);
    assert_non_null(block);
    assert_true(bytes_hold(block, FILL_EDGE, 1));
    assert_true(valloc_usable_size(block) >= size * 2);
    assert_ptr_not_equal(va_arena_of(block), va_arena_of(small));
    valloc_free(block);
    valloc_free(small);
}

static void all_arenas_are_used_alike(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (uint64_t turn = 0; turn < ROUNDS; turn++) {
        fill_arenas(turn + 1);
        look_at_edges();
        for (size_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, replace, (void *)i), 0);
        for (size_t i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        end_all();
        valloc_purge();
    }
    fill_arenas(9);
    end_all();
}

/* Four times what 64 arenas of 16 MiB hold, in blocks of which nothing is touched. */
static void more_than_the_first_sizes_hold(void **state)
{
    (void)state;
    static void *blocks[1400];
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        assert_non_null(blocks[i] = valloc_malloc((size_t)3 << 20));
    assert_true(va_arena_count < VA_ARENAS_MAX);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        valloc_free(blocks[i]);
    valloc_purge();
}

int main(void)
{
    /* The option is read before main. */
    const char *reserve = getenv("VALLOC_RESERVE_MIB");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_arenas_are_used_alike),
        cmocka_unit_test(a_block_larger_than_the_reserve),
        cmocka_unit_test(more_than_the_first_sizes_hold),
    };
    if (reserve == NULL) {
        fputs("run with VALLOC_RESERVE_MIB=8 or a little more\n", stderr);
        return 2;
    }
    return cmocka_run_group_tests_name("arenas", tests, NULL, NULL);
}
