// operators.cpp: C++'s promises for operator new and delete, kept by the override library: a
// failing new throws or returns null, the new_handler is asked and may free memory or throw. Built
// as a program and as a plugin of a C program, for C++ runtimes that are found in different ways.
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

volatile std::size_t too_much = SIZE_MAX / 4;
const auto aligned = std::align_val_t(64);
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

using Form = void *(*)(std::size_t);

const Form throwing[] = {
    [](std::size_t size) { return ::operator new(size); },
    [](std::size_t size) { return ::operator new[](size); },
    [](std::size_t size) { return ::operator new(size, aligned); },
    [](std::size_t size) { return ::operator new[](size, aligned); },
};
const Form returning[] = {
    [](std::size_t size) { return ::operator new(size, std::nothrow); },
    [](std::size_t size) { return ::operator new[](size, std::nothrow); },
    [](std::size_t size) { return ::operator new(size, aligned, std::nothrow); },
    [](std::size_t size) { return ::operator new[](size, aligned, std::nothrow); },
};

bool throws(Form form)
{
    try {
        void *volatile block = form(too_much);
        return block == nullptr && false;
    } catch (const std::bad_alloc &) {
        return true;
    }
}

void fail_in_every_form(std::new_handler handler, int calls_each, const char *what)
{
    for (Form form : throwing) {
        std::set_new_handler(handler);
        handler_calls = 0;
        check(throws(form) && handler_calls == calls_each, what);
    }
    for (Form form : returning) {
        std::set_new_handler(handler);
        handler_calls = 0;
        check(form(too_much) == nullptr && handler_calls == calls_each, what);
    }
    std::set_new_handler(nullptr);
}

int check_all()
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

    fail_in_every_form(nullptr, 0, "new fails without a handler");
    fail_in_every_form(handler_that_throws, 1, "new asks the handler, which throws");
    fail_in_every_form(handler_that_gives_up, 1, "new tries again after the handler");
    try {
        std::vector<double> numbers;
        numbers.reserve(too_much / 16);
        check(false, "a vector throws");
    } catch (const std::bad_alloc &) {
    }

    std::puts(failures == 0 ? "operators: ok" : "operators: FAILED");
    return failures != 0;
}
} // namespace

#ifdef PLUGIN
extern "C" __attribute__((visibility("default"))) int run()
{
    return check_all();
}
#else
int main()
{
    return check_all();
}
#endif
