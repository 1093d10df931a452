/* thread.c: the life of threads as the allocator sees it.
 *
 * Exit: a pthread key's destructor retires the cache, in its third round, since destructors of the
 * program use it until then. A thread that goes on gets another one. Where no round is left for
 * that, or the thread ends by a bare system call, or the key's value is lost (pthread_setspecific
 * allocates), nobody tells: the kernel ends the sign of life that is in the cache, and threads that
 * start look for such caches, as do purges. */
#include "thread/thread.h"

#include <pthread.h>

#include "profile/profile.h"

VA_THREAD_LOCAL CacheFront *va_thread_front = VA_NO_FRONT;
VA_THREAD_LOCAL CacheFront *va_thread_source = VA_NO_FRONT;
VA_THREAD_LOCAL uint32_t va_thread_id;
VA_THREAD_LOCAL bool va_thread_reports;
static VA_THREAD_LOCAL ThreadCache *own_cache;
static VA_THREAD_LOCAL uint8_t exit_rounds;

Lock va_thread_shared_lock;
static ThreadCache *shared_cache; /* under that lock */

static struct {
    pthread_once_t once;
    pthread_key_t key;
    bool made;
} exit_notice = {.once = PTHREAD_ONCE_INIT};

static void set_source(CacheFront *front)
{
    __atomic_store_n(&va_thread_source, front, __ATOMIC_RELAXED);
}

static void set_front(CacheFront *front)
{
    __atomic_store_n(&va_thread_front, front, __ATOMIC_RELAXED);
    set_source(front);
}

static VA_COLD void retire(ThreadCache *cache)
{
    va_idle_enter(cache); /* nothing is taken until it is retired */
    va_cache_retire(cache);
}

static VA_COLD void at_exit(void *cache)
{
    if (va_thread_reports)
        return;
    if (++exit_rounds < VA_EXIT_ROUNDS && pthread_setspecific(exit_notice.key, cache) == 0)
        return;
    set_front(VA_NO_FRONT);
    own_cache = NULL;
    va_thread_id = 0;
    retire(cache);
}

VA_COLD void va_thread_reap(uint32_t looks)
{
    ThreadCache *cache;
    while ((cache = va_registry_find_vanished(&looks)) != NULL) {
        va_idle_forget(cache);
        retire(cache);
    }
}

static VA_STARTUP void make_exit_key(void)
{
    exit_notice.made = pthread_key_create(&exit_notice.key, at_exit) == 0;
}

/* Early: while few keys exist pthread_setspecific need not allocate. From now on the destructor may
 * be called at any time. */
__attribute__((constructor(101))) static VA_STARTUP void prepare_exits(void)
{
    pthread_once(&exit_notice.once, make_exit_key);
    va_os_stay_loaded();
}

/* A cache of its own for the thread; NULL if there is no memory for one: until there is it uses the
 * shared one. pthread_setspecific may allocate: the thread already has its cache then. */
static VA_STARTUP ThreadCache *attach(void)
{
    if (!va_os_is_single_threaded())
        va_fork_register();
    if (va_registry_all_in_use())
        va_thread_reap(VA_REAP_LOOKS);
    ThreadCache *cache = va_cache_attach();
    if (cache == NULL)
        return NULL;
    own_cache = cache;
    va_thread_id = cache->id;
    set_front(&cache->front);
    pthread_once(&exit_notice.once, make_exit_key);
    if (exit_notice.made)
        pthread_setspecific(exit_notice.key, cache);
    return cache;
}

static VA_COLD ThreadCache *acquire_shared(void)
{
    va_lock_acquire(&va_thread_shared_lock);
    if (shared_cache == NULL) {
        shared_cache = va_cache_attach();
        if (shared_cache != NULL)
            shared_cache->shared = true;
    }
    ThreadCache *cache = shared_cache; /* once released, another thread may make it */
    if (cache == NULL)
        va_lock_release(&va_thread_shared_lock);
    return cache;
}

static void uncover(void)
{
    CacheFront *front = VA_THREAD_FRONT;
    if (front == VA_THREAD_SOURCE || va_profile_rate() != 0)
        return;
    va_thread_id = own_cache->id;
    set_source(front);
}

VA_COLD void va_thread_cover(void)
{
    va_thread_id = 0;
    set_source(VA_NO_FRONT);
}

VA_STARTUP ThreadCache *va_thread_acquire_slow(void)
{
    ThreadCache *cache = own_cache;
    if (va_thread_reports)
        return NULL;
    uncover();
    if (cache == NULL && !(VA_TSAN && exit_rounds != 0)) /* it would end in the last round */
        cache = attach();
    return cache != NULL ? cache : acquire_shared();
}

VA_COLD void va_thread_flush_shared(void)
{
    va_lock_acquire(&va_thread_shared_lock);
    if (shared_cache != NULL)
        va_cache_flush_slots(shared_cache);
    va_lock_release(&va_thread_shared_lock);
}

VA_COLD ThreadCache *va_thread_cache(void)
{
    return own_cache;
}

VA_STARTUP bool va_thread_is_inside(void)
{
    return va_thread_reports ||
           (own_cache != NULL && atomic_load_explicit(&own_cache->idle.busy, memory_order_relaxed));
}

VA_COLD uint32_t va_thread_attach(void)
{
    if (va_thread_reports)
        return 0;
    uncover();
    if (own_cache == NULL)
        attach();
    return own_cache != NULL ? own_cache->id : 0;
}

VA_COLD void va_thread_describe_owner(Report *report, uint32_t owner)
{
    const ThreadCache *cache = va_registry_find(owner);
    va_report_text(report, " of thread cache ");
    va_report_number(report, owner, 10);
    if (cache == NULL)
        return;
    if (va_is_other(owner))
        va_report_text(report, ", of a MemoryAllocator");
    else if (cache == own_cache)
        va_report_text(report, ", this thread's");
    else
        va_report_text(report, atomic_load_explicit(&cache->attached, memory_order_relaxed)
                                   ? ", another thread's"
                                   : ", of a thread that has ended");
}

VA_COLD void va_thread_begin_report(void)
{
    va_thread_reports = true;
    set_front(VA_NO_FRONT);
    own_cache = NULL;
    va_thread_id = 0;
}
