/* runs.c: measures lending and returning a run in an arena of 100 GiB of address space that is cut
 * into many runs, half of them free. Their pages are not touched. Uses the internal interface.
 *
 * For each number of runs: nanoseconds to return a random run and to lend one of random length. It
 * is as short as the average hole ("fits"), or up to 16 times as long, for which there are few
 * holes or none ("long"). Prints a line for each round: number of runs, length of the runs lent,
 * round, ns. own.py computes medians.
 *
 * runs [ROUNDS [TURNS]] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "arena/arena.h"

#define SPACE_BLOCKS (((size_t)100 << 30) >> VA_BLOCK_SHIFT)

static long rounds = 5;
static uint64_t state = 88172645463325252u;

static size_t random_up_to(size_t most)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return 1 + state % most;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static Block *lend(size_t blocks)
{
    Block *run = va_arena_lend(blocks, 1);
    if (run == NULL) {
        fputs("runs: no address space\n", stderr);
        exit(1);
    }
    return run;
}

/* runs: `live` of `count`, each of which is replaced by one of up to `most` blocks. */
static void turns(const char *length, Block **runs, size_t count, size_t live, size_t most,
                  long times)
{
    for (long round = 0; round < rounds; round++) {
        double start = now_ns();
        for (long i = 0; i < times; i++) {
            Block **run = &runs[random_up_to(live) - 1];
            va_arena_reclaim(*run);
            *run = lend(random_up_to(most));
        }
        printf("%zu %s %ld %.2f\n", count, length, round, (now_ns() - start) / (double)times);
        fflush(stdout);
    }
}

static void measure(size_t count, long times)
{
    Block **runs = malloc(count * sizeof *runs);
    size_t mean = SPACE_BLOCKS / count; /* blocks */
    size_t most = mean == 1 ? 2 : 2 * mean - 1;
    size_t live = 0;
    for (size_t i = 0; i < count; i++)
        runs[i] = lend(random_up_to(most));
    for (size_t i = 0; i < count; i++) {
        if (random_up_to(2) == 1)
            va_arena_reclaim(runs[i]);
        else
            runs[live++] = runs[i];
    }
    turns("fits", runs, count, live, most, times);
    turns("long", runs, count, live, 16 * mean, times);
    for (size_t i = 0; i < live; i++)
        va_arena_reclaim(runs[i]);
    free(runs);
}

int main(int argc, char **argv)
{
    long times = argc > 2 ? strtol(argv[2], NULL, 10) : 100000;
    if (argc > 1)
        rounds = strtol(argv[1], NULL, 10);
    for (size_t count = 1000; count <= 1000000; count *= 10)
        measure(count, times);
    return 0;
}
