/* test_copies.c: memcpy and its family in the override library of secure builds do what libc's do,
 * wherever and whenever they are called, and report each copy that leaves an allocation. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* mempcpy */
#endif
#include "support.h"

#include <signal.h>
#include <sys/time.h>

#include "child.h"

#include "base/config.h"
#include "subject.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Slots, a run, what spans several blocks, large. */
static const size_t sizes[] = {1, 8, 24, 40, 100, 1000, 5000, 30000, 60 * KIB, 300 * KIB, 9 * MIB};
#define SIZES (sizeof sizes / sizeof *sizes)

static void *hide(void *pointer)
{
    void *volatile hidden = pointer;
    return hidden;
}

/* ---- The functions by one interface ---- */

void *__memcpy_chk(void *to, const void *from, size_t bytes, size_t size);
void *__memmove_chk(void *to, const void *from, size_t bytes, size_t size);
void *__mempcpy_chk(void *to, const void *from, size_t bytes, size_t size);
void *__memset_chk(void *to, int value, size_t bytes, size_t size);
char *__strcpy_chk(char *to, const char *from, size_t size);
char *__stpcpy_chk(char *to, const char *from, size_t size);
char *__strncpy_chk(char *to, const char *from, size_t bytes, size_t size);
char *__stpncpy_chk(char *to, const char *from, size_t bytes, size_t size);
char *__strcat_chk(char *to, const char *from, size_t size);
char *__strncat_chk(char *to, const char *from, size_t most, size_t size);

/* Writes `bytes` to `to`, and reads as many from a source, a string that ends there. */
typedef void Copy(char *to, const char *from, size_t bytes);
#define COPY(name, call)                                                                           \
    static void do_##name(char *to, const char *from, size_t bytes)                                \
    {                                                                                              \
        (void)from, (void)bytes;                                                                   \
        call;                                                                                      \
    }
COPY(memcpy, memcpy(to, from, bytes))
COPY(memmove, memmove(to, from, bytes))
COPY(mempcpy, mempcpy(to, from, bytes))
COPY(memset, memset(to, 'x', bytes))
COPY(strcpy, strcpy(to, from))
COPY(stpcpy, stpcpy(to, from))
COPY(strncpy, strncpy(to, from, bytes))
COPY(stpncpy, stpncpy(to, from, bytes))
COPY(strcat, (*to = '\0', strcat(to, from)))
COPY(strncat, (*to = '\0', strncat(to, from, bytes)))
COPY(memcpy_chk, __memcpy_chk(to, from, bytes, bytes))
COPY(memmove_chk, __memmove_chk(to, from, bytes, bytes))
COPY(mempcpy_chk, __mempcpy_chk(to, from, bytes, bytes))
COPY(memset_chk, __memset_chk(to, 'x', bytes, bytes))
COPY(strcpy_chk, __strcpy_chk(to, from, bytes))
COPY(stpcpy_chk, __stpcpy_chk(to, from, bytes))
COPY(strncpy_chk, __strncpy_chk(to, from, bytes, bytes))
COPY(stpncpy_chk, __stpncpy_chk(to, from, bytes, bytes))
COPY(strcat_chk, (*to = '\0', __strcat_chk(to, from, bytes)))
COPY(strncat_chk, (*to = '\0', __strncat_chk(to, from, bytes, bytes)))

