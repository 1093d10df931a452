/* dump_pprof.c: pprof's profile.proto, uncompressed.
 *
 * Messages within the profile are put together in a small buffer, since their length precedes them.
 * A stack has a sample with what it allocated and what it held at the peak; each live sample has
 * one of its own, with its size, thread, class and age. Readers add them up. */
#include "profile/dump.h"

#include <string.h>

#include "base/check.h"

/* ---- Encoding ---- */

/* A field is its number and kind, then a number of 7 bits a byte, or a length and bytes. */
enum { KIND_NUMBER = 0, KIND_BYTES = 2 };

typedef struct Message {
    size_t length;
    unsigned char bytes[VA_PROFILE_MESSAGE_BYTES];
} Message;

/* The largest: a sample with its locations (3 bytes each), 6 values (10) and 5 labels (48). */
static_assert(3 * VA_PROFILE_DEPTH_MAX + 300 <= VA_PROFILE_MESSAGE_BYTES &&
                  VA_PROFILE_LOCATIONS <= 1 << 21,
              "messages fit");

static VA_COLD void add_varint(Message *message, uint64_t value)
{
    for (; value > 127; value >>= 7)
        message->bytes[message->length++] = (unsigned char)(value | 128);
    message->bytes[message->length++] = (unsigned char)value;
}

static VA_COLD void add_field(Message *message, unsigned field, uint64_t value)
{
    add_varint(message, field << 3 | KIND_NUMBER);
    add_varint(message, value);
}

static VA_COLD void add_message(Message *message, unsigned field, const Message *inner)
{
    add_varint(message, field << 3 | KIND_BYTES);
    add_varint(message, inner->length);
    memcpy(message->bytes + message->length, inner->bytes, inner->length);
    message->length += inner->length;
}

static VA_COLD void put_bytes(Dump *dump, unsigned field, const void *bytes, size_t count)
{
    Message head = {.length = 0};
    add_varint(&head, field << 3 | KIND_BYTES);
    add_varint(&head, count);
    va_dump_bytes(dump, head.bytes, head.length);
    va_dump_bytes(dump, bytes, count);
}

static VA_COLD void put_message(Dump *dump, unsigned field, const Message *message)
{
    put_bytes(dump, field, message->bytes, message->length);
}

static VA_COLD void put_field(Dump *dump, unsigned field, uint64_t value)
{
    Message message = {.length = 0};
    add_field(&message, field, value);
    va_dump_bytes(dump, message.bytes, message.length);
}

/* ---- Strings ---- */

/* The fields of a profile. */
enum {
    SAMPLE_TYPE = 1,
    SAMPLE,
    MAPPING,
    LOCATION,
    STRING_TABLE = 6,
    PERIOD_TYPE = 11,
    PERIOD,
    COMMENT,
    DEFAULT_SAMPLE_TYPE
};

/* Strings are named by their position in the string table. The types of values come first, as pairs
 * of a name and a unit, in the order of the values. */
static const char fixed_strings[] = "\0alloc_objects\0count\0alloc_space\0bytes\0inuse_objects\0"
                                    "inuse_space\0peak_objects\0peak_space\0space\0allocator\0"
                                    "thread\0class\0age\0milliseconds\0";
enum {
    ALLOC_OBJECTS = 1,
    COUNT,
    ALLOC_SPACE,
    BYTES,
    INUSE_OBJECTS,
    INUSE_SPACE,
    PEAK_OBJECTS,
    PEAK_SPACE,
    SPACE,
    ALLOCATOR,
    THREAD,
    CLASS,
    AGE,
    MILLISECONDS,
    FIXED_STRINGS
};

static const unsigned char value_names[] = {ALLOC_OBJECTS, ALLOC_SPACE,  INUSE_OBJECTS,
                                            INUSE_SPACE,   PEAK_OBJECTS, PEAK_SPACE};
#define VALUES sizeof value_names

