/* controls.h: the values that mallctl knows by name. */
#ifndef JEMALLOC_CONTROLS_H
#define JEMALLOC_CONTROLS_H

#include <stddef.h>
#include <stdint.h>

typedef struct Control Control;

/* The numbers in a name, at most two: "stats.arenas.0.bins.3.curregs" has 0 and 3. */
typedef size_t ControlIndex[2];

typedef enum ControlAccess {
    CONTROL_READ,
    CONTROL_READ_WRITE, /* the value that is read is the one before */
    CONTROL_REFRESH,    /* the same, but the one after */
    CONTROL_WRITE,
    CONTROL_WRITE_OR_NOTHING, /* without a value `write` gets 0 */
    CONTROL_COMMAND           /* has no value: `write` does it */
} ControlAccess;

struct Control {
    const char *name; /* N stands for a number */
    ControlAccess access;
    uint8_t bytes; /* of the value: 1, a bool; 4, unsigned; 8, another integer, or a string */
    /* Both return 0 or an error of mallctl. Without `read` the value is the constant. */
    int (*read)(const Control *control, const ControlIndex index, uint64_t *value);
    int (*write)(const ControlIndex index, uint64_t value);
    uint64_t constant; /* or what `read` needs to know */
    const char *text;  /* the constant, if it is a string */
};

/* All of them. */
extern const Control va_jemalloc_controls[];
extern const size_t va_jemalloc_controls_count;

#endif
