/*
 * The base of every stream: its state, the guarded send queue, and the telling of users.
 *
 * Below it an ops table says what this kind of transport can do; above it the public events say what the user hears.
 * A transport calls the stream_ functions of the last section to report what happened.
 */
#ifndef ENGINE_STREAM_H
#define ENGINE_STREAM_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/stream.h>

#include "engine/bytes.h"
#include "engine/engine.h"
#include "engine/list.h"
#include "engine/task.h"

enum {
    STREAM_PREFIX_MAX = 16,     /* bytes that a message layer may put before a message */
    STREAM_POSTS_MAX = 65536,   /* sends on their way from other threads */
    STREAM_VIEWS_PER_TASK = 32, /* views told before other streams have their turn */
};

/* What a transport can do. Every member is set. Each is called on the engine's thread, under a guard of the stream. */
struct stream_ops {
    const char *(*kind)(const struct sluice_stream *stream);

    /*
     * True exactly while flush could not move a byte though the stream is ready: a submission is out, or the stream
     * below is full. Whoever ends that state schedules the flush.
     */
    bool (*is_blocked)(const struct sluice_stream *stream);
    /* Takes from the front of the queue what it can and reports it with stream_sent(), now or from a completion. */
    void (*flush)(struct sluice_stream *stream);
    /* The queue is flushed and will stay empty: end our direction. */
    void (*finish)(struct sluice_stream *stream);
    /* Our direction has ended: end the rest gracefully, then stream_closed(). */
    void (*close)(struct sluice_stream *stream);
    /* End now and reset the peer; stream_closed() as soon as nothing of the stream is in the kernel. */
    void (*abort)(struct sluice_stream *stream);
    /* stream_may_receive() may have changed. */
    void (*update_receive)(struct sluice_stream *stream);
    /* The linger time is over; called only after stream_start_linger(). */
    void (*linger_over)(struct sluice_stream *stream);
    /* Writes what precedes a message of `len` bytes. Returns its length; 0 where there are no messages. */
    size_t (*prefix)(const struct sluice_stream *stream, size_t len, uint8_t prefix[STREAM_PREFIX_MAX]);
    /* When a byte last moved, in either direction, here or below. Asked rarely: when a time without one runs out. */
    uint64_t (*last_active)(struct sluice_stream *stream);
    int (*address)(const struct sluice_stream *stream, bool wants_peer, struct ring_address *address);
    /* Gives back what init took; the memory of the stream itself is freed by its last holder. */
    void (*destroy)(struct sluice_stream *stream);
};

/* In the order of use: what each message touches lies in the first cache lines. */
struct sluice_stream {
    const struct stream_ops *ops;
    struct sluice_engine *engine;              /* gone once the stream is closed and only held */
    const struct sluice_stream_events *events; /* NULL: nobody hears it */
    void *user;

    /* WRITABLE -> CLOSING -> CLOSED, never back. Any thread reads it; any thread may store CLOSED, by an abort. */
    _Atomic(uint8_t) write_status;
    uint8_t read_status;
    uint8_t state;
    uint8_t side; /* whose doing the end is; counts once `has_cause` */

    bool is_ready : 1;        /* the connection stands, the handshake is done: bytes can move */
    bool owes_open : 1;       /* on_open is to be told */
    bool owes_drain : 1;      /* FULL was answered and on_drain not told since */
    bool has_ended : 1;       /* the peer's direction has ended below; bytes may still be held */
    bool has_told_end : 1;    /* …and the user knows */
    bool is_finished : 1;     /* our direction was ended below: ops->finish was called */
    bool is_winding_down : 1; /* ops->close was called */
    bool is_broken : 1;       /* sending has failed; ends with `error` when the peer's direction ends */
    bool is_failing : 1;      /* ends with `error` as soon as the held bytes are told */
    bool is_aborted : 1;      /* ops->abort was called */
    bool has_told_close : 1;
    bool has_cause : 1;    /* the end has begun: error and side stand */
    bool is_held_back : 1; /* who asked whether to receive was told so while bytes were held */
    bool keeps_views : 1;  /* its user has kept or sent on what was told */
    bool has_upper : 1;    /* a layer stands on it, whose stream is `user` */

    bool has_messages;    /* each send is one, of message_max bytes at the most; other threads that post read both */
    uint32_t message_max; /* UINT32_MAX for streams of bytes */
    uint32_t guards;      /* reasons to live: requests in the kernel, places in lanes, calls on the stack */
    uint64_t active_at;   /* when a byte last moved here */
    size_t high_mark;

    struct bytes unsent;        /* accepted and not yet taken by the transport */
    struct task flush;          /* moves the queue */
    _Atomic(size_t) send_limit; /* other threads that post read it, too */
    uint64_t overdrawn;         /* of `posted`: arrived while the queue was at its limit, and is in it now */

    struct bytes held; /* arrived and not yet told */
    struct task work;  /* tells the user */
    size_t low_mark;

    /* What is rarely touched. */
    uint64_t lost;             /* accepted bytes that will not be sent any more */
    struct link link;          /* in engine->streams */
    struct sluice_timer timer; /* connect timeout, then idle timeout, then progress of a close, then linger */
    uint64_t idle_timeout_ns;  /* 0: none */
    int error;                 /* the first cause; 0: none yet, or a graceful end */

