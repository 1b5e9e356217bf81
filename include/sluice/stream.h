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
    /*
     * Accepted bytes, and lengths that message layers put before them, that were not handed to the kernel: of this
     * stream, of those below, and of posts that came too late.
     */
    uint64_t unsent;
};

/*
 * What a stream tells its user. Any member may be NULL: then that is not told. While on_data is NULL, arriving
 * bytes are held, the source is paused, and on_end waits behind them. The table must stay valid until on_close returns.
 */
struct sluice_stream_events {
    /*
     * The connection stands. Not told for streams that are open from the start (accepted, fd, pair); always for a
     * layer, which may be used from then on, also if the stream below was open before.
     */
    void (*on_open)(struct sluice_stream *stream, void *user);
    /* Bytes arrived. The view is lent until this returns; see sluice_view_keep(). */
    void (*on_data)(struct sluice_stream *stream, const struct sluice_view *view, void *user);
    /*
     * After SLUICE_FULL, or -ENOBUFS while bytes were queued, the queue has fallen to its low mark. Told once for each
     * time; never once we may not send.
     */
    void (*on_drain)(struct sluice_stream *stream, void *user);
    /* The peer sends no more. We still may. Told once, after the last on_data. */
    void (*on_end)(struct sluice_stream *stream, void *user);
    /*
     * It is over: the last callback, exactly once, on every path. The descriptor is closed, nothing is queued. Until it
     * returns the stream may be named; what is called then refuses (-EPIPE) or does nothing.
     */
    void (*on_close)(struct sluice_stream *stream, const struct sluice_close *why, void *user);
};

/*
 * Who is told from now on; NULL: nobody, so bytes are held and the source is paused. What nobody was there to hear
 * follows: on_open, the bytes held so far, on_end. Only an on_drain is not told again: ask how much is queued. A paused
 * stream stays paused. May be called in any state; after on_close without effect.
 */
SLUICE_API void sluice_stream_set_events(struct sluice_stream *stream, const struct sluice_stream_events *events,
                                         void *user);

/* -- Sending ------------------------------------------------------------------------------------------------- */

/*
 * Sends `len` bytes, copying them: the caller's memory is free on return. Consecutive small sends of one turn leave
 * together. Over a message layer (frame.h) one send is one message, the empty one included; elsewhere a send of no
 * bytes adds nothing. `data` may be NULL if `len` is 0.
 *
 * Returns SLUICE_ROOM or SLUICE_FULL, or with nothing taken:
 *   -EPIPE    our direction is closing or closed
 *   -ENOBUFS  it would pass the stream's send limit or the engine's memory budget. If bytes are queued on this stream,
 *             on_drain comes when they have fallen to the low mark, as after SLUICE_FULL. If none are, no on_drain
 *             comes: other streams fill the budget, so try again later. A send that is longer than the limit or the
 *             budget never fits: send it in parts
 *   -EMSGSIZE a message longer than its layer allows
 *   -ENOMEM   no memory for the copy; no on_drain comes for it
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
 * stream must be held (sluice_stream_hold). Bytes posted by one thread stay in order. Over a message layer one post is
 * one message.
 *
 * Returns 0, or with nothing taken -EPIPE (our direction is closing or closed, or the engine is gone), -ENOBUFS (bytes
 * posted and not yet taken over would pass the send limit: try again later, no callback says when), -EMSGSIZE, -ENOMEM.
 *
 * What was taken counts as accepted: finish and close flush it, and if the stream fails before the bytes reach it,
 * on_close counts them among the unsent. No limit refuses them when they arrive, so a stream may hold up to its send
 * limit twice. If there is no memory for them then, the stream fails with -ENOMEM, because the peer must not get what
 * comes behind a gap.
 */
SLUICE_API int sluice_stream_post_send(struct sluice_stream *stream, const void *data, size_t len);

/*
 * Gives this stream its own marks and limit, in bytes; see struct sluice_engine_options. What is below a layer keeps
 * its own. Returns 0, or -EINVAL unless low < high <= limit. Bytes already queued stay, also above a new limit.
 */
SLUICE_API int sluice_stream_set_send_limits(struct sluice_stream *stream, size_t low_mark, size_t high_mark,
                                             size_t limit);

/*
 * Bytes accepted and not yet taken by the kernel or the stream below, with what a message layer put before each
 * message. Not counted: bytes posted that have not arrived, and what the streams below hold.
 */
