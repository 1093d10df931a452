/* alloc.c: the slow halves of allocation and free, realloc, and what is asked of a pointer.
 *
 * One route leads from a user's pointer to metadata: entry_of, which proves that an arena has it
 * and that its block is in use. */
#include "api/alloc.h"

#include <string.h>

#include "arena/arena.h"
#include "heap/background.h"
#include "base/check.h"
#include "api/emergency.h"
#include "harden/zero_size.h"
#include "api/foreign.h"
#include "slab/large.h"
#include "slab/sealed.h"
#include "os/options.h"
#include "cache/stack_size.h"

/* The entry and the record of a block in use; 0 for an allocation of no bytes, or a foreign pointer
 * that is tolerated; anything else is reported. */
static uint32_t entry_of(const void *pointer, Block **block, const char *function)
{
    Arena *arena = va_arena_find(pointer);
    if (va_unlikely(arena == NULL)) {
        if (!va_zero_size_holds(pointer))
            va_foreign_check(pointer, function);
        else if (!va_zero_size_is_live(pointer))
            va_fatal(function, "freed already, or not the start of an allocation", pointer);
        return 0;
    }
    size_t index = va_block_index(arena, pointer);
    uint32_t entry = va_entry_load(&arena->entries[index]);
    *block = &arena->records[index];
    if (va_unlikely(entry == 0 && !va_arena_holds(pointer))) {
        va_foreign_check(pointer, function);
        return 0;
    }
    if (va_unlikely(entry == 0 || va_entry_class(entry) == VA_CLASS_SPARE))
        va_fatal(function, "freed already, or not the start of an allocation", pointer);
    va_check(va_entry_class(entry) < VA_CLASS_SPARE);
    return entry;
}

/* Whose a block in use is. */
VA_INLINE Allocator *allocator_of(const Block *block, uint32_t entry)
{
    if (va_entry_class(entry) == VA_CLASS_LARGE || va_is_other(va_entry_owner(entry)))
        return block->allocator;
    return &va_process;
}

/* The bytes that a user could have there. */
static size_t block_bytes(const Block *block, uint32_t entry)
{
    unsigned class = va_entry_class(entry);
    if (class < VA_CLASSES)
        return va_size_classes[class].bytes - VA_CANARY_BYTES;
    return ((size_t)block->run_blocks << VA_BLOCK_SHIFT) - va_guard_bytes() - VA_CANARY_BYTES;
}

/* The end of a slow path. */
VA_INLINE void release(Allocator *allocator, ThreadCache *cache)
{
    va_allocator_release(allocator, cache);
    va_background_visit();
}

/* `size` includes the canary, as in all that takes a class here. *zero tells whether the block
 * should be zero, then whether it is known to be. */
VA_INLINE void *try_allocate(Allocator *allocator, unsigned class, size_t size, size_t alignment,
                             bool *zero)
{
    ThreadCache *cache = va_allocator_acquire(allocator);
    if (va_unlikely(cache == NULL))
        return NULL;
    void *slot = NULL;
    if (class == VA_CLASS_LARGE) {
        Block *run = NULL;
        if (alignment <= VA_BLOCK_BYTES)
            run = va_large_cache_take(cache, va_large_blocks(size));
        cache->large.refilled += run == NULL;
        release(allocator, cache);
        if (run == NULL)
            slot = va_large_allocate(allocator, size, alignment, zero);
        else
            slot = va_large_start(run), *zero = VALLOC_SECURE_ZERO && run->zero;
        if (VA_PASSAGE_CHECKED && slot != NULL)
            va_pass_out_run(va_block_of(slot), size - VA_CANARY_BYTES);
        return slot;
    }
    slot = va_pop_out(&cache->front, class << VA_CLASS_SHIFT, size - VA_CANARY_BYTES);
    if (slot == NULL) {
        slot = va_cache_refill(cache, class, zero);
        if (slot != NULL)
            va_pass_out_slow(slot, class, size - VA_CANARY_BYTES);
    } else {
        *zero = false;
    }
    release(allocator, cache);
    return slot;
}