    /* From other threads. */
    _Atomic(uint32_t) holders; /* reasons to keep the memory: the engine, and users' holds */
    _Atomic(int) abort_error;  /* 0 until somebody aborts */
    _Atomic(uint32_t) posts;   /* how many are on their way, empty ones too */
    _Atomic(uint64_t) posted;  /* bytes posted that have no room yet; STREAM_POSTS_CLOSED once none may come */
    struct mailbox *mailbox;   /* the engine's; ours as long as the memory is */
    struct sluice_post abort_post;
};

#define STREAM_POSTS_CLOSED (UINT64_C(1) << 63)

/* -- For whoever makes a stream ------------------------------------------------------------------------------ */

/* `memory` of a stream starts with the base. CONNECTING starts the connect timeout; OPEN the idle timeout. */
void stream_init(struct sluice_stream *stream, const struct stream_ops *ops, struct sluice_engine *engine,
                 enum sluice_state state, const struct sluice_stream_events *events, void *user);

/* -- Guards -------------------------------------------------------------------------------------------------- */

static inline void stream_guard(struct sluice_stream *stream)
{
    stream->guards++;
}

/* For stream_unguard() alone: nothing holds the stream, and its user knows that it is closed. */
void stream_destroy(struct sluice_stream *stream);

/* May free the stream: the one place. */
static inline void stream_unguard(struct sluice_stream *stream)
{
    assert(stream->guards > 0);
    stream->guards--;
    if (stream->guards == 0 && stream->has_told_close)
        stream_destroy(stream);
}

/* A place in a lane is a guard: the task gives it back. */
static inline void stream_schedule_work(struct sluice_stream *stream)
{
    if (lane_push(&stream->engine->tasks.work, &stream->work))
        stream_guard(stream);
}

static inline void stream_schedule_flush(struct sluice_stream *stream)
{
    if (lane_push(&stream->engine->tasks.flushes, &stream->flush))
        stream_guard(stream);
}

/* If our direction has ended, and the peer's has or does not matter any more: the rest is the transport's part. */
void stream_wind_down(struct sluice_stream *stream);

/* -- What a transport asks ----------------------------------------------------------------------------------- */

static inline enum sluice_write_status stream_write_status(const struct sluice_stream *stream)
{
    /* Acquire: what an aborting thread did before its store is done for whoever sees CLOSED. */
    return (enum sluice_write_status)atomic_load_explicit(&stream->write_status, memory_order_acquire);
}

/* Bytes should arrive: somebody hears them, or a closing stream discards them. */
bool stream_wants_data(const struct sluice_stream *stream);
/* The same, asked in order to act on it: told no while bytes are held, update_receive is called once they are told. */
bool stream_may_receive(struct sluice_stream *stream);

/* -- What a transport reports -------------------------------------------------------------------------------- */

/* The connection stands, or the handshake is done. */
void stream_opened(struct sluice_stream *stream);
/* The first `len` bytes of the queue were taken by whoever is below. */
void stream_sent(struct sluice_stream *stream, size_t len);
/*
 * A send by the layer above, of what it made of bytes that it accepted: limits do not refuse it, marks still answer, by
 * owing a drain. Returns 0, -EPIPE, -EMSGSIZE or -ENOMEM.
 */
int stream_carry(struct sluice_stream *stream, const struct iovec *pieces, size_t count);
/* Moves the first bytes of `stream` into the queue of `lower`, by reference, as much as it takes. 0 or -ENOMEM. */
int stream_pass_down(struct sluice_stream *stream, struct sluice_stream *lower);
/* Bytes arrived, in a completion: holds them and schedules the telling. Takes its own reference. */
void stream_hold(struct sluice_stream *stream, const struct sluice_view *view);
/* Bytes arrived, in a task: tells them now if nothing stands before them. Takes its own reference if it needs one. */
void stream_receive(struct sluice_stream *stream, const struct sluice_view *view);
/* The peer's direction has ended. */
void stream_end(struct sluice_stream *stream);
/* The stream is broken: it ends now, with this cause unless there was one before. */
void stream_fail(struct sluice_stream *stream, int error, enum sluice_side side);
/* The same, but what has arrived is told first. Nothing more is sent from now on. */
void stream_fail_after_data(struct sluice_stream *stream, int error, enum sluice_side side);
/*
 * The peer takes no more, but may still have sent: nothing is sent from now on, and the end of its bytes is a failure.
 */
void stream_break(struct sluice_stream *stream, int error, enum sluice_side side);
/* Starts the linger time of a stream that is winding down, again if it runs. */
void stream_start_linger(struct sluice_stream *stream);
/* Nothing of the stream is below any more. Everything queued is dropped and counted; on_close follows. */
void stream_closed(struct sluice_stream *stream);

/* Defaults of ops for transports that stand on nothing. */
uint64_t stream_own_last_active(struct sluice_stream *stream);
size_t stream_no_prefix(const struct sluice_stream *stream, size_t len, uint8_t prefix[STREAM_PREFIX_MAX]);
void stream_never_lingers(struct sluice_stream *stream);

#endif
