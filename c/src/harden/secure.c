/* secure.c: see secure.h. */
#include "harden/secure.h"

#include <string.h>

#include "table/bitmap.h"
#include "os/os.h"

/* ---- Random numbers ---- */

#if VA_RANDOMNESS

static uint32_t random_key[VA_CHACHA_KEY_WORDS]; /* const after va_secure_start, but for fork */
static _Atomic uint64_t random_block;            /* the next of the stream; relaxed */
#if VALLOC_SECURE_CANARY
uint64_t va_canary_secrets[2];
#endif

VA_COLD void va_secure_start(void)
{
    va_secure_fork();
#if VALLOC_SECURE_CANARY
    va_os_random(va_canary_secrets, sizeof va_canary_secrets);
    va_canary_secrets[1] |= 1;
#endif
}

VA_COLD void va_secure_fork(void)
{
    va_os_random(random_key, sizeof random_key);
}

/* Each block of the stream is used once, by whoever draws it. */
static void draw_block(void *numbers)
{
    uint32_t block[VA_CHACHA_WORDS];
    va_chacha_block(random_key, atomic_fetch_add_explicit(&random_block, 1, memory_order_relaxed),
                    block);
    memcpy(numbers, block, sizeof block);
}

uint64_t va_random_shared(void)
{
    uint64_t numbers[VA_CHACHA_WORDS / 2];
    draw_block(numbers);
    return numbers[0];
}

VA_APART uint32_t va_random_refill(SecureFront *front)
{
    draw_block(front->numbers);
    return sizeof front->numbers;
}

void va_shuffle(void **slots, uint32_t count)
{
    uint16_t numbers[VA_CHACHA_WORDS * 2];
    size_t left = 0;
    for (uint32_t i = count; i > 1; i--) {
        if (left == 0) {
            draw_block(numbers);
            left = sizeof numbers / sizeof *numbers;
        }
        uint32_t other = numbers[--left] * i >> 16;
        void *slot = slots[i - 1];
        slots[i - 1] = slots[other];
        slots[other] = slot;
    }
}

#endif

/* ---- Guard pages ---- */

#if VALLOC_SECURE_GUARD

size_t va_guard_bytes(void)
{
    return va_os_page_bytes();
}

/* Pages of 16 KiB and more would cost a slab too much. */
static bool is_guarded_slab(const Block *slab)
{
    return va_block_number(slab) % VA_GUARD_BLOCKS == 0 &&
           va_os_page_bytes() <= VA_BLOCK_BYTES / 16;
}

uint32_t va_guard_slots(const Block *slab, uint32_t slot_bytes, uint32_t slots)
{
    if (!is_guarded_slab(slab))
        return slots;
    return (uint32_t)((VA_BLOCK_BYTES - va_os_page_bytes()) / slot_bytes);
}

static VA_COLD char *last_page(const Block *run)
{
    return va_block_address(run) + ((size_t)run->run_blocks << VA_BLOCK_SHIFT) - va_guard_bytes();
}

/* It is said before it is done: a child of a fork in between takes away no guard too few. */
VA_COLD void va_guard_run(Block *run)
{
    if ((run->guarded & GUARD_END) != 0)
        return;
    run->guarded |= GUARD_END;
    if (!va_os_guard(last_page(run), va_guard_bytes()))
        run->guarded &= (uint8_t)~GUARD_END;
}

VA_COLD void va_guard_slab(Block *slab)
{
    if (is_guarded_slab(slab))
        va_guard_run(slab);
}

VA_COLD void va_guard_class(Block *run)
{
    if (va_guard_bytes() <= VA_RUN_GUARD_BYTES)
        va_guard_run(run);
}

VA_COLD void va_guard_end(Block *run)
{
    if ((run->guarded & GUARD_END) != 0)
        va_os_unguard(last_page(run), va_guard_bytes());
    run->guarded &= (uint8_t)~GUARD_END;
}

/* The front counts as a block that is held without use. */
VA_COLD Block *va_guard_split(Block *front)
{
    Block *run = front + 1;
    run->arena = front->arena;
    run->run_blocks = front->run_blocks - 1;
    run->next = NULL;
    run->zero = front->zero;
    run->dirty_blocks = front->dirty_blocks - (front->dirty_blocks != 0);
    run->moved = 0;
    run->allocator = front->allocator;
    run->guarded = GUARD_HAS_FRONT;
    front->run_blocks = 1;
    front->guarded = GUARD_IS_FRONT;
    va_guard_run(front);
    va_entry_store(va_block_entry(front), va_entry_make(0, VA_CLASS_SPARE));
    return run;
}

VA_COLD Block *va_guard_whole(Block *run)
{
    if ((run->guarded & GUARD_IS_FRONT) != 0)
        run++;
    va_guard_end(run);
    if ((run->guarded & GUARD_HAS_FRONT) == 0)
        return run;
    Block *front = run - 1;
    va_guard_end(front);
    va_entry_store(va_block_entry(run), 0);
    front->run_blocks = run->run_blocks + 1;
    front->class = run->class;
    front->zero &= run->zero;
    front->moved = run->moved;
    front->guarded = run->guarded = GUARD_NONE;
    return front;
}

#endif
