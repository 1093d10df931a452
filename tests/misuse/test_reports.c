/* test_reports.c: who gets a report: stderr, or the program's handler; and that valloc notices when
 * its own tables hold what it never wrote. */
#include "support.h"

#include "child.h"

#define TEST_API 1
#include "subject.h"

#include "table/block_table.h"

static void *hide(void *pointer)
{
    void *volatile hidden = pointer;
    return hidden;
}

static void free_static(void)
{
    static char bytes[64];
    valloc_free(hide(bytes));
}

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) != (ssize_t)strlen(text))
        _exit(9);
}

static void tell(const char *message, void *context)
{
    say(context);
    say(message);
    say("]");
}

static void leave(const char *message, void *context)
{
    _exit(strstr(message, "not a pointer of this allocator") != NULL ? *(const int *)context : 9);
}

/* A free would be ignored. */
static void fail_again(const char *message, void *context)
{
    tell(message, context);
    free_static();
    valloc_destroy(valloc_process());
}

static void told(void *argument)
{
    (void)argument;
    valloc_set_error_handler(tell, "told [");
    free_static();
}

static void left(void *argument)
{
    valloc_set_error_handler(leave, argument);
    free_static();
}

static void failed_again(void *argument)
{
    (void)argument;
    valloc_set_error_handler(fail_again, "told [");
    free_static();
}

static void restored(void *argument)
{
    (void)argument;
    valloc_set_error_handler(tell, "told [");
    valloc_set_error_handler(NULL, NULL);
    free_static();
}

static int aborted(const Child *child)
{
    return WIFSIGNALED(child->status) && WTERMSIG(child->status) == SIGABRT;
}

#define LINE "valloc: free: not a pointer of this allocator (pointer 0x"

static void a_handler_gets_the_line_instead_of_stderr(void **state)
{
    (void)state;
    Child child = child_run(told, NULL);
    assert_true(aborted(&child));
    assert_memory_equal(child.text, "told [" LINE, sizeof "told [" LINE - 1);
    assert_null(strchr(child.text, '\n'));
    assert_non_null(strstr(child.text, "); see docs/security.md#not-a-pointer-of-this-allocator]"));
}

static void a_handler_may_end_the_process(void **state)
{
    (void)state;
    int code = 7;
    Child child = child_run(left, &code);
    assert_true(WIFEXITED(child.status) && WEXITSTATUS(child.status) == code);
    assert_string_equal(child.text, "");
}

static void a_handler_that_fails_is_not_called_again(void **state)
{
    (void)state;
    Child child = child_run(failed_again, NULL);
    assert_true(aborted(&child));
    const char *second = strstr(child.text, "]valloc: valloc_destroy: ");
    assert_non_null(second);
    assert_null(strstr(second + 1, "told ["));
}

static void stderr_can_be_restored(void **state)
{
    (void)state;
    Child child = child_run(restored, NULL);
    assert_true(aborted(&child));
    assert_memory_equal(child.text, LINE, sizeof LINE - 1);
}

/* ---- Corrupted tables ---- */

/* 1000 slots of a class, and the record of the first one's slab. */
static Block *slots_of(size_t size, void **slots)
{
    for (int i = 0; i < 1000; i++)
        slots[i] = hide(valloc_malloc(size));
    return va_block_of(slots[0]);
}

static void free_all(void **slots)
{
    for (int i = 0; i < 1000; i++)
        valloc_free(slots[i]);
    valloc_purge();
}

static void more_free_slots_than_there_are(void *argument)
{
    static void *slots[1000];
    (void)argument;
    slots_of(100, slots)->free_count = 5000;
    free_all(slots);
}

static void a_slab_on_a_list_that_does_not_know_it(void *argument)
{
    static void *slots[1000];
    (void)argument;
    Block *slab = slots_of(100, slots);
    for (int i = 0; i < 1000; i += 2)
        valloc_free(slots[i]);
    valloc_purge();
    assert_true(slab->listed);
    slab->prev = slab->next = slab;
    for (int i = 1; i < 1000; i += 2)
        valloc_free(slots[i]);
    valloc_purge();
}

static void an_owner_that_does_not_exist(void *argument)
{
    void *slot = hide(valloc_malloc(100));
    (void)argument;
    va_entry_store(va_block_entry(va_block_of(slot)), va_entry_make(300000, va_class_of(100)));
    valloc_free(slot);
    valloc_purge();
}

static void a_class_that_does_not_exist(void *argument)
{
    void *slot = hide(valloc_malloc(100));
    (void)argument;
    va_entry_store(va_block_entry(va_block_of(slot)), va_entry_make(1, 255));
    valloc_free(slot);
}

static void corrupted_tables_are_noticed(void **state)
{
    (void)state;
    void (*const crimes[])(void *) = {
        more_free_slots_than_there_are,
        a_slab_on_a_list_that_does_not_know_it,
        an_owner_that_does_not_exist,
        a_class_that_does_not_exist,
    };
    for (size_t i = 0; i < sizeof crimes / sizeof *crimes; i++) {
        Child child = child_run(crimes[i], NULL);
        if (!aborted(&child) || strstr(child.text, ": corrupted internal state") == NULL)
            fail_msg("crime %zu: status %d, said '%s'", i, child.status, child.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handler_gets_the_line_instead_of_stderr),
        cmocka_unit_test(a_handler_may_end_the_process),
        cmocka_unit_test(a_handler_that_fails_is_not_called_again),
        cmocka_unit_test(stderr_can_be_restored),
        cmocka_unit_test(corrupted_tables_are_noticed),
    };
    return cmocka_run_group_tests_name("reports", tests, NULL, NULL);
}
