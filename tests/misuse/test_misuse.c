/* test_misuse.c: every crime in a process of its own: either the line on stderr names the function
 * and what was wrong, and the process aborts, or the table admits what becomes of it. */
#include "support.h"

#include "child.h"

#define TEST_API 1
#include "crimes.h"

static void commit(void *crime)
{
    signal(SIGABRT, SIG_DFL); /* not cmocka's */
    signal(SIGSEGV, SIG_DFL);
    _exit((int)((const Crime *)crime)->commit());
}

static Outcome outcome_of(const Child *child)
{
    if (WIFSIGNALED(child->status) && WTERMSIG(child->status) == SIGABRT)
        return REPORTED;
    return WIFEXITED(child->status) ? (Outcome)WEXITSTATUS(child->status) : ABSENT;
}

static void every_crime_ends_as_the_table_says(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < CRIMES; i++) {
#ifdef VALLOC_SECURE
        const Expectation *expected = &crimes[i].secure;
#else
        const Expectation *expected = &crimes[i].normal;
#endif
        Child child = child_run(commit, (void *)(uintptr_t)&crimes[i]);
        if (outcome_of(&child) == expected->outcome &&
            strstr(child.text, expected->message) != NULL)
            continue;
        wrong++;
        print_error("%s: status %x, said '%s'; expected outcome %d, '%s'\n", crimes[i].name,
                    child.status, child.text, expected->outcome, expected->message);
    }
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_crime_ends_as_the_table_says)};
    return cmocka_run_group_tests_name("misuse", tests, NULL, NULL);
}
