/* crimes.c CRIME SIZE: commits a crime on the malloc of the process, by their numbers in table.h
 * and sizes[]; the exit status is the outcome. Without arguments lists all crimes: name, and the
 * sizes' letters in valloc's release build. For compare.py, which preloads one malloc after
 * another. */
#include "table.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc == 2)
        return print_distances();
    if (argc == 3)
        _exit(commit_crime(&crimes[atoi(argv[1])], sizes[atoi(argv[2])]));
    for (size_t i = 0; i < CRIMES; i++)
        printf("%s\t%s\t%zu\n", crimes[i].name, crimes[i].what, strlen(crimes[i].release));
    return 0;
}
