/* check.c: the fatal report. Formats by hand into a buffer on the stack: stdio allocates, and
 * the heap can no longer be trusted. */
#include "check.h"

#include <stdlib.h>

#include "os.h"

static size_t append(char *line, size_t length, size_t capacity, const char *text)
{
    while (*text != '\0' && length < capacity)
        line[length++] = *text++;
    return length;
}

static size_t append_hex(char *line, size_t length, size_t capacity, uintptr_t value)
{
    char digits[2 * sizeof value + 1];
    size_t i = sizeof digits;
    digits[--i] = '\0';
    do {
        digits[--i] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value != 0);
    return append(line, length, capacity, digits + i);
}

void va_fatal(const char *function, const char *what, const void *pointer)
{
    char line[256];
    size_t capacity = sizeof line - 1;
    size_t length = append(line, 0, capacity, "valloc: ");
    length = append(line, length, capacity, function);
    length = append(line, length, capacity, ": ");
    length = append(line, length, capacity, what);
    if (pointer != NULL) {
        length = append(line, length, capacity, " (pointer 0x");
        length = append_hex(line, length, capacity, (uintptr_t)pointer);
        length = append(line, length, capacity, ")");
    }
    line[length++] = '\n';
    va_os_report(line, length);
    abort();
}
