/* loaded.c: the libraries that loading.c loads. OUTER loads INNER, which lies where only OUTER's
 * run path leads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

#ifdef INNER
EXPORT int inner_answer(void)
{
    return 42;
}
#else
EXPORT char *outer_copy(const char *text)
{
    return strdup(text);
}

EXPORT void *outer_allocate(size_t size)
{
    return malloc(size);
}

EXPORT void outer_free(void *block)
{
    free(block);
}

EXPORT int outer_answer(void)
{
    void *inner = dlopen("libloaded_inner.so", RTLD_NOW | RTLD_DEEPBIND);
    int (*answer)(void) = inner != NULL ? (int (*)(void))dlsym(inner, "inner_answer") : NULL;
    return answer != NULL ? answer() : 0;
}
#endif