typedef struct Function {
    const char *name; /* as reports have it */
    Copy *copy;
    bool reads;
} Function;
#define FUNCTION(name, reads)                                                                      \
    {#name, do_##name, reads},                                                                     \
    {                                                                                              \
#name, do_##name##_chk, reads                                                              \
    }
static const Function functions[] = {
    FUNCTION(memcpy, true),  FUNCTION(memmove, true), FUNCTION(mempcpy, true),
    FUNCTION(memset, false), FUNCTION(strcpy, true),  FUNCTION(stpcpy, true),
    FUNCTION(strncpy, true), FUNCTION(stpncpy, true), FUNCTION(strcat, true),
    FUNCTION(strncat, true),
};
#define FUNCTIONS (sizeof functions / sizeof *functions)

static char text[10 * MIB]; /* no 0 but at `bytes - 1` */

static void end_text(size_t bytes)
{
    text[bytes - 1] = '\0';
}

static void restore_text(size_t bytes)
{
    text[bytes - 1] = 'x';
}

/* ---- Before constructors ---- */

static bool early_copies_right;

static void copy_early(void)
{
    char one[] = "0123456789";
    char other[40] = "";
    memmove(one + 2, one, 5);
    memmove(one, one + 1, 5);
    memset(other, 'y', 30);
    strcpy(other, one);
    strcat(other, "+");
    early_copies_right = strcmp(one, "1012334789") == 0 && strcmp(other, "1012334789+") == 0 &&
                         other[12] == 'y' && other[29] == 'y' && other[30] == '\0';
}

__attribute__((section(".preinit_array"), used)) static void (*early)(void) = copy_early;

static void copies_work_before_constructors(void **state)
{
    (void)state;
    assert_true(early_copies_right);
}

/* ---- What they do ---- */

static intptr_t results[24];

/* What each of them returns, and leaves in a buffer of 64 bytes. */
static void copy_all(char *to, const char *from)
{
    int i = 0;
    for (int c = 0; c < 64; c++)
        to[c] = '.';
    results[i++] = ((char *)memcpy(to, from, 5) - to);
    results[i++] = ((char *)mempcpy(to + 5, from, 3) - to);
    results[i++] = ((char *)memmove(to + 3, to, 6) - to);
    results[i++] = ((char *)memset(to + 10, 7, 3) - to);
    results[i++] = (strcpy(to + 14, from) - to);
    results[i++] = (stpcpy(to + 26, from) - to);
    results[i++] = (strncpy(to + 38, from, 4) - to);
    results[i++] = (stpncpy(to + 38, from, 4) - to);
    results[i++] = (strncpy(to + 38, from + 8, 8) - to);
    results[i++] = (stpncpy(to + 46, from + 8, 6) - to);
    results[i++] = (strcat(to + 46, from + 5) - to);
    results[i++] = (strncat(to + 46, from, 3) - to);
    results[i++] = (strncat(to + 46, from, 0) - to);
    results[i++] = ((char *)memcpy(to + 63, from, 0) - to);
    results[i++] = (strncpy(to + 63, from, 0) - to);
}

static void they_do_what_libc_does(void **state)
{
    (void)state;
    static const intptr_t returned[] = {0, 8, 3, 10, 14, 36, 38, 42, 38, 48, 46, 46, 46, 63, 63};
    static const char left[64] = "012012340.\a\a\a.0123456789\0.0123456789\0.89\0\0\0\0\0\0"
                                 "8956789012\0.......";
    char local[64];
    char *block = hide(malloc(64));
    char *source = hide(malloc(11));
    memcpy(source, "0123456789", 11);
    for (int turn = 0; turn < 4; turn++) {
        char *to = turn % 2 == 0 ? local : block;
        copy_all(to, turn < 2 ? "0123456789" : source);
        assert_memory_equal(to, left, sizeof left);
        for (size_t i = 0; i < sizeof returned / sizeof *returned; i++)
            assert_int_equal(results[i], returned[i]);
    }
    free(source);
    free(block);
}

static void whole_allocations_can_be_copied(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        char *block = hide(malloc(sizes[i]));
        char *other = hide(valloc_malloc(sizes[i]));
        char *aligned = hide(aligned_alloc(64, sizes[i]));
        for (size_t f = 0; f < FUNCTIONS; f++) {
            end_text(sizes[i]);
            functions[f].copy(block, text, sizes[i]);
            block[sizes[i] - 1] = '\0';
            functions[f].copy(other, block, sizes[i]);
            functions[f].copy(aligned, block, sizes[i]);
            functions[f].copy(text, block, sizes[i]);
            memcpy(block + sizes[i], other + sizes[i], 0); /* one may point there */
            restore_text(sizes[i]);
        }
        size_t usable = malloc_usable_size(block);
        memset(block, 1, usable);
        memcpy(other, block, sizes[i]);
        free(block);
        free(other);
        free(aligned);
    }
}

static void deep_inside_large_runs_as_well(void **state)
{
    (void)state;
    char *block = hide(malloc(40 * MIB));
    char *other = hide(malloc(40 * MIB));
    memset(block, 1, 40 * MIB);
    memcpy(other, block, 40 * MIB);
    memcpy(other + 3 * MIB, block + 30 * MIB, 10 * MIB);
    memcpy(other + 40 * MIB - 10, block + 17 * MIB, 10);
    assert_memory_equal(other, block, 40 * MIB);
    free(block);
    free(other);
}

/* ---- Signals ---- */

static char *signal_from;
static char *signal_to;
static volatile sig_atomic_t signals;

static void copy_in_handler(int number)
{
    (void)number;
    memcpy(signal_to, signal_from, 1000);
    strcpy(signal_to, signal_from);
    signals++;
}

static void they_work_in_signal_handlers(void **state)
{
    (void)state;
    const struct itimerval often = {{0, 500}, {0, 500}};
    const struct itimerval never = {{0, 0}, {0, 0}};
    signal_from = hide(calloc(1, 1000));
    signal_to = hide(malloc(1000));
    signal(SIGALRM, copy_in_handler);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (size_t i = 0; signals < 200; i++) {
        char *block = hide(malloc(i % 3000 + 1));
        memset(block, 1, i % 3000 + 1);
        free(block);
    }
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    free(signal_from);
    free(signal_to);
}

/* ---- Reports ---- */

typedef struct Crime {
    const Function *function;
    size_t size;
} Crime;

static void write_beyond(void *argument)
{
    const Crime *crime = argument;
    char *block = hide(malloc(crime->size));
    end_text(crime->size + 1);
    crime->function->copy(block, text, crime->size + 1);
}

static void read_beyond(void *argument)
{
    const Crime *crime = argument;
    static char to[10 * MIB];
    char *block = hide(malloc(crime->size));
    memset(block, 'x', crime->size);
    crime->function->copy(to, block, crime->size + 1);
}

