/*
 * Runs a command that may not use io_uring, as under the seccomp filter of a container: its calls fail with the error
 * given. Usage: deny EPERM|ENOSYS|ENOMEM COMMAND...
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FAILED_STATUS = 125, /* of ours, not of the command's */
};

static unsigned number_of(const char *name)
{
    if (strcmp(name, "EPERM") == 0)
        return EPERM;
    if (strcmp(name, "ENOSYS") == 0)
        return ENOSYS;
    return strcmp(name, "ENOMEM") == 0 ? ENOMEM : 0;
}

static int install_filter(unsigned error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

int main(int argc, char **argv)
{
    unsigned error = argc > 2 ? number_of(argv[1]) : 0;

    if (error == 0) {
        fprintf(stderr, "usage: deny EPERM|ENOSYS|ENOMEM COMMAND...\n");
        return FAILED_STATUS;
    }
    if (install_filter(error) < 0) {
        perror("deny: seccomp");
        return FAILED_STATUS;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return FAILED_STATUS;
}
