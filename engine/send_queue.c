/* The guarded send queue: see send_queue.h. */
#include "engine/send_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/probes.h"

enum {
    SHARE_MINIMUM = 256,  /* a shorter view costs less to copy than to share */
    PASS_MAX = 64 * 1024, /* bytes that a layer moves down at a time */
};

/* -- The guarded flusher ------------------------------------------------------------------------------------- */

/* No post may come any more. Returns false if some are on their way: they were accepted, and schedule the flush. */
static bool refuse_posts(struct sluice_stream *stream)
{
    uint64_t none = 0;

    return atomic_compare_exchange_strong(&stream->posted, &none, STREAM_POSTS_CLOSED) || (none & STREAM_POSTS_CLOSED);
}

/* The queue is empty. If our direction is to end, it ends here; unless another thread aborted meanwhile. */
static void end_our_direction(struct sluice_stream *stream)
{
    uint8_t closing = SLUICE_WRITE_CLOSING;

    if (stream_write_status(stream) != SLUICE_WRITE_CLOSING || !refuse_posts(stream))
        return;
    if (!atomic_compare_exchange_strong(&stream->write_status, &closing, SLUICE_WRITE_CLOSED))
        return;
    stream->is_finished = true;
    stream->ops->finish(stream);
}

/*
 * Moves the queue down. The order of the questions matters: whoever is below may be unable to take a byte; an empty
 * queue may be the end of our direction; and only then, as late as possible, the write status decides. CLOSED submits
 * nothing: what is queued is released and counted in stream_closed(). CLOSING still flushes what was accepted.
 */
static void pump(struct sluice_stream *stream)
{
    if (stream->is_finished) {
        stream_wind_down(stream);
        return;
    }
    if (!stream->is_ready)
        return;
    if (stream->ops->is_blocked(stream)) {
        quiet_await(&stream->engine->quiet); /* if that is what blocks it */
        return;
    }
    if (bytes_is_empty(&stream->unsent)) {
        end_our_direction(stream);
        stream_wind_down(stream);
        return;
    }
    if (stream_write_status(stream) == SLUICE_WRITE_CLOSED)
        return;
    probe_flush(stream, stream->unsent.len);
    stream->ops->flush(stream);
}

static void tell_drain(struct sluice_stream *stream)
{
    if (!stream->owes_drain || stream->unsent.len > stream->low_mark)
        return;
    if (stream_write_status(stream) == SLUICE_WRITE_CLOSED)
        return;
    stream->owes_drain = false;
    if (stream_write_status(stream) == SLUICE_WRITABLE && stream->events && stream->events->on_drain) {
        probe_drain(stream);
        stream->events->on_drain(stream, stream->user);
    }
}

void send_queue_run(struct task *task)
{
    struct sluice_stream *stream = container_of(task, struct sluice_stream, flush);

    if (stream->state != SLUICE_CLOSED && !stream->is_aborted) {
        pump(stream);
        tell_drain(stream);
    }
    stream_unguard(stream);
}

/* The queue is `len` bytes shorter, or dropped: what arrived over its limit makes room for new posts. */
static void pay_back(struct sluice_stream *stream, size_t len)
{
    uint64_t part = len < stream->overdrawn ? len : stream->overdrawn;

    if (part == 0)
        return;
    stream->overdrawn -= part;
    atomic_fetch_sub(&stream->posted, part);
}

/* The queue has become `len` bytes shorter: whatever waited for that comes next. */
static void left_queue(struct sluice_stream *stream, size_t len)
{
    pay_back(stream, len);
    counter_subtract(&stream->engine->counters.queued_bytes, len);
    stream->active_at = stream->engine->now;
    if (!bytes_is_empty(&stream->unsent) || stream->owes_drain || stream_write_status(stream) != SLUICE_WRITABLE)
        stream_schedule_flush(stream);
}

void stream_sent(struct sluice_stream *stream, size_t len)
{
    bytes_consume(&stream->unsent, &stream->engine->pool, len);
    left_queue(stream, len);
}

void send_queue_drop(struct sluice_stream *stream)
{
    struct sluice_engine *engine = stream->engine;

    stream->lost += stream->unsent.len;
    counter_subtract(&engine->counters.queued_bytes, stream->unsent.len);
    pay_back(stream, stream->unsent.len);
    bytes_clear(&stream->unsent, &engine->pool);
}

