// operators.cpp: every form of C++ operator new and delete, for the override library.
//
// The library is preloaded into C programs too and must not bring the C++ runtime along: what
// is needed of it is referenced weakly, and is there whenever a C++ program is. noexcept forms
// that may meet an exception of a new_handler catch it, which needs the runtime's personality
// routine: weak as well, through the assembler.
#include <cstddef>
#include <new>

#include "../include/valloc.h"
#undef valloc

#define EXPORT __attribute__((visibility("default")))

#define EXPORT __attribute__((visibility("default")))

// Weak references: the compiler emits them strong, the assembler's word counts.
__asm__(".weak __gxx_personality_v0\n"
        ".weak __cxa_begin_catch\n"
        ".weak __cxa_end_catch\n"
        ".weak _ZSt9terminatev\n"
        ".weak _ZSt15get_new_handlerv\n"
        ".weak _ZSt17__throw_bad_allocv\n"
        ".weak _ZSt7nothrow\n");

// Exception handling refers to these by itself: the assembler is told that they are weak.
__asm__(".weak __gxx_personality_v0\n"
        ".weak __cxa_begin_catch\n"
        ".weak __cxa_end_catch\n"
        ".weak _ZSt9terminatev\n");

extern "C" {
__attribute__((weak)) std::new_handler valloc_new_handler() __asm__("_ZSt15get_new_handlerv");
[[noreturn]] __attribute__((weak)) void
valloc_throw_bad_alloc() __asm__("_ZSt17__throw_bad_allocv");
}

namespace
{

using Allocate = void *(*)(std::size_t alignment, std::size_t size);

void *plain(std::size_t, std::size_t size)
{
    return valloc_malloc(size);
}

// What the standard asks for when there is no memory: the handler may free some, or throw.
__attribute__((cold, noinline)) void *retry(Allocate allocate, std::size_t alignment,
                                            std::size_t size)
{
    for (;;) {
        std::new_handler handler = valloc_new_handler();
        if (handler == nullptr)
            valloc_throw_bad_alloc();
        handler();
        if (void *result = allocate(alignment, size))
            return result;
    }
}

__attribute__((cold, noinline)) void *retry_nothrow(Allocate allocate, std::size_t alignment,
                                                    std::size_t size) noexcept
{
    try {
        return retry(allocate, alignment, size);
    } catch (...) {
        return nullptr;
    }
}

inline void *make(std::size_t size)
{
    void *result = valloc_malloc(size);
    return __builtin_expect(result != nullptr, 1) ? result : retry(plain, 0, size);
}

inline void *make_nothrow(std::size_t size) noexcept
{
    void *result = valloc_malloc(size);
    return __builtin_expect(result != nullptr, 1) ? result : retry_nothrow(plain, 0, size);
}

inline void *make_aligned(std::size_t size, std::align_val_t alignment)
{
    auto bytes = static_cast<std::size_t>(alignment);
    void *result = valloc_aligned_alloc(bytes, size);
    return __builtin_expect(result != nullptr, 1) ? result
                                                  : retry(valloc_aligned_alloc, bytes, size);
}

inline void *make_aligned_nothrow(std::size_t size, std::align_val_t alignment) noexcept
{
    auto bytes = static_cast<std::size_t>(alignment);
    void *result = valloc_aligned_alloc(bytes, size);
    return __builtin_expect(result != nullptr, 1)
               ? result
               : retry_nothrow(valloc_aligned_alloc, bytes, size);
}

} // namespace

// The slow halves of operator new: override.c has the fast ones.
extern "C" __attribute__((visibility("hidden"))) void *va_new_slow(std::size_t size)
{
    return make(size);
}
extern "C" __attribute__((visibility("hidden"))) void *
va_new_nothrow_slow(std::size_t size) noexcept
{
    return make_nothrow(size);
}

EXPORT void *operator new(std::size_t size, std::align_val_t alignment)
{
    return make_aligned(size, alignment);
}
EXPORT void *operator new[](std::size_t size, std::align_val_t alignment)
{
    return make_aligned(size, alignment);
}
EXPORT void *operator new(std::size_t size, std::align_val_t alignment,
                          const std::nothrow_t &) noexcept
{
    return make_aligned_nothrow(size, alignment);
}
EXPORT void *operator new[](std::size_t size, std::align_val_t alignment,
                            const std::nothrow_t &) noexcept
{
    return make_aligned_nothrow(size, alignment);
}

EXPORT void operator delete(void *ptr) noexcept
{
    valloc_free(ptr);
}
EXPORT void operator delete[](void *ptr) noexcept
{
    valloc_free(ptr);
}
EXPORT void operator delete(void *ptr, const std::nothrow_t &) noexcept
{
    valloc_free(ptr);
}
EXPORT void operator delete[](void *ptr, const std::nothrow_t &) noexcept
{
    valloc_free(ptr);
}
EXPORT void operator delete(void *ptr, std::size_t size) noexcept
{
    valloc_free_sized(ptr, size);
}
EXPORT void operator delete[](void *ptr, std::size_t size) noexcept
{
    valloc_free_sized(ptr, size);
}
EXPORT void operator delete(void *ptr, std::align_val_t) noexcept
{
    valloc_free(ptr);
}
EXPORT void operator delete[](void *ptr, std::align_val_t) noexcept
{
    valloc_free(ptr);
}
EXPORT void operator delete(void *ptr, std::align_val_t, const std::nothrow_t &) noexcept
{
    valloc_free(ptr);
}
EXPORT void operator delete[](void *ptr, std::align_val_t, const std::nothrow_t &) noexcept
{
    valloc_free(ptr);
}
EXPORT void operator delete(void *ptr, std::size_t size, std::align_val_t alignment) noexcept
{
    valloc_free_aligned_sized(ptr, static_cast<std::size_t>(alignment), size);
}
EXPORT void operator delete[](void *ptr, std::size_t size, std::align_val_t alignment) noexcept
{
    valloc_free_aligned_sized(ptr, static_cast<std::size_t>(alignment), size);
}
