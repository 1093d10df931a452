/* micro.c PATTERN ...: one pattern of malloc and free, for any allocator that is preloaded or
 * linked. Prints nanoseconds of processor time per operation and peak resident memory.
 *
 *   pair SIZE            malloc, write one byte, free, repeatedly
 *   bulk SIZE ORDER      allocate many blocks, write a byte of each, free them in
 *                        ORDER: same, reverse, random
 *   replace LIVE         LIVE blocks of 16 B to 1 KiB; free a random one and allocate it
 *                        again
 *   sweep LIVE           3000 blocks of one size, of the next one, ... to 1 KiB; each
 *                        replaces the oldest of LIVE
 *   moving LIVE          LIVE blocks of 64 B, which move to 128 B, then to 256, 512 and
 *                        1024, at random
 *   holes LIVE           LIVE blocks of 1 to 2 MiB; free a random one and allocate it
 *                        again, write a byte of every page
 *   touch SIZE THREADS   malloc, write every byte, free, repeatedly, in each thread
 *   growth SIZE          grow a buffer by realloc from 64 B to SIZE, by half at a time
 *
 * A first round warms up, because the first touch of memory measures the machine more than the
 * allocator. The result is the median of the other rounds. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 7

/* Processor time, user and system: others who use the machine are not counted. */
static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t state = 88172645463325252u;

static uint64_t random_next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, by_value);
    return values[ROUNDS / 2];
}

/* The process's own peak: getrusage's includes that of whoever started it. */
static long peak_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    return kib;
}

static void report(double *allocation, double *freeing)
{
    printf("%.3f %.3f %ld\n", median(allocation), freeing == NULL ? 0 : median(freeing),
           peak_kib());
}

static void *volatile sink;

static void pair(size_t size)
{
    double total[ROUNDS];
    long count = size >= ((size_t)1 << 20) ? 200000 : 3000000;
    for (int round = -1; round < ROUNDS; round++) {
        double start = now_ns();
        for (long i = 0; i < count; i++) {
            char *block = malloc(size);
            sink = block;
            *block = 1;
            free(block);
        }
        if (round >= 0)
            total[round] = (now_ns() - start) / (double)count;
    }
    report(total, NULL);
}

static void bulk(size_t size, const char *order)
{
    size_t count = size > 1024 ? 100000 : 1000000;
    double allocation[ROUNDS];
    double freeing[ROUNDS];
    char **blocks = malloc(count * sizeof *blocks);
    uint32_t *turns = malloc(count * sizeof *turns);
    for (size_t i = 0; i < count; i++)
        turns[i] = (uint32_t)(strcmp(order, "reverse") == 0 ? count - 1 - i : i);
    if (strcmp(order, "random") == 0)
        for (size_t i = count - 1; i > 0; i--) {
            size_t other = random_next() % (i + 1);
            uint32_t swap = turns[i];
            turns[i] = turns[other];
            turns[other] = swap;
        }
    for (int round = -1; round < ROUNDS; round++) {
        double start = now_ns();
        for (size_t i = 0; i < count; i++) {
            blocks[i] = malloc(size);
            *blocks[i] = 1;
        }
        double middle = now_ns();
        for (size_t i = 0; i < count; i++)
            free(blocks[turns[i]]);
        if (round >= 0) {
            allocation[round] = (middle - start) / (double)count;
            freeing[round] = (now_ns() - middle) / (double)count;
        }
    }
    report(allocation, freeing);
}

static void replace(size_t live)
{
    double total[ROUNDS];
    const long count = 2000000;
    char **blocks = calloc(live, sizeof *blocks);
    for (size_t i = 0; i < live; i++) {
        blocks[i] = malloc(16 + random_next() % 1009);
        *blocks[i] = 1;
    }
    for (int round = -1; round < ROUNDS; round++) {
        double start = now_ns();
        for (long i = 0; i < count; i++) {
            uint64_t r = random_next();
            char **place = &blocks[r % live];
            free(*place);
            *place = malloc(16 + (r >> 40) % 1009);
            **place = 1;
        }
        if (round >= 0)
            total[round] = (now_ns() - start) / (double)count;
    }
    report(total, NULL);
}

static void sweep(size_t live)
{
    double total[ROUNDS];
    const size_t each = 3000;
    char **blocks = calloc(live, sizeof *blocks);
    for (int round = -1; round < ROUNDS; round++) {
        size_t count = 0;
        double start = now_ns();
        for (size_t size = 16; size <= 1024; size += size < 256 ? 16 : size / 16)
            for (size_t i = 0; i < each; i++) {
                char **oldest = &blocks[count++ % live];
                free(*oldest);
                *oldest = malloc(size);
                **oldest = 1;
            }
        if (round >= 0)
            total[round] = (now_ns() - start) / (double)count;
    }
    report(total, NULL);
}

