/* dump.c: the buffer, and the formats that are text. */
#include "profile/dump.h"

#include <string.h>

#include "base/check.h"

VA_COLD bool va_dump_flush(Dump *dump)
{
    if (!dump->failed && dump->used != 0)
        dump->failed = !dump->sink(dump->context, dump->buffer, dump->used);
    dump->used = 0;
    return !dump->failed;
}

VA_COLD void va_dump_bytes(Dump *dump, const void *bytes, size_t count)
{
    while (count != 0) {
        size_t part = va_min(count, sizeof dump->buffer - dump->used);
        memcpy(dump->buffer + dump->used, bytes, part);
        dump->used += part;
        bytes = (const char *)bytes + part;
        count -= part;
        if (dump->used == sizeof dump->buffer)
            va_dump_flush(dump);
    }
}

VA_COLD uint64_t va_dump_whole(double *rest, double value)
{
    double sum = *rest + value + 0.5;
    uint64_t whole = sum > 0 ? (uint64_t)sum : 0;
    *rest += value - (double)whole;
    return whole;
}

static VA_COLD void put_text(Dump *dump, const char *piece)
{
    va_dump_bytes(dump, piece, strlen(piece));
}

/* Of others' making: what separates frames and lines is replaced. */
static VA_COLD void put_name(Dump *dump, const char *name)
{
    for (; *name != '\0'; name++)
        va_dump_bytes(dump, (unsigned char)*name < ' ' || *name == ';' ? "_" : name, 1);
}

static VA_COLD void put_number(Dump *dump, uint64_t value, unsigned base)
{
    Report digits = {.length = 0};
    va_report_number(&digits, value, base);
    va_dump_bytes(dump, digits.line, digits.length);
}

static VA_COLD uintptr_t frame_of(const Dump *dump, const CallStack *stack, uint32_t i)
{
    return dump->table.locations[dump->table.frames[stack->first + i]];
}

/* ---- For google-pprof ---- */

/* Count and bytes, of what lives and of what was allocated. */
static VA_COLD void put_sums(Dump *dump, const Totals *live, const Totals *all, double rest[4])
{
    put_number(dump, va_dump_whole(&rest[0], live->objects), 10);
    put_text(dump, ": ");
    put_number(dump, va_dump_whole(&rest[1], live->bytes), 10);
    put_text(dump, " [");
    put_number(dump, va_dump_whole(&rest[2], all->objects), 10);
    put_text(dump, ": ");
    put_number(dump, va_dump_whole(&rest[3], all->bytes), 10);
    put_text(dump, "] @");
}

static VA_COLD void put_mappings(Dump *dump)
{
    put_text(dump, "\nMAPPED_LIBRARIES:\n");
    for (uint32_t i = 0; i < dump->modules.count; i++) {
        const Module *module = &dump->modules.list[i];
        if (dump->modules.paths[module->path] != '/') /* the vDSO has no file */
            continue;
        put_number(dump, module->start, 16);
        put_text(dump, "-");
        put_number(dump, module->end, 16);
        put_text(dump, " r-xp ");
        put_number(dump, module->offset, 16);
        put_text(dump, " 00:00 0 ");
        put_text(dump, dump->modules.paths + module->path);
        put_text(dump, "\n");
    }
}

/* heapprofile means that sums need no scaling. heap_v2 has readers scale by the mean size of a
 * stack's samples, which is wrong if it allocates several sizes. */
static VA_COLD void put_heap(Dump *dump)
{
    const SampleTable *table = &dump->table;
    const Totals none = {.samples = 0};
    bool all = dump->mode == PROFILE_ALL;
    double rest[4] = {0};
    put_text(dump, "heap profile: ");
    put_sums(dump, &table->live, all ? &table->all : &none, rest);
    put_text(dump, " heapprofile\n");
    memset(rest, 0, sizeof rest);
    for (uint32_t i = 0; i < table->stacks_used; i++) {
        const CallStack *stack = &table->stacks[i];
        if ((all ? &stack->all : &stack->live)->samples == 0)
            continue;
        put_sums(dump, &stack->live, all ? &stack->all : &none, rest);
        for (uint32_t k = 0; k < stack->depth; k++) {
            put_text(dump, " 0x");
            put_number(dump, frame_of(dump, stack, k), 16);
        }
        put_text(dump, "\n");
    }
    put_mappings(dump);
}

/* ---- For flame graphs and for people ---- */

/* The file and the address in it, for a tool that reads symbols. The loader knows names of some
 * functions, but dladdr waits while another thread loads a library, and its names vanish with
 * theirs. Return addresses may lie behind a function's end: the call is before. */
static VA_COLD void put_place(Dump *dump, uintptr_t address)
{
    const Module *module = va_modules_find(&dump->modules, address - 1);
    if (module != NULL) {
        put_name(dump, dump->modules.paths + module->path);
        put_text(dump, "+");
    }
    put_text(dump, "0x");
    put_number(dump, address - 1 - (module != NULL ? module->bias : 0), 16);
}

