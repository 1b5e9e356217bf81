/* The engine: one ring, one run queue, one thread. What the parts of an engine know of each other. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <sluice/engine.h>

#include "engine/lease.h"
#include "engine/list.h"
#include "engine/mailbox.h"
#include "engine/operation.h"
#include "engine/pool.h"
#include "engine/quiet.h"
#include "engine/task.h"
#include "engine/timers.h"
#include "uring/ring.h"

enum {
    TURN_PASSES = 8,           /* passes of the run queue before the ring is entered */
    TURN_COMPLETIONS = 4096,   /* completions dispatched before the run queue runs again */
    COMPLETION_BATCH = 128,    /* completions looked at together */
    GATHERS = 64,              /* vectored requests prepared between two enters */
    GATHER_PIECES = 64,        /* pieces in one of them */
    GATHER_BYTES = 512 * 1024, /* bytes in one request: with where they go they fit a second-level cache */
};

struct zero_copy;

/* The argument of a vectored request, which must stay until the ring was entered. */
struct gather {
    struct msghdr message;
    struct iovec pieces[GATHER_PIECES];
};

/* Counted by the engine's thread, read by any: exact, and free of read-modify-write instructions. */
typedef _Atomic(uint64_t) counter_t;

static inline void counter_add(counter_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value, memory_order_relaxed);
}

static inline void counter_subtract(counter_t *counter, uint64_t value)
{
    counter_add(counter, -value);
}

struct counters {
    counter_t turns;
    counter_t enters;
    counter_t submissions;
    counter_t completions;
    counter_t bytes_received;
    counter_t bytes_sent;
    counter_t sends;
    counter_t short_sends;
    counter_t zero_copy_sends;
    counter_t zero_copy_copied;
    counter_t buffers_exhausted;
    counter_t views_copied;
    counter_t stale_completions;
    counter_t overflows;
    counter_t accepts;
    counter_t accept_errors;
    counter_t streams;
    counter_t queued_bytes;
    counter_t receive_buffers_lent;
};

struct sluice_engine {
    struct ring *ring;
    struct run_queue tasks;
    struct timers timers;
    struct operations operations;
    struct pool pool;
    struct leases leases;
    struct mailbox *mailbox;
    uint64_t now; /* read when a turn begins, after it slept, and by calls from outside a turn that start a time */
    uint64_t active_at; /* when something last came from outside: a completion or a post; kept for busy polling */
    int error;          /* the ring cannot go on: -errno; 0 as long as it can */
    bool is_in_turn;
    bool has_slept;     /* the last thing it did: `now` was read when it woke */
    bool is_idle;       /* the last wait outlasted busy_poll_ns: the next one sleeps at once */
    bool is_destroying; /* no new streams or listeners */
    atomic_bool is_stopping;
    uint32_t unsubmitted; /* entries that were filled since the last enter */
    uint32_t gathers_used;
    struct gather *gathers;
    struct zero_copy *zero_copies;        /* not in use, kept for later */
    struct link streams;                  /* every stream that is not yet freed */
    struct link listeners;                /* every listener that is not yet freed */
    struct sluice_engine_options options; /* complete: no member is "default" */
    struct counters counters;
    struct quiet_sends quiet;
    struct io_uring_sqe nowhere; /* takes the requests that a broken ring does not */
};

/* Creates an engine on a ring, which it takes over, also on failure. `options` are complete. */
int engine_create_on(struct ring *ring, const struct sluice_engine_options *options, struct sluice_engine **result);

/* An entry of the submission queue, all zero. Never NULL: enters the ring if the queue is full. */
struct io_uring_sqe *engine_get_entry(struct sluice_engine *engine);

/* An entry, and a gather for it that nobody else uses before the next enter. */
struct gather *engine_get_gather(struct sluice_engine *engine, struct io_uring_sqe **entry);

/* Submits a request, filled otherwise, as `operation`. */
static inline void engine_arm(struct sluice_engine *engine, struct operation *operation, struct io_uring_sqe *entry)
{
    operation_arm(operation, &engine->operations, entry);
}

/* Asks the kernel to end an armed operation soon, and asks again if it is not found. Once is enough. */
void engine_cancel(struct sluice_engine *engine, struct operation *operation);

static inline bool engine_uses(const struct sluice_engine *engine, uint32_t feature)
{
    return (engine->ring->features & feature) != 0;
}

/* Outside a turn, which may be long after the last one, `now` is of the past: whoever starts a time looks again. */
static inline void engine_look_at_clock(struct sluice_engine *engine)
{
    if (!engine->is_in_turn)
        engine->now = engine->ring->ops->now(engine->ring);
}

static inline bool engine_is_mine(const struct sluice_engine *engine)
{
    return mailbox_is_mine(engine->mailbox);
}

#endif
