/* stack_size.h: how many slots a stack may hold: its bounds by class, and the budget of bytes that
 * all caches share. Called by the cache's thread, without its mutex. */
#ifndef VA_STACK_SIZE_H
#define VA_STACK_SIZE_H

#include "cache/registry.h"

/* Slots that the stack of a class holds: at rest; while its class is busy; whatever the budget. */
uint32_t va_capacity_at_rest(unsigned class);
uint32_t va_capacity_at_most(unsigned class);
uint32_t va_capacity_at_least(unsigned class);

/* The same while it is refilled and flushed in turns: more than at rest for fine slots of which
 * refills bring whole batches, as long as half of the cache's share is left for other classes. */
uint32_t va_capacity_in_phases(ThreadCache *cache, unsigned class);

/* The next larger capacity, at most `most`. */
uint32_t va_capacity_grown(unsigned class, uint32_t capacity, uint32_t most);

/* Changes how many slots a stack may hold, never below what it holds. False if there is no memory:
 * then the stack is as it was. */
bool va_stack_set_capacity(ThreadCache *cache, unsigned class, uint32_t capacity);

/* Takes the oldest slots off a stack. Mutex held. */
void va_stack_drop_oldest(ThreadCache *cache, unsigned class, size_t count);

/* Slots in a stack. */
/* Gives back the memory of all stacks, which are empty. */
void va_stacks_drop(ThreadCache *cache);

size_t va_stack_count(ThreadCache *cache, unsigned class);

/* Counts blocks of runs that an owner has more; what it has less is added as its complement. Any
 * thread. */
void va_budget_count_runs(uint32_t owner, size_t blocks);

/* Reads the cache's share of the budget anew; whether its stacks may hold more than it allows;
 * the capacity nearest to the one wanted that it allows, which is what the stack has at least. */
void va_budget_update(ThreadCache *cache);
bool va_budget_is_exceeded(ThreadCache *cache, bool runs);
/* Whether a stack may be as large as a phase of its class. */
bool va_budget_affords_phases(ThreadCache *cache, unsigned class);
/* The slots that one of several refills in a row may take, if that is more than half a stack. */
uint32_t va_budget_bulk(ThreadCache *cache, unsigned class);
uint32_t va_budget_affords(ThreadCache *cache, unsigned class, uint32_t wanted);

#endif
