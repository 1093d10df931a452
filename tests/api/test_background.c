/* test_background.c: who starts the background thread: the option, before main; the API; nobody
 * else. A child of fork has one if its parent had. */
#include "support.h"

#include <dirent.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

/* A thread that was joined may be listed for a moment. */
static void assert_threads(size_t expected)
{
    struct timespec moment = {0, 1000000};
    for (int i = 0; i < 5000 && count_threads() != expected; i++)
        nanosleep(&moment, NULL);
    assert_int_equal(count_threads(), expected);
}

static void the_option_starts_it(void **state)
{
    (void)state;
    assert_threads(by_option ? 2 : 1);
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

static void allocation_never_starts_it(void **state)
{
    (void)state;
    work();
    assert_threads(by_option ? 2 : 1);
}

static void assert_child_has_threads(size_t expected)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
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
    assert_threads(2);
    assert_child_has_threads(2);
    assert_int_equal(valloc_background_purge(0), 0);
    assert_threads(1);
    assert_child_has_threads(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_option_starts_it),
        cmocka_unit_test(allocation_never_starts_it),
        cmocka_unit_test(a_child_has_one_if_its_parent_had),
    };
    const char *option = getenv("VALLOC_BACKGROUND");
    by_option = option != NULL && option[0] == '1';
    return cmocka_run_group_tests_name("background", tests, NULL, NULL);
}