static void write_freed(void *argument)
{
    const Crime *crime = argument;
    char *block = hide(malloc(crime->size));
    end_text(1);
    free(block);
    crime->function->copy(hide(block), text, 1);
}

static void read_freed(void *argument)
{
    const Crime *crime = argument;
    char to[8];
    char *block = hide(malloc(crime->size));
    free(block);
    crime->function->copy(to, hide(block), 1);
}

static void must_report(void (*crime)(void *), const Crime *which, const char *what)
{
    char line[200];
    Child child = child_run(crime, (void *)(uintptr_t)which);
    snprintf(line, sizeof line, "valloc: %s: %s", which->function->name, what);
    if (!WIFSIGNALED(child.status) || WTERMSIG(child.status) != SIGABRT ||
        strncmp(child.text, line, strlen(line)) != 0 ||
        strstr(child.text, "); see docs/security.md#") == NULL)
        fail_msg("%s, %zu bytes: status %d, said '%s'", line, which->size, child.status,
                 child.text);
}

static void what_leaves_an_allocation_is_reported(void **state)
{
    (void)state;
    for (size_t i = 0; i < FUNCTIONS * SIZES; i++) {
        Crime crime = {&functions[i % FUNCTIONS], sizes[i / FUNCTIONS]};
        char what[100];
        bool exact = VALLOC_SECURE_CANARY;
        if (!exact)
            continue; /* the slack may be used */
        snprintf(what, sizeof what, "written to beyond its end, %zu bytes where %zu",
                 crime.size + 1, crime.size);
        must_report(write_beyond, &crime, what);
        if (!crime.function->reads)
            continue;
        snprintf(what, sizeof what, "read beyond its end, %zu bytes where %zu", crime.size + 1,
                 crime.size);
        must_report(read_beyond, &crime, what);
    }
}

static void what_was_freed_is_reported(void **state)
{
    (void)state;
    for (size_t i = 0; i < FUNCTIONS * SIZES; i++) {
        Crime crime = {&functions[i % FUNCTIONS], sizes[i / FUNCTIONS]};
        /* strcat writes itself before it is called; large runs are not accessible. */
        if (crime.size > MIB)
            continue;
        if (strstr(crime.function->name, "cat") == NULL)
            must_report(write_freed, &crime, "written to after its free (pointer 0x");
        if (crime.function->reads)
            must_report(read_freed, &crime, "read after its free (pointer 0x");
    }
}

static void reach_the_next_run(void *argument)
{
    char *blocks[2] = {hide(malloc(20 * MIB)), hide(malloc(20 * MIB))};
    char *first = blocks[0] < blocks[1] ? blocks[0] : blocks[1];
    (void)argument;
    memcpy(first + 19 * MIB, hide(text), 9 * MIB);
}

static void a_copy_into_the_next_large_run_is_stopped(void **state)
{
    (void)state;
    Child child = child_run(reach_the_next_run, NULL);
    assert_true(WIFSIGNALED(child.status));
    assert_true(WTERMSIG(child.status) == SIGABRT || WTERMSIG(child.status) == SIGSEGV);
}

static void an_end_that_was_damaged_is_reported(void *argument)
{
    char *block = hide(malloc(100));
    (void)argument;
    for (int i = 100; i < 112; i++)
        block[i] = 1;
    memcpy(block + 90, "0123456789", 10);
}

static void damage_is_seen_by_the_next_copy(void **state)
{
    (void)state;
    static const char line[] = "valloc: memcpy: written to beyond its end, ";
    Child child = child_run(an_end_that_was_damaged_is_reported, NULL);
    assert_true(VALLOC_SECURE_CANARY == 0 || strncmp(child.text, line, sizeof line - 1) == 0);
}

/* ---- What the compiler knew ---- */

static void overflow_fortified(void *argument)
{
    char local[8];
    (void)argument;
    __memcpy_chk(local, hide(text), (size_t)(uintptr_t)hide((void *)9), sizeof local);
}

static void overflow_fortified_string(void *argument)
{
    char local[8] = "1234";
    (void)argument;
    __strcat_chk(local, hide("5678"), sizeof local);
}

static void fortified_copies_end_as_with_libc(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        Child child = child_run(i == 0 ? overflow_fortified : overflow_fortified_string, NULL);
        assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
        assert_null(strstr(child.text, "valloc"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_work_before_constructors),
        cmocka_unit_test(they_do_what_libc_does),
        cmocka_unit_test(whole_allocations_can_be_copied),
        cmocka_unit_test(deep_inside_large_runs_as_well),
        cmocka_unit_test(they_work_in_signal_handlers),
        cmocka_unit_test(what_leaves_an_allocation_is_reported),
        cmocka_unit_test(what_was_freed_is_reported),
        cmocka_unit_test(a_copy_into_the_next_large_run_is_stopped),
        cmocka_unit_test(damage_is_seen_by_the_next_copy),
        cmocka_unit_test(fortified_copies_end_as_with_libc),
    };
    if (!VALLOC_SECURE_COPIES)
        return 0;
    memset(text, 'x', sizeof text);
    return cmocka_run_group_tests_name("copies", tests, NULL, NULL);
}
