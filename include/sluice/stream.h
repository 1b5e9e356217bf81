/*
 * A stream: bytes in order, both ways, over a socket, a pipe, a file, a pair in memory, or another stream.
 *
 * How streams come to be: sluice_connect() (connect.h), a listener's on_accept (listener.h),
 * sluice_fd_stream() (fd.h), sluice_pair() (pair.h), sluice_frame_stream() (frame.h). From then on all are alike.
 *
 * The life of a stream:
 *
 *     connecting --on_open--> open --close, or both directions ended--> closing --> closed: on_close
 *           \__________________\______ abort, reset, error ________________________/
 *
 * Callbacks come from the engine's turn, never from inside a call that you make, and never one inside another
 * for the same stream. In each of them you may call anything, including close and abort of this stream.
 *
 * Every call belongs to the thread of the stream's engine, unless it says [any thread]. A call from the wrong
 * thread stops the program with a message in builds with assertions.
 *
 * A stream is yours to name until its on_close returns. To name it longer, or from another thread, hold it.
 */
#ifndef SLUICE_STREAM_H
#define SLUICE_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <sluice/buffer.h>
#include <sluice/export.h>

SLUICE_BEGIN

struct sluice_engine;
struct sluice_stream;

/* What a send answers when it took the bytes. Refusals are negative: -errno, and nothing was taken. */
enum sluice_send_answer {
    SLUICE_ROOM = 0, /* taken; send more when you like */
    SLUICE_FULL = 1, /* all taken, but the queue has reached its high mark: wait for on_drain */
};

enum sluice_write_status {
    SLUICE_WRITABLE = 0,
    SLUICE_WRITE_CLOSING = 1, /* finish or close was called: what was accepted is still being flushed */
    SLUICE_WRITE_CLOSED = 2,  /* nothing more will be submitted for this stream */
};

enum sluice_read_status {
    SLUICE_READABLE = 0,
    SLUICE_READ_PAUSED = 1,
    SLUICE_READ_CLOSED = 2, /* on_end was told, or the stream is closing */
};

enum sluice_state {
    SLUICE_CONNECTING = 0, /* or shaking hands: sends are queued */
    SLUICE_OPEN = 1,
    SLUICE_CLOSING = 2,
    SLUICE_CLOSED = 3,
};

enum sluice_side {
    SLUICE_LOCAL = 0,  /* we ended it: close, abort, a limit or a timeout of ours */
    SLUICE_REMOTE = 1, /* the peer or the network did */
};

/* How a stream ended. */
struct sluice_close {
    int error;             /* 0: gracefully. Otherwise the first cause, -errno. */
    enum sluice_side side; /* whose doing it was */
    uint64_t unsent;       /* accepted bytes that were not handed to the kernel, in this stream and those below */
};

/*
 * What a stream tells its user. Any member may be NULL: then that is not told. While on_data is NULL, arriving
 * bytes are held, the source is paused, and on_end waits behind them.
 */
struct sluice_stream_events {
    /* The connection stands. Not told for streams that are open from the start (accepted, fd, pair). */
    void (*on_open)(struct sluice_stream *stream, void *user);
    /* Bytes arrived. The view is lent until this returns; see sluice_view_keep(). */
    void (*on_data)(struct sluice_stream *stream, const struct sluice_view *view, void *user);
    /* After SLUICE_FULL or -ENOBUFS the queue has fallen to its low mark. Once a time; never once we may not send. */
    void (*on_drain)(struct sluice_stream *stream, void *user);
    /* The peer sends no more. We still may. Told once, after the last on_data. */
    void (*on_end)(struct sluice_stream *stream, void *user);
    /* It is over: the last callback, exactly once, on every path. The descriptor is closed, nothing is queued. */
    void (*on_close)(struct sluice_stream *stream, const struct sluice_close *why, void *user);
};

/* Who is told from now on. `events` must stay valid; NULL: nobody (bytes are held). Bytes held so far follow. */
SLUICE_API void sluice_stream_set_events(struct sluice_stream *stream, const struct sluice_stream_events *events,
                                         void *user);

/* -- Sending ------------------------------------------------------------------------------------------------- */

/*
 * Sends `len` bytes, copying them: the caller's memory is free on return. Consecutive small sends of one turn
 * leave together. Over a message layer (frame.h) one send is one message.
 *
 * Returns SLUICE_ROOM or SLUICE_FULL, or with nothing taken:
 *   -EPIPE    our direction is closing or closed
 *   -ENOBUFS  it would pass the stream's send limit or the engine's memory budget. If bytes are queued on this
 *             stream, on_drain comes when they are few enough, as after SLUICE_FULL; if not, try later, or less
 *   -EMSGSIZE a message longer than its layer allows
 *   -ENOMEM   no memory for the copy
 * What was taken is flushed in order. If the stream ends first, on_close counts it.
 */
SLUICE_API int sluice_stream_send(struct sluice_stream *stream, const void *data, size_t len);

/* The same for `count` pieces, as one. Takes all or nothing. */
SLUICE_API int sluice_stream_send_vector(struct sluice_stream *stream, const struct iovec *pieces, size_t count);

/*
 * The same without copying: shares the view's buffer (one more reference) until the kernel is done with it. The
 * bytes must not change until then. Views under 256 bytes are copied instead, which is cheaper, and so are views of
 * received buffers while these are scarce.
 * Returns as sluice_stream_send(); on a refusal no reference was taken.
 */