/* -- Sending ------------------------------------------------------------------------------------------------- */

/* Over a limit: nothing is taken, and if something is queued here, its drain is the time to try again. */
static int refuse_for_now(struct sluice_stream *stream)
{
    if (!bytes_is_empty(&stream->unsent)) {
        stream->owes_drain = true;
        quiet_await(&stream->engine->quiet); /* the drain may come from one that was submitted before we owed it */
    }
    return -ENOBUFS;
}

static bool is_too_long(const struct sluice_stream *stream, size_t len)
{
    return stream->has_messages && len > stream->message_max;
}

static int may_send(struct sluice_stream *stream, size_t len)
{
    const struct sluice_engine *engine = stream->engine;
    size_t limit;
    uint64_t queued;

    /* First: of a stream that is only held, the engine may be gone. */
    if (stream_write_status(stream) != SLUICE_WRITABLE)
        return -EPIPE;
    queued = atomic_load_explicit(&engine->counters.queued_bytes, memory_order_relaxed);
    if (is_too_long(stream, len))
        return -EMSGSIZE;
    limit = stream->send_limit;
    if (len > limit || stream->unsent.len > limit - len)
        return refuse_for_now(stream);
    if (len > engine->options.memory_budget || queued > engine->options.memory_budget - len)
        return refuse_for_now(stream);
    return 0;
}

/* The queue has become `len` bytes longer. */
static void joined_queue(struct sluice_stream *stream, size_t len)
{
    probe_send(stream, len, stream->unsent.len);
    counter_add(&stream->engine->counters.queued_bytes, len);
    stream_schedule_flush(stream);
}

/* The same, and the sender hears whether there is room for more: if not, we owe a drain. */
static int accepted(struct sluice_stream *stream, size_t len)
{
    joined_queue(stream, len);
    if (stream->unsent.len < stream->high_mark)
        return SLUICE_ROOM;
    stream->owes_drain = true;
    return SLUICE_FULL;
}

/* There is no memory for all of a message: what was put in of it, behind `before` bytes, goes. */
static int take_back(struct sluice_stream *stream, size_t before)
{
    bytes_truncate(&stream->unsent, &stream->engine->pool, before);
    return -ENOMEM;
}

/* Puts in what is written before a message. Returns 0 or -ENOMEM. */
static int write_prefix(struct sluice_stream *stream, size_t len)
{
    uint8_t prefix[STREAM_PREFIX_MAX];
    size_t prefix_len = stream->ops->prefix(stream, len, prefix);

    if (bytes_append_short(&stream->unsent, prefix, prefix_len))
        return 0;
    return bytes_append_one(&stream->unsent, &stream->engine->pool, prefix, prefix_len);
}

static inline int append_prefix(struct sluice_stream *stream, size_t len)
{
    return stream->has_messages ? write_prefix(stream, len) : 0;
}

/* Puts in a message, its prefix first: all or nothing. Returns 0 or -ENOMEM. */
static int append_message(struct sluice_stream *stream, const struct iovec *pieces, size_t count, size_t len)
{
    size_t before = stream->unsent.len;
    int error = append_prefix(stream, len);

    if (!error && len > 0)
        error = bytes_append_copy(&stream->unsent, &stream->engine->pool, pieces, count);
    return error ? take_back(stream, before) : 0;
}

/* The same for one piece. */
static int append_piece(struct sluice_stream *stream, const void *data, size_t len)
{
    size_t before = stream->unsent.len;
    int error = append_prefix(stream, len);

    if (!error && !bytes_append_short(&stream->unsent, data, len) && len > 0)
        error = bytes_append_one(&stream->unsent, &stream->engine->pool, data, len);
    return error ? take_back(stream, before) : 0;
}

/* Puts in a view, by reference: behind what it adjoins, or as a slice of its own. Returns 0 or -ENOMEM. */
static int append_view(struct sluice_stream *stream, const struct sluice_view *view)
{
    if (bytes_extend(&stream->unsent, view))
        return 0;
    return bytes_append_view(&stream->unsent, &stream->engine->pool, view);
}

