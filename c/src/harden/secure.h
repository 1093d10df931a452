/* secure.h: what secure builds add beneath the thread caches: random numbers, canaries,
 * guard pages. Every feature is a constant of the build; without it nothing of it is
 * compiled. passage.h uses these where slots go to the program and come back. */
#ifndef VA_SECURE_H
#define VA_SECURE_H

#include <string.h>

#include "harden/chacha.h"
#include "table/block_table.h"

#define VA_RANDOMNESS (VALLOC_SECURE_RANDOM || VALLOC_SECURE_QUARANTINE || VALLOC_SECURE_CANARY)
/* Frees look at the slot itself. */
#define VA_PASSAGE_CHECKED (VALLOC_SECURE_ZERO | VALLOC_SECURE_CANARY)

/* What a cache's front needs of it; owner thread only. */
typedef struct SecureFront {
#if VA_RANDOMNESS
    uint8_t numbers[VA_CHACHA_WORDS * 4]; /* random ones; below numbers_left not used yet */
    uint32_t numbers_left;
#endif
#if VALLOC_SECURE_RANDOM
    _Atomic bool suspended; /* as the cache; any thread writes it, under its mutex */
#endif
} SecureFront;

/* ---- Random numbers ---- */

#if VA_RANDOMNESS

/* Draws the secrets; once, before any block is lent. */
void va_secure_start(void);
/* In the child after fork: other numbers than the parent's. */
void va_secure_fork(void);
/* Any thread; slow paths. */
uint64_t va_random_shared(void);

/* Draws a front's numbers: how many. */
uint32_t va_random_refill(SecureFront *front);

/* A number below `bound`, up to 256, from a cache's own store. */
VA_INLINE uint32_t va_random_below(SecureFront *front, uint32_t bound)
{
    uint32_t left = front->numbers_left;
    if (va_unlikely(left == 0))
        left = va_random_refill(front);
    front->numbers_left = left - 1;
    return front->numbers[left - 1] * bound >> 8;
}

/* Forgets what is left, in the child after fork. */
VA_INLINE void va_random_seed(SecureFront *front)
{
    front->numbers_left = 0;
}

/* Mixes the order of slots. */
void va_shuffle(void **slots, uint32_t count);

#else

VA_INLINE void va_secure_start(void)
{
}

VA_INLINE void va_secure_fork(void)
{
}

VA_INLINE uint64_t va_random_shared(void)
{
    return 0;
}

VA_INLINE void va_random_seed(SecureFront *front)
{
    (void)front;
}

#endif

/* ---- Canaries ---- */

/* The end of a slot or run:   | request | slack | word |
 *
 * The word, 8 bytes, depends on a secret and its address, and tells how long the slack is. The
 * first VA_SLACK_BYTES of the slack hold the word's first byte. So a write beyond the request shows
 * from its first byte on. That byte is odd: a 0 shows, too. The next one is 0, and ends a string.
 */
#if VALLOC_SECURE_CANARY

/* Const after va_secure_start; a child after fork has live canaries of its parent's. */
extern uint64_t va_canary_secrets[2];

/* Both halves of a product by a secret: one word tells neither secret. */
VA_INLINE uint64_t va_canary_at(const char *place)
{
    __extension__ typedef unsigned __int128 Product;
    Product product = (Product)(va_canary_secrets[0] ^ (uintptr_t)place) * va_canary_secrets[1];
    return (((uint64_t)product ^ (uint64_t)(product >> 64)) & ~(uint64_t)0xff00) | 1;
}

typedef uint64_t VaWord __attribute__((may_alias, aligned(1)));

/* The first bytes of the slack before a place, up to VA_SLACK_BYTES: fills them, or tells whether
 * they are filled. By words; one that begins in the request keeps its first bytes. */
VA_INLINE bool va_slack_walk(char *place, size_t slack, uint64_t word, bool fill)
{
    uint64_t filled = (word & 0xff) * 0x0101010101010101u;
    uint64_t wrong = 0;
    if (slack < sizeof(VaWord)) {
        VaWord *last = (VaWord *)(void *)(place - sizeof(VaWord));
        uint64_t mask = slack == 0 ? 0 : UINT64_MAX << (64 - 8 * slack);
        if (fill)
            *last = (*last & ~mask) | (filled & mask);
        return ((*last ^ filled) & mask) == 0;
    }
    char *at = place - slack;
    char *end = at + va_min(slack, VA_SLACK_BYTES);
    for (bool more = true; more; at += sizeof(VaWord)) {
        more = at + sizeof(VaWord) < end;
        VaWord *part = (VaWord *)(void *)(more ? at : end - sizeof(VaWord));
        if (fill)
            *part = filled;
        wrong |= *part ^ filled;
    }
    return wrong == 0;
}

/* `end` is that of the slot or run. */
VA_INLINE void va_canary_write(char *end, size_t slack)
{
    char *place = end - VA_CANARY_BYTES;
    uint64_t word = va_canary_at(place);
    *(uint64_t *)(void *)place = word ^ slack << 16;
    va_slack_walk(place, slack, word, true);
}

