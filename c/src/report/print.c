/* print.c: tables, JSON and metrics, line by line in a buffer of its own: stdio allocates. */
#include "report/print.h"

#include <string.h>

#include "base/check.h"
#include "table/meta.h"
#include "os/os.h"
#include "report/stats.h"

typedef struct Printer {
    Report line;
    Emit *emit;
    void *context;
    bool follows; /* an element of an array follows another */
} Printer;

static VA_COLD void emit_to_stderr(void *context, const char *text)
{
    (void)context;
    va_os_report(text, strlen(text));
}

static VA_COLD Printer start(Emit *emit, void *context)
{
    return (Printer){.emit = emit != NULL ? emit : emit_to_stderr, .context = context};
}

static VA_COLD void text(Printer *printer, const char *piece)
{
    va_report_text(&printer->line, piece);
}

static VA_COLD void number(Printer *printer, size_t value)
{
    va_report_number(&printer->line, value, 10);
}

static VA_COLD void end_line(Printer *printer)
{
    size_t length = va_min(printer->line.length, sizeof printer->line.line - 2);
    printer->line.line[length] = '\n';
    printer->line.line[length + 1] = '\0';
    printer->emit(printer->context, printer->line.line);
    printer->line.length = 0;
}

/* A number, right-aligned in a column. */
static VA_COLD void column(Printer *printer, size_t value, size_t width)
{
    Report digits = {.length = 0};
    va_report_number(&digits, value, 10);
    for (size_t i = digits.length; i < width; i++)
        text(printer, " ");
    number(printer, value);
}

/* ---- The table of size classes ---- */

/* Slots, what they come to, and how much of the blocks that hold them is live. */
static VA_COLD void row(Printer *printer, const valloc_class_stats *values)
{
    size_t held = values->blocks << VA_BLOCK_SHIFT;
    if (values->blocks == 0)
        return;
    if (values->slot_size == 0)
        text(printer, "    larger");
    else
        column(printer, values->slot_size, 10);
    column(printer, values->blocks, 10);
    column(printer, values->slots, 12);
    column(printer, values->live, 12);
    column(printer, values->cached, 10);
    column(printer, values->free_slots, 12);
    column(printer, values->live_bytes >> 10, 12);
    column(printer, (held - values->live_bytes) >> 10, 12);
    column(printer, values->live_bytes * 100 / held, 6);
    end_line(printer);
}

static VA_COLD void unused(Printer *printer, const char *name, size_t bytes)
{
    if (bytes == 0)
        return;
    text(printer, name);
    column(printer, bytes >> VA_BLOCK_SHIFT, 10);
    end_line(printer);
}

static VA_COLD void table(Printer *printer, const Census *census)
{
    text(printer, " slot size    blocks       slots        live    cached        free    live KiB"
                  "   waste KiB  full%");
    end_line(printer);
    for (unsigned class = 0; class <= VA_CLASSES; class ++)
        row(printer, &census->rows[class]);
    unused(printer, "     spare", census->spare);
    unused(printer, "      free", census->free);
}

/* ---- An allocator ---- */

static VA_COLD void limit(Printer *printer, const char *name, size_t blocks)
{
    if (blocks == 0)
        return;
    text(printer, name);
    number(printer, blocks << VA_BLOCK_SHIFT >> 10);
    text(printer, " KiB");
}

VA_COLD void va_print_allocator(Allocator *allocator, Emit *emit, void *context)
{
    Printer printer = start(emit, context);
    Census census;
    va_stats_count(&census, allocator);
    text(&printer, "allocator '");
    text(&printer, allocator->shown.name);
    text(&printer, "': ");
    number(&printer, __atomic_load_n(&allocator->shown.total_blocks, __ATOMIC_RELAXED));
    text(&printer, " blocks of 64 KiB, ");
    number(&printer, __atomic_load_n(&allocator->shown.used_blocks, __ATOMIC_RELAXED));
    text(&printer, " used, ");
    number(&printer, __atomic_load_n(&allocator->shown.recycled_blocks, __ATOMIC_RELAXED));
    text(&printer, " recycled so far");
    limit(&printer, ", soft limit ", __atomic_load_n(&allocator->soft_limit, __ATOMIC_RELAXED));
    limit(&printer, ", hard limit ", __atomic_load_n(&allocator->hard_limit, __ATOMIC_RELAXED));
    end_line(&printer);
    table(&printer, &census);
}

