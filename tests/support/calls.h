/* calls.h: counts the system calls that change the process's memory. Once started, they are trapped
 * and fail in every thread, and cannot be let through again: for a process of its own. */
#ifndef CALLS_H
#define CALLS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* the names of registers */
#endif

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static _Atomic int memory_calls;

static void on_call(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    memory_calls++;
#if defined(__x86_64__)
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = -ENOMEM;
#else
    ((ucontext_t *)context)->uc_mcontext.regs[0] = (unsigned long long)-ENOMEM;
#endif
}

/* False where the kernel, or what plays it, has no such filters. */
static bool count_memory_calls(void)
{
#define TRAP(call)                                                                                 \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        TRAP(SYS_mmap),
        TRAP(SYS_munmap),
        TRAP(SYS_mremap),
        TRAP(SYS_mprotect),
        TRAP(SYS_madvise),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
#undef TRAP
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSYS, &action, NULL);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

#endif
