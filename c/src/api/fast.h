/* fast.h: malloc and free, as far as they need no function. The rest of a request is in alloc.h.
 *
 * malloc looks the size's class up and pops the newest slot of that class's stack in the thread's
 * cache. free reads the block's entry, finds that the block is the thread's own and its class in
 * one comparison, and pushes the slot. Each gives up, with nothing changed, where that is not all.
 *
 * No lock, no atomic read-modify-write, and the slot's memory is not touched. Secure builds check
 * at both places (fast_secure.h); builds that a tool watches have no fast path. */
#ifndef VA_FAST_H
#define VA_FAST_H

#include <string.h>

#include "api/watch.h"
#include "harden/memtag.h"

#if VA_PASSAGE_CHECKED || VALLOC_SECURE_RANDOM
#include "api/fast_secure.h"
#else

/* The newest slot of a class, removed, for a request; NULL if there is none. The NULL lies below
 * the slots, so that the test for an empty stack is that of the slot just loaded. */
VA_INLINE void *va_pop_fast(CacheFront *front, uint32_t class_offset, size_t size)
{
    (void)size;
    uintptr_t offset = class_offset;
    void **top = va_front_stack(front, offset)->top;
    void *slot = VA_GLANCE(*top);
    if (va_unlikely(slot == NULL || VA_WATCHED))
        return NULL;
    atomic_signal_fence(memory_order_seq_cst);
    VA_FOLD(offset);
    VA_PUBLISH(va_front_stack(front, offset)->top, top - 1);
    atomic_signal_fence(memory_order_seq_cst); /* before the thread's next operation */
    va_front_begin(front, offset, slot);
    return slot;
}

/* Puts a slot on the stack of its class; false if that is full, or if no live slot starts there.
 * The stack's address is folded into each access to it. */
VA_INLINE bool va_push_fast(CacheFront *front, uint32_t class_offset, void *slot)
{
    uintptr_t offset = class_offset;
    void **top = va_front_stack(front, offset)->top;
    VA_FOLD(offset);
    if (va_unlikely(VA_WATCHED || top == va_front_stack(front, offset)->limit ||
                    !va_front_end(front, &offset, slot)))
        return false;
    VA_PUBLISH(top[1], slot); /* before top: a fork in between copies a sound stack */
    atomic_signal_fence(memory_order_seq_cst);
    VA_FOLD(offset);
    VA_PUBLISH_NEXT(va_front_stack(front, offset)->top);
    atomic_signal_fence(memory_order_seq_cst); /* before the thread's next operation */
    return true;
}

#endif

/* Secure builds take no bytes from elsewhere, see zero_size.h. */
#define VA_LEAST_FAST ((size_t)VALLOC_SECURE_GUARD)

/* A slot of a cache, or NULL: then va_allocate. Sizes above VA_SMALL_MAX: NULL. A macro: the
 * thread's front is then read after the size was compared, which is an instruction less. */
#define VA_ALLOCATE_FROM(front, size)                                                              \
    (va_unlikely((size)-VA_LEAST_FAST > VA_SMALL_MAX - VA_CANARY_BYTES - VA_LEAST_FAST)            \
         ? NULL                                                                                    \
         : va_pop_fast((front), va_small_class_offset((size) + VA_CANARY_BYTES), (size)))

/* A slot of the thread's cache in the allocator of the process. */
VA_INLINE void *va_allocate_fast(size_t size)
{
    return VA_ALLOCATE_FROM(VA_THREAD_SOURCE, size);
}

/* Frees into a cache; false if it cannot, with nothing changed: then va_free. The slot's memory is
 * not touched. */
VA_INLINE bool va_free_to(CacheFront *front, void *pointer)
{
    /* 0 is no entry of any owner: it matches no tag. */
    size_t index = va_index_fast(front, pointer);
    uint32_t offset = va_entry_fast(front, index) ^ front->tag;
    if (va_unlikely(offset >= VA_CLASSES << VA_CLASS_SHIFT))
        return false;
    return va_push_fast(front, offset, pointer);
}

VA_INLINE bool va_free_fast(void *pointer)
{
    return va_free_to(VA_THREAD_FRONT, pointer);
}

/* Sets errno to ENOMEM on failure. */
void *va_api_malloc_slow(size_t size);
void va_api_free_slow(void *pointer);

VA_INLINE void *va_api_malloc(size_t size)
{
    void *slot = va_allocate_fast(size);
    if (va_likely(slot != NULL))
        return va_memtag_out(slot);
    return va_api_malloc_slow(size);
}

