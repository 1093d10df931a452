/* test_profile.c: the profile's life, from several threads, and after fork; what the formats that
 * are text say. programs/profile.py reads dumps with the readers that they are made for. */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profile/profile.h"

static __attribute__((noinline)) bool sample(uintptr_t pointer, size_t size, double probability,
                                             const char *label)
{
    ProfileAllocation allocation = {.pointer = (const void *)pointer,
                                    .size = size,
                                    .probability = probability,
                                    .allocator = label,
                                    .label = label,
                                    .thread = 3,
                                    .class = 5};
    return va_profile_sample(&allocation, VA_STACK_CALLER);
}

typedef struct Text {
    size_t length;
    size_t rest; /* pieces that are taken */
    char bytes[1 << 20];
} Text;

/* A sink may allocate, and its allocations may be sampled. */
static bool append(void *context, const void *bytes, size_t count)
{
    Text *text = context;
    require(count != 0 && text->length + count < sizeof text->bytes);
    if (text->rest-- == 0)
        return false;
    memcpy(text->bytes + text->length, bytes, count);
    text->length += count;
    text->bytes[text->length] = '\0';
    sample(0x7000, 100, 1, NULL);
    va_profile_forget((const void *)0x7000);
    return true;
}

static bool dump(ProfileFormat format, Text *text)
{
    *text = (Text){.rest = SIZE_MAX};
    return va_profile_dump(format, append, text);
}

static Text text;

static void nothing_happens_before_a_start(void **state)
{
    (void)state;
    assert_int_equal(va_profile_rate(), 0);
    assert_false(sample(0x1000, 1, 1, NULL));
    assert_false(va_profile_forget((const void *)0x1000));
    va_profile_forget_allocator(&text);
    assert_false(dump(PROFILE_PPROF, &text));
    assert_int_equal(text.length, 0);
}

static int check_sample(const ProfileSample *shown, void *context)
{
    int *count = context;
    assert_int_equal((uintptr_t)shown->pointer % 0x1000, 0);
    assert_int_equal(shown->size, (uintptr_t)shown->pointer >> 12);
    assert_true(shown->objects == 4 && shown->bytes == 4 * (double)shown->size);
    assert_string_equal(shown->label, shown->size % 2 == 0 ? "even" : "");
    assert_int_equal(shown->thread, 3);
    assert_int_equal(shown->class, 5);
    assert_true(shown->depth > 0 && shown->stack[0] != 0);
    return --*count == 0 ? 7 : 0;
}

static void a_profile_starts_stops_and_starts_anew(void **state)
{
    (void)state;
    int count = 6; /* 5 samples */
    assert_true(va_profile_start(0, PROFILE_ALL, 0));
    assert_false(va_profile_start(4096, PROFILE_ALL, 0));
    assert_int_equal(va_profile_rate(), VA_PROFILE_RATE_BYTES);
    for (uintptr_t i = 1; i <= 10; i++)
        assert_true(sample(i << 12, i, 0.25, i % 2 == 0 ? "even" : NULL));
    for (uintptr_t i = 3; i < 8; i++) {
        assert_true(va_profile_forget((const void *)(i << 12)));
        assert_false(va_profile_forget((const void *)(i << 12)));
    }
    assert_int_equal(va_profile_visit(check_sample, &count), 0);
    assert_int_equal(count, 1);
    count = 3;
    assert_int_equal(va_profile_visit(check_sample, &count), 7);
    va_profile_stop();
    assert_int_equal(va_profile_rate(), 0);
    assert_false(sample(0x100000, 1, 1, NULL));
    assert_true(va_profile_forget((const void *)0x1000));
    assert_true(dump(PROFILE_TEXT, &text));
    assert_non_null(strstr(text.bytes, "a sample per 524288 bytes"));
    assert_non_null(strstr(text.bytes, "live: 0 KiB in 16 objects, standard error 0 KiB and 7"));
    assert_non_null(strstr(text.bytes, "allocator 'even'"));

    assert_true(va_profile_start(777, PROFILE_LIVE, 1));
    assert_false(va_profile_forget((const void *)0x2000));
    assert_true(dump(PROFILE_TEXT, &text));
    assert_non_null(strstr(text.bytes, "a sample per 777 bytes\nlive: 0 KiB in 0 objects"));
    va_profile_stop();
}

