/* calls.h: counts the system calls that change the process's memory, in every thread. Once started
 * this cannot be ended: for a process of its own. */
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

/* Calls whose sixth argument is this are let through: only mmap has one, an offset that it ignores
 * here. */
#define LET_THROUGH 0x5eed5000u

static void on_call(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    memory_calls++;
    int saved = errno;
#if defined(__x86_64__)
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    long done = syscall(info->si_syscall, regs[REG_RDI], regs[REG_RSI], regs[REG_RDX],
                        regs[REG_R10], regs[REG_R8], LET_THROUGH);
    regs[REG_RAX] = done == -1 ? -errno : done;
#elif defined(__riscv)
    unsigned long *regs = ((ucontext_t *)context)->uc_mcontext.__gregs + REG_A0;
    long done = syscall(info->si_syscall, regs[0], regs[1], regs[2], regs[3], regs[4], LET_THROUGH);
    regs[0] = (unsigned long)(done == -1 ? -errno : done);
#else
    unsigned long long *regs = ((ucontext_t *)context)->uc_mcontext.regs;
    long done = syscall(info->si_syscall, regs[0], regs[1], regs[2], regs[3], regs[4], LET_THROUGH);
    regs[0] = (unsigned long long)(done == -1 ? -errno : done);
#endif
    errno = saved;
}

/* False where the kernel, or what plays it, has no such filters. */
static bool count_memory_calls(void)
{
#define TRAP(call)                                                                                 \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LET_THROUGH, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
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