VA_APART void *va_allocate_kept(size_t size)
{
    if (VA_PASSAGE_CHECKED || VA_WATCHED)
        return NULL;
    CacheFront *front = VA_THREAD_SOURCE;
    if (va_unlikely(front->tag == VA_TAG_NONE))
        return NULL;
    ThreadCache *cache = (ThreadCache *)front;
    va_idle_enter(cache);
    Block *run = cache->large.run;
    bool fits = run != NULL && run->run_blocks == va_large_blocks(size);
    if (va_likely(fits)) {
        cache->large.run = NULL;
        cache->large.used = true;
    }
    va_idle_leave(cache);
    return va_likely(fits) ? va_large_start(run) : NULL;
}

VA_APART bool va_free_kept(void *pointer, size_t size)
{
    if (VA_PASSAGE_CHECKED)
        return false;
    CacheFront *front = VA_THREAD_FRONT;
    if (va_unlikely(front->tag == VA_TAG_NONE))
        return false;
    ThreadCache *cache = (ThreadCache *)front;
    Block *run = &va_arenas[0].records[va_index_fast(front, pointer)];
    if (va_block_offset(pointer) != 0 || run->allocator != &va_process || run->special != 0 ||
        (size != 0 && run->run_blocks != va_large_blocks(size)))
        return false;
    va_idle_enter(cache);
    bool kept = va_large_cache_keep(cache, run);
    uint32_t puts = cache->large.puts;
    va_idle_leave(cache);
    if (kept && puts % VA_LARGE_PUTS == 0)
        va_purge_visit(); /* a loop over one size comes by no other clock */
    return kept;
}

/* Whether blocks exist that are larger than their size calls for, because there was no memory: the
 * check of a sized free then only tells sizes that are too large. Relaxed: whoever frees such a
 * block got it from the thread that set this. */
static _Atomic bool roomy;

/* Tries again without what caches hold in vain, if that could make room. */
static VA_COLD void *allocate_relieved(Allocator *allocator, unsigned class, size_t size,
                                       size_t alignment, bool *zero)
{
    if (va_thread_reports) /* it has no cache */
        return va_emergency_allocate(size, alignment);
    if (!va_allocator_can_relieve(size))
        return NULL;
    va_allocator_relieve(allocator);
    return try_allocate(allocator, class, size, alignment, zero);
}

void *va_allocate_told(Allocator *allocator, size_t size, size_t alignment, bool *zero)
{
    if (va_unlikely(size > PTRDIFF_MAX || alignment > PTRDIFF_MAX))
        return NULL;
    if (VALLOC_SECURE_GUARD && size == 0 && alignment <= VA_MIN_ALIGN && allocator == &va_process) {
        void *inaccessible = va_zero_size_allocate();
        if (inaccessible != NULL)
            return inaccessible;
    }
    size += VA_CANARY_BYTES;
    unsigned class = va_likely(alignment <= VA_MIN_ALIGN) ? va_class_of(size)
                                                          : va_class_of_aligned(size, alignment);
    void *slot = try_allocate(allocator, class, size, alignment, zero);
    if (va_unlikely(slot == NULL))
        slot = allocate_relieved(allocator, class, size, alignment, zero);
    return slot;
}

void *va_allocate(Allocator *allocator, size_t size, size_t alignment)
{
    bool zero = false;
    return va_allocate_told(allocator, size, alignment, &zero);
}

void *va_allocate_zeroed(Allocator *allocator, size_t size, size_t alignment)
{
    bool zero = true;
    void *slot = va_allocate_told(allocator, size, alignment, &zero);
    if (slot != NULL && !zero)
        memset(slot, 0, size);
    return slot;
}

static void free_entry(void *pointer, Block *block, uint32_t entry, const char *function)
{
    Allocator *allocator = allocator_of(block, entry);
    ThreadCache *cache = va_allocator_acquire(allocator);
    va_pass_in_slow(pointer, block, entry, function);
    if (va_entry_class(entry) != VA_CLASS_LARGE) {
        va_quarantine_free(cache, pointer, block, entry, function);
    } else {
        va_large_end(block, pointer, function);
        if (va_sealed_put(block)) {
            va_purge_visit(); /* a loop over one size comes by no other clock */
        } else if (cache != NULL) {
            if (va_index_fast(&cache->front, pointer) >= cache->front.blocks)
                va_cache_update_view(cache); /* for va_free_kept */
            va_large_cache_put(cache, block);
        } else {
            va_large_give_back(block);
        }
    }
    va_allocator_release(allocator, cache);
    /* libc frees small blocks of its own under the lock that starting a thread takes. */
    if (va_entry_class(entry) >= VA_CLASSES_SMALL)
        va_background_visit();
}

