/* test_emergency.c: what handlers do in a thread that has reported an error, whatever locks it
 * holds: they allocate, print, take a stack trace and fork. libc's own requests go to valloc. */
#include "support.h"

#include "child.h"

#define TEST_API 1
#include "subject.h"

#include <execinfo.h>
#include <pthread.h>
#include <sched.h>

#include "arena/block_pool.h"
#include "os/options.h"
#include "table/meta.h"
#include "thread/thread.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

void *malloc(size_t size)
{
    return valloc_malloc(size);
}

void free(void *ptr)
{
    valloc_free(ptr);
}

void *calloc(size_t count, size_t size)
{
    return valloc_calloc(count, size);
}

void *realloc(void *ptr, size_t size)
{
    return valloc_realloc(ptr, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return valloc_aligned_alloc(alignment, size);
}

static void *hide(void *pointer)
{
    void *volatile hidden = pointer;
    return hidden;
}

/* ---- What handlers do ---- */

enum { KEPT = 4 };
static const size_t kept_sizes[KEPT] = {40, 3 * KIB, 100 * KIB, 2 * MIB};
static void *kept[KEPT];
static MemoryAllocator allocator;
static char static_bytes[64];

static void use_new_memory(size_t size)
{
    unsigned char *block = hide(malloc(size));
    unsigned char *zero = hide(calloc(1, size));
    unsigned char *aligned = hide(aligned_alloc(4 * KIB, size));
    require(block != NULL && zero != NULL && aligned != NULL &&
            (uintptr_t)aligned % (4 * KIB) == 0);
    require(valloc_usable_size(block) >= size);
    fill_bytes(block, size, 'a');
    require(size == 0 || bytes_hold(zero, size, 0));
    block = hide(realloc(block, size + 100));
    require(block != NULL && (size == 0 || bytes_hold(block, size, 'a')));
    free(block);
    valloc_free_sized(zero, size);
    valloc_free_aligned_sized(aligned, 4 * KIB, size);
}

static void use_heap(void)
{
    static const size_t sizes[] = {0, 16, 1000, 20 * KIB, 100 * KIB, MIB + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        use_new_memory(sizes[i]);
    for (int i = 0; i < KEPT; i++) {
        unsigned char *moved = hide(realloc(kept[i], kept_sizes[i] + 10));
        require(moved != NULL && bytes_hold(moved, kept_sizes[i], 'k'));
        require(valloc_usable_size(kept[i]) >= kept_sizes[i]);
        free(kept[i]);
        free((char *)kept[i] + 16);
        free(kept[i]);
    }
    free(hide(static_bytes));
    require(realloc(hide(static_bytes), 10) != NULL && valloc_usable_size(static_bytes) == 0);
    void *own = hide(valloc_allocate(&allocator, 100));
    require(own != NULL);
    free_valloc(&allocator, own);
    require(hide(malloc(1024 * MIB)) == NULL && errno == ENOMEM);
    require(valloc_purge() == 0);
}

static void use_libc(void)
{
    void *frames[20];
    FILE *file = fopen("/dev/null", "w");
    require(file != NULL && fprintf(file, "%f\n", 0.1) > 0);
    fclose(file);
    int count = backtrace(frames, 20);
    char **symbols = backtrace_symbols(frames, count);
    require(count > 0 && symbols != NULL);
    free(symbols);
}

static void use_fork(void)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(malloc(100) != NULL ? 0 : 1);
    require(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void say(const char *text)
{
    require(write(STDERR_FILENO, text, strlen(text)) == (ssize_t)strlen(text));
}

static void do_all(const char *whose)
{
    use_heap();
    use_libc();
    use_fork();
    say(whose);
}

static void on_error(const char *message, void *context)
{
    (void)message;
    do_all(context);
}

static void on_abort(int number)
{
    (void)number;
    do_all("SIGABRT lives\n");
}

/* ---- Ways to die ---- */

static void hold_locks(void)
{
    va_lock_acquire(&va_thread_shared_lock);
    va_lock_acquire(&va_registry_lock);
    va_lock_acquire(&va_use.lock);
    va_lock_acquire(&va_meta_lock);
}

static void hold_cache_and_locks(void)
{
    va_lock_acquire(&va_thread_cache()->mutex);
    hold_locks();
}

/* A slab with slots to take, whose record is damaged: seen under the cache's mutex. */
static void damage_a_slab(size_t size)
{
    static void *slots[3000];
    for (int i = 0; i < 3000; i++)
        slots[i] = hide(valloc_malloc(size));
    for (int i = 0; i < 3000; i++)
        if (i % 2 == 0)
            valloc_free(slots[i]);
    valloc_purge();
    for (int i = 0; i < 3000; i++)
        va_block_of(slots[i])->free_count = 5000;
}

static void die_in_malloc(void)
{
    damage_a_slab(100);
    hold_locks();
    for (int i = 0; i < 3000; i++)
        hide(valloc_malloc(100));
}

static void die_in_realloc(void)
{
    static void *blocks[3000];
    for (int i = 0; i < 3000; i++)
        blocks[i] = hide(valloc_malloc(10));
    damage_a_slab(200);
    hold_locks();
    for (int i = 0; i < 3000; i++)
        hide(valloc_realloc(blocks[i], 200));
}

static void die_in_realloc_of_static(void)
{
    hold_cache_and_locks();
    hide(valloc_realloc(hide(static_bytes), 100));
}

static void die_in_free_of_static(void)
{
    hold_cache_and_locks();
    valloc_free(hide(static_bytes));
}

static void die_in_free_of_large(void)
{
    void *run = hide(valloc_malloc(8 * MIB));
    hold_cache_and_locks();
    valloc_free((char *)run + 16);
}

static void die_in_an_allocator(void)
{
    free_valloc(&allocator, hide(valloc_allocate(&allocator, 100)));
    hold_cache_and_locks();
    free_valloc(&allocator, hide(static_bytes));
}

static void (*const ways[])(void) = {
    die_in_malloc,         die_in_realloc,       die_in_realloc_of_static,
    die_in_free_of_static, die_in_free_of_large, die_in_an_allocator};
#define WAYS (sizeof ways / sizeof *ways)

static void prepare(void)
{
    for (int i = 0; i < KEPT; i++)
        fill_bytes(kept[i] = hide(malloc(kept_sizes[i])), kept_sizes[i], 'k');
    require(valloc_init(&allocator, 1, 4) == 0);
    valloc_set_error_handler(on_error, "the handler lives\n");
    signal(SIGABRT, on_abort);
}

static void die(void *way)
{
    prepare();
    (*(void (*const *)(void))way)();
}

static void handlers_may_allocate(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        Child child = child_run(die, (void *)(uintptr_t)&ways[i]);
        if (!WIFSIGNALED(child.status) || WTERMSIG(child.status) != SIGABRT ||
            strcmp(child.text, "the handler lives\nSIGABRT lives\n") != 0)
            fail_msg("way %zu: status %x, said '%s'", i, child.status, child.text);
    }
}

/* ---- Others ---- */

static void on_error_exit(const char *message, void *context)
{
    (void)message, (void)context;
    exit(7);
}

static void die_by_exit(void *argument)
{
    (void)argument;
    va_options.stats = STATS_TEXT;
    valloc_set_error_handler(on_error_exit, NULL);
    die_in_free_of_static();
}

static void a_handler_may_exit(void **state)
{
    (void)state;
    Child child = child_run(die_by_exit, NULL);
    assert_true(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 7);
    assert_string_equal(child.text, "");
}

static atomic_uint turns;

/* Slow paths: fresh slabs, runs that come and go, a cache that is flushed. */
static void *work(void *unused)
{
    static void *blocks[1000];
    for (;;) {
        for (size_t i = 0; i < 1000; i++)
            blocks[i] = malloc(i % 20 == 0 ? 200 * KIB : 500);
        for (size_t i = 0; i < 1000; i++)
            free(blocks[i]);
        valloc_purge();
        atomic_fetch_add(&turns, 1);
    }
    return unused;
}

static void on_error_wait(const char *message, void *context)
{
    unsigned before = atomic_load(&turns);
    (void)message;
    while (atomic_load(&turns) < before + 3)
        sched_yield();
    say(context);
}

static void die_beside_a_thread(void *argument)
{
    pthread_t thread;
    (void)argument;
    signal(SIGABRT, SIG_DFL);
    valloc_set_error_handler(on_error_wait, "they work");
    require(pthread_create(&thread, NULL, work, NULL) == 0);
    while (atomic_load(&turns) == 0)
        sched_yield();
    valloc_free(hide(static_bytes));
}

static void other_threads_go_on(void **state)
{
    (void)state;
    Child child = child_run(die_beside_a_thread, NULL);
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
    assert_string_equal(child.text, "they work");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handlers_may_allocate),
        cmocka_unit_test(a_handler_may_exit),
        cmocka_unit_test(other_threads_go_on),
    };
    return cmocka_run_group_tests_name("emergency", tests, NULL, NULL);
}