SLUICE_API size_t sluice_stream_queued(const struct sluice_stream *stream);

/* -- Receiving ----------------------------------------------------------------------------------------------- */

/*
 * No on_data until resume. The source is told to stop; what is on its way is held, up to the engine's receive limit.
 * Pausing a paused stream does nothing. Returns 0, or -EPIPE if no bytes will be told any more: on_end was told, or the
 * stream is closing or closed.
 */
SLUICE_API int sluice_stream_pause(struct sluice_stream *stream);

/* Held bytes follow from the next pass of the run queue on, never within the call. Returns as sluice_stream_pause(). */
SLUICE_API int sluice_stream_resume(struct sluice_stream *stream);

/*
 * Keeps a view that was lent to on_data: `kept` is a view of the same bytes with a reference of its own. Give it
 * back with sluice_buffer_drop(kept->buffer), at the latest in a callback that sluice_engine_destroy() makes. While
 * received buffers are scarce the bytes are copied out, so that no one keeper can stop every other stream from
 * receiving. Returns 0, or -ENOMEM.
 */
SLUICE_API int sluice_view_keep(struct sluice_stream *stream, const struct sluice_view *view, struct sluice_view *kept);

/*
 * The stream fails with -ETIMEDOUT after so long without a byte in either direction; 0: never. The time counts from now
 * on, or from on_open if the stream is connecting; once it is closing, the linger time takes its place. To accept bytes
 * is no activity, to move them is. For a layer the bytes of the stream below count, too.
 */
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
 * is cancelled: on_close tells -ECANCELED. With something queued it goes on connecting, for the linger time. Calling it
 * again, or after abort, does nothing.
 */
SLUICE_API void sluice_stream_close(struct sluice_stream *stream);

/*
 * [any thread, if the stream is held] Ends at once: from this call on nothing more is submitted, what is queued
 * is dropped and counted, what was received and not told is dropped, the peer is reset. `error` is told as the cause: a
 * negative errno, or 0 for -ECONNABORTED. The first abort wins; one during close cuts the close short. From another
 * thread the call ends only the write status; the rest follows in the engine's next turn.
 */
SLUICE_API void sluice_stream_abort(struct sluice_stream *stream, int error);

/* -- Asking -------------------------------------------------------------------------------------------------- */

/* [any thread, if the stream is held] Never goes back: once it is closed it stays closed. */
SLUICE_API enum sluice_write_status sluice_stream_write_status(const struct sluice_stream *stream);

/* On the engine's thread; of a held stream also after its on_close. */
SLUICE_API enum sluice_read_status sluice_stream_read_status(const struct sluice_stream *stream);
SLUICE_API enum sluice_state sluice_stream_state(const struct sluice_stream *stream);

/* [any thread, if the stream is held] Always the same. A stream that is held can outlive its engine. */
SLUICE_API struct sluice_engine *sluice_stream_engine(const struct sluice_stream *stream);

/* As given to what made the stream, or to sluice_stream_set_events() since. */
SLUICE_API void *sluice_stream_user(const struct sluice_stream *stream);

/* "tcp", "unix", "fd", "pair", "frame"…; "socket" before the connection stands and after it is closed. A literal. */
SLUICE_API const char *sluice_stream_kind(const struct sluice_stream *stream);

/*
 * Writes the address of the peer (or our own) as people write it: "127.0.0.1:7000", "[::1]:7000", "unix:/path".
 * Layers answer for what they stand on. SLUICE_ADDRESS_MAX bytes (address.h) are always enough. Returns 0, -ENOTCONN
 * (not connected yet, or not any more), -EOPNOTSUPP (pair, fd), or -ENOSPC.
 */
SLUICE_API int sluice_stream_peer_address(const struct sluice_stream *stream, char *text, size_t text_size);
SLUICE_API int sluice_stream_local_address(const struct sluice_stream *stream, char *text, size_t text_size);

/*
 * [any thread] One more, or one less, reason to keep the memory of a stream after its on_close. The first hold is taken
 * on the engine's thread, while the stream may be named. What a held, closed stream can still do, also when its engine
 * is gone: answer its status, refuse sends, ignore aborts. The memory goes with the last release.
 */
SLUICE_API void sluice_stream_hold(struct sluice_stream *stream);
SLUICE_API void sluice_stream_release(struct sluice_stream *stream);

SLUICE_END

#endif
