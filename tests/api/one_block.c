/* one_block.c LEAST_MIB: under a limit of the address space one block of LEAST_MIB can be had: of a
 * heap of which little is in use, by growing, in a child, and after all that there is was taken in
 * smaller ones and given back. */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS_MAX ((size_t)1 << 20)
#define SMALL 100

static size_t least_bytes;

static void need(int good, const char *when)
{
    if (good)
        return;
    fprintf(stderr, "no block of %zu MiB, or not intact: %s\n", least_bytes >> 20, when);
    exit(1);
}

static void take_one(const char *when)
{
    unsigned char *block = malloc(least_bytes);
    need(block != NULL, when);
    block[0] = block[least_bytes - 1] = 1;
    free(block);
}

/* Beside it nothing else finds room for as much. */
static void grow_one(const char *when)
{
    size_t size = least_bytes / 16;
    unsigned char *block = malloc(size);
    need(block != NULL, when);
    block[0] = 1;
    while (size < least_bytes) {
        block[size - 1] = 2;
        block = realloc(block, size + least_bytes / 16);
        need(block != NULL && block[0] == 1 && block[size - 1] == 2, when);
        size += least_bytes / 16;
    }
    free(block);
}

static void fill_and_free(size_t size)
{
    static unsigned char *blocks[BLOCKS_MAX];
    size_t count = 0;
    while (count < BLOCKS_MAX && (blocks[count] = malloc(size)) != NULL)
        count++;
    need(count < BLOCKS_MAX && count * size >= least_bytes / 4 * 3, "in parts");
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    malloc_trim(0);
}

static void take_one_in_child(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        take_one("in a child");
        _exit(0);
    }
    need(child > 0 && waitpid(child, &status, 0) == child && status == 0, "in a child");
}

int main(int argc, char **argv)
{
    static void *small[SMALL];
    if (argc != 2)
        return 2;
    least_bytes = strtoul(argv[1], NULL, 10) << 20;
    for (size_t i = 0; i < SMALL; i++)
        need((small[i] = malloc(i * i)) != NULL, "small ones");
    take_one_in_child();
    take_one("at the start");
    grow_one("growing");
    for (int turn = 0; turn < 2; turn++) {
        fill_and_free((size_t)3 << 20);
        take_one("after blocks of 3 MiB");
        fill_and_free(700000);
        take_one("after blocks of 700000 bytes");
    }
    grow_one("growing again");
    for (size_t i = 0; i < SMALL; i++)
        free(small[i]);
    return 0;
}
