/* test_first_call.c: every function as a thread's very first call, at every moment of a process:
 * main's thread, a new thread, the destructors of thread-local data (each of their rounds),
 * atexit handlers, constructors before main, a signal handler that interrupts no allocation. */
#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "subject.h"

static void *foreign; /* another thread's blocks, for first frees */
static void *foreign_resized;

static bool first_malloc(void)
{
    char *block = subject_malloc(100);
    if (block == NULL)
        return false;
    memset(block, 1, 100);
    subject_free(block);
    return true;
}

static bool first_free_null(void)
{
    subject_free(NULL);
    return true;
}

static bool first_free_foreign(void)
{
    subject_free(foreign);
    foreign = NULL;
    return true;
}

static bool first_realloc(void)
{
    char *block = subject_realloc(NULL, 100);
    subject_free(block);
    return block != NULL;
}

static bool first_realloc_foreign(void)
{
    foreign_resized = subject_realloc(foreign_resized, 5000);
    return foreign_resized != NULL && *(char *)foreign_resized == 7;
}

static bool first_calloc(void)
{
    char *block = subject_calloc(10, 100);
    bool good = block != NULL && bytes_hold(block, 1000, 0);
    subject_free(block);
    return good;
}

static bool first_memalign(void)
{
    void *block = subject_memalign(4096, 100);
    bool good = block != NULL && (uintptr_t)block % 4096 == 0;
    subject_free(block);
    return good;
}

static bool first_usable_size(void)
{
    return subject_usable_size(foreign) >= 64;
}

static bool first_large(void)
{
    char *block = subject_malloc((size_t)5 << 20);
    if (block == NULL)
        return false;
    block[0] = 1;
    subject_free(block);
    return true;
}

static bool first_fork(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(first_malloc() ? 0 : 1);
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool (*const calls[])(void) = {
    first_malloc, first_free_null, first_free_foreign, first_realloc, first_realloc_foreign,
    first_calloc, first_memalign,  first_usable_size,  first_large,   first_fork,
};
#define CALLS (sizeof calls / sizeof *calls)

/* ---- Before main, where nothing has been allocated by anyone here ---- */

static bool before_main_good = true;

__attribute__((constructor(102))) static void before_main(void)
{
    before_main_good = first_free_null() && first_usable_size() == false && first_malloc() &&
                       first_calloc() && first_memalign() && first_large() && first_fork();
}

/* ---- The moments ---- */

static bool (*current)(void);
static _Thread_local int thread_starts;

static void do_or_die(void)
{
    if (!current())
        abort();
}

static void *in_thread(void *unused)
{
    (void)unused;
    thread_starts++;
    do_or_die();
    return NULL;
}

static pthread_key_t keys[3];
static int rounds_left;

/* Runs in every round that POSIX promises; the call is the first one of this thread in the first
 * round, and comes after the allocator's own destructor in later ones. */
static void in_destructor(void *value)
{
    do_or_die();
    if (current == first_free_foreign)
        current = first_malloc; /* it frees one block only */
    if (--rounds_left > 0)
        pthread_setspecific(keys[1], value);
}

static void *set_key(void *value)
{
    rounds_left = 3;
    pthread_setspecific(keys[1], value);
    return NULL;
}

static void run_in_thread(void *(*body)(void *))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, &foreign) != 0)
        abort();
    pthread_join(thread, NULL);
}

static void at_exit(void)
{
    do_or_die();
}

/* qemu 7.2's user mode for x86-64 calls a handler with a stack that is aligned to 8 bytes, the
 * kernel with one to 16: the compiler's 16-byte moves trap there, whatever malloc is under test. */
#ifdef __x86_64__
__attribute__((force_align_arg_pointer))
#endif
static void
on_signal(int number)
{
    (void)number;
    do_or_die();
}

static void *raise_signal(void *unused)
{
    (void)unused;
    raise(SIGUSR1);
    return NULL;
}

enum { IN_MAIN, IN_THREAD, IN_DESTRUCTOR, AT_EXIT, IN_SIGNAL, MOMENTS };

static void moment(void *number)
{
    int which = (int)(intptr_t)number;
    switch (which) {
    case IN_MAIN:
        do_or_die();
        break;
    case IN_THREAD:
        run_in_thread(in_thread);
        break;
    case IN_DESTRUCTOR:
        pthread_key_create(&keys[1], in_destructor);
        run_in_thread(set_key);
        break;
    case AT_EXIT:
        atexit(at_exit);
        break;
    case IN_SIGNAL:
        signal(SIGUSR1, on_signal);
        run_in_thread(raise_signal);
        break;
    default:
        abort();
    }
}

static void every_call_at_every_moment(void **state)
{
    (void)state;
    for (size_t call = 0; call < CALLS; call++) {
        for (int when = 0; when < MOMENTS; when++) {
            foreign = subject_malloc(64);
            foreign_resized = subject_malloc(64);
            *(char *)foreign_resized = 7;
            current = calls[call];
            Child child = child_run(moment, (void *)(intptr_t)when);
            if (child.status != 0)
                fail_msg("call %zu at moment %d: status %d, said '%s'", call, when, child.status,
                         child.text);
            subject_free(foreign);
            subject_free(foreign_resized);
        }
    }
}

static void calls_before_main(void **state)
{
    (void)state;
    assert_true(before_main_good);
}

/* Frees and allocations in a destructor that runs after the allocator's own. */
static void *late_block;

static void late(void *value)
{
    subject_free(value);
    subject_free(late_block);
    late_block = subject_malloc(300);
}

static void *late_thread(void *unused)
{
    (void)unused;
    pthread_setspecific(keys[2], subject_malloc(200));
    return NULL;
}

static void blocks_after_the_threads_cache_is_gone(void **state)
{
    (void)state;
    assert_int_equal(pthread_key_create(&keys[2], late), 0);
    for (int i = 0; i < 2000; i++) {
        run_in_thread(late_thread);
        assert_non_null(late_block);
        memset(late_block, 1, 300);
    }
    subject_free(late_block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_before_main),
        cmocka_unit_test(every_call_at_every_moment),
        cmocka_unit_test(blocks_after_the_threads_cache_is_gone),
    };
    return cmocka_run_group_tests_name("first_call", tests, NULL, NULL);
}