int sluice_stream_send_vector(struct sluice_stream *stream, const struct iovec *pieces, size_t count)
{
    size_t len = bytes_total(pieces, count);
    size_t before = stream->unsent.len;
    int error;

    assert(mailbox_is_mine(stream->mailbox));
    error = may_send(stream, len);
    if (!error)
        error = append_message(stream, pieces, count, len);
    return error ? error : accepted(stream, stream->unsent.len - before);
}

/* A message, by itself: what it calls for its prefix and its bytes would cost as much again to enter and leave. */
__attribute__((noinline, flatten)) static int send_message(struct sluice_stream *stream, const void *data, size_t len)
{
    size_t before = stream->unsent.len;
    int error = append_piece(stream, data, len);

    return error ? error : accepted(stream, stream->unsent.len - before);
}

/* Bytes that do not fit behind the last. Not inline, as the others: so that the short way saves no registers for it. */
__attribute__((noinline)) static int send_bytes(struct sluice_stream *stream, const void *data, size_t len)
{
    int error = len > 0 ? bytes_append_one(&stream->unsent, &stream->engine->pool, data, len) : 0;

    return error ? error : accepted(stream, len);
}

/* The same by reference. */
__attribute__((noinline)) static int send_message_view(struct sluice_stream *stream, const struct sluice_view *view)
{
    size_t before = stream->unsent.len;
    int error = append_prefix(stream, view->len);

    if (!error)
        error = append_view(stream, view);
    if (error)
        return take_back(stream, before);
    return accepted(stream, stream->unsent.len - before);
}

static int send_bytes_view(struct sluice_stream *stream, const struct sluice_view *view)
{
    int error = append_view(stream, view);

    return error ? error : accepted(stream, view->len);
}

int sluice_stream_send(struct sluice_stream *stream, const void *data, size_t len)
{
    int error;

    assert(mailbox_is_mine(stream->mailbox));
    error = may_send(stream, len);
    if (error)
        return error;
    if (stream->has_messages)
        return send_message(stream, data, len);
    /* Many small sends in a turn are common: behind the first, they are only copied. */
    if (bytes_append_short(&stream->unsent, data, len))
        return accepted(stream, len);
    return send_bytes(stream, data, len);
}

int sluice_stream_send_view(struct sluice_stream *stream, const struct sluice_view *view)
{
    int error;

    assert(mailbox_is_mine(stream->mailbox));
    if (view->len < SHARE_MINIMUM)
        return sluice_stream_send(stream, view->data, view->len);
    /* First: of a stream that is only held, the engine may be gone. */
    error = may_send(stream, view->len);
    if (error)
        return error;
    if (leases_may_keep(&stream->engine->leases, view->buffer))
        return stream->has_messages ? send_message_view(stream, view) : send_bytes_view(stream, view);
    return stream->has_messages ? send_message(stream, view->data, view->len)
                                : send_bytes(stream, view->data, view->len);
}

int stream_carry(struct sluice_stream *stream, const struct iovec *pieces, size_t count)
{
    size_t len = bytes_total(pieces, count);
    size_t before = stream->unsent.len;
    int error;

    if (stream_write_status(stream) != SLUICE_WRITABLE)
        return -EPIPE;
    if (is_too_long(stream, len))
        return -EMSGSIZE;
    error = append_message(stream, pieces, count, len);
    if (error)
        return error;
    accepted(stream, stream->unsent.len - before);
    return 0;
}

/*
 * What is passed was accepted and counted above, so the limits of `lower` do not refuse it; its marks decide, because
 * the layer above passes nothing while `lower` owes a drain. So its queue stays below its high mark plus PASS_MAX.
 */
int stream_pass_down(struct sluice_stream *stream, struct sluice_stream *lower)
{
    struct pool *pool = &stream->engine->pool;
    size_t len = smaller(stream->unsent.len, smaller(lower->message_max, PASS_MAX));
    size_t before = lower->unsent.len;
    int error = append_prefix(lower, len);

    if (!error)
        error = bytes_move(&stream->unsent, &lower->unsent, pool, len);
    if (error)
        return take_back(lower, before);
    accepted(lower, lower->unsent.len - before);
    left_queue(stream, len);
    return 0;
}

int sluice_stream_set_send_limits(struct sluice_stream *stream, size_t low_mark, size_t high_mark, size_t limit)
{
    assert(mailbox_is_mine(stream->mailbox));
    if (low_mark >= high_mark || high_mark > limit)
        return -EINVAL;
    stream->low_mark = low_mark;
    stream->high_mark = high_mark;
    stream->send_limit = limit;
    /* A new low mark may be reached already. */
    if (stream->owes_drain && stream->state != SLUICE_CLOSED)
        stream_schedule_flush(stream);
    return 0;
}

