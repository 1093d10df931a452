/* thread.c: the life of threads as the allocator sees it.
 *
 * Exit: a pthread key's destructor retires the cache. Whatever the thread still allocates or
 * frees in later destructors goes through the shared cache: correct, but not fast. */
#include "thread.h"

#include <pthread.h>

_Thread_local CacheFront *va_thread_front = VA_NO_FRONT;
_Thread_local uint32_t va_thread_id;
static _Thread_local ThreadCache *own_cache;
static _Thread_local bool exited;

static struct {
    Lock lock; /* the first in the lock order: before the registry */
    ThreadCache *cache;
} shared;

static pthread_key_t exit_key;
static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;
static bool exit_key_made;

static void set_front(CacheFront *front)
{
    __atomic_store_n(&va_thread_front, front, __ATOMIC_RELAXED);
}

static VA_COLD void at_exit(void *cache)
{
    va_idle_enter(cache); /* nothing is taken until it is retired */
    set_front(VA_NO_FRONT);
    own_cache = NULL;
    va_thread_id = 0;
    exited = true;
    va_cache_retire(cache);
}

static VA_STARTUP void make_exit_key(void)
{
    exit_key_made = pthread_key_create(&exit_key, at_exit) == 0;
}

/* A cache of its own for the thread; NULL if there is no memory for one: until there is it uses the
 * shared one. pthread_setspecific may allocate: the thread already has its cache then. Without a
 * key (a program that uses up all of them) caches of exited threads stay unused until a fork. */
static VA_STARTUP ThreadCache *attach(void)
{
    ThreadCache *cache = va_cache_attach();
    if (cache == NULL)
        return NULL;
    own_cache = cache;
    va_thread_id = cache->id;
    set_front(&cache->front);
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
    ThreadCache *cache = own_cache;
    if (cache == NULL && !exited)
        cache = attach();
    return cache != NULL ? cache : acquire_shared();
}

VA_COLD void va_thread_flush_shared(void)
{
    va_lock_acquire(&shared.lock);
    if (shared.cache != NULL)
        va_cache_flush_slots(shared.cache);
    va_lock_release(&shared.lock);
}

VA_COLD ThreadCache *va_thread_cache(void)
{
    return own_cache;
}

VA_COLD void va_thread_attach(void)
{
    if (own_cache == NULL && !exited)
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
