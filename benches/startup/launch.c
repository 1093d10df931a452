/* launch.c LIBRARY COMMAND...: runs a command with a library preloaded ("": none) and discards its
 * output. Prints its processor time in microseconds (user and system, with its children) and the
 * peak resident memory of its largest process in KiB.
 *
 * A process begins with the peak of its parent, so startup.py would hide the peak of a small
 * program. This program is linked statically, and smaller than any that it starts. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static long microseconds(struct timeval time)
{
    return time.tv_sec * 1000000L + time.tv_usec;
}

int main(int argc, char **argv)
{
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status;
    struct rusage usage;
    if (argc < 3)
        return 2;
    if (argv[1][0] != 0)
        setenv("LD_PRELOAD", argv[1], 1);
    else
        unsetenv("LD_PRELOAD");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (posix_spawn(&child, argv[2], &actions, NULL, argv + 2, environ) != 0 ||
        wait4(child, &status, 0, &usage) != child || status != 0)
        return 1;
    printf("%ld %ld\n", microseconds(usage.ru_utime) + microseconds(usage.ru_stime),
           usage.ru_maxrss);
    return 0;
}