/* Frees what has no entry. */
static VA_COLD void free_apart(void *pointer, const char *function)
{
    if (!va_zero_size_holds(pointer))
        va_foreign_free(pointer);
    else if (!va_zero_size_free(pointer)) /* two threads free it at once */
        va_fatal(function, "freed already", pointer);
}

void va_free(void *pointer, const char *function)
{
    Block *block;
    if (pointer == NULL)
        return;
    uint32_t entry = entry_of(pointer, &block, function);
    if (va_likely(entry != 0))
        free_entry(pointer, block, entry, function);
    else
        free_apart(pointer, function);
}

VA_COLD void va_wrong_size(const char *function, const void *pointer)
{
    static const char what[] = "the size or alignment is not the allocation's";
    static _Atomic uint32_t warned;
    if (!va_options.tolerate_sizes)
        va_fatal(function, what, pointer);
    va_warn_once(&warned, function, what, pointer);
}

VA_COLD void va_free_sized(void *pointer, size_t size, size_t alignment, const char *function)
{
    Block *block;
    if (pointer == NULL)
        return;
    uint32_t entry = entry_of(pointer, &block, function);
    if (va_unlikely(entry == 0)) {
        if (size != 0 && va_zero_size_holds(pointer))
            va_wrong_size(function, pointer);
        free_apart(pointer, function);
        return;
    }
    bool possible = size <= PTRDIFF_MAX;
    unsigned class = va_class_of_aligned(size + VA_CANARY_BYTES, alignment);
    bool same =
        class == va_entry_class(entry) &&
        (class != VA_CLASS_LARGE || va_large_blocks(size + VA_CANARY_BYTES) == block->run_blocks);
    bool fits = atomic_load_explicit(&roomy, memory_order_relaxed) &&
                size <= block_bytes(block, entry) && ((uintptr_t)pointer & (alignment - 1)) == 0;
    if (va_unlikely(!possible || (!same && !fits)))
        va_wrong_size(function, pointer);
    free_entry(pointer, block, entry, function);
}

/* The blocks and the class that a run would have for this request; 0 if it would not be one. */
static size_t run_blocks_for(size_t size, size_t alignment, unsigned *class)
{
    size += VA_CANARY_BYTES;
    *class = va_class_of_aligned(size, alignment);
    if (*class < VA_CLASSES_SMALL)
        return 0;
    return *class == VA_CLASS_LARGE ? va_large_blocks(size) : va_size_classes[*class].run_blocks;
}

/* What is kept for the next one of its size may lie where a run has to grow. */
static VA_COLD void drop_kept_run(Allocator *allocator)
{
    ThreadCache *cache = va_allocator_acquire(allocator);
    if (cache != NULL)
        va_large_cache_drop(cache);
    release(allocator, cache);
}

/* Resizes a run where it is, if the request can be a run there. The entry keeps its owner, or
 * gets none when the run becomes large. */
