/* exhaust.c LEAST_MIB: allocates under an address-space limit until it is refused, at every kind
 * of size, several times over: refusals are NULL with ENOMEM, at least LEAST_MIB can be had each
 * time, what was had is intact, and all works again after freeing. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS_MAX ((size_t)1 << 20)

static int complain(const char *what, size_t size, size_t got)
{
    fprintf(stderr, "%s: blocks of %zu bytes, %zu MiB\n", what, size, got >> 20);
    return 1;
}

static int fill_up(size_t size, size_t least)
{
    static unsigned char *blocks[BLOCKS_MAX];
    size_t count = 0;
    errno = 0;
    while (count < BLOCKS_MAX && (blocks[count] = malloc(size)) != NULL) {
        blocks[count][0] = (unsigned char)count;
        blocks[count][size - 1] = (unsigned char)count;
        count++;
    }
    if (count == BLOCKS_MAX)
        return complain("the limit never came", size, count * size);
    if (errno != ENOMEM)
        return complain("refused without ENOMEM", size, count * size);
    if (count * size < least)
        return complain("refused too early", size, count * size);
    if (calloc(1, least * 8) != NULL || realloc(blocks[0], least * 8) != NULL)
        return complain("got more than there is", size, count * size);
    for (size_t i = 0; i < count; i++)
        if (blocks[i][size - 1] != (unsigned char)i ||
            (size > 1 && blocks[i][0] != (unsigned char)i))
            return complain("contents lost", size, count * size);
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    return 0;
}

static void *in_thread(void *least)
{
    return (void *)(size_t)fill_up(3000, (size_t)least);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {2000, 5000, 30000, 100000, 700000, 3 << 20, 2000};
    if (argc != 2)
        return 2;
    size_t least = strtoul(argv[1], NULL, 10) << 20;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (fill_up(sizes[i], least) != 0)
            return 1;
    pthread_t thread;
    void *failed = (void *)1;
    if (pthread_create(&thread, NULL, in_thread, (void *)least) != 0)
        return complain("no thread", 0, 0);
    pthread_join(thread, &failed);
    if (failed != NULL)
        return 1;
    puts("refused and recovered");
    return 0;
}
