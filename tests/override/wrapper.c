/* wrapper.c: a library as tracers are: preloaded before valloc, its operators call the next ones.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))
int wrapper_calls;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

EXPORT void *_Znwm(size_t size)
{
    void *block = NEXT(_Znwm)(size);
    wrapper_calls++; /* no call of the last: this is the caller */
    return block;
}

EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow)
{
    void *block = NEXT(_ZnwmRKSt9nothrow_t)(size, nothrow);
    wrapper_calls++; /* no call of the last: this is the caller */
    return block;
}

EXPORT void _ZdlPv(void *ptr)
{
    NEXT(_ZdlPv)(ptr);
}
