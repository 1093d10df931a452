/* arenas.c: the table from numbers of arenas to allocators.
 *
 * A number is looked up without a lock at each mallocx that names it. Creating and destroying are
 * serialised by a mutex. As in jemalloc, nobody may use an arena that is being destroyed. */
#include "arenas.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

/* Threads with a cache of their own in an arena; the others share one. */
#define THREADS 64

/* Written under the mutex: release, after the allocator was made; acquire by those who find it. */
static MemoryAllocator *_Atomic arenas[ARENAS_MAX];
static _Atomic size_t count = 1; /* relaxed: a bare number */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

MemoryAllocator *va_jemalloc_arenas_find(size_t number)
{
    if (number == 0)
        return valloc_process();
    if (number >= ARENAS_MAX)
        return NULL;
    return atomic_load_explicit(&arenas[number], memory_order_acquire);
}

size_t va_jemalloc_arenas_count(void)
{
    return atomic_load_explicit(&count, memory_order_relaxed);
}

static int create_locked(uint64_t *number)
{
    size_t free_number = 1;
    while (free_number < ARENAS_MAX && va_jemalloc_arenas_find(free_number) != NULL)
        free_number++;
    MemoryAllocator *arena =
        free_number < ARENAS_MAX ? valloc_calloc(1, sizeof(MemoryAllocator)) : NULL;
    if (arena == NULL)
        return EAGAIN;
    if (valloc_init(arena, 1, THREADS) != 0) {
        valloc_free(arena);
        return EAGAIN;
    }
    atomic_store_explicit(&arenas[free_number], arena, memory_order_release);
    if (free_number >= va_jemalloc_arenas_count())
        atomic_store_explicit(&count, free_number + 1, memory_order_relaxed);
    *number = free_number;
    return 0;
}

int va_jemalloc_arenas_create(uint64_t *number)
{
    pthread_mutex_lock(&mutex);
    int error = create_locked(number);
    pthread_mutex_unlock(&mutex);
    return error;
}

int va_jemalloc_arenas_destroy(size_t number, bool stays)
{
    int error = 0;
    pthread_mutex_lock(&mutex);
    MemoryAllocator *arena = va_jemalloc_arenas_find(number);
    if (arena == NULL) {
        error = ENOENT;
    } else if (number == 0) {
        error = EFAULT;
    } else {
        valloc_destroy(arena);
        if (!stays || valloc_init(arena, 1, THREADS) != 0) {
            error = stays ? EAGAIN : 0;
            atomic_store_explicit(&arenas[number], NULL, memory_order_release);
            valloc_free(arena);
        }
    }
    pthread_mutex_unlock(&mutex);
    return error;
}

/* ---- fork: the child finds the table whole ---- */

static void before_fork(void)
{
    pthread_mutex_lock(&mutex);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&mutex);
}

__attribute__((constructor)) static void register_handlers(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}
