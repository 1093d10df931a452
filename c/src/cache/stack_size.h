/* stack_size.h: how many slots a stack may hold: its bounds by class, and the budget of bytes that
 * all caches share. Called by the cache's thread, without its mutex. */
#ifndef VA_STACK_SIZE_H
#define VA_STACK_SIZE_H

#include "cache/registry.h"

/* The slots that a stack of a class may hold: a part of the thread's share, or of what the class
 * has in use, whichever is more. If the class is only freed, a part of the share. */
uint32_t va_stack_capacity(const ThreadCache *cache, unsigned class);

/* The same while it is refilled and flushed in turns: it may take what is left of the share. */
uint32_t va_stack_capacity_in_turns(const ThreadCache *cache, unsigned class);

/* Whether all stacks together may hold more than the share. */
VA_INLINE bool va_stack_is_over_share(const ThreadCache *cache)
{
    return atomic_load_explicit(&cache->capacity_bytes, memory_order_relaxed) > cache->share;
}

/* The next larger capacity, at most `most`. */
uint32_t va_stack_grown(unsigned class, uint32_t capacity, uint32_t most);

/* Changes how many slots a stack may hold, never below what it holds. False if there is no memory:
 * then the stack is as it was. */
bool va_stack_set_capacity(ThreadCache *cache, unsigned class, uint32_t capacity);

/* Takes the oldest slots off a stack. Mutex held. */
void va_stack_drop_oldest(ThreadCache *cache, unsigned class, size_t count);

/* Gives back the memory of all stacks, which are empty. */
void va_stacks_drop(ThreadCache *cache);

/* Slots in a stack. */
size_t va_stack_count(ThreadCache *cache, unsigned class);

/* Reads the cache's share of all threads' budget anew. */
void va_stack_update_share(ThreadCache *cache);

/* Gives back the oldest `count` slots of a stack; those of other owners join the batches for them.
 */
void va_stack_flush(ThreadCache *cache, unsigned class, size_t count, const char *function);

/* Makes a stack hold at most so many slots. */
void va_stack_shrink(ThreadCache *cache, unsigned class, uint32_t capacity);

/* Freed runs of a class become spare blocks and join a chain; a chain of blocks that were in use
 * returns to their allocator; both. Any thread. */
void va_cache_end_runs(void *const *addresses, size_t count, Block **chain, const char *function);
void va_cache_give_back_blocks(Block *chain);
void va_cache_give_back_runs(void *const *addresses, size_t count, const char *function);

#endif
