/* The founding short names, as a C program has them. */
#include <stdio.h>
#include <string.h>
#include <valloc.h>

int main(void)
{
    char *text = valloc(100);
    if (text == NULL)
        return 1;
    snprintf(text, 100, "valloc %d.%d.%d in C", VALLOC_VERSION_MAJOR, VALLOC_VERSION_MINOR,
             VALLOC_VERSION_PATCH);
    puts(text);
    vfree(text, 100);
    return valloc_version() == VALLOC_VERSION ? 0 : 1;
}
