/* The ladder of ring flags and sizes: which are tried, in which order, and what a ring must have. */
#include "uring/setup.h"

#include <stdio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum {
    ENTRIES_FLOOR = 8, /* below it, give up rather than halve */
    BACKOFF_STEPS = 6, /* 8 + 16 + ... + 256 ms: half a second */
    SQPOLL_IDLE_MS = 50,
    NAPI_MAX_US = 10000, /* the kernel allows no more */
};

static const uint64_t backoff_first_ns = 8000000;

/* On every rung. SUBMIT_ALL is as old as 5.18: older kernels lack the buffer rings, too. */
static const uint32_t flags_always = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;

/* TASKRUN_FLAG lets us see without a system call that the kernel has completions to run. */
static const uint32_t flag_ladder[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

/* The kernel's thread runs its own completions: it refuses the TASKRUN flags. */
static const uint32_t sqpoll_ladder[] = {
    IORING_SETUP_SQPOLL | IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_SQPOLL,
};

static const uint32_t features_required =
    IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG | IORING_FEAT_SUBMIT_STABLE;

struct size {
    uint32_t entries;
    uint32_t completion_entries;
};

static int try_flags(struct io_uring *uring, const struct ring_config *config, struct size size, uint32_t flags)
{
    struct io_uring_params params = {
        .flags = flags | flags_always,
        .cq_entries = size.completion_entries,
    };

    if (flags & IORING_SETUP_SQPOLL)
        params.sq_thread_idle = SQPOLL_IDLE_MS;
    if ((flags & IORING_SETUP_SQPOLL) && config->sqpoll_cpu >= 0) {
        params.flags |= IORING_SETUP_SQ_AFF;
        params.sq_thread_cpu = (uint32_t)config->sqpoll_cpu;
    }
    return io_uring_queue_init_params(size.entries, uring, &params);
}

static uint32_t refused_flags(const struct ring_config *config)
{
    uint32_t flags = 0;

    if (config->disabled & RING_DEFER_TASKRUN)
        flags |= IORING_SETUP_DEFER_TASKRUN;
    if (config->disabled & RING_SINGLE_ISSUER)
        flags |= IORING_SETUP_SINGLE_ISSUER;
    return flags;
}

/* Steps down from the best flags until the kernel knows them all. */
static int try_ladder(struct io_uring *uring, const struct ring_config *config, struct size size)
{
    const uint32_t *ladder = config->wants_sqpoll ? sqpoll_ladder : flag_ladder;
    size_t count = config->wants_sqpoll ? sizeof sqpoll_ladder / sizeof *ladder : sizeof flag_ladder / sizeof *ladder;
    int result = -EINVAL;

    for (size_t i = 0; i < count && result == -EINVAL; i++)
        if (!(ladder[i] & refused_flags(config)))
            result = try_flags(uring, config, size, ladder[i]);
    return result;
}

/*
 * Linux 6.14 to 6.18 charge rings to RLIMIT_MEMLOCK, and give back what an exited ring had 35 to 100 ms later: what
 * was refused now may be granted soon.
 */
static int try_patiently(struct io_uring *uring, const struct ring_config *config, struct size size)
{
    uint64_t delay_ns = backoff_first_ns;
    int result = try_ladder(uring, config, size);

    for (int step = 0; step < BACKOFF_STEPS && result == -ENOMEM; step++) {
        nanosleep(&(struct timespec){.tv_nsec = (long)delay_ns}, NULL);
        delay_ns *= 2;
        result = try_ladder(uring, config, size);
    }
    return result;
}

static int open_largest(struct io_uring *uring, const struct ring_config *config)
{
    struct size size = {.entries = config->entries, .completion_entries = config->completion_entries};
    int result;

    if (size.completion_entries < size.entries)
        size.completion_entries = size.entries; /* the kernel insists */
    result = try_patiently(uring, config, size);
    while (result == -ENOMEM && size.entries / 2 >= ENTRIES_FLOOR) {
        size.entries /= 2;
        size.completion_entries /= 2;
        result = try_ladder(uring, config, size);
    }
    return result;
}

int setup_open(struct io_uring *uring, const struct ring_config *config)
{
    int result = open_largest(uring, config);

    if (result == -EINVAL && !config->wants_sqpoll)
        return -EOPNOTSUPP; /* nothing but flags could be wrong */
    if (result < 0)
        return result;
    if ((uring->features & features_required) != features_required) {
        io_uring_queue_exit(uring);
        return -EOPNOTSUPP;
    }
    io_uring_ring_dontfork(uring); /* a child that shared the ring would submit in our name */
    return 0;
}

static uint32_t features_of(uint32_t flags)
{
    uint32_t features = 0;

    if (flags & IORING_SETUP_SINGLE_ISSUER)
        features |= RING_SINGLE_ISSUER;
    if (flags & IORING_SETUP_DEFER_TASKRUN)
        features |= RING_DEFER_TASKRUN;
    return features;
}

uint32_t setup_granted(const struct io_uring *uring)
{
    return features_of(uring->flags);
}

/* Only a ring of its own can tell whether flags that this one goes without would have been granted. */
static bool is_offered(uint32_t flags)
{
    struct io_uring_params params = {.flags = flags};
    int fd = io_uring_setup(1, &params);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

uint32_t setup_offered(const struct io_uring *uring)
{
    uint32_t features = setup_granted(uring) | RING_REGISTERED_RING; /* as old as SUBMIT_ALL, which we insist on */

    if (uring->features & IORING_FEAT_NO_IOWAIT)
        features |= RING_NO_IOWAIT;
    if (!(features & RING_SINGLE_ISSUER) && is_offered(IORING_SETUP_SINGLE_ISSUER))
        features |= RING_SINGLE_ISSUER;
    if (!(features & RING_DEFER_TASKRUN) && is_offered(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN))
        features |= RING_DEFER_TASKRUN;
    return features;
}

/* The release of the running kernel is major.minor or later. */
static bool is_at_least(unsigned major, unsigned minor)
{
    struct utsname name;
    unsigned found[2];

    if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &found[0], &found[1]) != 2)
        return false;
    return found[0] > major || (found[0] == major && found[1] >= minor);
}

