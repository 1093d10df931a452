/* crimes.c [NAME]: commits a crime on the malloc of the process, and exits with what became of it;
 * without a name lists all. For compare.py, which preloads one malloc after another. */
#include "crimes.h"

int main(int argc, char **argv)
{
    for (size_t i = 0; i < CRIMES; i++) {
        if (argc < 2)
            puts(crimes[i].name);
        else if (strcmp(argv[1], crimes[i].name) == 0)
            _Exit((int)crimes[i].commit());
    }
    return argc < 2 ? 0 : 2;
}
