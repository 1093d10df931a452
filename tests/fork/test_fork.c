/* test_fork.c: forks while other threads allocate, from one and from several threads at once, and
 * before there is any other thread, when the handlers take no lock; children allocate, free the
 * parent's blocks, start threads, fork again, leave by exit and _exit.
 * A deadlock ends by the watchdog of the child that hangs, which prints its stack. */
#include "support.h"

#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define HAS_BACKTRACE 1 /* musl has not: a child that hangs there cannot say where */
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "subject.h"

#define BLOCKS 500
#define REPEATS 40

/* Threads start and end while none forks: what a sanitizer allocates of its own for them is not
 * protected at fork, and a child that starts threads would wait for it for ever. */
static pthread_barrier_t all_started;
static pthread_barrier_t all_forked;
static _Atomic bool stop;
static _Atomic int failures;

static void *allocate_on(void *number)
{
    uint64_t seed = (uintptr_t)number + 1;
    static _Thread_local void *live[BLOCKS];
    pthread_barrier_wait(&all_started);
    while (!stop) {
        void **place = &live[random_next(&seed) % BLOCKS];
        subject_free(*place);
        *place = subject_malloc(random_next(&seed) % 5000 +
                                (random_next(&seed) % 500 == 0 ? 300000 : 0));
    }
    for (int i = 0; i < BLOCKS; i++)
        subject_free(live[i]);
    return NULL;
}

static bool work(size_t turns)
{
    void *blocks[BLOCKS] = {NULL};
    bool good = true;
    uint64_t seed = 99;
    for (size_t i = 0; i < turns; i++) {
        size_t size = 1 + random_next(&seed) % 4000;
        unsigned char **place = (unsigned char **)&blocks[i % BLOCKS];
        if (*place != NULL && **place != (unsigned char)(i - BLOCKS))
            good = false;
        subject_free(*place);
        *place = subject_malloc(size);
        if (*place == NULL)
            return false;
        fill_bytes(*place, size, (unsigned char)i);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        subject_free(blocks[i]);
    return good;
}

static void *work_in_thread(void *good)
{
    *(bool *)good = work(2000);
    return NULL;
}

enum { CHILD_ALLOCATES, CHILD_FREES, CHILD_STARTS_THREADS, CHILD_FORKS, CHILD_KINDS };

static bool wait_for(pid_t pid)
{
    int status;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/* The watchdog: says where the child hangs. */
static void on_alarm(int number)
{
    static const char text[] = "a child hangs here:\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) > 0) {
#ifdef HAS_BACKTRACE
        void *frames[64];
        backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
#endif
    }
    _exit(2);
}

static bool be_child(int kind, void **parents)
{
    bool good = true;
    alarm(CHILD_SECONDS);
    switch (kind) {
    case CHILD_FREES:
        for (int i = 0; i < BLOCKS; i++)
            subject_free(parents[i]);
        break;
    case CHILD_STARTS_THREADS: {
        pthread_t threads[3];
        bool goods[3] = {false, false, false};
        for (int i = 0; i < 3; i++)
            good = good && pthread_create(&threads[i], NULL, work_in_thread, &goods[i]) == 0;
        for (int i = 0; good && i < 3; i++)
            pthread_join(threads[i], NULL);
        good = good && goods[0] && goods[1] && goods[2];
        break;
    }
    case CHILD_FORKS: {
        pid_t pid = fork();
        if (pid == 0)
            _exit(work(500) ? 0 : 1);
        good = wait_for(pid);
        break;
    }
    default:
        break;
    }
    return work(3000) && good;
}

static void fork_repeatedly(uintptr_t number)
{
    for (int i = 0; i < REPEATS; i++) {
        void *parents[BLOCKS];
        for (size_t k = 0; k < BLOCKS; k++)
            parents[k] = subject_malloc(k * 7);
        pid_t pid = fork();
        if (pid == 0) {
            int code = be_child((i + (int)number) % CHILD_KINDS, parents) ? 0 : 1;
            if (i % 2 == 0)
                _exit(code);
            /* exit() in a child of a test program would print cmocka's buffers: none are left. */
            exit(code);
        }
        if (!wait_for(pid))
            failures++;
        for (size_t k = 0; k < BLOCKS; k++)
            subject_free(parents[k]);
    }
}

static void *fork_beside_others(void *number)
{
    pthread_barrier_wait(&all_started);
    fork_repeatedly((uintptr_t)number);
    pthread_barrier_wait(&all_forked);
    return NULL;
}

static void prepare(void)
{
    failures = 0;
#ifdef HAS_BACKTRACE
    void *frame;
    backtrace(&frame, 1); /* loads what it needs now */
#endif
    signal(SIGALRM, on_alarm);
    fflush(NULL);
}

static void matrix(size_t allocating, size_t forking)
{
    pthread_t threads[16];
    stop = false;
    prepare();
    pthread_barrier_init(&all_started, NULL, (unsigned)(allocating + forking));
    pthread_barrier_init(&all_forked, NULL, (unsigned)forking);
    for (size_t i = 0; i < allocating; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, allocate_on, (void *)i), 0);
    for (size_t i = 0; i < forking; i++)
        assert_int_equal(
            pthread_create(&threads[allocating + i], NULL, fork_beside_others, (void *)i), 0);
    for (size_t i = 0; i < forking; i++)
        pthread_join(threads[allocating + i], NULL);
    stop = true;
    for (size_t i = 0; i < allocating; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&all_started);
    pthread_barrier_destroy(&all_forked);
    assert_int_equal(failures, 0);
}

