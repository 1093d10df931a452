/* sample_table.c: see sample_table.h. */
#include "profile/sample_table.h"

#include <string.h>

#include "base/check.h"
#include "base/probe.h"

/* Indexes are masked. */
static_assert(__builtin_popcountll(VA_PROFILE_SAMPLES) == 1, "a power of two");
static_assert(__builtin_popcountll(VA_PROFILE_CALL_STACKS) == 1, "a power of two");
static_assert(__builtin_popcountll(VA_PROFILE_LOCATIONS) == 1, "a power of two");

/* ---- Indexes ---- */

static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 32) * 0x9e3779b97f4a7c15u;
    return value ^ value >> 29;
}

typedef struct CallStackKey {
    const uintptr_t *addresses;
    size_t depth;
    uint32_t label;
    uint64_t hash;
} CallStackKey;

static bool is_sample(const SampleTable *table, uint32_t at, const void *pointer)
{
    return table->samples[at].pointer == *(const uintptr_t *)pointer;
}

static bool is_location(const SampleTable *table, uint32_t at, const void *address)
{
    return table->locations[at] == *(const uintptr_t *)address;
}

static bool is_stack(const SampleTable *table, uint32_t at, const void *wanted)
{
    const CallStackKey *key = wanted;
    const CallStack *stack = &table->stacks[at];
    if (stack->hash != key->hash || stack->depth != key->depth || stack->label != key->label)
        return false;
    for (uint32_t i = 0; i < stack->depth; i++)
        if (table->locations[table->frames[stack->first + i]] != key->addresses[i])
            return false;
    return true;
}

/* The place of the element that matches, or the empty one where it belongs. An index has twice as
 * many places as elements. */
static VA_COLD uint32_t *find_in_index(SampleTable *table, uint32_t *index, size_t places,
                                       uint64_t hash,
                                       bool (*matches)(const SampleTable *, uint32_t, const void *),
                                       const void *key)
{
    size_t place = hash & (places - 1);
    while (index[place] != 0 && !matches(table, index[place] - 1, key))
        place = (place + 1) & (places - 1);
    return &index[place];
}

static uint32_t *find_sample(SampleTable *table, uintptr_t pointer)
{
    return find_in_index(table, table->sample_index, VA_SAMPLE_TABLE_SAMPLE_PLACES, mix(pointer),
                         is_sample, &pointer);
}

/* Moves later elements of the same stretch up, so that each is still found from its first place. */
static VA_COLD void empty_place(SampleTable *table, const uint32_t *emptied)
{
    const size_t mask = VA_SAMPLE_TABLE_SAMPLE_PLACES - 1;
    uint32_t *index = table->sample_index;
    size_t hole = (size_t)(emptied - index);
    for (size_t place = (hole + 1) & mask; index[place] != 0; place = (place + 1) & mask) {
        size_t first = mix(table->samples[index[place] - 1].pointer) & mask;
        if (((place - first) & mask) >= ((place - hole) & mask)) {
            index[hole] = index[place];
            hole = place;
        }
    }
    index[hole] = 0;
}

/* ---- Call stacks ---- */

VA_COLD void va_sample_table_init(SampleTable *table)
{
    table->labels_used = 1;
    table->stacks_used = 1;
}

/* The position of a label, 0 if there is no room. */
static VA_COLD uint32_t find_label(SampleTable *table, const char *label)
{
    char text[VA_PROFILE_LABEL_BYTES] = {0};
    for (size_t i = 0; label != NULL && label[i] != '\0' && i < sizeof text - 1; i++)
        text[i] = label[i];
    for (uint32_t i = 0; i < table->labels_used; i++)
        if (memcmp(table->labels[i], text, sizeof text) == 0)
            return i;
    if (table->labels_used == VA_PROFILE_LABELS)
        return 0;
    memcpy(table->labels[table->labels_used], text, sizeof text);
    return table->labels_used++;
}

/* Appends the frames; false if there is no room for them, or for their locations. */
static VA_COLD bool append_frames(SampleTable *table, const uintptr_t *addresses, size_t depth)
{
    if (depth > VA_PROFILE_FRAMES - table->frames_used)
        return false;
    for (size_t i = 0; i < depth; i++) {
        uint32_t *place =
            find_in_index(table, table->location_index, VA_SAMPLE_TABLE_LOCATION_PLACES,
                          mix(addresses[i]), is_location, &addresses[i]);
        if (*place == 0) {
            if (table->locations_used == VA_PROFILE_LOCATIONS)
                return false;
            table->locations[table->locations_used++] = addresses[i];
            *place = table->locations_used;
        }
        table->frames[table->frames_used + i] = *place - 1;
    }
    table->frames_used += (uint32_t)depth;
    return true;
}