static VA_COLD bool resize_run(void *pointer, Block *run, uint32_t entry, size_t size,
                               size_t alignment)
{
    unsigned class;
    size_t old_bytes = block_bytes(run, entry);
    size_t old_size = va_pass_size(pointer, run, entry);
    size_t old_blocks = run->run_blocks;
    size_t blocks = run_blocks_for(size, alignment, &class);
    uint32_t owner = class == VA_CLASS_LARGE ? 0 : va_entry_owner(entry);
    if (blocks == 0 || (class != VA_CLASS_LARGE && owner == 0))
        return false;
    if (((uintptr_t)pointer & (va_max(alignment, VA_BLOCK_BYTES) - 1)) != 0)
        return false;
    if (VALLOC_SECURE_ZERO && blocks > run->run_blocks && size < old_bytes)
        return false; /* a guard page takes the room: a copy gives up what has to be cleared */
    va_guard_end(run);
    va_canary_erase((char *)pointer + old_bytes + VA_CANARY_BYTES);
    if (blocks > run->run_blocks)
        drop_kept_run(run->allocator);
    else
        va_pass_give_up(pointer, size, old_bytes); /* nothing can fail */
    bool done = va_pool_resize(run, blocks);
    if (done) {
        va_pass_end_sample(pointer, run, entry);
        run->class = (uint16_t) class;
        va_entry_store(va_block_entry(run), va_entry_make(owner, class));
        if (va_entry_owner(entry) != 0)
            va_cache_count_blocks(va_registry_cache(va_entry_owner(entry)), va_entry_class(entry),
                                  -(int32_t)old_blocks);
        if (owner != 0)
            va_cache_count_blocks(va_registry_cache(owner), class, (int32_t)blocks);
    }
    if (va_entry_class(va_entry_load(va_block_entry(run))) == VA_CLASS_LARGE)
        va_guard_run(run);
    else
        va_guard_class(run);
    if (done)
        va_pass_out_run(run, size);
    else
        va_pass_keep_run(run, old_size);
    return done;
}

/* Moves a run's pages to a new run. NULL if that is impossible or not worth it. Both runs lie on
 * boundaries of huge pages if they can: these are then moved whole, else they are split. */
static VA_COLD void *move_pages(Block *run, size_t old_bytes, size_t old_size, size_t size,
                                size_t alignment)
{
    bool zero = false;
    if (old_bytes < VA_MOVE_PAGES_BYTES || size < VA_MOVE_PAGES_BYTES)
        return NULL;
    /* A front guard comes with runs that may lie anywhere. */
    size_t wanted = VALLOC_SECURE_GUARD ? alignment : va_max(alignment, VA_HUGE_BYTES);
    void *moved = va_large_allocate(run->allocator, size + VA_CANARY_BYTES, wanted, &zero);
    if (moved == NULL)
        return NULL;
    Block *target = va_block_of(moved);
    size_t target_bytes = ((size_t)target->run_blocks << VA_BLOCK_SHIFT) - va_guard_bytes();
    size_t bytes = va_min(old_bytes + VA_CANARY_BYTES, target_bytes);
    va_canary_erase(va_block_address(run) + old_bytes + VA_CANARY_BYTES);
    bool done = va_arena_move(run, target, bytes);
    va_pass_out_run(run, old_size);
    if (done) {
        va_pass_give_up(moved, size, bytes);
        va_pass_out_run(target, size);
        return moved;
    }
    va_large_end(target, moved, "realloc");
    va_large_give_back(target);
    return NULL;
}

/* Without memory for another block: the same one, if it is large enough, or if there is room to
 * grow now that caches were emptied. */
static VA_COLD void *stay(void *pointer, Block *block, uint32_t entry, size_t size,
                          size_t alignment)
{
    size_t old_bytes = block_bytes(block, entry);
    if (va_entry_class(entry) >= VA_CLASSES_SMALL &&
        resize_run(pointer, block, entry, size, alignment))
        return pointer;
    if (size > old_bytes || ((uintptr_t)pointer & (alignment - 1)) != 0)
        return NULL;
    atomic_store_explicit(&roomy, true, memory_order_relaxed);
    va_pass_give_up(pointer, size, old_bytes);
    va_pass_resize(pointer, block, entry, size);
    return pointer;
}

