/* block_table.c: the arenas' descriptions and the search among them. Programs live in the first
 * arena; more exist only where the address space is limited, so a linear search will do. */
#include "table/block_table.h"

#include "base/check.h"
#include "os/os.h"

VA_ARRAY_LAST Arena va_arenas[VA_ARENAS_MAX];
_Atomic unsigned va_arena_count;
StateTable va_state_coarse = STATES_COARSE;

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

/* The blocks of the slab or run that starts in a block; 0 if none does. */
static VA_COLD size_t blocks_from(const Arena *arena, size_t index)
{
    unsigned class = va_entry_class(va_entry_load(&arena->entries[index]));
    if (va_entry_load(&arena->entries[index]) == 0 || class > VA_CLASS_LARGE)
        return 0;
    if (class == VA_CLASS_LARGE)
        return arena->records[index].run_blocks;
    return va_max(va_size_classes[class].run_blocks, 1);
}

/* What the table says of a pointer. */
static VA_COLD void describe(Report *report, const void *pointer)
{
    const Arena *arena = va_arena_of(pointer);
    if (arena == NULL)
        return;
    size_t index = va_block_index(arena, pointer);
    size_t first = index;
    while (first > 0 && va_entry_load(&arena->entries[first]) == 0)
        first--;
    size_t blocks = blocks_from(arena, first);
    if (index - first >= blocks) {
        va_report_text(report, ", in a free block");
        return;
    }
    uint32_t entry = va_entry_load(&arena->entries[first]);
    unsigned class = va_entry_class(entry);
    size_t bytes = class < VA_CLASSES ? va_size_classes[class].bytes : blocks << VA_BLOCK_SHIFT;
    size_t offset =
        (((index - first) << VA_BLOCK_SHIFT) + va_block_offset(pointer)) % va_max(bytes, 1);
    va_report_text(report, ", ");
    if (offset != 0) {
        va_report_number(report, offset, 10);
        va_report_text(report, " bytes inside ");
    }
    va_report_text(report, class < VA_CLASSES_SMALL ? "a slot of " : "a run of ");
    va_report_number(report, bytes, 10);
    va_report_text(report, " bytes");
    if (class != VA_CLASS_LARGE)
        va_thread_describe_owner(report, va_entry_owner(entry));
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
    va_report_hint(&report, what);
    va_report_abort(&report);
}

void va_warn_once(_Atomic uint32_t *warned, const char *function, const char *what,
                  const void *pointer)
{
    Report report = {.length = 0};
    if (atomic_exchange_explicit(warned, 1, memory_order_relaxed))
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
