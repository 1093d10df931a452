/* containers.cpp: the standard containers on valloc.hpp's allocator and memory resources, with
 * elements of all alignments; wrong sizes would be reported. */
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "valloc.hpp"

#define require(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                   \
            std::abort();                                                                          \
        }                                                                                          \
    } while (0)

namespace
{

template <std::size_t Alignment> struct alignas(Alignment) Aligned {
    unsigned char bytes[Alignment + 1];
    explicit Aligned(int value)
    {
        require(reinterpret_cast<std::uintptr_t>(this) % Alignment == 0);
        std::memset(bytes, value, sizeof bytes);
    }
    bool holds(int value) const
    {
        return bytes[0] == value && bytes[Alignment] == value;
    }
};

using String = std::basic_string<char, std::char_traits<char>, valloc_allocator<char>>;

void standard_containers()
{
    std::vector<int, valloc_allocator<int>> numbers;
    std::map<int, String, std::less<int>, valloc_allocator<std::pair<const int, String>>> map;
    std::unordered_map<int, String, std::hash<int>, std::equal_to<int>,
                       valloc_allocator<std::pair<const int, String>>>
        table;
    std::list<String, valloc_allocator<String>> list;
    std::deque<long, valloc_allocator<long>> deque;
    std::set<int, std::less<int>, valloc_allocator<int>> set;
    for (int i = 0; i < 3000; i++) {
        String text(static_cast<std::size_t>(i % 100), 'x');
        numbers.push_back(i);
        map.emplace(i, text);
        table.emplace(i, text);
        list.push_back(text);
        deque.push_front(i);
        set.insert(i);
        if (i % 3 == 0) {
            map.erase(i / 2);
            table.erase(i / 2);
            list.pop_front();
            deque.pop_back();
            set.erase(i / 2);
        }
    }
    require(valloc_owner(numbers.data()) == valloc_process());
    require(map.size() == 2000 && table.size() == 2000 && list.size() == 2000);
    require(deque.size() == 2000 && set.size() == 2000);
    for (const auto &[key, value] : map)
        require(value.size() == static_cast<std::size_t>(key % 100) && table.at(key) == value);
    for (std::size_t i = 0; i < numbers.size(); i++)
        require(numbers[i] == static_cast<int>(i));
    auto moved = std::move(numbers);
    moved.shrink_to_fit();
    require(moved.size() == 3000 && moved.get_allocator() == valloc_allocator<char>());
    auto shared = std::allocate_shared<String>(valloc_allocator<String>(), "shared");
    require(*shared == "shared");
}

template <std::size_t Alignment> void aligned()
{
    std::vector<Aligned<Alignment>, valloc_allocator<Aligned<Alignment>>> vector;
    std::map<int, Aligned<Alignment>, std::less<int>,
             valloc_allocator<std::pair<const int, Aligned<Alignment>>>>
        map;
    std::pmr::vector<Aligned<Alignment>> of_resource(valloc_process_resource());
    for (int i = 0; i < 200; i++) {
        vector.emplace_back(i);
        map.emplace(i, Aligned<Alignment>(i));
        of_resource.emplace_back(i);
    }
    for (int i = 0; i < 200; i++) {
        auto place = static_cast<std::size_t>(i);
        require(vector[place].holds(i) && map.at(i).holds(i) && of_resource[place].holds(i));
    }
}

void impossible_counts()
{
    valloc_allocator<long> allocator;
    bool refused = false;
    try {
        allocator.deallocate(allocator.allocate(SIZE_MAX / 4), SIZE_MAX / 4);
    } catch (const std::bad_array_new_length &) {
        refused = true;
    }
    require(refused);
    refused = false;
    try {
        allocator.deallocate(allocator.allocate(PTRDIFF_MAX / 8), PTRDIFF_MAX / 8);
    } catch (const std::bad_alloc &) {
        refused = true;
    }
    require(refused);
    allocator.deallocate(allocator.allocate(0), 0);
}

#if defined(__cpp_lib_allocate_at_least)
template <class T> void at_least()
{
    valloc_allocator<T> allocator;
    for (std::size_t count = 0; count < 300; count++) {
        auto [block, all] = allocator.allocate_at_least(count);
        require(all >= count);
        std::memset(static_cast<void *>(block), 1, all * sizeof(T));
        allocator.deallocate(block, count % 2 == 0 ? count : all);
    }
}
#endif

void fill(std::pmr::memory_resource *resource)
{
    std::pmr::vector<std::pmr::string> names(resource);
    std::pmr::unordered_map<int, std::pmr::string> table(resource);
    std::pmr::vector<Aligned<128>> wide(resource);
    for (int i = 0; i < 2000; i++) {
        names.emplace_back(static_cast<std::size_t>(i % 200), 'y');
        table.emplace(i % 500, "a string that is too long to lie in its object");
        wide.emplace_back(i);
    }
    require(names[1999].size() == 199 && table.size() == 500 && wide[100].holds(100));
    resource->deallocate(resource->allocate(0, 1), 0, 1);
    resource->deallocate(resource->allocate(100, 4096), 100, 4096);
}

void memory_resources()
{
    MemoryAllocator one, other;
    require(valloc_init(&one, 1, 8) == 0 && valloc_init(&other, 1, 8) == 0);
    {
        valloc_memory_resource of_one(&one), again(&one), of_other(&other), of_process;
        require(of_one.is_equal(again) && !of_one.is_equal(of_other));
        require(of_process.is_equal(*valloc_process_resource()) && !of_process.is_equal(of_one));
        require(valloc_memory_resource(valloc_process()).is_equal(of_process));
        require(!of_process.is_equal(*std::pmr::new_delete_resource()));
        require(of_one.allocator() == &one && of_process.allocator() == valloc_process());
        std::pmr::string text("a string that is too long to lie in its object", &of_one);
        require(valloc_owner(text.data()) == &one);
        std::thread threads[] = {std::thread(fill, &of_one), std::thread(fill, &of_one),
                                 std::thread(fill, &of_other), std::thread(fill, &of_process)};
        for (auto &thread : threads)
            thread.join();
    }
    valloc_destroy(&one);
    valloc_options options = {};
    options.hard_limit = 1 << 20;
    require(valloc_init_with(&one, 1, 1, &options) == 0);
    valloc_memory_resource limited(&one);
    bool refused = false;
    try {
        limited.deallocate(limited.allocate(2 << 20), 2 << 20);
    } catch (const std::bad_alloc &) {
        refused = true;
    }
    require(refused);
    valloc_destroy(&one);
    valloc_destroy(&other);
}

/* A container that lives as long as the program. */
std::pmr::vector<int> &of_the_program()
{
    static std::pmr::vector<int> numbers(valloc_process_resource());
    return numbers;
}

} // namespace

int main()
{
    of_the_program().resize(1000);
    standard_containers();
    aligned<1>();
    aligned<16>();
    aligned<32>();
    aligned<64>();
    aligned<4096>();
    impossible_counts();
#if defined(__cpp_lib_allocate_at_least)
    at_least<char>();
    at_least<Aligned<8>>();
    at_least<Aligned<64>>();
#endif
    memory_resources();
    return 0;
}
