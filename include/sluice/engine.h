/*
 * An engine: one io_uring, one run queue, one thread. Everything else lives on one.
 *
 * Create it on the thread that will run it (the kernel binds the ring to that thread) and either give it that
 * thread with sluice_engine_run(), or take turns from a loop of your own; see sluice_engine_fd().
 *
 * Every call belongs to that thread, unless it says [any thread].
 *
 * In all headers: calls return 0 or a negative errno unless they say otherwise, and what they return through pointers
 * is written on success only.
 */
#ifndef SLUICE_ENGINE_H
#define SLUICE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/export.h>
#include <sluice/options.h>

SLUICE_BEGIN

struct sluice_engine;

/*
 * Creates an engine for the calling thread. `options` may be NULL; it is copied.
 *
 * Returns 0, or:
 *   -EINVAL           a member of options is out of range (sluice_engine_options_check() says which), or this machine
 *                     does not have the CPU of thread_cpu
 *   -EPERM, -ENOSYS   this kernel, container or user may not use io_uring
 *   -ENOMEM           no memory, or RLIMIT_MEMLOCK is too small even for the smallest rings
 *   -EMFILE, -ENFILE  no descriptor left
 *   -EOPNOTSUPP       the kernel is older than Linux 6.1
 * sluice_engine_explain() puts each into words, with the remedy.
 */
SLUICE_API int sluice_engine_create(const struct sluice_engine_options *options, struct sluice_engine **engine);

/*
 * Writes one line on why sluice_engine_create() failed with `error`: the likely reason on this machine (it looks at
 * the sysctl, seccomp state and limits) and what to change. [any thread]
 */
SLUICE_API void sluice_engine_explain(int error, char *text, size_t text_size);

/*
 * Closes all listeners, aborts all streams with -ECANCELED, waits until the kernel is done with them, tells each
 * on_close, runs what was posted, and frees the engine. Every descriptor is closed when it returns. NULL is allowed.
 * Not from inside a callback of this engine.
 *
 * Timers may fire while it waits; those still armed when it returns never do. No other thread may name the engine any
 * more; streams that it holds refuse its posts and ignore its aborts.
 */
SLUICE_API void sluice_engine_destroy(struct sluice_engine *engine);

/*
 * Takes turns until sluice_engine_stop(). Returns 0, or -errno if the ring failed and cannot go on: then only
 * sluice_engine_destroy() is left to call, which tells every stream its on_close.
 */
SLUICE_API int sluice_engine_run(struct sluice_engine *engine);

/*
 * [any thread, and signal handlers] Makes sluice_engine_run() return after its current turn; if it is not running,
 * the next call returns after one turn. The engine must outlive the call.
 */
SLUICE_API void sluice_engine_stop(struct sluice_engine *engine);

/* -- In a loop of your own ----------------------------------------------------------------------------------- */

/*
 * A descriptor that polls readable when sluice_engine_turn() has something to do; the same for the engine's whole life.
 * Do not read from it or close it. Before each wait, ask sluice_engine_wait_ns() how long it may last. It suits poll()
 * and epoll, level- and edge-triggered; a wait on it may end with EINTR though no signal came. From the first call on
 * each turn costs one system call more. Returns it, or -errno: -EMFILE, -ENFILE, -ENOMEM.
 */
SLUICE_API int sluice_engine_fd(struct sluice_engine *engine);

/* Nanoseconds until a turn is due even if the descriptor stays quiet: 0 now, UINT64_MAX never. */
SLUICE_API uint64_t sluice_engine_wait_ns(const struct sluice_engine *engine);

/* One turn, without waiting. Returns as sluice_engine_run(). Neither belongs inside a callback of this engine. */
SLUICE_API int sluice_engine_turn(struct sluice_engine *engine);

/* -- From other threads -------------------------------------------------------------------------------------- */

/* Something to run on the engine's thread. Embed it; its memory is yours and must last until run is called. */
struct sluice_post {
    void (*run)(struct sluice_post *post);
    struct sluice_post *next; /* the engine's while posted */
};

