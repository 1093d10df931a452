/* plugin_host.c [PLUGIN]: a C program that loads a plugin in C++, with a runtime that only the
 * plugin sees, and runs it. Without one it calls operator new itself: there is nobody who could
 * throw. */
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

void *new_nothrow(size_t size, const void *nothrow) __asm__("_ZnwmRKSt9nothrow_t")
    __attribute__((weak));
void *new_throwing(size_t size) __asm__("_Znwm") __attribute__((weak));

static void end(int signal)
{
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv)
{
    volatile size_t too_much = SIZE_MAX / 4;
    if (argc < 2) {
        if (new_nothrow(too_much, "") != NULL || signal(SIGABRT, end) == SIG_ERR)
            return 1;
        new_throwing(too_much); /* stops the process with a message */
        return 1;
    }
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    int (*run)(void) = plugin != NULL ? (int (*)(void))dlsym(plugin, "run") : NULL;
    if (run == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    return run();
}
