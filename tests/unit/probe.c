/* What a ring can do, found without a trace; and why there is none, told apart by making each refusal happen. */
#include "uring/probe.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/support/real_ring.h"

enum {
    TEXT_SIZE = 256
}; /* what the engine shows to users */

static const char *explain(int error)
{
    static char text[TEXT_SIZE];

    memset(text, 0, sizeof text);
    probe_explain(error, text, sizeof text);
    cr_assert_gt(strlen(text), 0);
    cr_assert_lt(strlen(text), sizeof text - 1, "cut off: %s", text);
    cr_assert_null(strchr(text, '\n'));
    return text;
}

static void assert_mentions(const char *text, const char *word)
{
    cr_assert(strstr(text, word), "no \"%s\" in: %s", word, text);
}

/* A ring is refused with `error`, and this is why. */
static const char *explain_refusal(int error)
{
    struct ring *ring;

    cr_assert_eq(ring_open_linux(&plain, &ring), error);
    return explain(error);
}

/* -- What a ring can do -------------------------------------------------------------------------------------- */

static void open_uring(struct io_uring *uring)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};

    if (io_uring_queue_init_params(8, uring, &params) < 0)
        cr_skip_test("this kernel has no DEFER_TASKRUN");
}

Test(probe, finds_what_linux_6_1_has, .timeout = 10)
{
    const int64_t expected = RING_MULTISHOT_ACCEPT | RING_MULTISHOT_RECEIVE;
    struct io_uring uring;

    open_uring(&uring);
    cr_assert_eq(probe_run(&uring) & expected, expected);
    io_uring_queue_exit(&uring);
}

Test(probe, leaves_nothing_behind, .timeout = 10)
{
    struct io_uring_sync_cancel_reg everything = {
        .flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
        .timeout = {.tv_nsec = 1},
    };
    struct io_uring uring;
    int fd;

    open_uring(&uring);
    fd = next_descriptor();
    cr_assert_geq(probe_run(&uring), 0);
    cr_assert_eq(next_descriptor(), fd);
    cr_assert_leq(io_uring_register_sync_cancel(&uring, &everything), 0);
    io_uring_get_events(&uring);
    cr_assert_eq(io_uring_cq_ready(&uring), 0);
    cr_assert_geq(probe_run(&uring), 0); /* its buffer group is free again */
    io_uring_queue_exit(&uring);
}

static void hear_signal(int number)
{
    (void)number;
}

Test(probe, finds_the_same_in_a_storm_of_signals, .timeout = 20)
{
    const struct itimerval often = {.it_interval = {.tv_usec = 200}, .it_value = {.tv_usec = 200}};
    struct io_uring uring;
    int64_t features;

    open_uring(&uring);
    features = probe_run(&uring);
    signal(SIGALRM, hear_signal);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(probe_run(&uring), features);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    io_uring_queue_exit(&uring);
}

/* -- Why there is none --------------------------------------------------------------------------------------- */

/* Answers io_uring_setup with `error`, as the profiles of containers do. For the rest of this process. */
static void filter_io_uring(int error)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};

    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
        cr_skip_test("seccomp filters cannot be installed here");
}

Test(probe, blames_a_filter_that_forbids_io_uring, .timeout = 10)
{
    const char *text;

    filter_io_uring(EPERM);
    text = explain_refusal(-EPERM);
    assert_mentions(text, "seccomp filter forbids");
    assert_mentions(text, "io_uring_setup, io_uring_enter and io_uring_register");
}

Test(probe, blames_a_filter_that_hides_io_uring, .timeout = 10)
{
    const char *text;

    filter_io_uring(ENOSYS);
    text = explain_refusal(-ENOSYS);
    assert_mentions(text, "seccomp filter (a container or sandbox)");
    assert_mentions(text, "io_uring_setup, io_uring_enter and io_uring_register");
}

/* In this process alone, the setting reads as `value`. */
static void pretend_setting(const char *path, const char *value)
{
    char file[] = "/tmp/sluice-probe-XXXXXX";
    int fd = mkstemp(file);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, value, strlen(value)), (ssize_t)strlen(value));
    cr_assert_eq(fchmod(fd, 0444), 0);
    close(fd);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(file, path, NULL, MS_BIND, NULL) < 0) {
        unlink(file);
        cr_skip_test("only root can mount a file over %s", path);
    }
    unlink(file);
}

