/* test_misuse.c: every crime of table.h at every size, each in a process of its own, ends as the
 * table says: neither worse nor better. */
#include "support.h"

#include "child.h"

#include "table.h"

typedef struct Case {
    const Crime *crime;
    size_t size;
} Case;

static void commit(void *argument)
{
    const Case *one = argument;
    _exit((int)commit_crime(one->crime, one->size));
}

static const char *expected_letters(const Crime *crime)
{
#if SECURED
    return crime->secure;
#elif defined(TEST_DEBUG)
    return crime->debug;
#else
    return crime->release;
#endif
}

static bool begins(const char *text, const char *with, size_t length)
{
    return strncmp(text, with, length) == 0;
}

/* "function: what": the text names both, but a later report comes from another function. */
static bool says(const char *text, const Crime *crime, char letter)
{
    static const char start[] = "valloc: ";
    if (letter != REPORTED && letter != LATER)
        return true;
    if (!begins(text, start, sizeof start - 1))
        return false;
    const char *message = crime->message != NULL ? crime->message : "";
    const char *what = strstr(message, ": ");
    size_t function = letter == LATER || what == NULL ? 0 : (size_t)(what - message);
    return begins(text + sizeof start - 1, message, function) &&
           strstr(text, what != NULL ? what + 2 : message) != NULL;
}

/* The letters that it gets. */
static bool try_all_sizes(const Crime *crime, char *letters)
{
    const char *expected = expected_letters(crime);
    bool right = true;
    for (size_t i = 0; expected[i] != '\0'; i++) {
        Case one = {crime, sizes[expected[1] == '\0' ? ANY_SIZE : i]};
        Child child = child_run(commit, &one);
        letters[i] = WIFEXITED(child.status) ? (char)WEXITSTATUS(child.status) : (char)CRASH;
        bool by_chance = expected[i] == EITHER && (letters[i] == UNHARMED || letters[i] == LATER);
        if ((letters[i] == expected[i] || by_chance) && says(child.text, crime, letters[i]))
            continue;
        right = false;
        print_error("%s, %zu bytes: %c instead of %c, says '%s'\n", crime->name, one.size,
                    letters[i], expected[i], child.text);
    }
    return right;
}

static void every_crime_ends_as_the_table_says(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < CRIMES; i++) {
        char letters[SIZES + 1] = "";
        if (try_all_sizes(&crimes[i], letters))
            continue;
        wrong++;
        print_error("%s: \"%s\" instead of \"%s\"\n", crimes[i].name, letters,
                    expected_letters(&crimes[i]));
    }
    assert_int_equal(wrong, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_crime_ends_as_the_table_says)};
    if (argc == 2 && strcmp(argv[1], "distances") == 0)
        return print_distances();
    return cmocka_run_group_tests_name("misuse", tests, NULL, NULL);
}
