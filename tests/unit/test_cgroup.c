/* test_cgroup.c: the limit of a cgroup by files that this test makes up. */
#include "support.h"

#include "os/cgroup.h"

#define MIB ((uint64_t)1 << 20)
#define LIST "/proc/self/cgroup"
#define V2 "/sys/fs/cgroup"
#define V1 "/sys/fs/cgroup/memory"

typedef struct File {
    const char *path, *text;
} File;

static const File *files; /* ends with a NULL */
static unsigned reads;

static size_t read_file(const char *path, char *buffer, size_t bytes)
{
    reads++;
    for (const File *file = files; file->path != NULL; file++) {
        if (strcmp(file->path, path) != 0)
            continue;
        size_t length = strlen(file->text);
        length = length < bytes ? length : bytes;
        memcpy(buffer, file->text, length);
        return length;
    }
    return 0;
}

static uint64_t limit_of(const File *list)
{
    files = list;
    reads = 0;
    return va_cgroup_limit(read_file);
}

#define LIMIT(...) limit_of((const File[]){__VA_ARGS__, {NULL, NULL}})
#define NONE UINT64_MAX

static void no_files_no_limit(void **state)
{
    (void)state;
    assert_int_equal(LIMIT({"/else", "1\n"}), NONE);
    assert_int_equal(reads, 1);
    assert_int_equal(LIMIT({LIST, ""}), NONE);
    assert_int_equal(LIMIT({LIST, "0::/"}), NONE); /* cut off */
    assert_int_equal(LIMIT({LIST, "0::/\n"}), NONE);
    assert_int_equal(LIMIT({LIST, "nonsense\n\n:::\n"}), NONE);
}

static void lowest_of_all_counts(void **state)
{
    const File a_b = {LIST, "0::/a.slice/b\n"};
    (void)state;
    assert_int_equal(
        LIMIT(a_b, {V2 "/a.slice/b/memory.max", "max\n"}, {V2 "/a.slice/b/memory.high", "max\n"}),
        NONE);
    assert_int_equal(LIMIT(a_b, {V2 "/a.slice/b/memory.max", "104857600\n"}), 100 * MIB);
    assert_int_equal(LIMIT(a_b, {V2 "/a.slice/b/memory.max", "104857600\n"},
                           {V2 "/a.slice/b/memory.high", "52428800\n"}),
                     50 * MIB);
    assert_int_equal(LIMIT(a_b, {V2 "/a.slice/b/memory.max", "104857600\n"},
                           {V2 "/a.slice/memory.max", "10485760\n"}),
                     10 * MIB);
    assert_int_equal(LIMIT(a_b, {V2 "/memory.max", "1048576"}, {V2 "/a/memory.max", "1\n"}), MIB);
    assert_int_equal(reads, 1 + 2 * 3);
    assert_int_equal(LIMIT(a_b, {V2 "/memory.max", "0\n"}), 0);
}

/* The host's path, where the root is the container's own cgroup. */
static void path_may_lead_nowhere(void **state)
{
    (void)state;
    assert_int_equal(LIMIT({LIST, "0::/../x\n"}, {V2 "/memory.max", "2097152\n"}), 2 * MIB);
    assert_int_equal(LIMIT({LIST, "0::/docker/0123\n"}, {V2 "/memory.max", "2097152\n"}), 2 * MIB);
    assert_int_equal(LIMIT({LIST, "0::\n"}, {V2 "/memory.max", "2097152\n"}), 2 * MIB);
}

static void version_one_counts(void **state)
{
    const File both = {LIST, "5:cpu,cpuacct:/\n4:memory:/x/y\n0::/\n"};
    (void)state;
    assert_int_equal(LIMIT(both, {V1 "/memory.limit_in_bytes", "9223372036854771712\n"}), NONE);
    assert_int_equal(LIMIT(both, {V1 "/x/y/memory.limit_in_bytes", "9223372036854771712\n"},
                           {V1 "/x/memory.limit_in_bytes", "4194304\n"},
                           {V1 "/memory.limit_in_bytes", "9223372036854771712\n"}),
                     4 * MIB);
    assert_int_equal(
        LIMIT(both, {V1 "/memory.limit_in_bytes", "4194304\n"}, {V2 "/memory.high", "3145728\n"}),
        3 * MIB);
}

static void wrong_numbers_are_none(void **state)
{
    (void)state;
    assert_int_equal(LIMIT({LIST, "0::/\n"}, {V2 "/memory.max", "\n"}), NONE);
    assert_int_equal(LIMIT({LIST, "0::/\n"}, {V2 "/memory.max", "-5\n"}), NONE);
    assert_int_equal(LIMIT({LIST, "0::/\n"}, {V2 "/memory.max", "99999999999999999999999\n"}),
                     NONE);
}

/* Of any length: up to the bound it is followed, beyond that the root alone counts. */
static void long_path_is_harmless(void **state)
{
    static char list[8192], path[8192];
    (void)state;
    for (size_t length = 1; length < 4500; length++) {
        memset(list, 'x', sizeof list);
        memcpy(list, "0::/", 4);
        strcpy(list + 4 + length, "\n");
        strcpy(path, V2);
        memcpy(path + strlen(V2), list + 3, length + 1);
        strcpy(path + strlen(V2) + 1 + length, "/memory.max");
        uint64_t limit = LIMIT({LIST, list}, {path, "1048576\n"}, {V2 "/memory.max", "2097152\n"});
        assert_true(limit == MIB || (length > 900 && (limit == 2 * MIB || limit == NONE)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_files_no_limit),      cmocka_unit_test(lowest_of_all_counts),
        cmocka_unit_test(path_may_lead_nowhere),  cmocka_unit_test(version_one_counts),
        cmocka_unit_test(wrong_numbers_are_none), cmocka_unit_test(long_path_is_harmless),
    };
    return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
