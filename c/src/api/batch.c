/* batch.c: many allocations of one size, and many frees, in one call.
 *
 * They leave and enter the calling thread's stacks by one change of the top. To other threads that
 * is a slow path (idle.h): they take nothing from a stack meanwhile, and there is no fence in it.
 * States change one by one, as in fast.h, so every wrong free is seen.
 *
 * The rest goes one by one through the functions for one: the slot that refills an empty stack, and
 * the one that flushes a full one; large sizes; frees of other threads' slots, of sampled ones and
 * of what is none; everything while a profile is on, in secure builds, and where a tool watches. */
#include "api/fast.h"

#include <errno.h>

#define VALLOC_NO_SHORT_NAMES
#include "../../include/valloc.h"
#include "api/sampling.h"
#include "cache/stack_size.h"

/* Where slots may go straight. */
#if VA_PASSAGE_CHECKED || VALLOC_SECURE_RANDOM || VALLOC_SECURE_QUARANTINE || VA_MEMTAG ||         \
    VA_WATCHED
#define VA_BATCHES 0
#else
#define VA_BATCHES 1
#endif

/* ---- The states of a class's slots, which a loop keeps in registers ---- */

/* That of a slot is at slots + (its address - start >> shift). */
typedef struct States {
    uintptr_t start, slots;
    uint64_t shift;
} States;

/* Of a stack's slots from a block's start on. */
VA_INLINE States states_from(const SlotStack *stack, uintptr_t start)
{
#if VALLOC_CHECKS
    return (States){start, stack->states + (start >> stack->shift), stack->shift};
#else
    (void)stack;
    return (States){start, 0, 0};
#endif
}

VA_INLINE void begin_in(const States *states, const void *slot)
{
#if VALLOC_CHECKS
    uintptr_t index = ((uintptr_t)slot - states->start) >> states->shift;
    va_state_begin((uint8_t *)(states->slots + index), slot);
#else
    (void)states, (void)slot;
#endif
}

/* False if no live slot of the block starts there. */
VA_INLINE bool end_in(States *states, const void *slot)
{
    uintptr_t index = (uintptr_t)slot - states->start;
    if (va_unlikely(index >= VA_BLOCK_BYTES))
        return false;
#if VALLOC_CHECKS
    index >>= states->shift;
    if (va_unlikely(!va_state_is_live((uint8_t *)(states->slots + index), slot)))
        return false;
    VA_FOLD(states->slots); /* so that the next access is one instruction */
    *(uint8_t *)(states->slots + index) ^= VA_STATE_FLIP;
#endif
    return true;
}

/* ---- Allocation ---- */

/* Loops do so many at a time (a pragma takes no name): a quarter fewer instructions. */
#define AT_ONCE 8

/* The newest slots of a stack, up to count. A fork in between loses them, as it does a batch that
 * is on its way to an owner. */
static VA_APART size_t take_batch(ThreadCache *cache, uint32_t class_offset, size_t count,
                                  void **pointers)
{
    SlotStack *stack = va_front_stack(&cache->front, class_offset);
    const States states = states_from(stack, 0);
    size_t taken = va_min(count, va_stack_count(cache, class_offset >> VA_CLASS_SHIFT));
    void **top = stack->top;
    VA_PUBLISH(stack->top, top - taken);
    atomic_signal_fence(memory_order_seq_cst);
    size_t done = 0;
    for (; done + AT_ONCE <= taken; done += AT_ONCE, top -= AT_ONCE) {
#pragma GCC unroll 8
        for (ptrdiff_t i = 0; i < AT_ONCE; i++) {
            void *slot = top[-i];
            begin_in(&states, slot);
            pointers[done + (size_t)i] = slot;
        }
    }
    for (; done < taken; done++, top--) {
        void *slot = *top;
        begin_in(&states, slot);
        pointers[done] = slot;
    }
    return taken;
}

/* The same off the thread's stack in an allocator. */
VA_INLINE size_t take_straight(Allocator *allocator, size_t size, size_t count, void **pointers)
{
    if (!VA_BATCHES || size - VA_LEAST_FAST > VA_SMALL_MAX - VA_LEAST_FAST)
        return 0;
    ThreadCache *cache = va_allocator_acquire(allocator);
    if (va_unlikely(cache == NULL))
        return 0;
    size_t taken = take_batch(cache, va_small_class_offset(size), count, pointers);
    va_allocator_release(allocator, cache);
    return taken;
}

