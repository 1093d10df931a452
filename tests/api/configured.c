/* configured.c: a program with options compiled in: tells which limit is in effect, then what a
 * function makes of it. Compiled with hidden symbols, as many programs are. For options.py. */
#include <stdio.h>
#include <sys/auxv.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

const char *valloc_conf =
    "hard_limit_mib=64,speed=11,background=maybe,VALLOC_STATS=1,,stats=1,purge_delay_ms=7";

static int is_limited(void)
{
    void *block = valloc_malloc((size_t)100 << 20);
    valloc_free(block);
    return block == NULL;
}

int main(void)
{
    printf("privileged: %d\n", getauxval(AT_SECURE) != 0);
    printf("limited: %d\n", is_limited());
    valloc_set_limits(valloc_process(), 0, 0);
    printf("then: %d\n", is_limited());
    return 0;
}
