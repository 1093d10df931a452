/* Linked to the override, malloc itself is valloc's: its usable size says so. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    void *block = malloc(1000);
    size_t usable = malloc_usable_size(block);
    free(block);
    printf("malloc(1000) has %zu bytes\n", usable);
    return usable == 1024 ? 0 : 1;
}
