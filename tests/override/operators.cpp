// operators.cpp: C++'s promises for operator new and delete, kept by the override library: a
// failing new throws or returns null, the new_handler is asked and may free memory or throw.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <dlfcn.h>

namespace
{
int failures;

void check(bool fine, const char *what)
{
    if (!fine) {
        std::fprintf(stderr, "failed: %s\n", what);
        failures++;
    }
}

struct alignas(256) Wide {
    char bytes[512];
};

const std::size_t too_much = SIZE_MAX / 4;
int handler_calls;

void handler_that_throws()
{
    handler_calls++;
    throw std::bad_alloc();
}

void handler_that_gives_up()
{
    handler_calls++;
    std::set_new_handler(nullptr);
}

bool throws(std::size_t size)
{
    try {
        void *volatile block = ::operator new(size);
        ::operator delete(block);
        return false;
    } catch (const std::bad_alloc &) {
        return true;
    }
}
} // namespace

int main()
{
    check(dlsym(RTLD_DEFAULT, "valloc_malloc") != nullptr, "runs on valloc");

    auto wide = std::make_unique<Wide>();
    check(reinterpret_cast<std::uintptr_t>(wide.get()) % 256 == 0, "aligned new");
    auto *wides = new Wide[3];
    check(reinterpret_cast<std::uintptr_t>(wides) % 256 == 0, "aligned new[]");
    delete[] wides;

    std::vector<std::string> words;
    for (int i = 0; i < 10000; i++)
        words.push_back(std::string(static_cast<std::size_t>(i % 100), 'x'));
    check(words[9999].size() == 99, "vector of strings");

    check(throws(too_much), "new throws without a handler");
    check(::operator new(too_much, std::nothrow) == nullptr, "nothrow new returns null");
    check(::operator new(too_much, std::align_val_t(64), std::nothrow) == nullptr,
          "aligned nothrow new returns null");

    std::set_new_handler(handler_that_throws);
    check(throws(too_much) && handler_calls == 1, "new asks the handler, which throws");
    check(::operator new[](too_much, std::nothrow) == nullptr && handler_calls == 2,
          "nothrow new returns null though the handler throws");

    std::set_new_handler(handler_that_gives_up);
    check(throws(too_much) && handler_calls == 3, "new tries again after the handler");

    std::puts(failures == 0 ? "operators: ok" : "operators: FAILED");
    return failures != 0;
}
