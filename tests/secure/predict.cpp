// predict.cpp: how often a block has to be asked for until a freed one comes back, several times:
// what a secure build's random numbers decide. libstdc++ allocates before any constructor of
// valloc's.
#include <cstdio>
#include <cstdlib>
#include <string>

int main()
{
    std::string tries;
    for (std::size_t size : {64, 200, 1000}) {
        void *held[100];
        for (void *&block : held)
            block = std::malloc(size);
        void *freed = held[50];
        std::free(freed);
        int count = 0;
        for (void *block = nullptr; block != freed && count < 100000; count++) {
            block = std::malloc(size);
            std::free(block);
        }
        tries += std::to_string(count) + " ";
    }
    std::puts(tries.c_str());
}