static VA_COLD void put_type(Dump *dump, unsigned field, unsigned name, unsigned unit)
{
    Message type = {.length = 0};
    add_field(&type, 1, name);
    add_field(&type, 2, unit);
    put_message(dump, field, &type);
}

/* Behind the fixed strings: labels, then a path and a build id for each module, then comments. */
static VA_COLD void put_strings(Dump *dump)
{
    for (size_t at = 0; at < sizeof fixed_strings - 1; at += strlen(fixed_strings + at) + 1)
        put_bytes(dump, STRING_TABLE, fixed_strings + at, strlen(fixed_strings + at));
    for (uint32_t i = 0; i < dump->table.labels_used; i++)
        put_bytes(dump, STRING_TABLE, dump->table.labels[i], strlen(dump->table.labels[i]));
    for (uint32_t i = 0; i < dump->modules.count; i++) {
        const Module *module = &dump->modules.list[i];
        const char *path = dump->modules.paths + module->path;
        char digits[2 * VA_PROFILE_BUILD_ID_BYTES];
        for (size_t k = 0; k < module->build_id_bytes; k++) {
            digits[2 * k] = "0123456789abcdef"[module->build_id[k] >> 4];
            digits[2 * k + 1] = "0123456789abcdef"[module->build_id[k] & 15];
        }
        put_bytes(dump, STRING_TABLE, path, strlen(path));
        put_bytes(dump, STRING_TABLE, digits, (size_t)module->build_id_bytes * 2);
    }
}

static VA_COLD void put_comment(Dump *dump, uint32_t *comments, const char *name, double value)
{
    Report line = {.length = 0};
    uint32_t string = FIXED_STRINGS + dump->table.labels_used + 2 * dump->modules.count;
    va_report_text(&line, name);
    va_report_number(&line, (uint64_t)(value + 0.5), 10);
    put_bytes(dump, STRING_TABLE, line.line, line.length);
    put_field(dump, COMMENT, string + (*comments)++);
}

/* What the sums are worth. */
static VA_COLD void put_comments(Dump *dump)
{
    const SampleTable *table = &dump->table;
    uint32_t comments = 0;
    put_comment(dump, &comments,
                "standard error of inuse_objects: ", va_weight_root(table->live.objects_variance));
    put_comment(dump, &comments, "standard error of inuse_space, bytes: ",
                va_weight_root(table->live.bytes_variance));
    if (dump->mode == PROFILE_ALL) {
        put_comment(dump, &comments, "standard error of alloc_objects: ",
                    va_weight_root(table->all.objects_variance));
        put_comment(dump, &comments, "standard error of alloc_space, bytes: ",
                    va_weight_root(table->all.bytes_variance));
    }
    put_comment(dump, &comments,
                "samples not followed for lack of room: ", (double)table->lost.samples);
    put_comment(dump, &comments,
                "samples without a stack for lack of room: ", (double)table->lost_stacks);
}

/* ---- Samples ---- */

/* One with a string, or a number and its unit. */
static VA_COLD void add_label(Message *sample, unsigned key, uint64_t string, uint64_t number,
                              unsigned unit)
{
    Message label = {.length = 0};
    add_field(&label, 1, key);
    if (string != 0)
        add_field(&label, 2, string);
    else
        add_field(&label, 3, number);
    if (unit != 0)
        add_field(&label, 4, unit);
    add_message(sample, 3, &label);
}

static VA_COLD Message begin_sample(const Dump *dump, const CallStack *stack,
                                    const uint64_t values[VALUES])
{
    Message sample = {.length = 0};
    Message part = {.length = 0};
    for (uint32_t i = 0; i < stack->depth; i++)
        add_varint(&part, dump->table.frames[stack->first + i] + 1);
    add_message(&sample, 1, &part);
    part.length = 0;
    for (size_t i = 0; i < VALUES; i++)
        add_varint(&part, values[i]);
    add_message(&sample, 2, &part);
    if (stack->label != 0)
        add_label(&sample, ALLOCATOR, FIXED_STRINGS + stack->label, 0, 0);
    return sample;
}

