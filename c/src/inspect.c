/* inspect.c: a walk over the block table in pieces, so that no lock is held while a visitor runs.
 */
#include "inspect.h"

#include <string.h>

#include "check.h"
#include "os.h"
#include "slab.h"

#define VIEWS 64

/* How many of a slab's slots are in use; false if it is none by now. Its owner's mutex keeps it
 * as it is: an owner that gives a slab up changes the entry under it. */
static VA_COLD bool count_slots(const RunView *view, MemoryBlock *block)
{
    ThreadCache *owner = va_registry_cache(va_entry_owner(view->entry));
    va_lock_acquire(&owner->mutex);
    const Block *slab = va_block_of(view->address);
    bool same = va_entry_load(va_block_entry(slab)) == view->entry;
    if (same) {
        block->slots = slab->slots;
        block->live_slots = slab->slots - va_slab_available(slab);
    }
    va_lock_release(&owner->mutex);
    return same;
}

/* What a view comes to; false if it is no block of this allocator, or just changing. */
static VA_COLD bool describe_block(const MemoryAllocator *allocator, const RunView *view,
                                   MemoryBlock *block)
{
    unsigned class = va_entry_class(view->entry);
    const MemoryAllocator *owner = view->allocator != NULL ? view->allocator : &va_process;
    if (owner != allocator)
        return false;
    *block = (MemoryBlock){.address = view->address,
                           .size = view->blocks << VA_BLOCK_SHIFT,
                           .status = VALLOC_BLOCK_FREE};
    if (view->entry == 0 || class == VA_CLASS_SPARE)
        return true;
    block->status = VALLOC_BLOCK_OCCUPIED;
    block->slots = block->live_slots = 1;
    block->slot_size = block->size;
    if (class >= VA_CLASSES_SMALL)
        return true;
    block->slot_size = va_size_classes[class].bytes;
    return count_slots(view, block);
}

VA_COLD int va_inspect_blocks(MemoryAllocator *allocator, int (*visit)(const MemoryBlock *, void *),
                              void *context)
{
    RunView views[VIEWS];
    ScanCursor cursor = {0};
    size_t count;
    int result = 0;
    ThreadCache *cache = va_allocator_acquire(allocator);
    if (cache != NULL)
        va_cache_flush_slots(cache);
    va_allocator_release(allocator, cache);
    while (result == 0 && (count = va_arena_scan(&cursor, views, VIEWS)) != 0) {
        for (size_t i = 0; i < count && result == 0; i++) {
            MemoryBlock block;
            if (describe_block(allocator, &views[i], &block))
                result = visit(&block, context);
        }
    }
    return result;
}

/* ---- The dump ---- */

typedef struct Row {
    size_t blocks, bytes, slots, live_slots;
} Row;

typedef struct Dump {
    Row rows[VA_CLASSES + 1]; /* by class; the last one is of large runs */
    Row free;
    Report line;
    void (*emit)(void *context, const char *text);
    void *context;
} Dump;

static VA_COLD int sum_block(const MemoryBlock *block, void *context)
{
    Dump *dump = context;
    size_t class = va_class_of(block->slot_size);
    Row *row = block->status == VALLOC_BLOCK_FREE ? &dump->free : &dump->rows[class];
    row->blocks += block->size >> VA_BLOCK_SHIFT;
    row->bytes += block->slot_size * block->live_slots;
    row->slots += block->slots;
    row->live_slots += block->live_slots;
    return 0;
}

static VA_COLD void emit_to_stderr(void *context, const char *text)
{
    (void)context;
    va_os_report(text, strlen(text));
}

/* A number, right-aligned in a column. */
static VA_COLD void column(Dump *dump, size_t number, size_t width)
{
    Report digits = {.length = 0};
    va_report_number(&digits, number, 10);
    for (size_t i = digits.length; i < width; i++)
        va_report_text(&dump->line, " ");
    va_report_number(&dump->line, number, 10);
}

static VA_COLD void text(Dump *dump, const char *piece)
{
    va_report_text(&dump->line, piece);
}

static VA_COLD void end_line(Dump *dump)
{
    size_t length = va_min(dump->line.length, sizeof dump->line.line - 2);
    dump->line.line[length] = '\n';
    dump->line.line[length + 1] = '\0';
    dump->emit(dump->context, dump->line.line);
    dump->line.length = 0;
}

static VA_COLD void limit(Dump *dump, const char *name, size_t blocks)
{
    if (blocks == 0)
        return;
    text(dump, name);
    va_report_number(&dump->line, blocks << VA_BLOCK_SHIFT >> 10, 10);
    text(dump, " KiB");
}

static VA_COLD void row(Dump *dump, const char *name, size_t slot_bytes, const Row *values)
{
    if (values->blocks == 0)
        return;
    if (name == NULL)
        column(dump, slot_bytes, 10);
    else
        text(dump, name);
    column(dump, values->blocks, 10);
    column(dump, values->slots, 12);
    column(dump, values->live_slots, 12);
    column(dump, values->blocks << VA_BLOCK_SHIFT >> 10, 12);
    column(dump, values->bytes >> 10, 12);
    column(dump, values->bytes * 100 / (values->blocks << VA_BLOCK_SHIFT), 6);
    end_line(dump);
}

VA_COLD void va_inspect_dump(MemoryAllocator *allocator, void (*emit)(void *, const char *),
                             void *context)
{
    Dump dump;
    memset(&dump, 0, sizeof dump);
    dump.emit = emit != NULL ? emit : emit_to_stderr;
    dump.context = context;
    va_inspect_blocks(allocator, sum_block, &dump);
    text(&dump, "allocator '");
    text(&dump, allocator->name);
    text(&dump, "': ");
    va_report_number(&dump.line, allocator->total_blocks, 10);
    text(&dump, " blocks of 64 KiB, ");
    va_report_number(&dump.line, allocator->used_blocks, 10);
    text(&dump, " used, ");
    va_report_number(&dump.line, allocator->recycled_blocks, 10);
    text(&dump, " recycled so far");
    limit(&dump, ", soft limit ", allocator->soft_limit);
    limit(&dump, ", hard limit ", allocator->hard_limit);
    end_line(&dump);
    text(&dump, " slot size    blocks       slots        live    held KiB    live KiB  full%");
    end_line(&dump);
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        row(&dump, NULL, va_size_classes[class].bytes, &dump.rows[class]);
    row(&dump, "    larger", 0, &dump.rows[VA_CLASSES]);
    row(&dump, "      free", 0, &dump.free);
}