/*
 * [any thread] Runs post->run(post) on the engine's thread in its next turn. Posts of one thread run in order. A
 * post may be posted again from its own run, not earlier. Cannot fail. The engine must outlive the call.
 */
SLUICE_API void sluice_engine_post(struct sluice_engine *engine, struct sluice_post *post);

/* -- Timers -------------------------------------------------------------------------------------------------- */

/*
 * A timer. Embed it and set `fire`; all zero otherwise. Its memory is yours and must last until it fires or is stopped;
 * `fire` may free it or start it again. Starting and stopping cost no allocation and cannot fail.
 */
struct sluice_timer {
    void (*fire)(struct sluice_timer *timer);
    uint64_t deadline_ns; /* from here on the engine's */
    struct sluice_timer *next;
    struct sluice_timer **link;
};

/*
 * Fires once, in the first turn that begins `delay_ns`, or up to 17 microseconds more, after sluice_engine_now().
 * Starting a timer that runs moves it.
 */
SLUICE_API void sluice_timer_start(struct sluice_engine *engine, struct sluice_timer *timer, uint64_t delay_ns);

/* It does not fire any more. Nothing happens if it was not running. */
SLUICE_API void sluice_timer_stop(struct sluice_engine *engine, struct sluice_timer *timer);

/* The engine's clock (CLOCK_MONOTONIC, nanoseconds), read once a turn. */
SLUICE_API uint64_t sluice_engine_now(const struct sluice_engine *engine);

/* -- Watching ------------------------------------------------------------------------------------------------ */

/* Counters since creation, unless marked "now". */
struct sluice_stats {
    uint64_t turns;                /* also those that only looked: see busy_poll_ns */
    uint64_t enters;               /* times the ring entered the kernel */
    uint64_t submissions;          /* requests handed to the kernel */
    uint64_t completions;          /* results it gave back */
    uint64_t bytes_received;       /* by sockets and descriptors */
    uint64_t bytes_sent;           /* by sockets and descriptors */
    uint64_t sends;                /* send requests */
    uint64_t short_sends;          /* of those, answered with less than asked, or "try again" */
    uint64_t zero_copy_sends;      /* of those, without the kernel's copy… */
    uint64_t zero_copy_copied;     /* …but the kernel copied all the same */
    uint64_t buffers_exhausted;    /* receives that ended for want of a buffer that lay ready */
    uint64_t views_copied;         /* views copied out because buffers were scarce */
    uint64_t stale_completions;    /* results for requests that were no longer known; should stay 0 */
    uint64_t overflows;            /* times the completion queue overflowed; raise completion_entries */
    uint64_t accepts;              /* connections accepted */
    uint64_t accept_errors;        /* times accepting had to pause: no descriptors, no memory */
    uint64_t streams;              /* now: streams not yet closed */
    uint64_t queued_bytes;         /* now: in all send queues; while the engine sleeps, also what it sent just before */
    uint64_t receive_buffers_lent; /* now: receive buffers away from the kernel */
};

/* [any thread] Each counter is exact on its own; together they may be from slightly different moments. */
SLUICE_API void sluice_engine_stats(const struct sluice_engine *engine, struct sluice_stats *stats);

/* What the engine found and uses. [any thread] */
struct sluice_engine_info {
    uint32_t features;           /* enum sluice_feature bits in use */
    uint32_t kernel_features;    /* enum sluice_feature bits that the kernel offers */
    uint32_t ring_entries;       /* as granted: smaller than asked if memory was short */
    uint32_t completion_entries; /* as granted */
    int has_probes;              /* 1: the library was built with probes for perf and bpftrace: docs/profiling.md */
};

SLUICE_API void sluice_engine_info(const struct sluice_engine *engine, struct sluice_engine_info *info);

/* "multishot_accept" for SLUICE_FEATURE_MULTISHOT_ACCEPT, and so on; NULL for no known bit. [any thread] */
SLUICE_API const char *sluice_feature_name(uint32_t feature);

/* "0.1.0". [any thread] */
SLUICE_API const char *sluice_version(void);

SLUICE_END

#endif
