/* options.c: reads what is compiled into the program, then the environment. Without libc's help:
 * getenv may be replaced by the program, and the first malloc can come before libc has set itself
 * up. */
#include "os/options.h"

#include <limits.h>
#include <string.h>

#include "os/cgroup.h"
#include "os/os.h"

extern char **environ;

/* Of the program, or nowhere: see valloc.h. */
extern const char *valloc_conf __attribute__((weak, visibility("default")));

Options va_options = {
    .purge_delay_ms = VA_PURGE_DELAY_MS,
    .reserve_bytes = VA_RESERVE_BYTES,
    .stats_file = VA_STDERR,
};

/* A choice if `unit` is 0: the value is the place among the names that are understood. Else a
 * number from `least` to `most`, which is multiplied by the unit; with no `most` it is a text: the
 * place of its first byte, where it stays, then its length. Arrays instead of pointers: they need
 * no relocation when a program starts. */
static const struct Setting {
    char name[24], understood[28];
    uint32_t offset, unit;
    uint64_t least, most;
} settings[] = {
#define CHOICE(name, field, understood)                                                            \
    {                                                                                              \
        name, understood, offsetof(Options, field), 0, 0, 0                                        \
    }
#define NUMBER(name, field, understood, unit, least, most)                                         \
    {                                                                                              \
        name, understood, offsetof(Options, field), unit, least, most                              \
    }
    CHOICE("VALLOC_HUGE_PAGES", huge_pages, "auto, always, never"),
    CHOICE("VALLOC_FOREIGN", foreign, "abort, forward, ignore"),
    CHOICE("VALLOC_STATS", stats, "0, 1, json, prometheus"),
    CHOICE("VALLOC_BACKGROUND", background, "0, 1"),
    CHOICE("VALLOC_CGROUP", cgroup, "0, 1"),
    CHOICE("VALLOC_SHOW_LEAKS", show_leaks, "0, 1"),
    CHOICE("VALLOC_TOLERATE_SIZES", tolerate_sizes, "0, 1"),
    CHOICE("VALLOC_PROFILE_MODE", profile_mode, "live, all"),
    NUMBER("VALLOC_PROFILE", profile, "a file", 1, 0, 0),
    NUMBER("VALLOC_PROFILE_RATE", profile_rate, "bytes, at least 1", 1, 1, UINT64_MAX),
    NUMBER("VALLOC_PROFILE_SIGNAL", profile_signal, "a signal's number, 1 to 64", 1, 1, 64),
    NUMBER("VALLOC_PROFILE_GROWTH", profile_growth, "bytes, at least 1", 1, 1, UINT64_MAX),
    NUMBER("VALLOC_STATS_FD", stats_file, "a file descriptor", 1, 0, INT_MAX),
    NUMBER("VALLOC_PURGE_DELAY_MS", purge_delay_ms, "milliseconds", 1, 0, UINT64_MAX),
    NUMBER("VALLOC_RESERVE_MIB", reserve_bytes, "8 to 1048576", VA_MIB,
           VA_RESERVE_MIN_BYTES / VA_MIB, VA_RESERVE_BYTES / VA_MIB),
    NUMBER("VALLOC_SOFT_LIMIT_MIB", soft_limit_bytes, "MiB, 0 for none", VA_MIB, 0, UINT64_MAX),
    NUMBER("VALLOC_HARD_LIMIT_MIB", hard_limit_bytes, "MiB, 0 for none", VA_MIB, 0, UINT64_MAX),
};

#define PREFIX "VALLOC_"
#define PREFIX_BYTES (sizeof PREFIX - 1)

static VA_COLD bool parse_number(const struct Setting *setting, const char *text, size_t length,
                                 uint64_t *value)
{
    uint64_t number = 0;
    if (length == 0)
        return false;
    if (setting->most == 0) {
        value[0] = (uint64_t)(uintptr_t)text;
        value[1] = length;
        return true;
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || number > (UINT64_MAX >> 24) / 10)
            return false;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    if (number < setting->least || number > setting->most)
        return false;
    *value = number * setting->unit;
    return true;
}

