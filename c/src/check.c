/* check.c: the fatal report. Formats by hand into a buffer on the stack: stdio allocates, and
 * the heap can no longer be trusted. */
#include "check.h"

#include <stdlib.h>

#include "os.h"

void va_report_text(Report *report, const char *text)
{
    while (*text != '\0' && report->length < sizeof report->line)
        report->line[report->length++] = *text++;
}

void va_report_number(Report *report, uintptr_t value, unsigned base)
{
    char digits[3 * sizeof value + 1];
    size_t i = sizeof digits;
    digits[--i] = '\0';
    do {
        digits[--i] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    va_report_text(report, digits + i);
}

void va_report_abort(Report *report)
{
    report->length = va_min(report->length, sizeof report->line - 1);
    report->line[report->length++] = '\n';
    va_os_report(report->line, report->length);
    abort();
}

void va_broken_invariant(const char *function, const char *condition)
{
    Report report = {.length = 0};
    va_report_text(&report, "valloc: ");
    va_report_text(&report, function);
    va_report_text(&report, ": broken invariant: ");
    va_report_text(&report, condition);
    va_report_abort(&report);
}
