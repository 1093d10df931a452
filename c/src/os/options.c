/* options.c: reads the environment without libc's help: getenv may be replaced by the program,
 * and the first malloc can come before libc has set itself up. */
#include "os/options.h"

#include <limits.h>
#include <string.h>

#include "os/os.h"

extern char **environ;

Options va_options = {
    .purge_delay_ms = VA_PURGE_DELAY_MS,
    .reserve_bytes = VA_RESERVE_BYTES,
    .stats_file = VA_STDERR,
};

/* A choice if `unit` is 0: the value is the place among the names that are understood. Else a
 * number from `least` to `most`, which is multiplied by the unit; with no `most` it is a text,
 * which stays where it is. Arrays instead of pointers: they need no relocation when a program
 * starts. */
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
    CHOICE("VALLOC_STATS", stats, "0, 1, json"),
    CHOICE("VALLOC_BACKGROUND", background, "0, 1"),
    CHOICE("VALLOC_SHOW_LEAKS", show_leaks, "0, 1"),
    CHOICE("VALLOC_TOLERATE_SIZES", tolerate_sizes, "0, 1"),
    CHOICE("VALLOC_PROFILE_MODE", profile_mode, "live, all"),
    NUMBER("VALLOC_PROFILE", profile, "a file", 1, 0, 0),
    NUMBER("VALLOC_PROFILE_RATE", profile_rate, "bytes, at least 1", 1, 1, UINT64_MAX),
    NUMBER("VALLOC_STATS_FD", stats_file, "a file descriptor", 1, 0, INT_MAX),
    NUMBER("VALLOC_PURGE_DELAY_MS", purge_delay_ms, "milliseconds", 1, 0, UINT64_MAX),
    NUMBER("VALLOC_RESERVE_MIB", reserve_bytes, "8 to 1048576", VA_MIB,
           VA_RESERVE_MIN_BYTES / VA_MIB, VA_RESERVE_BYTES / VA_MIB),
    NUMBER("VALLOC_SOFT_LIMIT_MIB", soft_limit_bytes, "MiB, 0 for none", VA_MIB, 0, UINT64_MAX),
    NUMBER("VALLOC_HARD_LIMIT_MIB", hard_limit_bytes, "MiB, 0 for none", VA_MIB, 0, UINT64_MAX),
};

static VA_COLD void report(const char *text)
{
    va_os_report(text, strlen(text));
}

static VA_COLD bool parse_number(const struct Setting *setting, const char *text, uint64_t *value)
{
    uint64_t number = 0;
    if (*text == '\0')
        return false;
    if (setting->most == 0) {
        *value = (uint64_t)(uintptr_t)text;
        return true;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || number > (UINT64_MAX >> 24) / 10)
            return false;
        number = number * 10 + (uint64_t)(*text - '0');
    }
    if (number < setting->least || number > setting->most)
        return false;
    *value = number * setting->unit;
    return true;
}

static VA_COLD bool parse_choice(const struct Setting *setting, const char *text, uint64_t *value)
{
    const char *name = setting->understood;
    for (uint64_t place = 0; *name != '\0'; place++) {
        size_t length = strcspn(name, ",");
        if (strlen(text) == length && strncmp(text, name, length) == 0) {
            *value = place;
            return true;
        }
        name += length + strspn(name + length, ", ");
    }
    return false;
}

/* `text` is NAME=value. */
static VA_COLD void read_setting(const struct Setting *setting, const char *text)
{
    uint64_t *value = (uint64_t *)(void *)((char *)&va_options + setting->offset);
    size_t length = strlen(setting->name);
    if (strncmp(text, setting->name, length) != 0 || text[length] != '=')
        return;
    if (setting->unit == 0 ? parse_choice(setting, text + length + 1, value)
                           : parse_number(setting, text + length + 1, value))
        return;
    report("valloc: option ignored: ");
    report(text);
    report(" (understood: ");
    report(setting->understood);
    report(")\n");
}

VA_STARTUP void va_options_read(void)
{
    static VA_TABLE const char prefix[] = "VALLOC_";
    /* The kernel clears 2 MiB at a touch: 0.2 to 0.4 ms, on virtual machines up to 5. */
    if (va_os_is_real_time())
        va_options.huge_pages = HUGE_PAGES_NEVER;
    if (environ == NULL || va_os_is_privileged())
        return;
    for (char **text = environ; *text != NULL; text++)
        if (strncmp(*text, prefix, sizeof prefix - 1) == 0)
            for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
                read_setting(&settings[i], *text);
}
