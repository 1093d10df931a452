/* block_table.c: the arenas' descriptions and the search among them. Programs live in the first
 * arena; more exist only where the address space is limited, so a linear search will do. */
#include "table/block_table.h"

#include "base/check.h"
#include "os/os.h"

VA_ARRAY_LAST Arena va_arenas[VA_ARENAS_MAX];
_Atomic unsigned va_arena_count;

Arena *va_arena_of(const void *pointer)
{
    unsigned count = atomic_load_explicit(&va_arena_count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        Arena *arena = &va_arenas[i];
        if (va_block_index(arena, pointer) <
            atomic_load_explicit(&arena->tabled, memory_order_relaxed))
            return arena;
    }
    return NULL;
}

/* What the table says of a pointer. */
static VA_COLD void describe(Report *report, const void *pointer)
{
    const Arena *arena = va_arena_of(pointer);
    if (arena == NULL)
        return;
    size_t index = va_block_index(arena, pointer);
    uint32_t entry = va_entry_load(&arena->entries[index]);
    if (entry == 0 || va_entry_class(entry) == VA_CLASS_SPARE) {
        va_report_text(report, ", in a block that is free or inside a larger allocation");
        return;
    }
    if (va_entry_class(entry) == VA_CLASS_LARGE) {
        va_report_text(report, ", in a large allocation of ");
        va_report_number(report, (size_t)arena->records[index].run_blocks << VA_BLOCK_SHIFT, 10);
        va_report_text(report, " bytes");
        return;
    }
    va_report_text(report, ", in a slot of ");
    va_report_number(report, va_size_classes[va_entry_class(entry)].bytes, 10);
    va_report_text(report, " bytes of thread cache ");
    va_report_number(report, va_entry_owner(entry), 10);
}

void va_fatal(const char *function, const char *what, const void *pointer)
{
    Report report = {.length = 0};
    va_report_text(&report, "valloc: ");
    va_report_text(&report, function);
    va_report_text(&report, ": ");
    va_report_text(&report, what);
    va_report_text(&report, " (pointer 0x");
    va_report_number(&report, (uintptr_t)pointer, 16);
    describe(&report, pointer);
    va_report_text(&report, ")");
    va_report_abort(&report);
}

void va_warn_once(_Atomic bool *warned, const char *function, const char *what, const void *pointer)
{
    Report report = {.length = 0};
    if (atomic_exchange_explicit(warned, true, memory_order_relaxed))
        return;
    va_report_text(&report, "valloc: ");
    va_report_text(&report, function);
    va_report_text(&report, ": ignored, as all that follow: ");
    va_report_text(&report, what);
    va_report_text(&report, " (pointer 0x");
    va_report_number(&report, (uintptr_t)pointer, 16);
    va_report_text(&report, ")\n");
    va_os_report(report.line, report.length);
}
