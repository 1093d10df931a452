/* test_adoption.c: slabs with free slots that exited threads left serve a new thread before fresh
 * memory. */
#include "support.h"

#include "child.h"

#include <pthread.h>

#include "base/config.h"
#include "simulated.h"
#include "valloc.h"

#define SIZE ((size_t)500)

/* Two threads at once leave some slabs each, most of which is free. */
#define PAIR_BLOCKS 1000
static void *pair_blocks[2][PAIR_BLOCKS];
static pthread_barrier_t pair_together;

static void *leaver_of_two(void *blocks)
{
    void **left = blocks;
    for (size_t i = 0; i < PAIR_BLOCKS; i++)
        left[i] = valloc_malloc(SIZE);
    pthread_barrier_wait(&pair_together);
    return NULL;
}

static void leave_two(void)
{
    pthread_t threads[2];
    valloc_free(valloc_malloc(SIZE)); /* this thread has a cache of its own */
    pthread_barrier_init(&pair_together, NULL, 2);
    for (size_t i = 0; i < 2; i++)
        require(pthread_create(&threads[i], NULL, leaver_of_two, pair_blocks[i]) == 0);
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 2 * PAIR_BLOCKS; i++) {
        if (i % 32 == 0)
            continue;
        valloc_free(pair_blocks[i / PAIR_BLOCKS][i % PAIR_BLOCKS]);
        pair_blocks[i / PAIR_BLOCKS][i % PAIR_BLOCKS] = NULL;
    }
}

static void free_the_rest(void)
{
    for (size_t i = 0; i < 2 * PAIR_BLOCKS; i++)
        valloc_free(pair_blocks[i / PAIR_BLOCKS][i % PAIR_BLOCKS]);
}

/* At a limit it takes all there is. */
static void *limited_adopter(void *count)
{
    static void *blocks[4 * PAIR_BLOCKS];
    valloc_stats stats;
    size_t served = 0;
    valloc_get_stats(&stats);
    valloc_set_limits(valloc_process(), 0, stats.lent);
    while (served < 4 * PAIR_BLOCKS && (blocks[served] = valloc_malloc(SIZE)) != NULL)
        served++;
    valloc_set_limits(valloc_process(), 0, 0);
    for (size_t i = 0; i < served; i++)
        valloc_free(blocks[i]);
    *(size_t *)count = served;
    return NULL;
}

static void start_limited_adopter(void *unused)
{
    (void)unused;
    pthread_t thread;
    size_t served = 0;
    leave_two();
    require(pthread_create(&thread, NULL, limited_adopter, &served) == 0);
    pthread_join(thread, NULL);
    fprintf(stderr, "%zu of %d\n", served, 2 * PAIR_BLOCKS - 2 * PAIR_BLOCKS / 32);
    require(served > PAIR_BLOCKS + PAIR_BLOCKS / 2);
    free_the_rest();
}

/* In processes of their own: no other thread has left anything. */
static void must_succeed(void (*body)(void *))
{
    Child child = child_run(body, NULL);
    printf("%s", child.text);
    assert_int_equal(child.status, 0);
}

static void at_a_limit_new_threads_take_what_there_is(void **state)
{
    (void)state;
    must_succeed(start_limited_adopter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_a_limit_new_threads_take_what_there_is),
    };
    stop_clock();
    return cmocka_run_group_tests_name("adoption", tests, NULL, NULL);
}