VA_COLD uint32_t va_sample_table_call_stack(SampleTable *table, const char *label,
                                            const uintptr_t *addresses, size_t depth)
{
    CallStackKey key = {addresses, depth, find_label(table, label), 0};
    key.hash = mix(key.label + 1);
    for (size_t i = 0; i < depth; i++)
        key.hash = mix(key.hash + addresses[i]);
    uint32_t *place = find_in_index(table, table->stack_index, VA_SAMPLE_TABLE_STACK_PLACES,
                                    key.hash, is_stack, &key);
    if (*place == 0) {
        uint32_t first = table->frames_used;
        if (table->stacks_used == VA_PROFILE_CALL_STACKS || !append_frames(table, addresses, depth))
            return 0;
        table->stacks[table->stacks_used++] = (CallStack){.hash = key.hash,
                                                          .first = first,
                                                          .depth = (uint32_t)depth,
                                                          .label = key.label,
                                                          .epoch = table->epoch};
        *place = table->stacks_used;
    }
    return *place - 1;
}

/* ---- Samples ---- */

/* Before its live sums change: keeps those of the peak. */
static VA_COLD CallStack *stack_to_change(SampleTable *table, uint32_t at)
{
    CallStack *stack = &table->stacks[at];
    stack->peak = *va_sample_table_peak(table, stack);
    stack->epoch = table->epoch;
    return stack;
}

VA_COLD const Totals *va_sample_table_peak(const SampleTable *table, const CallStack *stack)
{
    return stack->epoch == table->epoch ? &stack->peak : &stack->live;
}

/* OpenTelemetry's profiler reads the arguments of its probes from where functions get theirs. */
static VA_COLD void probe_added(uintptr_t pointer, size_t size, uint64_t weighted_bytes)
{
    VA_PROBE3(otel_memory, alloc, pointer, size, weighted_bytes);
}

static VA_COLD void probe_removed(uintptr_t pointer)
{
    VA_PROBE1(otel_memory, free, pointer);
}

static VA_COLD void remove_at(SampleTable *table, uint32_t *place)
{
    uint32_t at = *place - 1;
    const Sample sample = table->samples[at];
    probe_removed(sample.pointer);
    uint32_t last = table->samples_used - 1;
    va_weight_subtract(&stack_to_change(table, sample.stack)->live, sample.size,
                       sample.probability);
    va_weight_subtract(&table->live, sample.size, sample.probability);
    empty_place(table, place);
    if (at != last) {
        *find_sample(table, table->samples[last].pointer) = at + 1;
        table->samples[at] = table->samples[last];
    }
    table->samples_used = last;
}

VA_COLD bool va_sample_table_add(SampleTable *table, const Sample *sample)
{
    uint32_t *place = find_sample(table, sample->pointer);
    if (*place != 0) {
        remove_at(table, place);
        place = find_sample(table, sample->pointer);
    }
    CallStack *stack = stack_to_change(table, sample->stack);
    table->lost_stacks += sample->stack == 0;
    va_weight_add(&stack->all, sample->size, sample->probability);
    va_weight_add(&table->all, sample->size, sample->probability);
    if (table->samples_used == VA_PROFILE_SAMPLES) {
        va_weight_add(&table->lost, sample->size, sample->probability);
        return false;
    }
    table->samples[table->samples_used++] = *sample;
    *place = table->samples_used;
    va_weight_add(&stack->live, sample->size, sample->probability);
    va_weight_add(&table->live, sample->size, sample->probability);
    probe_added(sample->pointer, sample->size,
                (uint64_t)((double)sample->size / sample->probability));
    if (table->live.bytes > table->peak.bytes) {
        table->peak = table->live;
        table->epoch++;
    }
    return true;
}

VA_COLD bool va_sample_table_remove(SampleTable *table, uintptr_t pointer)
{
    uint32_t *place = find_sample(table, pointer);
    if (*place == 0)
        return false;
    remove_at(table, place);
    return true;
}

VA_COLD void va_sample_table_remove_allocator(SampleTable *table, const void *allocator)
{
    for (uint32_t i = table->samples_used; i > 0; i--) /* what takes a place was looked at */
        if (table->samples[i - 1].allocator == allocator)
            va_sample_table_remove(table, table->samples[i - 1].pointer);
}

VA_COLD void va_sample_table_copy(SampleTable *to, const SampleTable *from)
{
    memcpy(to, from, offsetof(SampleTable, samples));
    memcpy(to->samples, from->samples, from->samples_used * sizeof *from->samples);
    memcpy(to->stacks, from->stacks, from->stacks_used * sizeof *from->stacks);
    memcpy(to->locations, from->locations, from->locations_used * sizeof *from->locations);
    memcpy(to->frames, from->frames, from->frames_used * sizeof *from->frames);
}
