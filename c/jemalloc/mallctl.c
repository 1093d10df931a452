/* mallctl.c: finds a value by its name or its numbers, and moves it in and out.
 *
 * The numbers of a name are one for each of its parts: the first is the control's place in the
 * table, those for an N in the name are what stands there, the others are 0. */
#include <errno.h>
#include <string.h>

#include "controls.h"
#include "valloc_jemalloc.h"

#define PARTS_MAX 8

/* ---- Names ---- */

static bool part_is_number(const char *pattern)
{
    return pattern[0] == 'N' && (pattern[1] == '.' || pattern[1] == '\0');
}

/* Reads a decimal number and moves on behind it; false if there is none. */
static bool take_number(const char **name, size_t *number)
{
    const char *digit = *name;
    *number = 0;
    for (; *digit >= '0' && *digit <= '9'; digit++)
        if (__builtin_mul_overflow(*number, (size_t)10, number) ||
            __builtin_add_overflow(*number, (size_t)(*digit - '0'), number))
            return false;
    bool found = digit != *name;
    *name = digit;
    return found;
}

/* Whether a name is that of a control; then also its numbers. */
static bool matches(const char *pattern, const char *name, size_t mib[PARTS_MAX], size_t *parts)
{
    *parts = 0;
    for (;;) {
        size_t number = 0;
        if (part_is_number(pattern)) {
            if (!take_number(&name, &number))
                return false;
            pattern++;
        } else {
            while (*pattern != '.' && *pattern != '\0')
                if (*pattern++ != *name++)
                    return false;
        }
        mib[(*parts)++] = number;
        if (*pattern != *name)
            return false;
        if (*pattern == '\0')
            return true;
        pattern++;
        name++;
    }
}

static const Control *find_name(const char *name, size_t mib[PARTS_MAX], size_t *parts)
{
    for (size_t i = 0; name != NULL && i < va_jemalloc_controls_count; i++) {
        if (matches(va_jemalloc_controls[i].name, name, mib, parts)) {
            mib[0] = i;
            return &va_jemalloc_controls[i];
        }
    }
    return NULL;
}

/* The same by numbers, and those that the control needs; NULL if they have another length. */
static const Control *find_mib(const size_t *mib, size_t length, ControlIndex index)
{
    if (mib == NULL || length == 0 || mib[0] >= va_jemalloc_controls_count)
        return NULL;
    const Control *control = &va_jemalloc_controls[mib[0]];
    size_t parts = 0;
    size_t numbers = 0;
    for (const char *part = control->name; part != NULL; parts++) {
        if (parts < length && part_is_number(part))
            index[numbers++] = mib[parts];
        part = strchr(part, '.');
        part = part == NULL ? NULL : part + 1;
    }
    return parts == length ? control : NULL;
}

/* ---- Values ---- */

static int deliver(const Control *control, const ControlIndex index, void *old_value,
                   size_t *old_bytes)
{
    uint64_t value = control->text != NULL ? (uintptr_t)control->text : control->constant;
    if (old_value == NULL || old_bytes == NULL)
        return 0;
    int error = control->read == NULL ? 0 : control->read(control, index, &value);
    if (error != 0)
        return error;
    size_t bytes = *old_bytes < control->bytes ? *old_bytes : control->bytes;
    memcpy(old_value, &value, bytes); /* the machine is little-endian */
    if (*old_bytes == control->bytes)
        return 0;
    *old_bytes = bytes;
    return EINVAL;
}

/* What the caller wants, as far as the control allows it. */
static int check(const Control *control, bool reads, const void *new_value, size_t new_bytes)
{
    bool writes = new_value != NULL || new_bytes != 0;
    switch (control->access) {
    case CONTROL_COMMAND:
        return reads || writes ? EPERM : 0;
    case CONTROL_READ:
        return writes ? EPERM : 0;
    case CONTROL_WRITE:
        if (!reads && new_value == NULL)
            return EINVAL;
        break;
    default:
        break;
    }
    bool write_only =
        control->access == CONTROL_WRITE || control->access == CONTROL_WRITE_OR_NOTHING;
    if (write_only && reads)
        return EPERM;
    return new_value != NULL && new_bytes != control->bytes ? EINVAL : 0;
}

static int write_value(const Control *control, const ControlIndex index, const void *new_value)
{
    uint64_t value = 0;
    bool always = control->access == CONTROL_COMMAND || control->access == CONTROL_WRITE_OR_NOTHING;
    if (new_value == NULL && !always)
        return 0;
    if (new_value != NULL)
        memcpy(&value, new_value, control->bytes);
    return control->write(index, value);
}

static int use(const Control *control, const ControlIndex index, void *old_value, size_t *old_bytes,
               const void *new_value, size_t new_bytes)
{
    bool reads = old_value != NULL || old_bytes != NULL;
    int error = check(control, reads, new_value, new_bytes);
    if (error != 0)
        return error;
    if (control->access == CONTROL_READ)
        return deliver(control, index, old_value, old_bytes);
    if (control->access == CONTROL_REFRESH) {
        error = write_value(control, index, new_value);
        return error != 0 ? error : deliver(control, index, old_value, old_bytes);
    }
    if (reads)
        error = deliver(control, index, old_value, old_bytes);
    return error != 0 ? error : write_value(control, index, new_value);
}

/* ---- jemalloc's functions ---- */

int mallctlbymib(const size_t *mib, size_t mib_length, void *old_value, size_t *old_bytes,
                 void *new_value, size_t new_bytes)
{
    ControlIndex index = {0};
    const Control *control = find_mib(mib, mib_length, index);
    return control == NULL ? ENOENT
                           : use(control, index, old_value, old_bytes, new_value, new_bytes);
}

int mallctl(const char *name, void *old_value, size_t *old_bytes, void *new_value, size_t new_bytes)
{
    size_t mib[PARTS_MAX];
    size_t parts;
    if (find_name(name, mib, &parts) == NULL)
        return ENOENT;
    return mallctlbymib(mib, parts, old_value, old_bytes, new_value, new_bytes);
}

int mallctlnametomib(const char *name, size_t *mib, size_t *mib_length)
{
    size_t found[PARTS_MAX];
    size_t parts;
    if (find_name(name, found, &parts) == NULL)
        return ENOENT;
    if (*mib_length > parts)
        *mib_length = parts;
    memcpy(mib, found, *mib_length * sizeof(*mib));
    return 0;
}