/* ---- The process ---- */

/* The members of a structure of figures, by name. No pointers: those would be relocated. */
typedef struct Field {
    char name[12];
    uint8_t offset;
    bool is_count; /* else bytes */
} Field;

#define FIELD(name, is_count)                                                                      \
    {                                                                                              \
#name, offsetof(valloc_stats, name), is_count                                              \
    }
static const Field stats_fields[] = {
    FIELD(reserved, false),    FIELD(committed, false), FIELD(resident, false),
    FIELD(lent, false),        FIELD(live, false),      FIELD(cached, false),
    FIELD(free_slots, false),  FIELD(spare, false),     FIELD(slack, false),
    FIELD(dirty, false),       FIELD(purged, false),    FIELD(metadata, false),
    FIELD(cache_limit, false), FIELD(threads, true),    FIELD(caches, true),
};
#undef FIELD
#define STATS_FIELDS (sizeof stats_fields / sizeof *stats_fields)
static_assert(STATS_FIELDS * sizeof(size_t) == sizeof(valloc_stats), "every member has a name");

#define FIELD(name)                                                                                \
    {                                                                                              \
#name, offsetof(valloc_class_stats, name), true                                            \
    }
static const Field class_fields[] = {FIELD(slot_size),  FIELD(blocks),  FIELD(slots),
                                     FIELD(live),       FIELD(cached),  FIELD(free_slots),
                                     FIELD(live_bytes), FIELD(refilled)};
#undef FIELD

#define FIELD(name)                                                                                \
    {                                                                                              \
#name, offsetof(valloc_cache_stats, name), true                                            \
    }
static const Field cache_fields[] = {FIELD(id), FIELD(cached), FIELD(limit)};
#undef FIELD

static VA_COLD size_t value_of_field(const void *structure, const Field *field)
{
    return *(const size_t *)(const void *)((const char *)structure + field->offset);
}

/* "name":1,"name":2 */
static VA_COLD void members(Printer *printer, const void *structure, const Field *fields,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        text(printer, i == 0 ? "\"" : ",\"");
        text(printer, fields[i].name);
        text(printer, "\":");
        number(printer, value_of_field(structure, &fields[i]));
    }
}

static VA_COLD int cache_as_text(const valloc_cache_stats *cache, void *context)
{
    Printer *printer = context;
    if (cache->cached == 0 && cache->limit == 0)
        return 0;
    text(printer, "thread cache ");
    number(printer, cache->id);
    text(printer, cache->of_process ? "" : ", of another allocator");
    text(printer, cache->in_use ? ": " : ", its thread has exited: ");
    number(printer, cache->cached >> 10);
    text(printer, " KiB, at most ");
    number(printer, cache->limit >> 10);
    end_line(printer);
    return 0;
}

static VA_COLD int cache_as_json(const valloc_cache_stats *cache, void *context)
{
    Printer *printer = context;
    text(printer, printer->follows ? " ,{" : "  {");
    members(printer, cache, cache_fields, sizeof cache_fields / sizeof *cache_fields);
    text(printer, cache->in_use ? ",\"in_use\":true" : ",\"in_use\":false");
    text(printer, cache->of_process ? ",\"of_process\":true}" : ",\"of_process\":false}");
    end_line(printer);
    printer->follows = true;
    return 0;
}

static VA_COLD void print_json(Printer *printer, const valloc_stats *stats, const Census *census)
{
    const char *before = "  {";
    text(printer, "{\"version\":");
    number(printer, VALLOC_VERSION);
    text(printer, ",");
    end_line(printer);
    for (size_t i = 0; i < STATS_FIELDS; i++) {
        members(printer, stats, &stats_fields[i], 1);
        text(printer, ",");
        end_line(printer);
    }
    text(printer, "\"classes\":[");
    end_line(printer);
    for (unsigned class = 0; class <= VA_CLASSES; class ++) {
        if (census->rows[class].blocks == 0)
            continue;
        text(printer, before);
        members(printer, &census->rows[class], class_fields,
                sizeof class_fields / sizeof *class_fields);
        text(printer, "}");
        end_line(printer);
        before = " ,{";
    }
    text(printer, "],\"thread_caches\":[");
    end_line(printer);
    va_stats_caches(cache_as_json, printer);
    text(printer, "]}");
    end_line(printer);
}

