/* base.h: the compiler and the platform, seen by every file.
 *
 * Owns no state. Attributes, branch hints, alignment arithmetic and bit scans; refuses what
 * valloc was not built for, so that a port starts with a clear message instead of a crash. */
#ifndef VA_BASE_H
#define VA_BASE_H

#include <assert.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if !defined(__linux__) || !defined(__LP64__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ ||      \
    !(defined(__x86_64__) || defined(__aarch64__) || defined(__riscv))
#error "valloc supports 64-bit little-endian Linux on x86-64, aarch64 and riscv64"
#endif

/* Builds in which a tool sees every allocation, see watch.h. */
#if defined(VALLOC_VALGRIND) && VALLOC_VALGRIND
#define VA_MEMCHECK 1
#else
#define VA_MEMCHECK 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define VA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VA_ASAN 1
#endif
#endif
#ifndef VA_ASAN
#define VA_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__)
#define VA_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VA_TSAN 1
#endif
#endif
#ifndef VA_TSAN
#define VA_TSAN 0
#endif

#define VA_WATCHED (VA_MEMCHECK || VA_ASAN)
#if VA_MEMCHECK && VA_ASAN
#error "AddressSanitizer does not run under Valgrind"
#endif

#define va_likely(x) __builtin_expect(!!(x), 1)
#define va_unlikely(x) __builtin_expect(!!(x), 0)
/* Functions off the hot paths: compiled small, and never inlined. What an empty program calls is
 * VA_STARTUP; the rest, VA_COLD, lies behind all other code, in the shared libraries from the next
 * multiple of 64 KiB on: around a fault the kernel maps code in pieces of that size, and a small
 * program shall not pay for what it does not call. */
#define VA_STARTUP __attribute__((cold, noinline))
#define VA_COLD __attribute__((cold, noinline, section(".text_cold")))
/* Lies there, too, but is compiled for speed: what programs of some size call often. */
#define VA_APART __attribute__((noinline, section(".text_cold")))
/* Tables that every program reads: apart from what else is constant, for the same reason. */
#define VA_TABLE __attribute__((section(".rodata_tables")))
#define VA_NOINLINE __attribute__((noinline))
/* The fast paths by name, where a program links them: malloc is then one cache line of code. Where
 * it came to lie by chance, a pair took up to 1.1 times as long. */
#if defined(VALLOC_OVERRIDE) && VALLOC_OVERRIDE
#define VA_ENTRY
#else
#define VA_ENTRY __attribute__((aligned(64)))
#endif
/* Zeroed static arrays of which programs use the first elements: behind all other variables, so
 * that these share a page. */
#define VA_ARRAY_LAST __attribute__((section(".bss.arrays")))
#define VA_INLINE static inline __attribute__((always_inline))

/* The compiler forgets what it knows of the variable, at no cost. */
#define VA_FORGET(variable) __asm__("" : "+r"(variable))
/* The same where an access can compute its address: that is then not kept in a register. */
#if defined(__x86_64__)
#define VA_FOLD(variable) VA_FORGET(variable)
#else
#define VA_FOLD(variable) ((void)(variable))
#endif

/* Words that a fast path writes and other threads read: by relaxed atomics, each one instruction (a
 * fork finds it whole, too). The reader orders them by a barrier on all processors. ThreadSanitizer
 * does not know of such barriers: its builds use release and acquire. */
#if VA_TSAN
#define VA_PUBLISHES __ATOMIC_RELEASE
#define VA_OBSERVES __ATOMIC_ACQUIRE
#else
#define VA_PUBLISHES __ATOMIC_RELAXED
#define VA_OBSERVES __ATOMIC_RELAXED
#endif
#define VA_PUBLISH(variable, value) __atomic_store_n(&(variable), value, VA_PUBLISHES)
#define VA_OBSERVE(variable) __atomic_load_n(&(variable), VA_OBSERVES)
/* A look for statistics, or a hint, at what the owner may just be writing under its mutex: any
 * value will do that it has had. ThreadSanitizer does not see it. */
#if VA_TSAN
__attribute__((no_sanitize("thread"), noinline, unused)) static uintptr_t
va_peek(const volatile void *place, size_t bytes)
{
    if (bytes == sizeof(uintptr_t))
        return *(const volatile uintptr_t *)place;
    if (bytes == sizeof(uint32_t))
        return *(const volatile uint32_t *)place;
    return *(const volatile uint8_t *)place;
}
#define VA_PEEK(variable) ((__typeof__(variable))va_peek(&(variable), sizeof(variable)))
#else
#define VA_PEEK(variable) __atomic_load_n(&(variable), __ATOMIC_RELAXED)
#endif
/* Plain where an atomic access costs the fast paths an instruction: an increment, and an operand of
 * a comparison. */
#if VA_TSAN
#define VA_PUBLISH_NEXT(variable) VA_PUBLISH(variable, (variable) + 1)
#define VA_GLANCE(variable) __atomic_load_n(&(variable), __ATOMIC_RELAXED)
#else
#define VA_PUBLISH_NEXT(variable) ((variable)++)
#define VA_GLANCE(variable) (variable)
#endif

/* Thread-local data lies in the static block: reading it takes one instruction. Only a library that
 * is loaded late may find no room there, and musl refuses it. */
#if defined(VALLOC_TLS_DYNAMIC) && VALLOC_TLS_DYNAMIC
#define VA_THREAD_LOCAL _Thread_local
#else
#define VA_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
#endif

#define VA_KIB ((size_t)1 << 10)
#define VA_MIB ((size_t)1 << 20)
#define VA_GIB ((size_t)1 << 30)

/* Alignments here are powers of two. */
VA_INLINE size_t va_align_up(size_t value, size_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

VA_INLINE size_t va_align_down(size_t value, size_t alignment)
{
    return value & ~(alignment - 1);
}

VA_INLINE bool va_is_power_of_two(size_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

VA_INLINE size_t va_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

VA_INLINE size_t va_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Bit scans; the argument must not be 0. */
VA_INLINE unsigned va_lowest_bit(uint64_t word)
{
    return (unsigned)__builtin_ctzll(word);
}

VA_INLINE unsigned va_highest_bit(uint64_t word)
{
    return 63u - (unsigned)__builtin_clzll(word);
}

#endif
