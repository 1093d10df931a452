/* exit.c: what the environment asks to be told when the process exits. The last of the destructors:
 * those of the program and of other libraries may free memory. */
#include "os/options.h"
#include "os/os.h"
#include "report/print.h"
#include "thread/thread.h"

#include <string.h>

static VA_COLD void write_to_file(void *context, const char *text)
{
    (void)context;
    va_os_write((int)va_options.stats_file, text, strlen(text));
}

__attribute__((destructor(101))) static VA_STARTUP void tell_at_exit(void)
{
    if (va_options.stats != STATS_NONE && !va_thread_reports)
        va_print_stats((valloc_stats_format)(va_options.stats - STATS_TEXT), write_to_file, NULL);
}
