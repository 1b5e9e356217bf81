/* Why this system may refuse a ring, in words, and what to change. (What a ring can do: probe.c.) */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "uring/probe.h"

#define DISABLED_FILE "/proc/sys/kernel/io_uring_disabled"
#define GROUP_FILE    "/proc/sys/kernel/io_uring_group"
#define STATUS_FILE   "/proc/self/status"
#define RING_CALLS    "io_uring_setup, io_uring_enter and io_uring_register"
#define SIZES                                                                                                          \
    "SLUICE_RECEIVE_BUFFER_COUNT, SLUICE_RECEIVE_BUFFER_SIZE, SLUICE_RING_ENTRIES or SLUICE_COMPLETION_ENTRIES"

enum {
    FILE_SIZE_MAX = 4096, /* of /proc/self/status, about 1.5 KiB */
    SECCOMP_FILTER = 2,   /* in its "Seccomp:" line */
};

/* -- What the system says ------------------------------------------------------------------------------------ */

static void read_file(const char *path, char *text, size_t text_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? -1 : read(fd, text, text_size - 1);

    text[count > 0 ? count : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

/* The number in a file; 0 if there is no such file. */
static long read_number(const char *path)
{
    char text[32];

    read_file(path, text, sizeof text);
    return strtol(text, NULL, 10);
}

/* The number after "\nname:" in our status; 0 if there is none. */
static unsigned long long read_status(const char *name, int base)
{
    char text[FILE_SIZE_MAX];
    const char *line;

    read_file(STATUS_FILE, text, sizeof text);
    line = strstr(text, name);
    return line ? strtoull(line + strlen(name), NULL, base) : 0;
}

static bool is_filtered(void)
{
    return read_status("\nSeccomp:", 10) == SECCOMP_FILTER;
}

static bool has_capability(int capability)
{
    return read_status("\nCapEff:", 16) >> capability & 1;
}

static unsigned long long limit_of(__rlimit_resource_t resource)
{
    struct rlimit limit = {0};

    getrlimit(resource, &limit);
    return limit.rlim_cur;
}

/* -- One explanation each ------------------------------------------------------------------------------------ */

static bool is_left_out(void)
{
    gid_t group = (gid_t)read_number(GROUP_FILE);

    return read_number(DISABLED_FILE) == 1 && !has_capability(CAP_SYS_ADMIN) && getegid() != group &&
           !group_member(group);
}

static void explain_forbidden(char *text, size_t size)
{
    if (read_number(DISABLED_FILE) == 2)
        snprintf(text, size,
                 "io_uring is switched off on this system (kernel.io_uring_disabled = 2); an administrator switches it "
                 "on with: sysctl kernel.io_uring_disabled=0");
    else if (is_left_out())
        snprintf(text, size,
                 "io_uring is for administrators and one group here (kernel.io_uring_disabled = 1, "
                 "kernel.io_uring_group = %ld): join the group, or: sysctl kernel.io_uring_disabled=0",
                 read_number(GROUP_FILE));
    else if (is_filtered())
        snprintf(text, size,
                 "a seccomp filter forbids io_uring, as the default profiles of containers do: allow " RING_CALLS
                 " (docker, podman: --security-opt seccomp=FILE)");
    else
        snprintf(text, size,
                 "io_uring is forbidden to this process, most likely by a security module such as SELinux: see the "
                 "audit log");
}

static void explain_missing(char *text, size_t size)
{
    if (is_filtered())
        snprintf(text, size,
                 "io_uring is hidden from this process, most likely by its seccomp filter (a container or sandbox): "
                 "allow " RING_CALLS);
    else
        snprintf(text, size,
                 "this kernel has no io_uring: it is older than 5.1, was built without CONFIG_IO_URING, or a sandbox "
                 "such as gVisor stands in for it");
}

static void explain_memory(char *text, size_t size)
{
    unsigned long long limit = limit_of(RLIMIT_MEMLOCK);

    if (limit == RLIM_INFINITY || has_capability(CAP_IPC_LOCK))
        snprintf(text, size, "no memory for a ring or its receive buffers: free some, or lower " SIZES);
    else
        snprintf(text, size,
                 "this user may lock no more memory (RLIMIT_MEMLOCK = %llu KiB): raise it (ulimit -l, LimitMEMLOCK=), "
                 "setcap cap_ipc_lock+ep the program, or lower " SIZES,
                 limit / 1024);
}

static void explain_old(char *text, size_t size)
{
    struct utsname name = {0};

    uname(&name);
    snprintf(text, size, "io_uring of this kernel (%.64s) lacks what is needed here: use Linux 6.1 or newer",
             name.release);
}

void probe_explain(int error, char *text, size_t text_size)
{
    char buffer[128];

    switch (error) {
    case -EPERM:
    case -EACCES:
        explain_forbidden(text, text_size);
        break;
    case -ENOSYS:
        explain_missing(text, text_size);
        break;
    case -ENOMEM:
        explain_memory(text, text_size);
        break;
    case -EMFILE:
        snprintf(text, text_size,
                 "this process may open no more descriptors (RLIMIT_NOFILE = %llu): raise it (ulimit -n, LimitNOFILE=)",
                 limit_of(RLIMIT_NOFILE));
        break;
    case -ENFILE:
        snprintf(text, text_size, "the system may open no more files: raise it with sysctl fs.file-max");
        break;
    case -EOPNOTSUPP:
        explain_old(text, text_size);
        break;
    case -EINVAL:
        snprintf(text, text_size,
                 "the kernel refuses the settings of the ring or its thread: see SLUICE_RING_ENTRIES, "
                 "SLUICE_COMPLETION_ENTRIES, SLUICE_THREAD_CPU and SLUICE_SQPOLL_CPU (a CPU that is online and that "
                 "this process may use)");
        break;
    case -EEXIST:
        snprintf(text, text_size, "the ring belongs to another thread: only the thread that opened it may use it");
        break;
    default:
        snprintf(text, text_size, "the ring cannot be opened: %s", strerror_r(-error, buffer, sizeof buffer));
        break;
    }
}
