/* Written for jemalloc: its header is replaced, its library too. */
#include <stdio.h>
#include <stdlib.h>
#include <valloc_jemalloc.h>

int main(void)
{
    size_t allocated = 0;
    size_t bytes = sizeof(allocated);
    void *block = mallocx(1000, MALLOCX_ALIGN(64) | MALLOCX_ZERO);
    void *other = malloc(5000);
    int error = mallctl("stats.allocated", &allocated, &bytes, NULL, 0);
    printf("mallctl told of %zu bytes\n", allocated);
    sdallocx(block, 1000, MALLOCX_ALIGN(64));
    free(other);
    return error == 0 && allocated >= 6000 ? 0 : 1;
}