/* The last number of each line. */
static uint64_t sum_of_lines(const char *line)
{
    uint64_t sum = 0;
    while (*line != '\0') {
        const char *end = strchr(line, '\n');
        const char *space = end;
        while (*space != ' ')
            space--;
        sum += strtoull(space, NULL, 10);
        line = end + 1;
    }
    return sum;
}

/* Numbers are rounded once in all. */
static void assert_sum_of_lines(const char *lines, double expected)
{
    assert_true((double)sum_of_lines(lines) - expected < 2 &&
                expected - (double)sum_of_lines(lines) < 2);
}

static __attribute__((noinline)) void fill_from_here(uintptr_t first, double probability)
{
    for (uintptr_t i = 0; i < 100; i++)
        assert_true(sample(first + i * 16, 1000 + i, probability, i % 10 == 0 ? "ten;th" : NULL));
}

static void folded_stacks_add_up(void **state)
{
    (void)state;
    assert_true(va_profile_start(4096, PROFILE_ALL, 0));
    fill_from_here(0x10000, 0.3);
    fill_from_here(0x20000, 1);
    for (uintptr_t i = 0; i < 100; i += 2)
        va_profile_forget((const void *)(0x20000 + i * 16));
    double each = 1000.0 * 100 + 99.0 * 50;
    assert_true(dump(PROFILE_FOLDED_ALL, &text));
    assert_sum_of_lines(text.bytes, each / 0.3 + each);
    assert_true(dump(PROFILE_FOLDED_PEAK, &text));
    assert_sum_of_lines(text.bytes, each / 0.3 + each);
    assert_true(dump(PROFILE_FOLDED, &text));
    assert_sum_of_lines(text.bytes, each / 0.3 + each / 2 + 25);
    va_profile_stop();
}

/* Every piece may be the last one that the program wants. */
static void a_sink_may_end_a_dump(void **state)
{
    (void)state;
    assert_true(va_profile_start(4096, PROFILE_ALL, 0));
    fill_from_here(0x10000, 0.3);
    for (int format = PROFILE_PPROF; format <= PROFILE_TEXT; format++) {
        size_t pieces = 0;
        do {
            text = (Text){.rest = pieces++};
        } while (!va_profile_dump((ProfileFormat)format, append, &text));
        assert_in_range(pieces, 2, 20);
    }
    va_profile_stop();
}

static atomic_bool stop;

static void *sample_on(void *number)
{
    uint64_t seed = (uintptr_t)number + 20;
    uintptr_t start = ((uintptr_t)number + 1) << 32;
    while (!stop) {
        uintptr_t pointer = start + random_next(&seed) % 1000 * 16;
        if (random_next(&seed) % 2 == 0)
            sample(pointer, 100, 0.5, "thread");
        else
            va_profile_forget((const void *)pointer);
    }
    return NULL;
}

static int count_samples(const ProfileSample *shown, void *context)
{
    *(size_t *)context += shown->size == 100;
    return 0;
}

static void work_beside_threads(int turns)
{
    static Text own;
    for (int i = 0; i < turns; i++) {
        size_t count = 0;
        require(dump((ProfileFormat)(i % (PROFILE_TEXT + 1)), &own));
        va_profile_visit(count_samples, &count);
        va_profile_stop();
        va_profile_forget_allocator("none");
        require(va_profile_start(1000, PROFILE_ALL, (size_t)i % 5));
    }
}

/* ThreadSanitizer cannot follow a fork of a process with threads. */
static void threads_and_children_may_profile(void **state)
{
    (void)state;
    pthread_t threads[3];
    assert_true(va_profile_start(1000, PROFILE_ALL, 0));
    for (uintptr_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sample_on, (void *)i), 0);
    work_beside_threads(30);
    for (int i = 0; i < 20 && !VA_TSAN; i++) {
        int status;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alarm(60);
            require(sample(0x1000, 1, 1, NULL));
            work_beside_threads(2);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    va_profile_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_happens_before_a_start),
        cmocka_unit_test(a_profile_starts_stops_and_starts_anew),
        cmocka_unit_test(folded_stacks_add_up),
        cmocka_unit_test(a_sink_may_end_a_dump),
        cmocka_unit_test(threads_and_children_may_profile),
    };
    return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