/*
 * Bundles are as old as 6.10, but before 6.16 some could bring bytes out of order (liburing#1409), which no trial is
 * sure to meet: the one feature that we judge by the kernel's number.
 */
uint32_t setup_bundles(const struct io_uring *uring)
{
    return (uring->features & IORING_FEAT_RECVSEND_BUNDLE) && is_at_least(6, 16) ? RING_RECEIVE_BUNDLE : 0;
}

static void register_napi(struct io_uring *uring, uint64_t napi_ns)
{
    uint64_t time_us = (napi_ns + 999) / 1000;
    struct compat_napi napi = {
        .busy_poll_us = time_us < NAPI_MAX_US ? (uint32_t)time_us : NAPI_MAX_US,
        .prefers_busy_poll = 1,
    };

    /* Whether it is missing or of no use to these devices: then they interrupt, as ever. */
    io_uring_register((unsigned)uring->ring_fd, COMPAT_REGISTER_NAPI, &napi, 1);
}

uint32_t setup_tune(struct io_uring *uring, const struct ring_config *config)
{
    uint32_t features = 0;

    /* A task has 16 places for registered rings; its seventeenth ring does without. */
    if (!(config->disabled & RING_REGISTERED_RING) && io_uring_register_ring_fd(uring) == 1)
        features |= RING_REGISTERED_RING;
    if (!(config->disabled & RING_NO_IOWAIT) && (uring->features & IORING_FEAT_NO_IOWAIT))
        features |= RING_NO_IOWAIT;
    if (config->napi_ns > 0)
        register_napi(uring, config->napi_ns);
    return features;
}