/* SIZE_MAX if the word was changed. */
VA_INLINE size_t va_canary_slack(const char *end, size_t bytes)
{
    const char *place = end - VA_CANARY_BYTES;
    uint64_t slack = *(const uint64_t *)(const void *)place ^ va_canary_at(place);
    return (slack & 0xffff) == 0 && slack >> 16 <= bytes - VA_CANARY_BYTES ? slack >> 16 : SIZE_MAX;
}

/* Of a slot or run of so many bytes. */
VA_INLINE bool va_canary_is_whole(const char *end, size_t bytes)
{
    size_t slack = va_canary_slack(end, bytes);
    if (va_unlikely(slack == SIZE_MAX))
        return false;
    char *place = (char *)(uintptr_t)end - VA_CANARY_BYTES;
    return va_slack_walk(place, slack, va_canary_at(place), false);
}

/* A slot freed twice has none. */
VA_INLINE void va_canary_erase(char *end)
{
    *(uint64_t *)(void *)(end - VA_CANARY_BYTES) = 0;
}

/* Whether the end of a neighbour is surely damaged. Its user may free it meanwhile, or somebody
 * allocate it: then the word is 0 or whole in the end, and not twice the same. */
VA_INLINE bool va_canary_is_damaged(const char *end, size_t bytes)
{
    const _Atomic uint64_t *place = (const _Atomic uint64_t *)(const void *)(end - VA_CANARY_BYTES);
    uint64_t word = atomic_load_explicit(place, memory_order_acquire);
    return va_unlikely(word != 0 && va_canary_slack(end, bytes) == SIZE_MAX &&
                       atomic_load_explicit(place, memory_order_acquire) == word);
}

#else

VA_INLINE void va_canary_write(char *end, size_t slack)
{
    (void)end, (void)slack;
}

VA_INLINE size_t va_canary_slack(const char *end, size_t bytes)
{
    (void)end, (void)bytes;
    return 0;
}

VA_INLINE bool va_canary_is_whole(const char *end, size_t bytes)
{
    (void)end, (void)bytes;
    return true;
}

VA_INLINE void va_canary_erase(char *end)
{
    (void)end;
}

VA_INLINE bool va_canary_is_damaged(const char *end, size_t bytes)
{
    (void)end, (void)bytes;
    return false;
}

#endif

/* ---- Guard pages ---- */

#if VALLOC_SECURE_GUARD

/* The last page of a large run is inaccessible, and so is the page before it: the run is lent with
 * a block more, its front, which ends with that page. Some slabs end with such a page, too. Where
 * the kernel cannot do that by marks in the page table (Linux 6.13) nothing is guarded: mappings
 * split by mprotect would become too many. */
typedef enum Guard { GUARD_NONE, GUARD_END, GUARD_IS_FRONT, GUARD_HAS_FRONT = 4 } Guard;

/* Bytes at the end of a large run that are no user's, and blocks before it. */
size_t va_guard_bytes(void);
VA_INLINE size_t va_guard_front_blocks(size_t align_blocks)
{
    return align_blocks == 1;
}

/* How many slots a slab has, which may end with a guard page. */
uint32_t va_guard_slots(const Block *slab, uint32_t slot_bytes, uint32_t slots);

/* Guards the last page of a slab that is to have one, of a run; nothing if that is done already. */
void va_guard_slab(Block *slab);
void va_guard_run(Block *run);

/* The same for a run of a class, which gives up VA_RUN_GUARD_BYTES for it. */
void va_guard_class(Block *run);

/* Makes the last page accessible. */
void va_guard_end(Block *run);

/* Splits the front from a run just lent, which has one: returns the rest. */
Block *va_guard_split(Block *front);

/* The run as it was lent, front included and accessible throughout. Of one without a front, itself;
 * of a front, all of it. */
Block *va_guard_whole(Block *run);

VA_INLINE bool va_guard_is_front(const Block *run)
{
    return (run->guarded & GUARD_IS_FRONT) != 0;
}

#else

VA_INLINE size_t va_guard_bytes(void)
{
    return 0;
}

VA_INLINE size_t va_guard_front_blocks(size_t align_blocks)
{
    (void)align_blocks;
    return 0;
}

VA_INLINE uint32_t va_guard_slots(const Block *slab, uint32_t slot_bytes, uint32_t slots)
{
    (void)slab, (void)slot_bytes;
    return slots;
}

VA_INLINE void va_guard_slab(Block *slab)
{
    (void)slab;
}

VA_INLINE void va_guard_run(Block *run)
{
    (void)run;
}

VA_INLINE void va_guard_class(Block *run)
{
    (void)run;
}

VA_INLINE void va_guard_end(Block *run)
{
    (void)run;
}

VA_INLINE Block *va_guard_split(Block *front)
{
    return front;
}

VA_INLINE Block *va_guard_whole(Block *run)
{
    return run;
}

VA_INLINE bool va_guard_is_front(const Block *run)
{
    (void)run;
    return false;
}

#endif

#endif