static void one_forks_alone(void **state)
{
    (void)state;
    prepare();
    fork_repeatedly(0);
    assert_int_equal(failures, 0);
}

static void one_forks_while_one_allocates(void **state)
{
    (void)state;
    matrix(1, 1);
}

static void one_forks_while_eight_allocate(void **state)
{
    (void)state;
    matrix(8, 1);
}

static void four_fork_while_one_allocates(void **state)
{
    (void)state;
    matrix(1, 4);
}

static void four_fork_while_eight_allocate(void **state)
{
    (void)state;
    matrix(8, 4);
}

/* Past the first MiBs, where huge pages begin. */
static bool grow(void)
{
    static void *blocks[70];
    for (size_t i = 0; i < 70; i++) {
        if ((blocks[i] = subject_malloc((size_t)1 << 20)) == NULL)
            return false;
        *(char *)blocks[i] = 1;
    }
    for (size_t i = 0; i < 70; i++)
        subject_free(blocks[i]);
    return true;
}

static void *grow_and_fork(void *status)
{
    pthread_cancel(pthread_self());
    if (!grow())
        return NULL;
    pid_t child = fork();
    if (child == 0) {
        alarm(CHILD_SECONDS);
        _exit(grow() ? 0 : 1);
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL); /* waitpid is the first such place */
    return waitpid(child, status, 0) == child ? status : NULL;
}

/* No call of malloc's, and no handler at a fork, is a place where threads end. */
static void a_thread_about_to_end_allocates_and_forks(void **state)
{
    (void)state;
    pthread_t thread;
    int status = -1;
    void *result = NULL;
    assert_int_equal(pthread_create(&thread, NULL, grow_and_fork, &status), 0);
    pthread_join(thread, &result);
    assert_ptr_equal(result, &status);
    assert_int_equal(status, 0);
    assert_true(grow());
}

#if defined(__GLIBC__) && !defined(TEST_API) && !defined(SANITIZED)
/* glibc promises progress to threads that fork, use streams, and flush all of them. */
static void *read_lines(void *unused)
{
    static char text[50000];
    FILE *file = tmpfile();
    if (file == NULL)
        abort();
    memset(text, 'x', sizeof text - 1);
    fprintf(file, "%s\n", text);
    while (!stop) {
        char *line = NULL;
        size_t bytes = 0;
        rewind(file);
        failures += getline(&line, &bytes, file) != (ssize_t)sizeof text;
        free(line);
    }
    fclose(file);
    return unused;
}

static void *flush_streams(void *unused)
{
    while (!stop) {
        fflush(NULL);
        sched_yield(); /* the list's lock is not fair */
    }
    return unused;
}

static void streams_are_used_meanwhile(void **state)
{
    (void)state;
    void *(*const bodies[])(void *) = {read_lines, read_lines, flush_streams};
    pthread_t threads[3];
    int status;
    stop = false;
    failures = 0;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, bodies[i], NULL), 0);
    for (int i = 0; i < 300; i++) {
        alarm(CHILD_SECONDS);
        pid_t pid = fork();
        if (pid == 0)
            _exit(fflush(NULL) == 0 && work(50) ? 0 : 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    alarm(0);
    assert_int_equal(failures, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            one_forks_alone), /* the first: libc tells no more once there were threads */
        cmocka_unit_test(one_forks_while_one_allocates),
        cmocka_unit_test(one_forks_while_eight_allocate),
        cmocka_unit_test(four_fork_while_one_allocates),
        cmocka_unit_test(four_fork_while_eight_allocate),
        cmocka_unit_test(a_thread_about_to_end_allocates_and_forks),
#if defined(__GLIBC__) && !defined(TEST_API) && !defined(SANITIZED)
        cmocka_unit_test(streams_are_used_meanwhile),
#endif
    };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
