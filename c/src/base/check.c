/* check.c: the fatal report. Formats by hand into a buffer on the stack: stdio allocates, and
 * the heap can no longer be trusted. */
#include "base/check.h"

#include <stdlib.h>

#include "os/os.h"

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

/* Anchors of a page have small letters, hyphens for spaces, and no other signs. */
void va_report_hint(Report *report, const char *what)
{
    va_report_text(report, "; see docs/security.md#");
    for (; *what != '\0' && *what != ','; what++) {
        char letter[] = "-";
        if (*what == '\'')
            continue;
        if (*what != ' ')
            letter[0] = *what;
        if (*what >= 'A' && *what <= 'Z')
            letter[0] = (char)(*what + ('a' - 'A'));
        va_report_text(report, letter);
    }
}

static _Atomic(void (*)(const char *message, void *context)) report_handler;
static void *_Atomic report_context;

void va_report_to(void (*handler)(const char *message, void *context), void *context)
{
    atomic_store_explicit(&report_handler, NULL, memory_order_relaxed);
    atomic_store_explicit(&report_context, context, memory_order_relaxed);
    atomic_store_explicit(&report_handler, handler, memory_order_release); /* context first */
}

void va_report_abort(Report *report)
{
    va_thread_begin_report();
    /* It is called once: what it does wrong itself goes to stderr. */
    void (*handler)(const char *, void *) =
        atomic_exchange_explicit(&report_handler, NULL, memory_order_acquire);
    report->length = va_min(report->length, sizeof report->line - 1);
    if (handler != NULL) {
        report->line[report->length] = '\0';
        handler(report->line, atomic_load_explicit(&report_context, memory_order_relaxed));
        abort();
    }
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
    va_report_hint(&report, "broken invariant");
    va_report_abort(&report);
}

void va_corrupted(const char *function)
{
    Report report = {.length = 0};
    va_report_text(&report, "valloc: ");
    va_report_text(&report, function);
    va_report_text(&report, ": corrupted internal state");
    va_report_hint(&report, "corrupted internal state");
    va_report_abort(&report);
}
