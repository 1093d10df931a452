/* cgroup.c: see cgroup.h. Version 2, and the memory controller of version 1.
 *
 * /proc/self/cgroup names the cgroup by its path in the hierarchy. Within a container that path may
 * lead nowhere, since the hierarchy's root is the container's own cgroup: what cannot be read has
 * no limit, and the root is the last parent in any case. */
#include "os/cgroup.h"

#include <string.h>

#include "base/config.h"

static const struct Hierarchy {
    char mark[12]; /* of its line, before the path */
    char root[24]; /* where it is mounted */
    char limits[2][24];
} hierarchies[] = {
    {"0::", "/sys/fs/cgroup", {"/memory.max", "/memory.high"}},
    {":memory:", "/sys/fs/cgroup/memory", {"/memory.limit_in_bytes", ""}},
};

/* The number in a file, UINT64_MAX if there is no such file or no limit: version 2 says "max" then,
 * version 1 a number near INT64_MAX. */
static VA_COLD uint64_t read_limit(CgroupRead *source, const char *path)
{
    char text[24];
    uint64_t number = 0;
    size_t length = source(path, text, sizeof text);
    size_t i = 0;
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text[i] - '0'), &number))
            return UINT64_MAX;
    return i != 0 && number < UINT64_MAX >> 2 ? number : UINT64_MAX;
}

/* The limit of a cgroup whose path this is, and of its parents. */
static VA_COLD uint64_t lowest(CgroupRead *source, const struct Hierarchy *hierarchy,
                               const char *cgroup, size_t length)
{
    char path[VA_CGROUP_PATH_BYTES];
    size_t root = strlen(hierarchy->root);
    uint64_t least = UINT64_MAX;
    if (length >= sizeof path - root - sizeof *hierarchy->limits)
        length = 0;
    memcpy(path, hierarchy->root, root);
    memcpy(path + root, cgroup, length);
    for (;;) {
        for (unsigned i = 0; i < 2 && hierarchy->limits[i][0] != '\0'; i++) {
            memcpy(path + root + length, hierarchy->limits[i], sizeof hierarchy->limits[i]);
            uint64_t limit = read_limit(source, path);
            least = limit < least ? limit : least;
        }
        if (length == 0)
            return least;
        while (length > 0 && path[root + --length] != '/')
            ;
    }
}

VA_COLD uint64_t va_cgroup_limit(CgroupRead *source)
{
    char text[VA_CGROUP_LIST_BYTES];
    uint64_t least = UINT64_MAX;
    size_t length = source("/proc/self/cgroup", text, sizeof text - 1);
    text[length] = '\0';
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        for (unsigned i = 0; i < sizeof hierarchies / sizeof *hierarchies; i++) {
            const char *mark = strstr(line, hierarchies[i].mark);
            if (mark == NULL)
                continue;
            const char *path = mark + strlen(hierarchies[i].mark);
            uint64_t limit = lowest(source, &hierarchies[i], path, (size_t)(end - path));
            least = limit < least ? limit : least;
        }
    }
    return least;
}
