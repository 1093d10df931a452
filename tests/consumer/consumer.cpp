// The headers from C++, after the standard library's own ones and without the short names.
#define VALLOC_NO_SHORT_NAMES
#include <cstdlib>
#include <iostream>
#include <string>
#include <valloc.hpp>

int main()
{
    void *block = valloc_aligned_alloc(256, 1000);
    if (block == nullptr || reinterpret_cast<std::uintptr_t>(block) % 256 != 0)
        return 1;
    valloc_free_aligned_sized(block, 256, 1000);
    std::cout << std::basic_string<char, std::char_traits<char>, valloc_allocator<char>>(
                     "valloc in C++")
              << std::endl;
    return 0;
}
