/* child.h: a test's crime or first call in a process of its own, with a watchdog, its exit status
 * and what it wrote to stderr. */
#ifndef CHILD_H
#define CHILD_H

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* For what takes a second or two on an idle machine. */
#define CHILD_SECONDS 240

typedef struct Child {
    int status; /* as of waitpid */
    char text[4096];
} Child;

/* Runs body(argument) in a fork that then exits with 0 by exit(). */
static inline Child child_run(void (*body)(void *), void *argument)
{
    Child child = {0};
    int ends[2];
    size_t length = 0;
    ssize_t got;
    fflush(NULL);
    if (pipe(ends) != 0)
        return (Child){.status = -1};
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        alarm(CHILD_SECONDS);
        body(argument);
        exit(0);
    }
    close(ends[1]);
    while (length < sizeof child.text - 1 &&
           (got = read(ends[0], child.text + length, sizeof child.text - 1 - length)) > 0)
        length += (size_t)got;
    close(ends[0]);
    child.text[length] = '\0';
    if (waitpid(pid, &child.status, 0) != pid)
        child.status = -1;
    return child;
}

#endif