size_t sluice_stream_queued(const struct sluice_stream *stream)
{
    return stream->unsent.len;
}

/* -- From other threads -------------------------------------------------------------------------------------- */

/* Bytes on their way from another thread. */
struct posted_send {
    struct sluice_post post;
    struct sluice_stream *stream;
    size_t len;
    uint8_t data[];
};

/*
 * Reserves `len` bytes of what may be under way. Fails once the last count was taken: then nothing may come any more.
 */
static int reserve_bytes(struct sluice_stream *stream, size_t len)
{
    uint64_t posted = atomic_load(&stream->posted);

    do {
        if (posted & STREAM_POSTS_CLOSED)
            return -EPIPE;
        if (len > stream->send_limit || posted > stream->send_limit - len)
            return -ENOBUFS;
    } while (!atomic_compare_exchange_weak(&stream->posted, &posted, posted + len));
    return 0;
}

/* The same, and one of the posts. */
static int reserve_post(struct sluice_stream *stream, size_t len)
{
    int error = -ENOBUFS;

    if (atomic_fetch_add(&stream->posts, 1) < STREAM_POSTS_MAX)
        error = reserve_bytes(stream, len);
    if (error)
        atomic_fetch_sub(&stream->posts, 1);
    return error;
}

static void run_posted_send(struct sluice_post *post)
{
    struct posted_send *send = container_of(post, struct posted_send, post);
    struct sluice_stream *stream = send->stream;
    size_t before = stream->unsent.len;
    bool was_counted = atomic_load(&stream->posted) & STREAM_POSTS_CLOSED;
    int error = -EPIPE;
    size_t over = 0;

    atomic_fetch_sub(&stream->posts, 1);
    /* Accepted when it was posted: no limit applies any more, and an end of our direction waits for it. */
    if (stream_write_status(stream) != SLUICE_WRITE_CLOSED)
        error = append_piece(stream, send->data, send->len);
    /* What is over the limit stays reserved until as much has left the queue: so posters cannot fill it without end. */
    if (!error && stream->unsent.len > stream->send_limit)
        over = smaller(stream->unsent.len - stream->send_limit, send->len);
    stream->overdrawn += over;
    atomic_fetch_sub(&stream->posted, send->len - over);
    if (!error)
        joined_queue(stream, stream->unsent.len - before);
    else if (!was_counted)
        stream->lost += send->len;
    /* It was accepted: what comes behind the gap must not reach the peer. */
    if (error == -ENOMEM)
        stream_fail(stream, -ENOMEM, SLUICE_LOCAL);
    if (stream->state != SLUICE_CLOSED)
        stream_schedule_flush(stream);
    sluice_stream_release(stream);
    free(send);
}

/*
 * What is counted here will not arrive. While the engine is destroyed, a thread may have counted a post that the
 * mailbox is about to refuse: it is told -EPIPE, and on_close counts it all the same.
 */
uint64_t send_queue_close_posts(struct sluice_stream *stream)
{
    return atomic_fetch_or(&stream->posted, STREAM_POSTS_CLOSED) & ~STREAM_POSTS_CLOSED;
}

int sluice_stream_post_send(struct sluice_stream *stream, const void *data, size_t len)
{
    struct posted_send *send;
    int error;

    if (stream_write_status(stream) != SLUICE_WRITABLE)
        return -EPIPE;
    if (is_too_long(stream, len))
        return -EMSGSIZE;
    send = malloc(sizeof *send + len);
    if (!send)
        return -ENOMEM;
    error = reserve_post(stream, len);
    if (error) {
        free(send);
        return error;
    }
    *send = (struct posted_send){.post.run = run_posted_send, .stream = stream, .len = len};
    if (len > 0)
        memcpy(send->data, data, len);
    sluice_stream_hold(stream);
    if (mailbox_post(stream->mailbox, &send->post))
        return 0;
    atomic_fetch_sub(&stream->posted, len);
    atomic_fetch_sub(&stream->posts, 1);
    sluice_stream_release(stream);
    free(send);
    return -EPIPE;
}