VA_INLINE void va_api_free(void *pointer)
{
    pointer = va_memtag_in(pointer, "free");
    if (va_unlikely(!va_free_fast(pointer)))
        va_api_free_slow(pointer);
}

/* ---- Other requests ---- */

/* The same for a request above VA_SMALL_MAX, which a whole run of the thread's cache serves. */
VA_INLINE void *va_allocate_run_fast(size_t size)
{
    if (va_unlikely(size <= VA_SMALL_MAX || size > VA_RUN_MAX - VA_CANARY_BYTES))
        return NULL;
    uintptr_t offset = va_class_of(size + VA_CANARY_BYTES) << VA_CLASS_SHIFT;
    CacheFront *front = VA_THREAD_SOURCE;
    if (va_unlikely(VA_GLANCE(*va_front_stack(front, offset)->top) == NULL))
        return NULL; /* the front may be none */
    atomic_store_explicit(&front->popping, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* if it was too late to say so, a fence is there */
    void *run = va_pop_fast(front, (uint32_t)offset, size);
    atomic_store_explicit(&front->popping, false, memory_order_release);
    return run;
}

/* Whether it is a large run that the thread sees. */
VA_INLINE bool va_is_large_fast(const void *pointer)
{
    CacheFront *front = VA_THREAD_FRONT;
    return !VA_WATCHED &&
           va_entry_fast(front, va_index_fast(front, pointer)) == va_entry_make(0, VA_CLASS_LARGE);
}

/* What stays of an entry when the owner is any cache of the process: slots of other allocators
 * have a bit more, which no class offset has. */
#define VA_ENTRY_OWNERLESS (VA_OWNERS_HALF << VA_OWNER_SHIFT | ((1u << VA_OWNER_SHIFT) - 1))

/* The same for a slot of another owner that this thread may keep. */
VA_INLINE bool va_free_foreign_fast(void *pointer)
{
    CacheFront *front = VA_THREAD_FRONT;
    size_t index = va_index_fast(front, pointer);
    uint32_t offset = va_entry_fast(front, index) & VA_ENTRY_OWNERLESS;
    if (offset - (VA_CLASS_KEPT << VA_CLASS_SHIFT) >= (VA_CLASSES_SMALL - VA_CLASS_KEPT)
                                                          << VA_CLASS_SHIFT)
        return false;
    return va_push_fast(front, offset, pointer);
}

/* The same for one that it does not keep: it joins the batch for its owner. */
VA_INLINE bool va_free_away_fast(void *pointer, uint32_t class_offsets_from,
                                 uint32_t class_offsets_to)
{
    if (VA_PASSAGE_CHECKED || VA_WATCHED)
        return false;
    CacheFront *front = VA_THREAD_FRONT;
    uint32_t entry = va_entry_fast(front, va_index_fast(front, pointer));
    uint32_t offset = entry & VA_ENTRY_OWNERLESS;
    uint32_t owner = va_entry_owner(entry);
    if (owner == 0 || front->tag == VA_TAG_NONE || entry - offset == front->tag ||
        offset < class_offsets_from || offset > class_offsets_to)
        return false;
    ThreadCache *cache = (ThreadCache *)front;
    unsigned class = offset >> VA_CLASS_SHIFT;
    uintptr_t place = offset;
    if (va_cache_keeps(cache, class) || !va_front_end(front, &place, pointer))
        return false;
    if (va_collect_fast(cache, pointer, owner, va_size_classes[class].bytes))
        return true;
    va_front_begin(front, offset, pointer); /* before that, another thread may take the batch */
    return false;
}

/* The same for a size known: one compare of the whole entry checks owner and class. */
VA_INLINE bool va_free_sized_to(CacheFront *front, void *pointer, size_t size)
{
    if (va_unlikely(size > VA_SMALL_MAX - VA_CANARY_BYTES))
        return false;
    uint32_t offset = va_small_class_offset(size + VA_CANARY_BYTES);
    size_t index = va_index_fast(front, pointer);
    if (va_unlikely(va_entry_fast(front, index) != (front->tag | offset)))
        return false;
    return va_push_fast(front, offset, pointer);
}

VA_INLINE bool va_free_sized_fast(void *pointer, size_t size)
{
    return va_free_sized_to(VA_THREAD_FRONT, pointer, size);
}

/* The class offset of a small request with an alignment, a power of two: that of the size rounded
 * up to it, if its slots are so aligned; else UINT32_MAX. va_class_of_aligned begins with it, too.
 */
VA_INLINE uint32_t va_aligned_class_offset(size_t size, size_t alignment)
{
    if (size > VA_SMALL_MAX || alignment > VA_SMALL_MAX)
        return UINT32_MAX;
    size_t bytes = va_align_up(va_max(size + VA_CANARY_BYTES, 1), alignment);
    if (bytes > VA_SMALL_MAX)
        return UINT32_MAX;
    uint32_t offset = va_small_class_offset(bytes);
    bool aligned = (va_size_classes[offset >> VA_CLASS_SHIFT].bytes & (alignment - 1)) == 0;
    return aligned ? offset : UINT32_MAX;
}

/* A slot of the thread's cache, or NULL: then va_allocate. */
VA_INLINE void *va_allocate_aligned_fast(size_t size, size_t alignment)
{
    uint32_t offset = va_aligned_class_offset(size, alignment);
    return va_likely(offset != UINT32_MAX) ? va_pop_fast(VA_THREAD_SOURCE, offset, size) : NULL;
}

/* Frees it into the thread's cache; false if it cannot, with nothing changed: then va_free_sized.
 */
VA_INLINE bool va_free_aligned_fast(void *pointer, size_t size, size_t alignment)
{
    CacheFront *front = VA_THREAD_FRONT;
    uint32_t offset = va_aligned_class_offset(size, alignment);
    size_t index = va_index_fast(front, pointer);
    if (va_unlikely(offset == UINT32_MAX || va_entry_fast(front, index) != (front->tag | offset)))
        return false;
    return va_push_fast(front, offset, pointer);
}

/* The same for a slot of another owner that this thread may keep. */
VA_INLINE bool va_free_sized_foreign_fast(void *pointer, size_t size)
{
    CacheFront *front = VA_THREAD_FRONT;
    if (size > VA_SMALL_MAX - VA_CANARY_BYTES)
        return false;
    uint32_t offset = va_small_class_offset(size + VA_CANARY_BYTES);
    size_t index = va_index_fast(front, pointer);
    uint32_t entry = va_entry_fast(front, index);
    if (offset < VA_CLASS_KEPT << VA_CLASS_SHIFT || (entry & VA_ENTRY_OWNERLESS) != offset)
        return false;
    return va_push_fast(front, offset, pointer);
}

/* Moves a slot of the thread's cache to one of another class, if it has one free, or leaves it
 * where its class is right. NULL with nothing changed: then va_reallocate, which also reports. */
VA_INLINE void *va_reallocate_from(CacheFront *front, void *pointer, size_t size)
{
    size_t index = va_index_fast(front, pointer);
    uint32_t offset = va_entry_fast(front, index) ^ front->tag;
    if (va_unlikely(offset >= VA_CLASSES_SMALL << VA_CLASS_SHIFT))
        return NULL;
    if (va_unlikely(!va_front_is_live(front, offset, pointer)))
        return NULL;
    uint32_t old_bytes = va_size_classes[offset >> VA_CLASS_SHIFT].bytes;
    uint32_t wanted = va_small_class_offset(size);
    if (wanted == offset)
        return pointer;
    void *moved = va_pop_fast(front, wanted, size);
    if (va_unlikely(moved == NULL))
        return NULL;
    memcpy(moved, pointer, va_min(old_bytes, size));
    if (va_unlikely(!va_push_fast(front, offset, pointer)))
        va_free(pointer, "realloc");
    return moved;
}

VA_INLINE void *va_reallocate_fast(void *pointer, size_t size)
{
    if (VA_PASSAGE_CHECKED || VA_WATCHED || va_unlikely(size > VA_SMALL_MAX))
        return NULL;
    return va_reallocate_from(VA_THREAD_SOURCE, pointer, size);
}

/* The same for a slot or run that the thread sees; 0: then va_usable_size. */
VA_INLINE size_t va_usable_size_fast(const void *pointer)
{
    if (VA_PASSAGE_CHECKED || VA_WATCHED)
        return 0;
    CacheFront *front = VA_THREAD_FRONT;
    uint32_t entry = va_entry_fast(front, va_index_fast(front, pointer));
    unsigned class = va_entry_class(entry);
    if (va_unlikely(entry == 0 || class >= VA_CLASSES ||
                    !va_front_is_live(front, class << VA_CLASS_SHIFT, pointer)))
        return 0;
    return va_size_classes[class].bytes;
}

#endif
