/* profile_file.c: see profile_file.h. */
#include "api/profile_file.h"

#include <stdlib.h>
#include <string.h>

#include "api/sampling.h"
#include "heap/background.h"
#include "os/options.h"
#include "os/os.h"

atomic_bool va_profile_file_wanted;

/* Copied: programs write to their environment. */
static char file_name[VA_PROFILE_FILE_BYTES];

/* Relaxed: of samples, when a file was last wanted for growth. */
static _Atomic uint64_t peak_bytes;

typedef struct Path {
    size_t length;
    char text[VA_PROFILE_FILE_BYTES + 32];
} Path;

static VA_COLD void append_number(Path *path, uint64_t number)
{
    Report digits = {.length = 0};
    va_report_number(&digits, number, 10);
    size_t length = va_min(digits.length, sizeof path->text - 1 - path->length);
    memcpy(path->text + path->length, digits.line, length);
    path->length += length;
}

/* With the process id for each %p: after a fork there are several processes. Then a point and the
 * number, unless that is 0. */
static VA_COLD void expand(Path *path, uint64_t number)
{
    *path = (Path){.length = 0};
    for (const char *from = file_name; *from != '\0' && path->length < sizeof file_name; from++) {
        if (from[0] == '%' && from[1] == 'p') {
            append_number(path, va_os_process_id());
            from++;
        } else {
            path->text[path->length++] = *from;
        }
    }
    if (number != 0) {
        path->text[path->length++] = '.';
        append_number(path, number);
    }
}

static VA_COLD bool append_to_file(void *descriptor, const void *bytes, size_t count)
{
    va_os_write(*(const int *)descriptor, bytes, count);
    return true;
}

static VA_COLD void dump(uint64_t number)
{
    Path path;
    expand(&path, number);
    int descriptor = va_thread_reports ? -1 : va_os_create(path.text);
    if (descriptor < 0)
        return;
    va_profile_dump(PROFILE_PPROF, append_to_file, &descriptor);
    va_os_close(descriptor);
}

VA_COLD void va_profile_file_write(void)
{
    static _Atomic uint64_t files; /* relaxed: each gets another number */
    if (atomic_exchange_explicit(&va_profile_file_wanted, false, memory_order_relaxed))
        dump(atomic_fetch_add_explicit(&files, 1, memory_order_relaxed) + 1);
}

VA_COLD void va_profile_file_grow(void)
{
    if (va_likely(va_options.profile_growth == 0) || file_name[0] == '\0')
        return;
    uint64_t peak = atomic_load_explicit(&peak_bytes, memory_order_relaxed);
    uint64_t bytes = va_profile_live_bytes();
    if (bytes >= peak + va_options.profile_growth &&
        atomic_compare_exchange_strong_explicit(&peak_bytes, &peak, bytes, memory_order_relaxed,
                                                memory_order_relaxed))
        atomic_store_explicit(&va_profile_file_wanted, true, memory_order_relaxed);
}

static void want_by_signal(int signal)
{
    (void)signal;
    atomic_store_explicit(&va_profile_file_wanted, true, memory_order_relaxed);
}

static VA_COLD void dump_at_exit(void)
{
    dump(0);
}

/* Before main, so that the handler of the exit runs after the program's own, and the program may
 * still handle the signal in its own way. */
__attribute__((constructor(103))) static VA_STARTUP void start_by_option(void)
{
    static const char refused[] = "valloc: VALLOC_PROFILE_SIGNAL: a signal that has no handlers\n";
    const char *name = va_options.profile;
    if (va_likely(name == NULL) || va_options.profile_bytes >= sizeof file_name ||
        va_sampling_start(va_options.profile_rate, (ProfileMode)va_options.profile_mode) != 0)
        return;
    memcpy(file_name, name, va_options.profile_bytes);
    atexit(dump_at_exit);
    if (va_options.profile_signal == 0)
        return;
    if (va_os_handle((int)va_options.profile_signal, want_by_signal))
        va_background_send(va_profile_file_write);
    else
        va_os_report(refused, sizeof refused - 1);
}
