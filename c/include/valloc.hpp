/* valloc.hpp: valloc for C++17 containers. Only a header, on the functions of valloc.h.
 *
 *   std::vector<int, valloc_allocator<int>> numbers;          // memory of the process
 *
 *   valloc_memory_resource requests(&allocator);              // of a MemoryAllocator
 *   std::pmr::vector<std::pmr::string> names(&requests);
 *
 * Frees pass size and alignment on, so valloc checks them, except for a MemoryAllocator. There is
 * no namespace valloc: libc has a function of that name. */
#ifndef VALLOC_HPP
#define VALLOC_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

#include "valloc.h"

#if defined(__has_include)
#if __has_include(<memory_resource>)
#include <memory_resource>
#endif
#endif

/* The alignment of valloc_malloc; larger ones take the aligned functions. */
inline constexpr std::size_t valloc_malloc_alignment = 16;

/* Throws, or ends the program where exceptions are off. */
template <class Exception> [[noreturn]] void valloc_throw()
{
#if defined(__cpp_exceptions)
    throw Exception();
#else
    std::abort();
#endif
}

/* An allocator for containers, on the allocator of the process. It has no state: all are equal. */
template <class T> class valloc_allocator
{
  public:
    using value_type = T;
    using is_always_equal = std::true_type;
    using propagate_on_container_move_assignment = std::true_type;

    constexpr valloc_allocator() noexcept = default;
    template <class U> constexpr valloc_allocator(const valloc_allocator<U> &) noexcept
    {
    }

    /* Throws std::bad_alloc if there is no memory, std::bad_array_new_length if count is too large.
     */
    [[nodiscard]] T *allocate(std::size_t count)
    {
        void *block;
        if (count > max_count)
            valloc_throw<std::bad_array_new_length>();
        if constexpr (alignof(T) <= valloc_malloc_alignment)
            block = valloc_malloc(count * sizeof(T));
        else
            block = valloc_aligned_alloc(alignof(T), count * sizeof(T));
        if (block == nullptr)
            valloc_throw<std::bad_alloc>();
        return static_cast<T *>(block);
    }

#if defined(__cpp_lib_allocate_at_least)
    /* The same with as many elements as the memory has room for. */
    [[nodiscard]] std::allocation_result<T *> allocate_at_least(std::size_t count)
    {
        std::size_t bytes = count * sizeof(T);
        if (alignof(T) <= valloc_malloc_alignment && count <= max_count)
            bytes = valloc_good_size(bytes);
        std::size_t all = bytes / sizeof(T) < count ? count : bytes / sizeof(T);
        return {allocate(all), all};
    }
#endif

    void deallocate(T *block, std::size_t count) noexcept
    {
        if constexpr (alignof(T) <= valloc_malloc_alignment)
            valloc_free_sized(block, count * sizeof(T));
        else
            valloc_free_aligned_sized(block, alignof(T), count * sizeof(T));
    }

  private:
    static constexpr std::size_t max_count = PTRDIFF_MAX / sizeof(T);
};

template <class T, class U>
constexpr bool operator==(const valloc_allocator<T> &, const valloc_allocator<U> &) noexcept
{
    return true;
}

template <class T, class U>
constexpr bool operator!=(const valloc_allocator<T> &, const valloc_allocator<U> &) noexcept
{
    return false;
}

#if defined(__cpp_lib_memory_resource)

/* A memory resource: of the process, or of an initialised MemoryAllocator, which must live longer
 * than what uses the resource. Any thread may use it. Two are equal if their allocators are one. */
class valloc_memory_resource final : public std::pmr::memory_resource
{
  public:
    valloc_memory_resource() noexcept : allocator_(nullptr)
    {
    }
    explicit valloc_memory_resource(MemoryAllocator *allocator) noexcept
        : allocator_(allocator == valloc_process() ? nullptr : allocator)
    {
    }

    MemoryAllocator *allocator() const noexcept
    {
        return allocator_ != nullptr ? allocator_ : valloc_process();
    }

  private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override
    {
        void *block;
        bool aligned = alignment > valloc_malloc_alignment;
        if (allocator_ != nullptr)
            block = aligned ? valloc_allocate_aligned(allocator_, alignment, bytes)
                            : valloc_allocate(allocator_, bytes);
        else
            block = aligned ? valloc_aligned_alloc(alignment, bytes) : valloc_malloc(bytes);
        if (block == nullptr)
            valloc_throw<std::bad_alloc>();
        return block;
    }

    void do_deallocate(void *block, std::size_t bytes, std::size_t alignment) override
    {
        if (allocator_ != nullptr)
            free_valloc(allocator_, block);
        else if (alignment > valloc_malloc_alignment)
            valloc_free_aligned_sized(block, alignment, bytes);
        else
            valloc_free_sized(block, bytes);
    }

    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override
    {
#if defined(__cpp_rtti)
        auto *same = dynamic_cast<const valloc_memory_resource *>(&other);
        return same != nullptr && same->allocator_ == allocator_;
#else
        return this == &other;
#endif
    }

    MemoryAllocator *allocator_; /* NULL: of the process */
};

/* The resource of the process, for example for std::pmr::set_default_resource. It is never
 * destroyed. */
inline std::pmr::memory_resource *valloc_process_resource() noexcept
{
    alignas(valloc_memory_resource) static unsigned char place[sizeof(valloc_memory_resource)];
    static auto *resource = ::new (static_cast<void *>(place)) valloc_memory_resource;
    return resource;
}

#endif

#endif