/* While a heap profile is on. Jumped to, see VA_STACK_CALLER. */
static VA_APART size_t sample_batch(Allocator *allocator, size_t size, size_t count,
                                    void **pointers)
{
    for (size_t i = 0; i < count; i++) {
        pointers[i] = va_memtag_out(
            va_sampling_allocate(allocator, size, VA_MIN_ALIGN, false, VA_STACK_CALLER));
        if (va_unlikely(pointers[i] == NULL)) {
            errno = ENOMEM;
            return i;
        }
    }
    return count;
}

VA_INLINE size_t allocate_batch(Allocator *allocator, size_t size, size_t count, void **pointers)
{
    if (va_sampling_wants(size))
        return sample_batch(allocator, size, count, pointers);
    size_t done = take_straight(allocator, size, count, pointers);
    while (done < count) {
        pointers[done] = va_route_allocate(allocator, size, VA_MIN_ALIGN);
        if (va_unlikely(pointers[done] == NULL)) {
            errno = ENOMEM;
            return done;
        }
        if (va_memtag_on)
            pointers[done] = va_memtag_give(pointers[done]);
        done++;
        done += take_straight(allocator, size, count - done, pointers + done);
    }
    return done;
}

VA_APART size_t valloc_allocate_batch(size_t size, size_t count, void **pointers)
{
    return allocate_batch(&va_process, size, count, pointers);
}

VA_APART size_t valloc_allocate_batch_from(MemoryAllocator *allocator, size_t size, size_t count,
                                           void **pointers)
{
    if (va_unlikely(allocator == NULL || !va_allocator_is_live(allocator)))
        va_fatal("valloc_allocate_batch_from", "not an initialised MemoryAllocator", allocator);
    return allocate_batch(va_allocator_of(allocator), size, count, pointers);
}

/* ---- Free ---- */

/* Puts what comes first and lies in one slab of the cache on the stack of its class. Returns how
 * many; stops at the first that is no live slot there, and when the stack is full. */
static VA_APART size_t put_batch(ThreadCache *cache, uint32_t class_offset, void *const *pointers,
                                 size_t count)
{
    SlotStack *stack = va_front_stack(&cache->front, class_offset);
    States states = states_from(stack, va_align_down((uintptr_t)*pointers, VA_BLOCK_BYTES));
    size_t room = va_min(count, (size_t)(stack->limit - stack->top));
    void **top = stack->top + 1;
    size_t done = 0;
    for (; done + AT_ONCE <= room; done += AT_ONCE) {
#pragma GCC unroll 8
        for (size_t i = 0; i < AT_ONCE; i++) {
            void *slot = pointers[done + i];
            if (va_unlikely(!end_in(&states, slot))) {
                VA_FORGET(done); /* so that only this way out computes the sum */
                done += i;
                goto stopped;
            }
            top[done + i] = slot;
        }
    }
    for (; done < room && end_in(&states, pointers[done]); done++)
        top[done] = pointers[done];
stopped:
    atomic_signal_fence(memory_order_seq_cst); /* before top: a fork copies a sound stack */
    VA_PUBLISH(stack->top, top + done - 1);
    return done;
}

/* The same for the cache of the thread that owns the first one's slab, if there is one. */
static VA_APART size_t put_straight(void *const *pointers, size_t count)
{
    CacheFront *front = VA_THREAD_SOURCE;
    size_t index = va_index_fast(front, *pointers);
    uint32_t entry = va_entry_fast(front, index);
    Allocator *allocator = &va_process;
    if ((entry ^ front->tag) >= VA_CLASSES_SMALL << VA_CLASS_SHIFT) {
        if (!va_is_other(va_entry_owner(entry)))
            return 0;
        allocator = va_arenas[0].records[index].allocator;
    }
    ThreadCache *cache = va_allocator_acquire(allocator);
    if (va_unlikely(cache == NULL))
        return 0;
    uint32_t offset = va_entry_fast(&cache->front, index) ^ cache->front.tag;
    size_t done =
        offset < VA_CLASSES_SMALL << VA_CLASS_SHIFT ? put_batch(cache, offset, pointers, count) : 0;
    va_allocator_release(allocator, cache);
    return done;
}

VA_APART void valloc_free_batch(void *const *pointers, size_t count)
{
    size_t done = 0;
    while (done < count) {
        size_t some = 0;
        /* One alone is quicker the ordinary way. */
        if (VA_BATCHES && count - done > 1 &&
            ((uintptr_t)pointers[done] ^ (uintptr_t)pointers[done + 1]) < VA_BLOCK_BYTES)
            some = put_straight(pointers + done, count - done);
        if (some == 0) {
            va_api_free(pointers[done]);
            some = 1;
        }
        done += some;
    }
}