/* With a user of its own, so that nothing of others counts against its limits. */
static void drop_privileges(void)
{
    if (geteuid() == 0)
        cr_assert_eq(setuid((uid_t)(200000 + getpid())), 0);
    prctl(PR_SET_DUMPABLE, 1); /* lets a leak checker look at us all the same */
}

Test(probe, blames_the_switch_that_is_off, .timeout = 10)
{
    const char *text;

    pretend_setting("/proc/sys/kernel/io_uring_disabled", "2\n");
    text = explain(-EPERM);
    assert_mentions(text, "kernel.io_uring_disabled = 2");
    assert_mentions(text, "sysctl kernel.io_uring_disabled=0");
}

Test(probe, blames_the_switch_that_lets_only_a_group_in, .timeout = 10)
{
    const char *text;

    pretend_setting("/proc/sys/kernel/io_uring_disabled", "1\n");
    pretend_setting("/proc/sys/kernel/io_uring_group", "4242\n");
    drop_privileges();
    text = explain(-EPERM);
    assert_mentions(text, "kernel.io_uring_disabled = 1");
    assert_mentions(text, "kernel.io_uring_group = 4242");
}

Test(probe, does_not_blame_that_switch_when_we_are_in_the_group, .timeout = 10)
{
    pretend_setting("/proc/sys/kernel/io_uring_disabled", "1\n");
    pretend_setting("/proc/sys/kernel/io_uring_group", "4242\n");
    cr_assert_eq(setgid(4242), 0);
    drop_privileges();
    assert_mentions(explain(-EPERM), "security module");
}

Test(probe, blames_neither_when_neither_is_to_blame, .timeout = 10)
{
    assert_mentions(explain(-EPERM), "security module");
    assert_mentions(explain(-ENOSYS), "CONFIG_IO_URING");
}

Test(probe, blames_the_limit_on_locked_memory, .timeout = 10)
{
    const struct rlimit tiny = {.rlim_cur = 1024, .rlim_max = 1024};
    struct ring *ring;
    const char *text;

    setrlimit(RLIMIT_MEMLOCK, &tiny);
    drop_privileges();
    text = explain(-ENOMEM);
    assert_mentions(text, "RLIMIT_MEMLOCK = 1 KiB");
    assert_mentions(text, "ulimit -l");
    assert_mentions(text, "LimitMEMLOCK=");
    assert_mentions(text, "cap_ipc_lock");
    assert_mentions(text, "SLUICE_RING_ENTRIES");
    if (ring_open_linux(&plain, &ring) == 0)
        cr_skip_test("this kernel does not charge rings to the limit: only the text was tested");
    cr_assert_eq(ring_open_linux(&plain, &ring), -ENOMEM);
}

static bool has_ipc_lock(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

    return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & 1U << CAP_IPC_LOCK);
}

Test(probe, does_not_blame_that_limit_when_it_does_not_bind_us, .timeout = 10)
{
    if (!has_ipc_lock())
        cr_skip_test("CAP_IPC_LOCK is needed");
    assert_mentions(explain(-ENOMEM), "no memory for a ring or its receive buffers");
    assert_mentions(explain(-ENOMEM), "SLUICE_RECEIVE_BUFFER_SIZE");
}

Test(probe, gets_a_smaller_ring_when_locked_memory_is_short, .timeout = 10)
{
    const struct rlimit small = {.rlim_cur = 64 << 10, .rlim_max = 64 << 10};
    const struct ring_config greedy = {.entries = 4096, .completion_entries = 8192, .sqpoll_cpu = -1};
    struct ring *ring;

    setrlimit(RLIMIT_MEMLOCK, &small);
    drop_privileges();
    cr_assert_eq(ring_open_linux(&greedy, &ring), 0);
    if (ring->entries == greedy.entries)
        cr_skip_test("this kernel does not charge rings to the limit");
    cr_assert_geq(ring->entries, 8);
    cr_assert_eq(ring->completion_entries, 2 * ring->entries);
    ring->ops->destroy(ring);
}

