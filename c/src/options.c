/* options.c: reads the environment without libc's help: getenv may be replaced by the program,
 * and the first malloc can come before libc has set itself up. */
#include "options.h"

#include <limits.h>
#include <string.h>

#include "os.h"

extern char **environ;

Options va_options = {
    .huge_pages = HUGE_PAGES_AUTO,
    .purge_delay_ms = VA_PURGE_DELAY_MS,
    .reserve_bytes = VA_RESERVE_BYTES,
    .stats_file = VA_STDERR,
};

static VA_COLD void report(const char *text)
{
    va_os_report(text, strlen(text));
}

static VA_COLD void reject(const char *setting, const char *understood)
{
    report("valloc: option ignored: ");
    report(setting);
    report(" (understood: ");
    report(understood);
    report(")\n");
}

static VA_COLD bool parse_number(const char *text, uint64_t *value)
{
    uint64_t number = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || number > (UINT64_MAX >> 24) / 10)
            return false;
        number = number * 10 + (uint64_t)(*text - '0');
    }
    *value = number;
    return true;
}

/* Which of the names the text is; false if it is none of them. */
static VA_COLD bool parse_name(const char *text, const char *const names[3], unsigned *which)
{
    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0) {
            *which = i;
            return true;
        }
    }
    return false;
}

static VA_COLD bool parse_stats(const char *text, StatsOption *stats)
{
    bool json = strcmp(text, "json") == 0;
    if (!json && strcmp(text, "0") != 0 && strcmp(text, "1") != 0)
        return false;
    *stats = json ? STATS_JSON : *text == '1' ? STATS_TEXT : STATS_NONE;
    return true;
}

static VA_COLD void read_switch(const char *setting, const char *value, bool *on)
{
    uint64_t number;
    if (!parse_number(value, &number) || number > 1)
        reject(setting, "0, 1");
    else
        *on = number == 1;
}

/* The value if `setting` is NAME=value for this name, else NULL. */
static VA_COLD const char *value_of(const char *setting, const char *name)
{
    size_t length = strlen(name);
    return strncmp(setting, name, length) == 0 && setting[length] == '=' ? setting + length + 1
                                                                         : NULL;
}

static VA_COLD void read_setting(const char *setting)
{
    static const char *const huge_pages[] = {"auto", "always", "never"};
    static const char *const foreign[] = {"abort", "forward", "ignore"};
    const char *value;
    uint64_t number;
    unsigned which;
    if ((value = value_of(setting, "VALLOC_HUGE_PAGES")) != NULL) {
        if (!parse_name(value, huge_pages, &which))
            reject(setting, "auto, always, never");
        else
            va_options.huge_pages = (HugePages)which;
    } else if ((value = value_of(setting, "VALLOC_FOREIGN")) != NULL) {
        if (!parse_name(value, foreign, &which))
            reject(setting, "abort, forward, ignore");
        else
            va_options.foreign = (Foreign)which;
    } else if ((value = value_of(setting, "VALLOC_PURGE_DELAY_MS")) != NULL) {
        if (!parse_number(value, &va_options.purge_delay_ms))
            reject(setting, "milliseconds");
    } else if ((value = value_of(setting, "VALLOC_RESERVE_MIB")) != NULL) {
        if (!parse_number(value, &number) || number * VA_MIB < VA_RESERVE_MIN_BYTES ||
            number * VA_MIB > VA_RESERVE_BYTES)
            reject(setting, "8 to 1048576");
        else
            va_options.reserve_bytes = (size_t)number * VA_MIB;
    } else if ((value = value_of(setting, "VALLOC_SOFT_LIMIT_MIB")) != NULL) {
        if (!parse_number(value, &number))
            reject(setting, "MiB, 0 for none");
        else
            va_options.soft_limit_bytes = (size_t)number * VA_MIB;
    } else if ((value = value_of(setting, "VALLOC_HARD_LIMIT_MIB")) != NULL) {
        if (!parse_number(value, &number))
            reject(setting, "MiB, 0 for none");
        else
            va_options.hard_limit_bytes = (size_t)number * VA_MIB;
    } else if ((value = value_of(setting, "VALLOC_STATS")) != NULL) {
        if (!parse_stats(value, &va_options.stats))
            reject(setting, "0, 1, json");
    } else if ((value = value_of(setting, "VALLOC_STATS_FD")) != NULL) {
        if (!parse_number(value, &number) || number > INT_MAX)
            reject(setting, "a file descriptor");
        else
            va_options.stats_file = (int)number;
    } else if ((value = value_of(setting, "VALLOC_BACKGROUND")) != NULL) {
        read_switch(setting, value, &va_options.background);
    } else if ((value = value_of(setting, "VALLOC_SHOW_LEAKS")) != NULL) {
        read_switch(setting, value, &va_options.show_leaks);
    } else if ((value = value_of(setting, "VALLOC_TOLERATE_SIZES")) != NULL) {
        read_switch(setting, value, &va_options.tolerate_sizes);
    }
}

VA_STARTUP void va_options_read(void)
{
    static VA_TABLE const char prefix[] = "VALLOC_";
    if (environ == NULL || va_os_is_privileged())
        return;
    for (char **setting = environ; *setting != NULL; setting++)
        if (strncmp(*setting, prefix, sizeof prefix - 1) == 0)
            read_setting(*setting);
}
