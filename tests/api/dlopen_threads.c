/* dlopen_threads.c LIBRARY OTHER...: valloc in a library that is loaded and closed at run time,
 * after many others that use static thread-local storage; threads that used it exit after the
 * dlclose. Loading must not run out of static storage, and finds the heap that there is. */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *(*allocate)(size_t);
static void (*release)(void *);
static sem_t used;
static sem_t closed;

/* Its pages are where they were, and so is what it holds. */
static char *kept;

static void *use(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < 1000; i++) {
        void *block = allocate(i + 1);
        memset(block, 1, i + 1);
        release(block);
    }
    sem_post(&used);
    sem_wait(&closed);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[8];
    if (argc < 2)
        return 2;
    for (int i = 2; i < argc; i++) {
        if (dlopen(argv[i], RTLD_NOW | RTLD_LOCAL) == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
    }
    sem_init(&used, 0, 0);
    sem_init(&closed, 0, 0);
    for (int round = 0; round < 3; round++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        *(void **)&allocate = dlsym(library, "valloc_malloc");
        *(void **)&release = dlsym(library, "valloc_free");
        if (allocate == NULL || release == NULL || dlsym(library, "va_allocate") != NULL)
            return 1;
        if (kept != NULL) {
            if (strcmp(kept, "kept") != 0)
                return 1;
            release(kept);
        }
        kept = allocate(10);
        strcpy(kept, "kept");
        for (int i = 0; i < 8; i++)
            if (pthread_create(&threads[i], NULL, use, NULL) != 0)
                return 1;
        for (int i = 0; i < 8; i++)
            sem_wait(&used);
        if (dlclose(library) != 0)
            return 1;
        for (int i = 0; i < 8; i++)
            sem_post(&closed);
        for (int i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
    }
    puts("loaded, used, closed and outlived");
    return 0;
}
