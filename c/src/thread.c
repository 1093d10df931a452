/* thread.c: the life of threads as the allocator sees it.
 *
 * Exit: a pthread key's destructor retires the cache. Whatever the thread still allocates or
 * frees in later destructors goes through the shared cache: correct, but not fast.
 *
 * Fork: handlers take every lock, in the documented order, so that the child finds no structure
 * half changed; caches of threads that the child does not have count as exited. */
#include "thread.h"

#include <pthread.h>
#include <stdlib.h>

#include "arena.h"
#include "meta.h"

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
static const CacheFront no_front = {.stacks = {EMPTY84}, .tag = VA_TAG_NONE};
#define NO_FRONT ((CacheFront *)(uintptr_t)&no_front)

_Thread_local CacheFront *va_thread_front = NO_FRONT;
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
    va_thread_front = NO_FRONT;
    exited = true;
    va_cache_retire(cache);
}

static VA_COLD void make_exit_key(void)
{
    exit_key_made = pthread_key_create(&exit_key, at_exit) == 0;
}

/* pthread_setspecific may allocate: the thread already has its cache then. Without a key (a
 * program that uses up all of them) caches of exited threads stay unused until a fork. */
static VA_COLD ThreadCache *attach(void)
{
    ThreadCache *cache = va_cache_attach();
    if (cache == NULL)
        return NULL;
    va_thread_front = &cache->front;
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

ThreadCache *va_thread_acquire(void)
{
    CacheFront *front = va_thread_front;
    if (va_likely(front->tag != VA_TAG_NONE))
        return (ThreadCache *)front;
    return exited ? acquire_shared() : attach();
}

void va_thread_release(ThreadCache *cache)
{
    if (va_unlikely(cache != NULL && &cache->front != va_thread_front))
        va_lock_release(&shared.lock);
}

static VA_COLD void before_fork(void)
{
    va_lock_acquire(&shared.lock);
    va_cache_lock_all();
    va_lock_acquire(&va_arena_lock);
    va_lock_acquire(&va_meta_lock);
}

static VA_COLD void after_fork_in_parent(void)
{
    va_lock_release(&va_meta_lock);
    va_lock_release(&va_arena_lock);
    va_cache_unlock_all();
    va_lock_release(&shared.lock);
}

static VA_COLD void after_fork_in_child(void)
{
    CacheFront *front = va_thread_front;
    va_lock_reset(&va_meta_lock);
    va_lock_reset(&va_arena_lock);
    va_cache_reset_all(front->tag != VA_TAG_NONE ? (ThreadCache *)front : NULL);
    va_lock_reset(&shared.lock);
}

/* Early: handlers that others register later run before ours in the parent, and may allocate. */
__attribute__((constructor(101))) static void register_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
