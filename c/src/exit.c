/* exit.c: what the environment asks to be told when the process exits. The last of the destructors:
 * those of the program and of other libraries may free memory. */
#include "options.h"
#include "print.h"

__attribute__((destructor(101))) static VA_STARTUP void tell_at_exit(void)
{
    if (va_options.stats != STATS_NONE)
        va_print_stats(va_options.stats == STATS_JSON, NULL, NULL);
}
