/* plugins.c PLUGIN PLUGIN [UNLOADABLE OTHER...]: two plugins, each with a valloc of its own,
 * are loaded late and used side by side by threads that were there before. Then they are closed,
 * and the threads end. First the OTHERs are loaded, until static thread-local storage is full;
 * UNLOADABLE then fails to load, which shows that it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLUGINS = 2, THREADS = 4, BLOCKS = 200, ROUNDS = 20 };

typedef struct Plugin {
    void *library;
    void *(*allocate)(size_t);
    void (*release)(void *);
    size_t (*purge)(void);
    void *(*owner)(const void *);
} Plugin;

static Plugin plugins[PLUGINS];
static pthread_barrier_t loaded, used, closed;

#define require(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "plugins.c:%d: %s\n", __LINE__, #condition);                           \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void *find(void *library, const char *name)
{
    void *function = dlsym(library, name);
    require(function != NULL);
    return function;
}

static void load(Plugin *plugin, const char *file)
{
    plugin->library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (plugin->library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    *(void **)&plugin->allocate = find(plugin->library, "valloc_malloc");
    *(void **)&plugin->release = find(plugin->library, "valloc_free");
    *(void **)&plugin->purge = find(plugin->library, "valloc_purge");
    *(void **)&plugin->owner = find(plugin->library, "valloc_owner");
}

/* Blocks of both plugins in turn, each filled with its number. */
static void use_both(void)
{
    for (size_t round = 0; round < ROUNDS; round++) {
        unsigned char *blocks[BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            size_t size = 1 + i * i % 5000;
            blocks[i] = plugins[i % PLUGINS].allocate(size);
            require(blocks[i] != NULL);
            memset(blocks[i], (int)i, size);
        }
        require(plugins[0].owner(blocks[0]) != NULL);
        require(plugins[1].owner(blocks[0]) == NULL); /* a heap each */
        if (round == ROUNDS / 2)
            plugins[0].purge();
        for (size_t i = 0; i < BLOCKS; i++) {
            size_t size = 1 + i * i % 5000;
            require(blocks[i][0] == (unsigned char)i && blocks[i][size - 1] == (unsigned char)i);
            plugins[i % PLUGINS].release(blocks[i]);
        }
    }
}

static void *thread(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&loaded);
    use_both();
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&closed);
    use_both(); /* valloc stays, as it may be needed at the thread's end */
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    if (argc < 3)
        return 2;
    pthread_barrier_init(&loaded, NULL, THREADS + 1);
    pthread_barrier_init(&used, NULL, THREADS + 1);
    pthread_barrier_init(&closed, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++)
        require(pthread_create(&threads[i], NULL, thread, NULL) == 0);
    if (argc > 3) {
        for (int i = 4; i < argc; i++)
            dlopen(argv[i], RTLD_NOW | RTLD_LOCAL); /* the last ones find no room */
        require(dlopen(argv[3], RTLD_NOW | RTLD_LOCAL) == NULL);
        printf("refused: %s\n", dlerror());
    }
    for (int i = 0; i < PLUGINS; i++)
        load(&plugins[i], argv[1 + i]);
    pthread_barrier_wait(&loaded);
    use_both();
    pid_t child = fork();
    if (child == 0) {
        use_both();
        _exit(0);
    }
    int status = 1;
    require(waitpid(child, &status, 0) == child && status == 0);
    pthread_barrier_wait(&used);
    for (int i = 0; i < PLUGINS; i++)
        dlclose(plugins[i].library);
    pthread_barrier_wait(&closed);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    puts("two plugins were loaded, used and closed");
    return 0;
}