static void moving(size_t live)
{
    double total[ROUNDS];
    char **blocks = calloc(live, sizeof *blocks);
    for (int round = -1; round < ROUNDS; round++) {
        size_t count = 0;
        double start = now_ns();
        for (size_t size = 64; size <= 1024; size *= 2) {
            for (size_t i = 0; i < live; i++, count++) {
                char *larger = malloc(size);
                *larger = 1;
                free(blocks[i]);
                blocks[i] = larger;
            }
            for (size_t i = live - 1; i > 0; i--) {
                size_t other = random_next() % (i + 1);
                char *swap = blocks[i];
                blocks[i] = blocks[other];
                blocks[other] = swap;
            }
        }
        if (round >= 0)
            total[round] = (now_ns() - start) / (double)count;
    }
    report(total, NULL);
}

static void holes(size_t live)
{
    double total[ROUNDS];
    const size_t mib = (size_t)1 << 20;
    const size_t count = 2000;
    char **blocks = calloc(live, sizeof *blocks);
    for (int round = -1; round < ROUNDS; round++) {
        double start = now_ns();
        for (size_t i = 0; i < count; i++) {
            uint64_t r = random_next();
            char **place = &blocks[r % live];
            size_t size = mib + (r >> 40) % mib;
            free(*place);
            *place = malloc(size);
            for (size_t at = 0; at < size; at += 4096)
                (*place)[at] = 1;
        }
        if (round >= 0)
            total[round] = (now_ns() - start) / (double)count;
    }
    report(total, NULL);
}

#define THREADS_MAX 64
#define TOUCH_BYTES ((size_t)256 << 20) /* written by each thread in a round */

static void *touch_round(void *argument)
{
    size_t size = *(const size_t *)argument;
    for (size_t i = 0; i < TOUCH_BYTES / size; i++) {
        char *block = malloc(size);
        memset(block, (int)i, size);
        sink = block;
        free(block);
    }
    return NULL;
}

static void touch(size_t size, size_t threads)
{
    double total[ROUNDS];
    pthread_t others[THREADS_MAX];
    for (int round = -1; round < ROUNDS; round++) {
        double start = now_ns();
        for (size_t i = 1; i < threads; i++)
            pthread_create(&others[i], NULL, touch_round, &size);
        touch_round(&size);
        for (size_t i = 1; i < threads; i++)
            pthread_join(others[i], NULL);
        if (round >= 0)
            total[round] = (now_ns() - start) / (double)(TOUCH_BYTES / size);
    }
    report(total, NULL);
}

static void growth(size_t most)
{
    double total[ROUNDS];
    for (int round = -1; round < ROUNDS; round++) {
        const int times = most > ((size_t)1 << 20) ? 20 : 2000;
        double start = now_ns();
        for (int i = 0; i < times; i++) {
            size_t size = 64;
            char *buffer = malloc(size);
            memset(buffer, 1, size);
            while (size < most) {
                size_t next = size + size / 2;
                buffer = realloc(buffer, next);
                memset(buffer + size, 1, next - size);
                size = next;
            }
            sink = buffer;
            free(buffer);
        }
        if (round >= 0)
            total[round] = (now_ns() - start) / times;
    }
    report(total, NULL);
}

int main(int argc, char **argv)
{
    size_t number = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    size_t threads = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    if (argc == 3 && number != 0 && strcmp(argv[1], "pair") == 0)
        pair(number);
    else if (argc == 4 && number != 0 && strcmp(argv[1], "bulk") == 0)
        bulk(number, argv[3]);
    else if (argc == 3 && number != 0 && strcmp(argv[1], "replace") == 0)
        replace(number);
    else if (argc == 3 && number != 0 && strcmp(argv[1], "sweep") == 0)
        sweep(number);
    else if (argc == 3 && number != 0 && strcmp(argv[1], "moving") == 0)
        moving(number);
    else if (argc == 3 && number != 0 && strcmp(argv[1], "holes") == 0)
        holes(number);
    else if (argc == 4 && number != 0 && number <= TOUCH_BYTES && strcmp(argv[1], "touch") == 0 &&
             threads != 0 && threads <= THREADS_MAX)
        touch(number, threads);
    else if (argc == 3 && number != 0 && strcmp(argv[1], "growth") == 0)
        growth(number);
    else
        return fputs("usage: micro pair SIZE | bulk SIZE ORDER | replace LIVE | sweep LIVE | "
                     "moving LIVE | "
                     "holes LIVE | touch SIZE THREADS | growth SIZE\n",
                     stderr),
               2;
    return 0;
}