static VA_COLD void put_stacks(Dump *dump)
{
    double rest[4] = {0};
    for (uint32_t i = 0; i < dump->table.stacks_used; i++) {
        const CallStack *stack = &dump->table.stacks[i];
        const Totals *peak = va_sample_table_peak(&dump->table, stack);
        uint64_t values[VALUES] = {0};
        if (dump->mode == PROFILE_ALL) {
            values[0] = va_dump_whole(&rest[0], stack->all.objects);
            values[1] = va_dump_whole(&rest[1], stack->all.bytes);
        }
        values[4] = va_dump_whole(&rest[2], peak->objects);
        values[5] = va_dump_whole(&rest[3], peak->bytes);
        Message sample = begin_sample(dump, stack, values);
        if (values[1] != 0 || values[5] != 0)
            put_message(dump, SAMPLE, &sample);
    }
}

static VA_COLD void put_samples(Dump *dump)
{
    for (uint32_t i = 0; i < dump->table.samples_used; i++) {
        const Sample *live = &dump->table.samples[i];
        double *rest = dump->rest[live->stack];
        uint64_t values[VALUES] = {0};
        values[2] = va_dump_whole(&rest[0], 1 / live->probability);
        values[3] = va_dump_whole(&rest[1], (double)live->size / live->probability);
        Message sample = begin_sample(dump, &dump->table.stacks[live->stack], values);
        add_label(&sample, BYTES, 0, live->size, BYTES);
        add_label(&sample, THREAD, 0, live->thread, 0);
        add_label(&sample, CLASS, 0, live->class, 0);
        add_label(&sample, AGE, 0, dump->now_ms - live->time_ms, MILLISECONDS);
        put_message(dump, SAMPLE, &sample);
    }
}

/* ---- Code ---- */

static VA_COLD void put_modules(Dump *dump)
{
    for (uint32_t i = 0; i < dump->modules.count; i++) {
        const Module *module = &dump->modules.list[i];
        uint32_t string = FIXED_STRINGS + dump->table.labels_used + 2 * i;
        Message mapping = {.length = 0};
        add_field(&mapping, 1, i + 1);
        add_field(&mapping, 2, module->start);
        add_field(&mapping, 3, module->end);
        add_field(&mapping, 4, module->offset);
        add_field(&mapping, 5, string);
        add_field(&mapping, 6, string + 1);
        put_message(dump, MAPPING, &mapping);
    }
}

/* The address of a call lies before that to which it returns. */
static VA_COLD void put_locations(Dump *dump)
{
    for (uint32_t i = 0; i < dump->table.locations_used; i++) {
        uintptr_t address = dump->table.locations[i] - 1;
        const Module *module = va_modules_find(&dump->modules, address);
        Message location = {.length = 0};
        add_field(&location, 1, i + 1);
        if (module != NULL)
            add_field(&location, 2, (uint64_t)(module - dump->modules.list) + 1);
        add_field(&location, 3, address);
        put_message(dump, LOCATION, &location);
    }
}

VA_COLD void va_dump_pprof(Dump *dump, ProfileFormat format)
{
    for (size_t i = 0; i < VALUES; i++)
        put_type(dump, SAMPLE_TYPE, value_names[i], i % 2 == 0 ? COUNT : BYTES);
    put_stacks(dump);
    put_samples(dump);
    put_modules(dump);
    put_locations(dump);
    put_strings(dump);
    put_type(dump, PERIOD_TYPE, SPACE, BYTES);
    put_field(dump, PERIOD, dump->rate);
    put_comments(dump);
    put_field(dump, DEFAULT_SAMPLE_TYPE, format == PROFILE_PPROF_ALL ? ALLOC_SPACE : INUSE_SPACE);
}
