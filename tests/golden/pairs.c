/* pairs.c COUNT SIZE: COUNT pairs of malloc and free through the dynamic symbols, for counting
 * their instructions under callgrind: two runs with different counts, the difference divided. */
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    long count = strtol(argv[1], NULL, 10);
    size_t size = strtoul(argv[2], NULL, 10);
    for (long i = 0; i < count; i++)
        free(malloc(size));
    return 0;
}
