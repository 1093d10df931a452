// operators.cpp: what needs C++'s exceptions of the override library's operators, see operators.c.
//
// The library is preloaded into C programs, too, and must not bring a C++ runtime along: what
// is needed of it is referenced weakly, and bound when the library is loaded if the program or its
// libraries have a runtime. So has a program that is linked with -static-libstdc++ and to this
// library: the linker then exports these names from it.
#include <cstddef>
#include <cstdlib>
#include <new>

#define HIDDEN __attribute__((visibility("hidden")))

// The compiler emits these references strong; the assembler's word counts.
__asm__(".weak __gxx_personality_v0\n"
        ".weak __cxa_begin_catch\n"
        ".weak __cxa_end_catch\n"
        ".weak __cxa_allocate_exception\n"
        ".weak __cxa_throw\n"
        ".weak _ZSt9terminatev\n"
        ".weak _ZSt15get_new_handlerv\n"
        ".weak _ZTISt9bad_alloc\n"
        ".weak _ZTVSt9bad_alloc\n"
        ".weak _ZTVSt9exception\n"
        ".weak _ZNSt9bad_allocD1Ev\n");

extern "C" {
__attribute__((weak)) std::new_handler valloc_new_handler() __asm__("_ZSt15get_new_handlerv");
__attribute__((weak)) void valloc_throw() __asm__("__cxa_throw");
__attribute__((weak)) extern const char valloc_bad_alloc[] __asm__("_ZTVSt9bad_alloc");
[[noreturn]] HIDDEN void va_new_report();
}

extern "C" HIDDEN bool va_new_can_throw()
{
    return valloc_throw != nullptr && valloc_bad_alloc != nullptr;
}

// As a runtime's operator new. Without a runtime it cannot throw: the process ends with a message.
extern "C" HIDDEN void *va_new_or_throw(std::size_t size, std::size_t alignment)
{
    for (;;) {
        std::new_handler handler = valloc_new_handler != nullptr ? valloc_new_handler() : nullptr;
        if (handler == nullptr && !va_new_can_throw())
            va_new_report();
        if (handler == nullptr)
            throw std::bad_alloc();
        handler();
        void *block = alignment == 0 ? std::malloc(size) : std::aligned_alloc(alignment, size);
        if (block != nullptr)
            return block;
    }
}

// What the process's throwing form returns, or null where that throws.
extern "C" HIDDEN void *va_new_or_null(std::size_t size, std::size_t alignment, bool array) noexcept
{
    auto aligned = static_cast<std::align_val_t>(alignment);
    try {
        if (alignment != 0)
            return array ? ::operator new[](size, aligned) : ::operator new(size, aligned);
        return array ? ::operator new[](size) : ::operator new(size);
    } catch (...) {
        return nullptr;
    }
}
