/*
 * Settings of an engine: where they come from and what they may be.
 *
 * Start from zeroes and set what you care about; zero means "the default". Then, if your program lets
 * people tune it from outside, call sluice_engine_options_from_env(), which overrides members from
 * SLUICE_* variables. The library never reads the environment by itself.
 *
 *     struct sluice_engine_options options = {.size = sizeof options};
 *     char why[SLUICE_REASON_MAX];
 *     if (sluice_engine_options_from_env(&options, why, sizeof why) < 0)
 *         die(why);
 */
#ifndef SLUICE_OPTIONS_H
#define SLUICE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/export.h>

SLUICE_BEGIN

/* Room for any one-line reason that this library writes, its NUL included. */
#define SLUICE_REASON_MAX 320

/*
 * Kernel features that can be switched off (the `disable` member, or SLUICE_DISABLE=name,name), to
 * compare them or to get round a kernel bug. Everything keeps working without them, more slowly.
 */
enum sluice_feature {
    SLUICE_FEATURE_DEFER_TASKRUN = 1 << 0,     /* "defer_taskrun": completions run only when we ask (6.1) */
    SLUICE_FEATURE_SINGLE_ISSUER = 1 << 1,     /* "single_issuer": one thread submits (6.0) */
    SLUICE_FEATURE_REGISTERED_RING = 1 << 2,   /* "registered_ring": cheaper entry into the kernel (5.18) */
    SLUICE_FEATURE_MULTISHOT_ACCEPT = 1 << 3,  /* "multishot_accept": one request a listener (5.19) */
    SLUICE_FEATURE_MULTISHOT_RECEIVE = 1 << 4, /* "multishot_receive": one request a socket (6.0) */
    SLUICE_FEATURE_ZERO_COPY = 1 << 5,         /* "zero_copy": send without the kernel's copy (6.2) */
    SLUICE_FEATURE_INLINE_SEND = 1 << 6,       /* "inline_send": try a send at once, wait only if it must */
    SLUICE_FEATURE_NO_IOWAIT = 1 << 7,         /* "no_iowait": a sleeping engine is not shown as I/O wait (6.15) */
    SLUICE_FEATURE_QUIET_SEND = 1 << 8,        /* "quiet_send": a send that is taken whole is not answered (5.17) */
    SLUICE_FEATURE_RECEIVE_BUNDLE = 1 << 9,    /* "receive_bundle": a receive fills several buffers (6.16) */
};

/* Copied by whoever takes it. Sizes are in bytes, times in nanoseconds. */
struct sluice_engine_options {
    size_t size; /* sizeof(struct sluice_engine_options): how a newer library knows an older program */

    uint32_t ring_entries;         /* submission queue entries; default 256 */
    uint32_t completion_entries;   /* completion queue entries; default 4096 */
    uint32_t receive_buffer_count; /* shared receive buffers, a power of two; default 1024 */
    uint32_t receive_buffer_size;  /* bytes in each; default 65536 */
    /*
     * How many of them lie ready for the kernel, so that few are used again and again, and stay in the cache. When
     * many messages find none, twice as many do, and fewer again after a while. Default 8; at most all.
     */
    uint32_t receive_buffer_window;
    uint32_t huge_pages; /* 1: put receive buffers on huge pages if there are any; default 0 */

    /*
     * Limits of a stream. It can be given its own for sending: sluice_stream_set_send_limits(). What other threads
     * posted may fill as much again as the send limit.
     */
    uint64_t send_high_mark; /* a send that reaches it is answered SLUICE_FULL; default 512 KiB, or a smaller limit */
    uint64_t send_low_mark;  /* on_drain comes when the queue falls to it; default a quarter of the high mark */
    uint64_t send_limit;     /* a send that would pass it is refused, -ENOBUFS; default 16 MiB */
    uint64_t receive_limit;  /* bytes held for a paused stream before it fails, -ENOBUFS; default 4 MiB */

    uint64_t memory_budget;     /* bytes all send queues of an engine, layers' included, may hold; default 1 GiB */
    uint64_t zero_copy_minimum; /* shared views of at least so many bytes go by zero-copy; default 0: never */

    /*
     * Look for completions and posts so long before sleeping, while waits are that short: in turns that find nothing,
     * without a system call of ours or of whoever posts. Default 0.
     */
    uint64_t busy_poll_ns;
    uint64_t napi_ns;    /* busy-poll the network device so long (IORING_REGISTER_NAPI, 6.9); default 0 */
    uint32_t sqpoll;     /* 1: a kernel thread submits for us; costs a core; default 0 */
    uint32_t sqpoll_cpu; /* 1 + the CPU of that thread; default 0: any */
    uint32_t thread_cpu; /* 1 + the CPU of an engine's thread; in a group, of its first thread; default 0: any */

    uint32_t backlog;            /* connections the kernel queues for a listener; default 4096 */
    uint64_t linger_ns;          /* how long a closing stream waits without progress; default 10 s */
    uint64_t idle_timeout_ns;    /* a stream fails, -ETIMEDOUT, after so long without a byte; default 0: never */
    uint64_t connect_timeout_ns; /* a connection fails, -ETIMEDOUT, after so long; default 10 s */

    uint32_t disable; /* enum sluice_feature bits to do without */
};

/*
 * Overrides members of `options` from SLUICE_* variables, by the names that sluice_setting_describe() lists.
 * Numbers take the suffixes K, M and G (bytes) and ns, us, ms and s (times; a bare number is nanoseconds).
 * CPU numbers are as the kernel counts them, from 0; "any" pins nothing.
 *
 * Returns 0, or -EINVAL with `options` untouched and one line in `why` (at most why_size bytes) that names the
 * variable, its value and what is allowed. An unknown SLUICE_* name is refused too: it is most likely a typo.
 * [any thread, but not while another thread changes the environment]
 */
SLUICE_API int sluice_engine_options_from_env(struct sluice_engine_options *options, char *why, size_t why_size);

/*
 * Checks every member, and members against each other, as sluice_engine_create() does.
 * Returns 0, or -EINVAL with one line in `why`. [any thread]
 */
SLUICE_API int sluice_engine_options_check(const struct sluice_engine_options *options, char *why, size_t why_size);

/* One row of the table of settings. The strings are constant. */
struct sluice_setting {
    const char *variable; /* "SLUICE_RING_ENTRIES" */
    const char *meaning;  /* one line */
    const char *allowed;  /* one line: kind, range */
    char value[192];      /* the effective value, as the variable would be written */
    int is_default;       /* 1: the default, or the same as it */
    int is_from_env;      /* 1: the variable is set */
};

/*
 * Describes setting number `index` (from 0) under `options`. Returns 0, or -ENOENT past the last.
 * [any thread]
 */
SLUICE_API int sluice_setting_describe(size_t index, const struct sluice_engine_options *options,
                                       struct sluice_setting *setting);

SLUICE_END

#endif
