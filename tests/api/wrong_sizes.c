/* wrong_sizes.c: frees blocks of all kinds with sizes that are not theirs, tells whether they are
 * free then, and whether it runs with more rights than its caller; closes stderr before the end, as
 * many programs do. For options.py. */
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

static size_t live(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats.live;
}

int main(void)
{
    static const size_t sizes[] = {24, 3000, 100000, 5 << 20};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    printf("privileged: %d\n", getauxval(AT_SECURE) != 0);
    fflush(stdout);
    size_t before = live();
    for (int i = 0; i < SIZES; i++) {
        void *block = valloc_malloc(sizes[i]);
        valloc_free_sized(block, sizes[(i + 1) % SIZES]);
        block = valloc_malloc(sizes[i]);
        valloc_free_aligned_sized(block, 4096, 3 * sizes[i]);
    }
    printf("left: %zu\n", live() - before);
    fflush(stdout);
    close(2);
    return 0;
}
