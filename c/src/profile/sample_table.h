/* sample_table.h: what a profile knows: samples that live, the call stacks that allocated them,
 * sums.
 *
 * One mapping of bounded arrays, filled from their start, of which only pages in use are resident.
 * Hash indexes with linear probing hold positions in these arrays, plus one; 0 is an empty place.
 *
 *   sample --> call stack --> locations (its frames: 4 bytes each) --> return addresses
 *                         --> label (the name of an allocator)
 *
 * Call stacks, locations and labels stay until the profile is started anew. What does not fit is
 * counted: samples whose call stack does not fit count for number 0; a live sample that does not
 * fit is `lost`. The caller holds a lock, or has a copy of its own. */
#ifndef VA_SAMPLE_TABLE_H
#define VA_SAMPLE_TABLE_H

#include "base/config.h"
#include "profile/weight.h"

typedef struct Sample {
    uintptr_t pointer;
    size_t size;           /* bytes that were asked for */
    double probability;    /* with which it was sampled */
    const void *allocator; /* whose it is; never followed */
    uint64_t time_ms;
    uint32_t stack, thread, class;
} Sample;

/* The sums at the peak are those of `live` then. That moment is called an epoch: a call stack that
 * has not changed since still has them in `live`. So a new peak costs nothing but a new epoch. */
typedef struct CallStack {
    uint64_t hash;
    uint32_t first, depth; /* its frames, the innermost first */
    uint32_t label;
    uint32_t epoch; /* of `peak` */
    Totals live, peak, all;
} CallStack;

#define VA_SAMPLE_TABLE_SAMPLE_PLACES (2 * VA_PROFILE_SAMPLES)
#define VA_SAMPLE_TABLE_STACK_PLACES (2 * VA_PROFILE_CALL_STACKS)
#define VA_SAMPLE_TABLE_LOCATION_PLACES (2 * VA_PROFILE_LOCATIONS)

typedef struct SampleTable {
    uint32_t samples_used, stacks_used, locations_used, frames_used, labels_used;
    uint32_t epoch;
    Totals live, peak, all;                 /* sums over all call stacks */
    Totals lost;                            /* of what did not fit when it was sampled */
    uint64_t lost_stacks;                   /* samples that count for number 0 for that reason */
    char program[VA_PROFILE_PROGRAM_BYTES]; /* the path of its file, when the profile started */
    char labels[VA_PROFILE_LABELS][VA_PROFILE_LABEL_BYTES]; /* the first one is empty */
    Sample samples[VA_PROFILE_SAMPLES];
    CallStack stacks[VA_PROFILE_CALL_STACKS];
    uintptr_t locations[VA_PROFILE_LOCATIONS]; /* return addresses */
    uint32_t frames[VA_PROFILE_FRAMES];        /* positions in locations */
    uint32_t sample_index[VA_SAMPLE_TABLE_SAMPLE_PLACES];
    uint32_t stack_index[VA_SAMPLE_TABLE_STACK_PLACES];
    uint32_t location_index[VA_SAMPLE_TABLE_LOCATION_PLACES];
} SampleTable;

/* Of zeroed memory. */
void va_sample_table_init(SampleTable *table);

/* The call stack with these return addresses and this label; 0 if it does not fit. */
uint32_t va_sample_table_call_stack(SampleTable *table, const char *label,
                                    const uintptr_t *addresses, size_t depth);

/* False if there is no room: the sample counts as allocated, but is not live. One with the same
 * pointer is replaced. */
bool va_sample_table_add(SampleTable *table, const Sample *sample);

/* False if no live sample has this pointer. */
bool va_sample_table_remove(SampleTable *table, uintptr_t pointer);
void va_sample_table_remove_allocator(SampleTable *table, const void *allocator);

/* The sums of a call stack at the peak. */
const Totals *va_sample_table_peak(const SampleTable *table, const CallStack *stack);

/* Copies all but the indexes. */
void va_sample_table_copy(SampleTable *to, const SampleTable *from);

#endif
