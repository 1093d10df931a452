/* zero_size.c: see zero_size.h. */
#include "harden/zero_size.h"

#include "os/os.h"

#if VALLOC_SECURE_GUARD

#define WORDS (VA_ZERO_SIZES / 64)
#define RANGE_BYTES (VA_ZERO_SIZES * VA_MIN_ALIGN)

static VA_ARRAY_LAST _Atomic uint64_t in_use[WORDS];
static _Atomic(char *) range;    /* the acquire loads pair with the release in find_range */
static _Atomic size_t next_word; /* relaxed: where to look first */

static VA_COLD char *find_range(void)
{
    char *found = atomic_load_explicit(&range, memory_order_acquire);
    if (found != NULL)
        return found;
    char *mapped = va_os_map_inaccessible(RANGE_BYTES);
    if (mapped == NULL || atomic_compare_exchange_strong_explicit(
                              &range, &found, mapped, memory_order_acq_rel, memory_order_acquire))
        return mapped;
    va_os_unmap(mapped, RANGE_BYTES); /* another thread was first */
    return found;
}

/* Addresses are used in turn, so that one that was freed is not used again soon. */
VA_COLD void *va_zero_size_allocate(void)
{
    char *start = find_range();
    size_t first = atomic_fetch_add_explicit(&next_word, 1, memory_order_relaxed);
    for (size_t i = 0; start != NULL && i < WORDS; i++) {
        size_t w = (first + i) % WORDS;
        uint64_t word = atomic_load_explicit(&in_use[w], memory_order_relaxed);
        while (word != UINT64_MAX) {
            unsigned bit = (unsigned)__builtin_ctzll(~word);
            if (atomic_compare_exchange_weak_explicit(&in_use[w], &word, word | (uint64_t)1 << bit,
                                                      memory_order_relaxed, memory_order_relaxed))
                return start + (w * 64 + bit) * VA_MIN_ALIGN;
        }
    }
    return NULL;
}

static VA_COLD size_t distance(const void *pointer)
{
    return (uintptr_t)pointer - (uintptr_t)atomic_load_explicit(&range, memory_order_acquire);
}

VA_COLD bool va_zero_size_holds(const void *pointer)
{
    return atomic_load_explicit(&range, memory_order_relaxed) != NULL &&
           distance(pointer) < RANGE_BYTES;
}

VA_COLD bool va_zero_size_is_live(const void *pointer)
{
    size_t n = distance(pointer) / VA_MIN_ALIGN;
    uint64_t word = atomic_load_explicit(&in_use[n / 64], memory_order_relaxed);
    return distance(pointer) % VA_MIN_ALIGN == 0 && (word >> n % 64 & 1) != 0;
}

VA_COLD bool va_zero_size_free(const void *pointer)
{
    size_t n = distance(pointer) / VA_MIN_ALIGN;
    uint64_t bit = (uint64_t)1 << n % 64;
    return distance(pointer) % VA_MIN_ALIGN == 0 &&
           (atomic_fetch_and_explicit(&in_use[n / 64], ~bit, memory_order_relaxed) & bit) != 0;
}

#endif
