/* leaks.c: what VALLOC_SHOW_LEAKS has to count: slots left by main, by a thread that is gone, by an
 * exit handler; what was freed, be it into another thread's slab, is none. `leaks running` exits
 * while a thread still runs. Says how many bytes of a large one are usable. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "subject.h"

static void *volatile left[64];
static void *handed[100];
static pthread_barrier_t sleeps;

static void leave(size_t first, size_t count, size_t size)
{
    for (size_t i = first; i < first + count; i++)
        left[i] = subject_malloc(size);
}

static void *work(void *unused)
{
    leave(0, 7, 3000);
    for (size_t i = 0; i < 100; i++)
        handed[i] = subject_malloc(600);
    for (size_t i = 0; i < 50; i++)
        subject_free(subject_malloc(20000));
    return unused;
}

static void *sleep_on(void *unused)
{
    subject_free(subject_malloc(600));
    pthread_barrier_wait(&sleeps);
    pause();
    return unused;
}

static void at_exit(void)
{
    leave(20, 2, 40000);
    subject_free(left[40]);
}

int main(int count, char **arguments)
{
    pthread_t thread;
    atexit(at_exit);
    left[40] = subject_malloc(5000);
    if (pthread_create(&thread, NULL, work, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return 1;
    for (size_t i = 0; i < 100; i++)
        subject_free(handed[i]);
    leave(10, 3, (size_t)5 << 20);
    dprintf(1, "%zu\n", subject_usable_size(left[10]));
    if (count == 2 && strcmp(arguments[1], "running") == 0) {
        pthread_barrier_init(&sleeps, NULL, 2);
        if (pthread_create(&thread, NULL, sleep_on, NULL) != 0)
            return 1;
        pthread_barrier_wait(&sleeps);
    }
    return 0;
}
