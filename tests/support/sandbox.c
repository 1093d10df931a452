/* sandbox.c: linked to a test, it puts all of it into a sandbox that a system call ends the process
 * for, but those that valloc may make once it has started, and those of the test itself: of its
 * threads, children, sleeps, and the files in /proc that it reads. It closes when valloc's
 * constructors have run. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(call)                                                                                \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

__attribute__((constructor)) static void close_sandbox(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        /* valloc */
        ALLOW(SYS_mmap),
        ALLOW(SYS_munmap),
        ALLOW(SYS_mprotect),
        ALLOW(SYS_madvise),
        ALLOW(SYS_mremap),
        ALLOW(SYS_futex),
        /* threads and signals */
        ALLOW(SYS_clone),
        ALLOW(SYS_clone3),
        ALLOW(SYS_set_robust_list),
        ALLOW(SYS_rseq),
        ALLOW(SYS_rt_sigprocmask),
        ALLOW(SYS_rt_sigaction),
        ALLOW(SYS_rt_sigreturn),
        ALLOW(SYS_sched_yield),
        ALLOW(SYS_setitimer), /* alarm, where it has no call of its own */
#ifdef SYS_alarm
        ALLOW(SYS_alarm),
#endif
        ALLOW(SYS_gettid),
        ALLOW(SYS_getpid),
        ALLOW(SYS_tgkill),
        ALLOW(SYS_exit),
        ALLOW(SYS_exit_group),
        ALLOW(SYS_wait4),
#if defined(VALLOC_SECURE) && VALLOC_SECURE
        ALLOW(SYS_getrandom), /* a child draws its own */
#endif
        ALLOW(SYS_clock_nanosleep),
        ALLOW(SYS_nanosleep),
        ALLOW(SYS_restart_syscall), /* such a sleep goes on after the process was stopped */
        /* files */
        ALLOW(SYS_openat),
        ALLOW(SYS_read),
        ALLOW(SYS_pread64),
        ALLOW(SYS_write),
        ALLOW(SYS_close),
        ALLOW(SYS_newfstatat),
        ALLOW(SYS_lseek),
        ALLOW(SYS_ioctl),
        ALLOW(SYS_mincore),
        ALLOW(SYS_brk),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    free(malloc(1)); /* libc's own malloc asks for random numbers at its start */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        fprintf(stderr, "no sandbox: the kernel has no such filters\n");
}
