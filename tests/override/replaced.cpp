// replaced.cpp: a program that replaces some of the functions that others are built on, as C++ and
// glibc's manual allow. What it did not replace has to call the program's. REPLACED names what is
// replaced: NOTHING, ONE (new and delete), ARRAY (new[] and delete[]), ALIGNED (aligned new and
// delete) or MALLOC (malloc and its family). Its blocks are recognised by what stands before them.
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include <dlfcn.h>
#include <malloc.h>

#define NOTHING 0
#define ONE 1
#define ARRAY 2
#define ALIGNED 3
#define MALLOC 4

namespace
{
const std::uint64_t mark = 0x626c6f636b6f776e;
int made, live;
bool no_memory;
volatile std::size_t bytes = 100;
const auto line = std::align_val_t(64);

[[noreturn]] void fail(const char *what)
{
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::_Exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : fail(#condition))

struct Header {
    std::uint64_t mark;
    std::size_t size;
};

// A block behind a header, in memory that lies at a boundary of 64 bytes.
[[maybe_unused]] void *make(char *memory, std::size_t size)
{
    if (memory == nullptr)
        return nullptr;
    auto *block = reinterpret_cast<Header *>(memory + 64);
    block[-1] = {mark, size};
    made++;
    live++;
    return block;
}

[[maybe_unused]] char *end(void *block)
{
    auto *header = static_cast<Header *>(block) - 1;
    CHECK(header->mark == mark);
    header->mark = 0;
    live--;
    return static_cast<char *>(block) - 64;
}
} // namespace

#if REPLACED == MALLOC
namespace
{
alignas(64) char heap[64 << 20];
std::size_t used;

void *take(std::size_t alignment, std::size_t size)
{
    std::size_t room = (size + 127) / 64 * 64;
    if (no_memory || size > sizeof heap || used + room > sizeof heap || alignment > 64) {
        errno = ENOMEM;
        return nullptr;
    }
    used += room;
    return make(heap + used - room, size);
}
} // namespace

extern "C" {
void *malloc(std::size_t size)
{
    return take(16, size);
}
void free(void *block)
{
    if (block != nullptr)
        end(block);
}
void *calloc(std::size_t count, std::size_t size)
{
    return take(16, count * size); // never used before: zero
}
void *realloc(void *block, std::size_t size)
{
    void *moved = take(16, size);
    if (block != nullptr && moved != nullptr) {
        std::size_t old = static_cast<Header *>(block)[-1].size;
        std::memcpy(moved, block, old < size ? old : size);
        end(block);
    }
    return moved;
}
void *aligned_alloc(std::size_t alignment, std::size_t size)
{
    return take(alignment, size);
}
void *memalign(std::size_t alignment, std::size_t size)
{
    return take(alignment, size);
}
int posix_memalign(void **out, std::size_t alignment, std::size_t size)
{
    *out = take(alignment, size);
    return *out != nullptr ? 0 : ENOMEM;
}
std::size_t malloc_usable_size(void *block)
{
    return block != nullptr ? static_cast<Header *>(block)[-1].size : 0;
}
}
#else
namespace
{
[[maybe_unused]] void *make_or_throw(std::size_t size)
{
    char *memory =
        no_memory ? nullptr : static_cast<char *>(aligned_alloc(64, size / 64 * 64 + 128));
    if (memory == nullptr)
        throw std::bad_alloc();
    return make(memory, size);
}

[[maybe_unused]] void end_and_free(void *block)
{
    if (block != nullptr)
        std::free(end(block));
}
} // namespace
#endif

#if REPLACED == ONE
void *operator new(std::size_t size)
{
    return make_or_throw(size);
}
void operator delete(void *block) noexcept
{
    end_and_free(block);
}
#elif REPLACED == ARRAY
void *operator new[](std::size_t size)
{
    return make_or_throw(size);
}
void operator delete[](void *block) noexcept
{
    end_and_free(block);
}
#elif REPLACED == ALIGNED
void *operator new(std::size_t size, std::align_val_t)
{
    return make_or_throw(size);
}
void operator delete(void *block, std::align_val_t) noexcept
{
    end_and_free(block);
}
#endif

namespace
{
// Each form of new with each form of delete that fits, and whether they are the program's.
#define PAIR(allocation, deallocation, replaced)                                                   \
    do {                                                                                           \
        int before = made;                                                                         \
        void *volatile block = allocation;                                                         \
        std::memset(block, 1, bytes);                                                              \
        CHECK(made - before == (replaced));                                                        \
        deallocation;                                                                              \
        CHECK(live == 0);                                                                          \
    } while (0)

void every_form()
{
    const bool one = REPLACED == ONE || REPLACED == MALLOC;
    const bool array = one || REPLACED == ARRAY;
    const bool wide = REPLACED == ALIGNED || REPLACED == MALLOC;
    PAIR(::operator new(bytes), ::operator delete(block), one);
    PAIR(::operator new(bytes), ::operator delete(block, bytes), one);
    PAIR(::operator new(bytes, std::nothrow), ::operator delete(block), one);
    PAIR(::operator new(bytes), ::operator delete(block, std::nothrow), one);
    PAIR(::operator new[](bytes), ::operator delete[](block), array);
    PAIR(::operator new[](bytes), ::operator delete[](block, bytes), array);
    PAIR(::operator new[](bytes, std::nothrow), ::operator delete[](block), array);
    PAIR(::operator new[](bytes), ::operator delete[](block, std::nothrow), array);
    PAIR(::operator new(bytes, line), ::operator delete(block, line), wide);
    PAIR(::operator new(bytes, line), ::operator delete(block, bytes, line), wide);
    PAIR(::operator new(bytes, line, std::nothrow), ::operator delete(block, line), wide);
    PAIR(::operator new(bytes, line), ::operator delete(block, line, std::nothrow), wide);
    PAIR(::operator new[](bytes, line), ::operator delete[](block, line), wide);
    PAIR(::operator new[](bytes, line), ::operator delete[](block, bytes, line), wide);
    PAIR(::operator new[](bytes, line, std::nothrow), ::operator delete[](block, line), wide);
    PAIR(::operator new[](bytes, line), ::operator delete[](block, line, std::nothrow), wide);
}

[[maybe_unused]] bool throws(void *(*allocate)(std::size_t))
{
    try {
        allocate(bytes);
        return false;
    } catch (const std::bad_alloc &) {
        return true;
    }
}

// What the program's form throws reaches the caller, or is null.
void without_memory()
{
    no_memory = true;
#if REPLACED == ONE || REPLACED == ARRAY
    CHECK(throws([](std::size_t size) { return ::operator new[](size); }));
    CHECK(::operator new[](bytes, std::nothrow) == nullptr);
#elif REPLACED == ALIGNED
    CHECK(throws([](std::size_t size) { return ::operator new[](size, line); }));
    CHECK(::operator new[](bytes, line, std::nothrow) == nullptr);
#endif
#if REPLACED == ONE
    CHECK(::operator new(bytes, std::nothrow) == nullptr);
#elif REPLACED == MALLOC // throwing itself needs no memory: the runtime has some kept
    CHECK(throws([](std::size_t size) { return ::operator new(size); }));
    CHECK(throws([](std::size_t size) { return ::operator new[](size, line); }));
    CHECK(::operator new(bytes, std::nothrow) == nullptr);
    CHECK(reallocarray(nullptr, 10, 10) == nullptr);
#endif
    no_memory = false;
}

// What C and glibc build on malloc, realloc and free.
void c_functions()
{
    int before = made;
    void *volatile block = reallocarray(nullptr, 10, bytes);
    std::memset(block, 7, 10 * bytes);
    block = reallocarray(block, 20, bytes);
    CHECK(static_cast<char *>(block)[10 * bytes - 1] == 7);
    auto free_sized =
        reinterpret_cast<void (*)(void *, std::size_t)>(dlsym(RTLD_DEFAULT, "free_sized"));
    auto free_aligned_sized = reinterpret_cast<void (*)(void *, std::size_t, std::size_t)>(
        dlsym(RTLD_DEFAULT, "free_aligned_sized"));
    CHECK(free_sized != nullptr && free_aligned_sized != nullptr);
    free_sized(block, 20 * bytes);
    free_aligned_sized(aligned_alloc(64, 256), 64, 256);
    std::free(strdup("text"));
    char *text = nullptr;
    CHECK(asprintf(&text, "%zu", static_cast<std::size_t>(bytes)) == 3);
    std::free(text);
    CHECK((REPLACED == MALLOC ? made - before >= 5 : made == before) && live == 0);
}
} // namespace

int main(int argc, char **)
{
    CHECK(dlsym(RTLD_DEFAULT, "valloc_malloc") != nullptr);
    live = 0; // what the runtime took before
    every_form();
    without_memory();
    if (argc == 1) // memcheck does not know all of them
        c_functions();
    std::_Exit(0); // what the runtime frees at the end was counted before
}