SLUICE_API int sluice_stream_send_view(struct sluice_stream *stream, const struct sluice_view *view);

/*
 * [any thread] Copies the bytes and has the engine's thread send them: the one call to send from elsewhere. The
 * stream must be held (sluice_stream_hold). Bytes posted by one thread stay in order.
 *
 * Returns 0, or with nothing taken -EPIPE (our direction is closing or closed), -ENOBUFS (bytes posted and not
 * yet taken over would pass the send limit), -EMSGSIZE, -ENOMEM. What was taken counts as accepted: finish and close
 * flush it, and if the stream fails before the bytes reach it, on_close counts them among the unsent.
 */
SLUICE_API int sluice_stream_post_send(struct sluice_stream *stream, const void *data, size_t len);

/*
 * Gives this stream its own marks and limit, in bytes; see struct sluice_engine_options.
 * Returns 0, or -EINVAL unless low < high <= limit. Bytes already queued stay, also above a new limit.
 */
SLUICE_API int sluice_stream_set_send_limits(struct sluice_stream *stream, size_t low_mark, size_t high_mark,
                                             size_t limit);

/* Bytes accepted and not yet handed down. */
SLUICE_API size_t sluice_stream_queued(const struct sluice_stream *stream);

/* -- Receiving ----------------------------------------------------------------------------------------------- */

/* No on_data until resume. What is on its way is held; the source is told to stop. 0, or -EPIPE if closed. */
SLUICE_API int sluice_stream_pause(struct sluice_stream *stream);

/* Held bytes follow from the next pass of the run queue on. 0, or -EPIPE if closed. */
SLUICE_API int sluice_stream_resume(struct sluice_stream *stream);

/*
 * Keeps a view that was lent to on_data: `kept` is a view of the same bytes with a reference of its own. Give it
 * back with sluice_buffer_drop(kept->buffer). While received buffers are scarce the bytes are copied out, so that
 * no one keeper can stop every other stream from receiving.
 * Returns 0, or -ENOMEM.
 */
SLUICE_API int sluice_view_keep(struct sluice_stream *stream, const struct sluice_view *view, struct sluice_view *kept);

/* The stream fails with -ETIMEDOUT after so long without a byte in either direction; 0: never. */
SLUICE_API void sluice_stream_set_idle_timeout(struct sluice_stream *stream, uint64_t timeout_ns);

/* -- Ending -------------------------------------------------------------------------------------------------- */

/*
 * Ends our direction once the queue is flushed; reading goes on. When the peer ends its direction too, the stream
 * closes by itself. Returns 0, or -EPIPE if our direction was closing or closed already.
 */
SLUICE_API int sluice_stream_finish(struct sluice_stream *stream);

/*
 * Closes gracefully: flushes through every layer, ends our direction, then discards what arrives until the peer
 * ends too or for the linger time without progress. Nothing but on_close is told from here on. If the queue makes
 * no progress for the linger time, the stream is aborted with -ETIMEDOUT. A connecting stream with nothing queued
 * is cancelled: on_close tells -ECANCELED. Calling it again, or after abort, does nothing.
 */
SLUICE_API void sluice_stream_close(struct sluice_stream *stream);

/*
 * [any thread, if the stream is held] Ends at once: from this call on nothing more is submitted, what is queued
 * is dropped and counted, the peer is reset. `error` is told as the cause: a negative errno, or 0 for -ECONNABORTED.
 * The first abort wins; one during close cuts the close short.
 */
SLUICE_API void sluice_stream_abort(struct sluice_stream *stream, int error);

/* -- Asking -------------------------------------------------------------------------------------------------- */

/* [any thread, if the stream is held] */
SLUICE_API enum sluice_write_status sluice_stream_write_status(const struct sluice_stream *stream);
SLUICE_API enum sluice_read_status sluice_stream_read_status(const struct sluice_stream *stream);
SLUICE_API enum sluice_state sluice_stream_state(const struct sluice_stream *stream);
SLUICE_API struct sluice_engine *sluice_stream_engine(const struct sluice_stream *stream);
SLUICE_API void *sluice_stream_user(const struct sluice_stream *stream);

/* "tcp", "unix", "fd", "pair", "frame"… A constant. */
SLUICE_API const char *sluice_stream_kind(const struct sluice_stream *stream);

/*
 * Writes the address of the peer (or our own) as people write it: "127.0.0.1:7000", "[::1]:7000", "unix:/path".
 * Layers answer for what they stand on. Returns 0, -ENOTCONN, -EOPNOTSUPP (pair, fd), or -ENOSPC.
 */
SLUICE_API int sluice_stream_peer_address(const struct sluice_stream *stream, char *text, size_t text_size);
SLUICE_API int sluice_stream_local_address(const struct sluice_stream *stream, char *text, size_t text_size);

/*
 * [any thread] One more, or one less, reason to keep the memory of a stream after its on_close. What a held,
 * closed stream can still do: answer its status, refuse sends, ignore aborts.
 */
SLUICE_API void sluice_stream_hold(struct sluice_stream *stream);
SLUICE_API void sluice_stream_release(struct sluice_stream *stream);

SLUICE_END

#endif
