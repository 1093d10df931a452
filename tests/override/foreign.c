/* foreign.c WHAT: memory of another allocator in the hands of malloc's functions. WHAT is next
 * (that of next_malloc.c, forwarded), libc (glibc's own, forwarded), ignore, abort, arena (a wild
 * pointer into valloc's own address space, which is nobody else's whatever the option says). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void free_sized(void *ptr, size_t size);
void *valloc_aligned_realloc(void *ptr, size_t alignment, size_t size);

#define CHECK(condition) ((condition) ? (void)0 : fail(#condition))

static void fail(const char *condition)
{
    fprintf(stderr, "does not hold: %s\n", condition);
    exit(1);
}

static void *find(void *handle, const char *name)
{
    void *found = dlsym(handle, name);
    if (found == NULL)
        fail(name);
    return found;
}

static int count(const char *name)
{
    return *(int *)find(RTLD_DEFAULT, name);
}

static void forward_to_next(void)
{
    void *(*allocate)(size_t) = (void *(*)(size_t))find(RTLD_DEFAULT, "next_allocate");
    free(allocate(10));
    CHECK(count("next_frees") == 1);
    free_sized(allocate(10), 10);
    CHECK(count("next_frees") == 2);
    char *block = strcpy(allocate(10), "contents");
    CHECK(malloc_usable_size(block) == 10 && count("next_sizes") == 1);
    errno = 0;
    CHECK(valloc_aligned_realloc(block, 64, 1000) == NULL && errno == ENOMEM);
    block = realloc(block, 1000);
    CHECK(strcmp(block, "contents") == 0 && count("next_reallocs") == 1);
    CHECK(realloc(block, 0) == NULL && count("next_frees") == 3);
    block = malloc(10); /* valloc's own stay at home */
    CHECK(malloc_usable_size(block) >= 10);
    block = realloc(block, 1000);
    free(block);
    CHECK(count("next_frees") == 3 && count("next_reallocs") == 1 && count("next_sizes") == 1);
}

static void forward_to_libc(void)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    CHECK(libc != NULL);
    void *(*allocate)(size_t) = (void *(*)(size_t))find(libc, "malloc");
    for (size_t size = 10; size < 10000000; size *= 3) {
        char *block = allocate(size);
        CHECK(block != NULL && malloc_usable_size(block) >= size);
        memset(block, 'x', size);
        block = realloc(block, 2 * size);
        CHECK(block != NULL && block[0] == 'x' && block[size - 1] == 'x');
        free(block);
    }
}

static char bytes[64];
static char *volatile foreign = bytes;

static void ignore(void)
{
    errno = 0;
    free(foreign);
    free(foreign);
    CHECK(errno == 0);
    CHECK(malloc_usable_size(foreign) == 0);
    CHECK(realloc(foreign, 100) == NULL && errno == ENOMEM);
}

static void wild_pointer_into_the_arena(void)
{
    char *block = malloc(100);
    free(block + ((size_t)1 << 19)); /* mapped, and lent to nobody */
}

int main(int argc, char **argv)
{
    const char *what = argc == 2 ? argv[1] : "";
    if (strcmp(what, "next") == 0)
        forward_to_next();
    else if (strcmp(what, "libc") == 0)
        forward_to_libc();
    else if (strcmp(what, "ignore") == 0)
        ignore();
    else if (strcmp(what, "abort") == 0)
        free(foreign);
    else if (strcmp(what, "arena") == 0)
        wild_pointer_into_the_arena();
    else
        return 2;
    return 0;
}