/* # TYPE valloc_NAME gauge */
static VA_COLD void metric(Printer *printer, const char *prefix, const char *name, const char *unit,
                           const char *type)
{
    const char *const pieces[] = {"# TYPE ", prefix, name, unit, type};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        text(printer, pieces[i]);
    end_line(printer);
}

static VA_COLD void class_metric(Printer *printer, const Census *census, const Field *field)
{
    bool grows = field->offset == offsetof(valloc_class_stats, refilled);
    const char *unit = grows ? "_total" : "";
    metric(printer, "valloc_class_", field->name, unit, grows ? " counter" : " gauge");
    for (unsigned class = 0; class <= VA_CLASSES; class ++) {
        if (census->rows[class].blocks == 0 && !(grows && census->rows[class].refilled != 0))
            continue;
        text(printer, "valloc_class_");
        text(printer, field->name);
        text(printer, unit);
        text(printer, "{slot_size=\"");
        number(printer, census->rows[class].slot_size);
        text(printer, "\"} ");
        number(printer, value_of_field(&census->rows[class], field));
        end_line(printer);
    }
}

static VA_COLD void print_metrics(Printer *printer, const valloc_stats *stats, const Census *census)
{
    for (size_t i = 0; i < STATS_FIELDS; i++) {
        const Field *field = &stats_fields[i];
        bool grows = field->offset == offsetof(valloc_stats, purged);
        const char *unit = grows ? "_bytes_total" : field->is_count ? "" : "_bytes";
        metric(printer, "valloc_", field->name, unit, grows ? " counter" : " gauge");
        text(printer, "valloc_");
        text(printer, field->name);
        text(printer, unit);
        text(printer, " ");
        number(printer, value_of_field(stats, field));
        end_line(printer);
    }
    for (size_t i = 1; i < sizeof class_fields / sizeof *class_fields; i++)
        class_metric(printer, census, &class_fields[i]);
}

static VA_COLD void print_text(Printer *printer, const valloc_stats *stats, const Census *census)
{
    text(printer, "valloc");
    end_line(printer);
    for (size_t i = 0; i < STATS_FIELDS; i++) {
        size_t value = value_of_field(stats, &stats_fields[i]);
        text(printer, stats_fields[i].name);
        column(printer, stats_fields[i].is_count ? value : value >> 10,
               26 - strlen(stats_fields[i].name));
        text(printer, stats_fields[i].is_count ? "" : " KiB");
        end_line(printer);
    }
    table(printer, census);
    va_stats_caches(cache_as_text, printer);
}

VA_COLD void va_print_stats(valloc_stats_format format, Emit *emit, void *context)
{
    Printer printer = start(emit, context);
    Census census;
    valloc_stats stats;
    va_stats_count(&census, NULL);
    va_stats_collect(&stats, &census);
    if (format == VALLOC_STATS_JSON)
        print_json(&printer, &stats, &census);
    else if (format == VALLOC_STATS_PROMETHEUS)
        print_metrics(&printer, &stats, &census);
    else
        print_text(&printer, &stats, &census);
}

/* ---- In a signal handler ---- */

VA_COLD void va_print_counters(int file)
{
    ArenaStats arena;
    Report line = {.length = 0};
    va_arena_stats(&arena);
    const struct {
        char name[12];
        size_t value;
    } counters[] = {{"reserved", arena.reserved},
                    {"committed", arena.committed},
                    {"lent", arena.lent},
                    {"dirty", arena.dirty},
                    {"purged", va_os_purged()},
                    {"metadata", arena.metadata + va_meta_bytes()},
                    {"threads", va_registry_sharers()}};
    va_report_text(&line, "valloc:");
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
        va_report_text(&line, " ");
        va_report_text(&line, counters[i].name);
        va_report_text(&line, "=");
        va_report_number(&line, counters[i].value, 10);
    }
    line.length = va_min(line.length, sizeof line.line - 1);
    line.line[line.length++] = '\n';
    va_os_write(file, line.line, line.length);
}