void *va_reallocate(Allocator *allocator, void *pointer, size_t size, size_t alignment,
                    const char *function)
{
    Block *block;
    if (pointer == NULL)
        return va_allocate(allocator, size, alignment);
    uint32_t entry = entry_of(pointer, &block, function);
    if (va_unlikely(size > PTRDIFF_MAX || alignment > PTRDIFF_MAX))
        return NULL;
    if (va_unlikely(entry == 0 && !va_zero_size_holds(pointer)))
        return va_foreign_reallocate(pointer, size, alignment);
    if (va_unlikely(entry == 0)) {
        void *moved = va_allocate(&va_process, size, alignment);
        if (moved != NULL)
            free_apart(pointer, function);
        return moved;
    }
    va_pass_check(pointer, block, entry, function);
    unsigned class = va_entry_class(entry);
    unsigned wanted = va_class_of_aligned(size + VA_CANARY_BYTES, alignment);
    if (wanted == class && class != VA_CLASS_LARGE) {
        va_pass_give_up(pointer, size, block_bytes(block, entry));
        va_pass_resize(pointer, block, entry, size);
        return pointer;
    }
    size_t old_bytes = block_bytes(block, entry);
    size_t old_size = va_pass_size(pointer, block, entry);
    void *moved = NULL;
    if (class >= VA_CLASSES_SMALL) {
        if (resize_run(pointer, block, entry, size, alignment))
            return pointer;
        if (wanted == VA_CLASS_LARGE)
            moved = move_pages(block, old_bytes, old_size, size, alignment);
    }
    if (moved == NULL) {
        moved = va_allocate(allocator_of(block, entry), size, alignment);
        if (va_unlikely(moved == NULL))
            return stay(pointer, block, entry, size, alignment);
        memcpy(moved, pointer, va_min(old_size, size));
    }
    free_entry(pointer, block, entry, function);
    return moved;
}

VA_COLD bool va_expand(void *pointer, size_t size, const char *function)
{
    Block *block;
    uint32_t entry = entry_of(pointer, &block, function);
    if (va_unlikely(entry == 0))
        return size == 0 && va_zero_size_holds(pointer);
    va_pass_check(pointer, block, entry, function);
    if (size <= block_bytes(block, entry)) {
        va_pass_resize(pointer, block, entry, va_max(size, va_pass_size(pointer, block, entry)));
        return true;
    }
    return size <= PTRDIFF_MAX && va_entry_class(entry) >= VA_CLASSES_SMALL &&
           resize_run(pointer, block, entry, size, VA_MIN_ALIGN);
}

size_t va_usable_size(const void *pointer, const char *function)
{
    Block *block;
    if (pointer == NULL)
        return 0;
    uint32_t entry = entry_of(pointer, &block, function);
    if (va_unlikely(entry == 0))
        return va_zero_size_holds(pointer) ? 0 : va_foreign_usable_size(pointer);
    va_pass_check(pointer, block, entry, function);
    size_t bytes = block_bytes(block, entry);
    /* Programs write to all bytes that they are told of: from now on these are no slack. */
    if (VALLOC_SECURE_CANARY && va_pass_size(pointer, block, entry) != bytes)
        va_pass_resize((void *)(uintptr_t)pointer, block, entry, bytes);
    return bytes;
}

VA_COLD size_t va_good_size(size_t size)
{
    if (size > PTRDIFF_MAX)
        return size;
    size += VA_CANARY_BYTES;
    unsigned class = va_class_of(size);
    size_t bytes = class < VA_CLASSES
                       ? va_size_classes[class].bytes
                       : (va_large_blocks(size) << VA_BLOCK_SHIFT) - va_guard_bytes();
    return bytes - VA_CANARY_BYTES;
}

VA_COLD uint32_t va_find_entry(const void *pointer, Block **block)
{
    Arena *arena = va_arena_find(pointer);
    if (arena == NULL)
        return 0;
    size_t index = va_block_index(arena, pointer);
    uint32_t entry = va_entry_load(&arena->entries[index]);
    *block = &arena->records[index];
    return va_entry_class(entry) == VA_CLASS_SPARE ? 0 : entry;
}

VA_COLD Allocator *va_owner(const void *pointer)
{
    Block *block;
    uint32_t entry = va_find_entry(pointer, &block);
    if (va_zero_size_holds(pointer) && va_zero_size_is_live(pointer))
        return &va_process;
    return entry != 0 ? allocator_of(block, entry) : NULL;
}

VA_COLD size_t va_usable_size_unchecked(const void *pointer)
{
    Block *block;
    uint32_t entry = va_find_entry(pointer, &block);
    return entry != 0 ? block_bytes(block, entry) : 0;
}
