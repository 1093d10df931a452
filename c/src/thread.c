/* thread.c: the life of threads as the allocator sees it.
 *
 * Exit: a pthread key's destructor retires the cache. Whatever the thread still allocates or
 * frees in later destructors goes through the shared cache: correct, but not fast. */
#include "thread.h"

#include <pthread.h>

#define EMPTY_STACK                                                                                \
    {                                                                                              \
        (void **)(uintptr_t)va_stack_floor, NULL                                                   \
    }
#define EMPTY4 EMPTY_STACK, EMPTY_STACK, EMPTY_STACK, EMPTY_STACK
#define EMPTY12 EMPTY4, EMPTY4, EMPTY4
#define EMPTY84 EMPTY12, EMPTY12, EMPTY12, EMPTY12, EMPTY12, EMPTY12, EMPTY12
static_assert(VA_CLASSES == 84, "EMPTY84 lists every class");

/* A thread's front before its first cache and after its exit. The fast paths store into a front
 * only what they popped from it or after its tag matched: never into this one. */
const CacheFront va_no_front = {.stacks = {EMPTY84}, .tag = VA_TAG_NONE};

_Thread_local CacheFront *va_thread_front = VA_NO_FRONT;
_Thread_local uint32_t va_thread_id;
static _Thread_local bool exited;

static struct {
    Lock lock; /* the first in the lock order: before the registry */
    ThreadCache *cache;
} shared;

static pthread_key_t exit_key;
static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;
static bool exit_key_made;

static VA_COLD void at_exit(void *cache)
{
    va_thread_front = VA_NO_FRONT;
    va_thread_id = 0;
    exited = true;
    va_cache_retire(cache);
}

static VA_STARTUP void make_exit_key(void)
{
    exit_key_made = pthread_key_create(&exit_key, at_exit) == 0;
}

/* pthread_setspecific may allocate: the thread already has its cache then. Without a key (a
 * program that uses up all of them) caches of exited threads stay unused until a fork. */
static VA_STARTUP ThreadCache *attach(void)
{
    ThreadCache *cache = va_cache_attach();
    if (cache == NULL)
        return NULL;
    va_thread_front = &cache->front;
    va_thread_id = cache->id;
    pthread_once(&exit_key_once, make_exit_key);
    if (exit_key_made)
        pthread_setspecific(exit_key, cache);
    return cache;
}

static VA_COLD ThreadCache *acquire_shared(void)
{
    va_lock_acquire(&shared.lock);
    if (shared.cache == NULL) {
        shared.cache = va_cache_attach();
        if (shared.cache != NULL)
            shared.cache->shared = true;
    }
    if (shared.cache == NULL)
        va_lock_release(&shared.lock);
    return shared.cache;
}

VA_STARTUP ThreadCache *va_thread_acquire_slow(void)
{
    return exited ? acquire_shared() : attach();
}

VA_COLD void va_thread_attach(void)
{
    if (va_thread_front->tag == VA_TAG_NONE && !exited)
        attach();
}

VA_COLD void va_thread_lock_shared(void)
{
    va_lock_acquire(&shared.lock);
}

VA_COLD void va_thread_unlock_shared(void)
{
    va_lock_release(&shared.lock);
}

VA_COLD void va_thread_reset_shared(void)
{
    va_lock_reset(&shared.lock);
}