static VA_COLD void put_label(Dump *dump, const CallStack *stack, const char *before,
                              const char *behind)
{
    const char *label = dump->table.labels[stack->label];
    if (label[0] == '\0')
        return;
    put_text(dump, before);
    put_name(dump, label);
    put_text(dump, behind);
}

static VA_COLD const Totals *sums_for(const Dump *dump, const CallStack *stack,
                                      ProfileFormat format)
{
    return format == PROFILE_FOLDED_PEAK  ? va_sample_table_peak(&dump->table, stack)
           : format == PROFILE_FOLDED_ALL ? &stack->all
                                          : &stack->live;
}

static VA_COLD void put_folded(Dump *dump, ProfileFormat format)
{
    double rest = 0;
    for (uint32_t i = 0; i < dump->table.stacks_used; i++) {
        const CallStack *stack = &dump->table.stacks[i];
        const Totals *sums = sums_for(dump, stack, format);
        if (sums->samples == 0)
            continue;
        put_label(dump, stack, "[", stack->depth != 0 ? "];" : "]");
        if (stack->depth == 0)
            put_text(dump, "unknown");
        for (uint32_t k = stack->depth; k > 0; k--) {
            put_place(dump, frame_of(dump, stack, k - 1));
            if (k > 1)
                put_text(dump, ";");
        }
        put_text(dump, " ");
        put_number(dump, va_dump_whole(&rest, sums->bytes), 10);
        put_text(dump, "\n");
    }
}

/* N KiB in N objects, standard error N KiB and N objects, N samples */
static VA_COLD void put_line(Dump *dump, const char *name, const Totals *sums)
{
    put_text(dump, name);
    put_number(dump, (uint64_t)(sums->bytes / 1024 + 0.5), 10);
    put_text(dump, " KiB in ");
    put_number(dump, (uint64_t)(sums->objects + 0.5), 10);
    put_text(dump, " objects, standard error ");
    put_number(dump, (uint64_t)(va_weight_root(sums->bytes_variance) / 1024 + 0.5), 10);
    put_text(dump, " KiB and ");
    put_number(dump, (uint64_t)(va_weight_root(sums->objects_variance) + 0.5), 10);
    put_text(dump, " objects, ");
    put_number(dump, sums->samples, 10);
    put_text(dump, sums->samples == 1 ? " sample\n" : " samples\n");
}

/* The stack with the most live bytes of those with no more than the last one had; of equals the
 * next one. NULL: all were seen. */
static VA_COLD const CallStack *next_stack(const SampleTable *table, const CallStack *last)
{
    const CallStack *next = NULL;
    for (uint32_t i = 0; i < table->stacks_used; i++) {
        const CallStack *stack = &table->stacks[i];
        double bytes = stack->live.bytes;
        bool follows =
            last == NULL || bytes < last->live.bytes || (bytes == last->live.bytes && stack > last);
        if (stack->live.samples != 0 && follows && (next == NULL || bytes > next->live.bytes))
            next = stack;
    }
    return next;
}

static VA_COLD uint64_t age_of_oldest(const Dump *dump, const CallStack *stack)
{
    uint64_t since = dump->now_ms;
    for (uint32_t i = 0; i < dump->table.samples_used; i++)
        if (&dump->table.stacks[dump->table.samples[i].stack] == stack &&
            dump->table.samples[i].time_ms < since)
            since = dump->table.samples[i].time_ms;
    return dump->now_ms - since;
}

static VA_COLD void put_report(Dump *dump)
{
    const SampleTable *table = &dump->table;
    put_text(dump, "heap profile, a sample per ");
    put_number(dump, dump->rate, 10);
    put_text(dump, " bytes\n");
    put_line(dump, "live: ", &table->live);
    put_line(dump, "at the peak: ", &table->peak);
    if (dump->mode == PROFILE_ALL)
        put_line(dump, "allocated: ", &table->all);
    if (table->lost.samples != 0)
        put_line(dump, "not followed for lack of room: ", &table->lost);
    if (table->lost_stacks != 0) {
        put_text(dump, "samples without a stack for lack of room: ");
        put_number(dump, table->lost_stacks, 10);
        put_text(dump, "\n");
    }
    const CallStack *stack = NULL;
    for (unsigned i = 0; i < VA_PROFILE_TEXT_STACKS; i++) {
        if ((stack = next_stack(table, stack)) == NULL)
            return;
        put_text(dump, "\n");
        put_line(dump, "", &stack->live);
        put_label(dump, stack, "  allocator '", "'\n");
        put_text(dump, "  oldest: ");
        put_number(dump, age_of_oldest(dump, stack) / 1000, 10);
        put_text(dump, " s\n");
        for (uint32_t k = 0; k < stack->depth; k++) {
            put_text(dump, "    ");
            put_place(dump, frame_of(dump, stack, k));
            put_text(dump, "\n");
        }
    }
}

VA_COLD void va_dump_text(Dump *dump, ProfileFormat format)
{
    if (format == PROFILE_HEAP)
        put_heap(dump);
    else if (format == PROFILE_TEXT)
        put_report(dump);
    else
        put_folded(dump, format);
}
