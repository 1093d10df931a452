/* loading.c OUTER: a library loaded with RTLD_DEEPBIND has the malloc that everybody has: memory
 * crosses in both directions. What dlopen knows of its caller, it still knows. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *find(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return found;
}

int main(int argc, char **argv)
{
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND) : NULL;
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    char *(*copy)(const char *) = (char *(*)(const char *))find(library, "outer_copy");
    void *(*allocate)(size_t) = (void *(*)(size_t))find(library, "outer_allocate");
    void (*release)(void *) = (void (*)(void *))find(library, "outer_free");
    int (*answer)(void) = (int (*)(void))find(library, "outer_answer");
    if (find(RTLD_DEFAULT, "valloc_malloc") == NULL)
        return 1;
    for (size_t size = 1; size < 10000000; size *= 3) {
        free(allocate(size));
        release(malloc(size));
        char *text = copy("text");
        if (strcmp(text, "text") != 0)
            return 1;
        release(text);
        free(copy("text"));
    }
    if (answer() != 42) {
        fprintf(stderr, "the library's run path was not searched: %s\n", dlerror());
        return 1;
    }
    if (dlopen("libloaded_inner.so", RTLD_NOW | RTLD_NOLOAD | RTLD_DEEPBIND) == NULL)
        return 1; /* loaded by now, whatever the path */
    return dlopen("no such library", RTLD_NOW) == NULL && dlerror() != NULL ? 0 : 1;
}