/* Opens rings of 64 entries until one is refused or smaller, which it closes, or `max` are open. Returns how many. */
static int open_rings(struct ring **rings, int max)
{
    const struct ring_config config = {.entries = 64, .completion_entries = 128, .sqpoll_cpu = -1};

    for (int count = 0; count < max; count++) {
        if (ring_open_linux(&config, &rings[count]) < 0)
            return count;
        if (rings[count]->entries < config.entries) {
            rings[count]->ops->destroy(rings[count]);
            return count;
        }
    }
    return max;
}

static void close_rings(struct ring **rings, int count)
{
    for (int i = 0; i < count; i++)
        rings[i]->ops->destroy(rings[i]);
}

Test(probe, gets_full_rings_again_as_soon_as_others_have_gone, .timeout = 20)
{
    enum {
        RINGS_MAX = 32
    };
    const struct rlimit small = {.rlim_cur = 64 << 10, .rlim_max = 64 << 10};
    struct ring *rings[RINGS_MAX];
    int count;

    setrlimit(RLIMIT_MEMLOCK, &small);
    drop_privileges();
    count = open_rings(rings, RINGS_MAX);
    close_rings(rings, count);
    if (count == RINGS_MAX)
        cr_skip_test("this kernel does not charge rings to the limit");
    cr_assert_gt(count, 1);
    /* When depends on the kernel, and on others of the same user, who are charged to the same limit. */
    while (open_rings(rings, 1) == 0)
        continue;
    close_rings(rings, 1);
}

Test(probe, blames_the_limit_on_descriptors, .timeout = 10)
{
    const char *text;
    struct rlimit limit;
    rlim_t used = (rlim_t)next_descriptor();

    getrlimit(RLIMIT_NOFILE, &limit);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = used, .rlim_max = limit.rlim_max});
    text = explain_refusal(-EMFILE);
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_mentions(text, "RLIMIT_NOFILE = ");
    assert_mentions(text, "ulimit -n");
}

Test(probe, undoes_a_ring_that_it_could_not_finish, .timeout = 20)
{
    struct rlimit limit;
    rlim_t used = (rlim_t)next_descriptor();

    getrlimit(RLIMIT_NOFILE, &limit);
    for (rlim_t more = 0; more < 8; more++) {
        struct ring *ring;
        int result;

        setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = used + more, .rlim_max = limit.rlim_max});
        result = ring_open_linux(&plain, &ring);
        setrlimit(RLIMIT_NOFILE, &limit);
        if (result == 0)
            ring->ops->destroy(ring);
        else
            cr_assert_eq(result, -EMFILE);
        cr_assert_eq((rlim_t)next_descriptor(), used);
    }
}

Test(probe, blames_a_processor_that_does_not_exist, .timeout = 10)
{
    struct ring_config elsewhere = plain;
    struct ring *ring;

    elsewhere.wants_sqpoll = true;
    elsewhere.sqpoll_cpu = 1 << 20;
    cr_assert_eq(ring_open_linux(&elsewhere, &ring), -EINVAL);
    assert_mentions(explain(-EINVAL), "SLUICE_SQPOLL_CPU");
    assert_mentions(explain(-EINVAL), "SLUICE_THREAD_CPU");
}

Test(probe, names_the_version_that_is_needed, .timeout = 10)
{
    assert_mentions(explain(-EOPNOTSUPP), "Linux 6.1");
}

Test(probe, has_words_for_every_error, .timeout = 10)
{
    assert_mentions(explain(-ENFILE), "fs.file-max");
    assert_mentions(explain(-EEXIST), "another thread");
    assert_mentions(explain(-EIO), "Input/output error");
    for (int error = 0; error < 200; error++)
        explain(-error);
}

Test(probe, fits_its_words_into_any_room, .timeout = 10)
{
    for (size_t size = 1; size < TEXT_SIZE; size++) {
        char text[TEXT_SIZE];

        memset(text, 'x', sizeof text);
        probe_explain(-ENOMEM, text, size);
        cr_assert_lt(strnlen(text, sizeof text), size);
        cr_assert_eq(text[size], 'x');
    }
}
