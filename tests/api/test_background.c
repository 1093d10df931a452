/* test_background.c: when there is a background thread: with the option, or by the API, once there
 * is something to give back, until there is nothing left. A child of fork has one as well. It keeps
 * no process alive. */
#include "support.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "simulated.h"

#define TEST_API 1
#include "subject.h"

static bool by_option;

static size_t count_threads(void)
{
    size_t count = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (const struct dirent *entry; (entry = readdir(tasks)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

/* Slow paths, growth, purges. */
static void work(void)
{
    static void *blocks[20000];
    for (size_t i = 0; i < 20000; i++)
        assert_non_null(blocks[i] = valloc_malloc(16 + i * 37 % 9000));
    for (size_t i = 0; i < 20000; i++)
        valloc_free(blocks[i]);
    valloc_purge();
}

/* A thread that has ended may be listed for a moment. The background thread starts when a purge is
 * due, and ends some time after the last one: then more work starts it again. */
static void assert_threads(size_t expected)
{
    size_t threads = count_threads();
    for (int i = 1; i < PATIENCE && threads != expected; i++) {
        pass_ms(expected == 1 ? 10 : 1);
        let_others_run();
        if (expected == 2 && i % 100 == 0)
            work();
        threads = count_threads();
    }
    assert_int_equal(threads, expected);
}

/* A program that has freed little may still enter another namespace, which takes one thread. */
static void nothing_starts_it_at_load(void **state)
{
    (void)state;
    assert_int_equal(count_threads(), 1);
    for (size_t i = 0; i < 1000; i++)
        valloc_free(valloc_malloc(i));
    assert_int_equal(count_threads(), 1);
}

static void work_starts_it_if_wanted(void **state)
{
    (void)state;
    stop_clock();
    work();
    assert_threads(by_option ? 2 : 1);
    assert_threads(1); /* all is given back */
}

static void it_is_there_while_wanted(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(valloc_background_purge(1), 0);
        work();
        assert_threads(2);
        assert_int_equal(valloc_background_purge(0), 0);
        assert_threads(1);
        work();
        assert_threads(1);
    }
    valloc_background_purge(by_option);
}

static void assert_child_has_threads(size_t expected)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(CHILD_SECONDS);
        work();
        assert_threads(expected);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void a_child_has_one_if_its_parent_had(void **state)
{
    (void)state;
    assert_child_has_threads(by_option ? 2 : 1);
    assert_int_equal(valloc_background_purge(1), 0);
    work();
    assert_threads(2);
    assert_child_has_threads(2);
    assert_int_equal(valloc_background_purge(0), 0);
    assert_threads(1);
    assert_child_has_threads(1);
    valloc_background_purge(by_option);
}

#ifdef __GLIBC__ /* musl 1.2.3 leaves its list of threads locked when main of a forked child ends  \
                  */
static void *outlive(void *unused)
{
    work();
    return unused;
}

/* The process ends with the last thread of the program. */
static void it_keeps_no_process_alive(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        alarm(CHILD_SECONDS);
        valloc_background_purge(1);
        work();
        require(pthread_create(&thread, NULL, outlive, NULL) == 0);
        pthread_exit(NULL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_starts_it_at_load),
#ifdef __GLIBC__
        cmocka_unit_test(it_keeps_no_process_alive),
#endif
        cmocka_unit_test(work_starts_it_if_wanted),
        cmocka_unit_test(it_is_there_while_wanted),
        cmocka_unit_test(a_child_has_one_if_its_parent_had),
    };
    const char *option = getenv("VALLOC_BACKGROUND");
    by_option = option != NULL && option[0] == '1';
    return cmocka_run_group_tests_name("background", tests, NULL, NULL);
}