static VA_COLD bool parse_choice(const struct Setting *setting, const char *text, size_t length,
                                 uint64_t *value)
{
    const char *name = setting->understood;
    for (uint64_t place = 0; *name != '\0'; place++) {
        size_t bytes = strcspn(name, ",");
        if (bytes == length && strncmp(text, name, length) == 0) {
            *value = place;
            return true;
        }
        name += bytes + strspn(name + bytes, ", ");
    }
    return false;
}

static VA_COLD void report(const char *text)
{
    va_os_report(text, strlen(text));
}

static VA_COLD void ignore(const char *text, size_t length, const char *understood)
{
    report("valloc: option ignored: ");
    va_os_report(text, length);
    report(" (understood: ");
    report(understood);
    report(")\n");
}

/* How the names of settings are written: after the prefix in capitals, or without it. */
typedef enum Names { NAMES_IN_ENVIRONMENT, NAMES_IN_PROGRAM } Names;

/* The length of the text's part before the value, 0 if that is for another setting. */
static VA_COLD size_t match(const struct Setting *setting, Names names, const char *text,
                            size_t length)
{
    const char *name = setting->name + (names == NAMES_IN_PROGRAM ? PREFIX_BYTES : 0);
    size_t bytes = strlen(name);
    if (bytes >= length || text[bytes] != '=')
        return 0;
    for (size_t i = 0; i < bytes; i++) {
        int small = name[i] == '_' ? '_' : name[i] - 'A' + 'a';
        if (text[i] != (names == NAMES_IN_PROGRAM ? small : name[i]))
            return 0;
    }
    return bytes + 1;
}

/* The text is NAME=value. False if there is no such setting. */
static VA_COLD bool read_text(Names names, const char *text, size_t length)
{
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const struct Setting *setting = &settings[i];
        uint64_t *value = (uint64_t *)(void *)((char *)&va_options + setting->offset);
        size_t before = match(setting, names, text, length);
        if (before == 0)
            continue;
        if (!(setting->unit == 0 ? parse_choice(setting, text + before, length - before, value)
                                 : parse_number(setting, text + before, length - before, value)))
            ignore(text, length, setting->understood);
        return true;
    }
    return false;
}

static VA_COLD void read_program(const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        if (!read_text(NAMES_IN_PROGRAM, text, length))
            ignore(text, length, "what valloc-options(7) lists");
        text += length + (text[length] == ',');
    }
}

static VA_STARTUP void read_environment(void)
{
    static VA_TABLE const char prefix[] = PREFIX;
    if (environ == NULL || va_os_is_privileged())
        return;
    for (char **text = environ; *text != NULL; text++)
        if (strncmp(*text, prefix, PREFIX_BYTES) == 0)
            read_text(NAMES_IN_ENVIRONMENT, *text, strlen(*text));
}

static VA_COLD void follow_cgroup(void)
{
    uint64_t limit = va_cgroup_limit(va_os_read_file);
    if (limit == UINT64_MAX)
        return;
    limit -= limit / VA_CGROUP_LEFT;
    if (limit < va_options.soft_limit_bytes || va_options.soft_limit_bytes == 0)
        va_options.soft_limit_bytes = va_max(limit, VA_BLOCK_BYTES);
}

VA_STARTUP void va_options_read(void)
{
    /* The kernel clears 2 MiB at a touch: 0.2 to 0.4 ms, on virtual machines up to 5. */
    if (va_os_is_real_time())
        va_options.huge_pages = HUGE_PAGES_NEVER;
    if (va_unlikely(&valloc_conf != NULL) && valloc_conf != NULL)
        read_program(valloc_conf);
    read_environment();
    if (va_unlikely(va_options.cgroup))
        follow_cgroup();
}
