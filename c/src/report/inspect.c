/* inspect.c: a walk over the block table in pieces, so that no lock is held while a visitor runs.
 */
#include "report/inspect.h"

#include "heap/allocator.h"
#include "slab/slab.h"

#define VIEWS 64

/* How many of a slab's slots are in use; false if it is none by now. Its owner's mutex keeps it
 * as it is: an owner that gives a slab up changes the entry under it. */
static VA_COLD bool count_slots(const RunView *view, MemoryBlock *block)
{
    ThreadCache *owner = va_registry_cache(va_entry_owner(view->entry));
    va_allocators_hold();
    va_lock_acquire(&owner->mutex);
    const Block *slab = va_block_if(view->address, view->entry);
    if (slab != NULL) {
        block->slots = slab->slots;
        block->live_slots = slab->slots - va_slab_available(slab);
    }
    va_lock_release(&owner->mutex);
    va_allocators_let_go();
    return slab != NULL;
}

/* What a view comes to; false if it is no block of this allocator, or just changing. */
static VA_COLD bool describe_block(const Allocator *allocator, const RunView *view,
                                   MemoryBlock *block)
{
    unsigned class = va_entry_class(view->entry);
    const Allocator *owner = view->allocator != NULL ? view->allocator : &va_process;
    if (owner != allocator)
        return false;
    *block = (MemoryBlock){.address = view->address,
                           .size = view->blocks << VA_BLOCK_SHIFT,
                           .status = VALLOC_BLOCK_FREE};
    if (view->entry == 0 || class == VA_CLASS_SPARE)
        return true;
    block->status = VALLOC_BLOCK_OCCUPIED;
    block->slots = block->live_slots = 1;
    block->slot_size = class < VA_CLASSES ? va_size_classes[class].bytes : block->size;
    return class >= VA_CLASSES_SMALL || count_slots(view, block);
}

VA_COLD int va_inspect_blocks(Allocator *allocator, int (*visit)(const MemoryBlock *, void *),
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
