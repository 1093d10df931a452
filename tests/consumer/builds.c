/* builds.c: allocates in several threads, hands blocks on, forks, and ends. Compiled together with
 * the core in many ways by builds.py. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "valloc.h"

enum { THREADS = 4, BLOCKS = 1000 };

static void *blocks[THREADS][BLOCKS];

static void *allocate(void *row)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        void **place = (void **)row + i;
        *place = i % 2 == 0 ? malloc(1 + i * 3) : valloc_malloc(1 + i * 50);
        if (*place == NULL)
            abort();
        memset(*place, 1, 1 + i * 3);
    }
    return row;
}

static void use_threads(void)
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, allocate, blocks[i]) != 0)
            abort();
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        for (size_t k = 0; k < BLOCKS; k++)
            free(blocks[i][k]);
    }
}

int main(void)
{
    use_threads();
    pid_t child = fork();
    if (child == 0) {
        use_threads();
        _exit(0);
    }
    int status = 1;
    if (waitpid(child, &status, 0) != child || status != 0)
        return 1;
    valloc_purge();
    void *block = malloc(1000);
    /* malloc is valloc's, and its memory has an owner. */
    int own = valloc_owner(block) == valloc_process();
    free(block);
    return own ? 0 : 1;
}
