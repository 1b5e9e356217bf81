/* The base of every stream: see stream.h. */
#include "engine/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/address.h"

enum {
    SHARE_MINIMUM = 256,  /* a shorter view costs less to copy than to share */
    PASS_MAX = 64 * 1024, /* bytes that a layer moves down at a time */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* -- Making and freeing -------------------------------------------------------------------------------------- */

static void run_work(struct task *task);
static void run_flush(struct task *task);
static void run_timer(struct sluice_timer *timer);
static void run_abort_post(struct sluice_post *post);

static void assert_complete(const struct stream_ops *ops)
{
    assert(ops->kind && ops->is_blocked && ops->flush && ops->finish);
    assert(ops->close && ops->abort && ops->update_receive && ops->linger_over);
    assert(ops->prefix && ops->last_active && ops->address && ops->destroy);
    (void)ops;
}

static void start_timer(struct sluice_stream *stream, uint64_t from, uint64_t delay_ns)
{
    timers_start(&stream->engine->timers, &stream->timer, delay_ns < UINT64_MAX - from ? from + delay_ns : UINT64_MAX);
}

void stream_init(struct sluice_stream *stream, const struct stream_ops *ops, struct sluice_engine *engine,
                 enum sluice_state state, const struct sluice_stream_events *events, void *user)
{
    assert_complete(ops);
    assert(!engine->is_destroying);
    *stream = (struct sluice_stream){
        .ops = ops,
        .events = events,
        .user = user,
        .engine = engine,
        .state = state,
        .is_ready = state == SLUICE_OPEN,
        .holders = 1,
        .work.run = run_work,
        .flush.run = run_flush,
        .timer.fire = run_timer,
        .abort_post.run = run_abort_post,
        .idle_timeout_ns = engine->options.idle_timeout_ns,
        .active_at = engine->now,
        .low_mark = engine->options.send_low_mark,
        .high_mark = engine->options.send_high_mark,
        .send_limit = engine->options.send_limit,
        .message_max = SIZE_MAX,
    };
    link_append(&engine->streams, &stream->link);
    counter_add(&engine->counters.streams, 1);
    if (state == SLUICE_CONNECTING)
        start_timer(stream, engine->now, engine->options.connect_timeout_ns);
    else if (stream->idle_timeout_ns)
        start_timer(stream, engine->now, stream->idle_timeout_ns);
}

void stream_discard(struct sluice_stream *stream)
{
    assert(stream->guards == 0);
    timers_stop(&stream->engine->timers, &stream->timer);
    counter_subtract(&stream->engine->counters.streams, 1);
    link_remove(&stream->link);
}

void sluice_stream_hold(struct sluice_stream *stream)
{
    atomic_fetch_add_explicit(&stream->holders, 1, memory_order_relaxed);
}

void sluice_stream_release(struct sluice_stream *stream)
{
    /* Release what this thread wrote, acquire what the others wrote before they let go. */
    if (atomic_fetch_sub_explicit(&stream->holders, 1, memory_order_acq_rel) == 1)
        free(stream);
}

static void destroy_stream(struct sluice_stream *stream)
{
    assert(bytes_is_empty(&stream->unsent));
    assert(bytes_is_empty(&stream->held));
    assert(!timer_is_armed(&stream->timer));
    assert(!stream->work.is_queued);
    assert(!stream->flush.is_queued);
    link_remove(&stream->link);
    stream->ops->destroy(stream);
    sluice_stream_release(stream);
}

void stream_unguard(struct sluice_stream *stream)
{
    assert(stream->guards > 0);
    stream->guards--;
    if (stream->guards == 0 && stream->has_told_close)
        destroy_stream(stream);
}

/* A place in a lane is a guard: the task gives it back. */
void stream_schedule_work(struct sluice_stream *stream)
{
    if (lane_push(&stream->engine->tasks.work, &stream->work))
        stream_guard(stream);
}

void stream_schedule_flush(struct sluice_stream *stream)
{
    if (lane_push(&stream->engine->tasks.flushes, &stream->flush))
        stream_guard(stream);
}

/* -- The end begins ------------------------------------------------------------------------------------------ */

static void set_cause(struct sluice_stream *stream, int error, enum sluice_side side)
{
    /* The first cause stands, but a graceful end that fails on the way did fail. */
    if (stream->has_cause && (stream->error || !error))
        return;
    stream->has_cause = true;
    stream->error = error;
    stream->side = (uint8_t)side;
}

static void stop_writing(struct sluice_stream *stream)
{
    atomic_store_explicit(&stream->write_status, SLUICE_WRITE_CLOSED, memory_order_release);
}

static void stop_reading(struct sluice_stream *stream)
{
    stream->read_status = SLUICE_READ_CLOSED;
    bytes_clear(&stream->held, &stream->engine->pool);
}

void stream_fail(struct sluice_stream *stream, int error, enum sluice_side side)
{
    assert(error < 0);
    if (stream->is_aborted || stream->state == SLUICE_CLOSED)
        return;
    set_cause(stream, error, side);
    stop_writing(stream);
    stop_reading(stream);
    stream->state = SLUICE_CLOSING;
    stream->is_aborted = true;
    timers_stop(&stream->engine->timers, &stream->timer);
    stream_guard(stream);
    stream->ops->abort(stream);
    stream_unguard(stream);
}

void stream_fail_after_data(struct sluice_stream *stream, int error, enum sluice_side side)
{
    if (stream->state != SLUICE_OPEN || bytes_is_empty(&stream->held)) {
        stream_fail(stream, error, side);
        return;
    }
    set_cause(stream, error, side);
    stop_writing(stream);
    stream->is_failing = true;
    stream_schedule_work(stream);
}

void stream_break(struct sluice_stream *stream, int error, enum sluice_side side)
{
    if (stream->state != SLUICE_OPEN || stream->has_ended) {
        stream_fail_after_data(stream, error, side);
        return;
    }
    set_cause(stream, error, side);
    stop_writing(stream);
    stream->is_broken = true;
}

/* Our direction has ended, and the peer's has or does not matter any more: what remains is the transport's part. */
static void wind_down(struct sluice_stream *stream)
{
    bool is_over = stream->state == SLUICE_CLOSING || stream->has_told_end;

    if (!stream->is_finished || !is_over || stream->is_winding_down || stream->is_aborted)
        return;
    set_cause(stream, 0, stream->state == SLUICE_CLOSING ? SLUICE_LOCAL : SLUICE_REMOTE);
    stream->state = SLUICE_CLOSING;
    stream->read_status = SLUICE_READ_CLOSED;
    stream->is_winding_down = true;
    timers_stop(&stream->engine->timers, &stream->timer);
    stream->ops->close(stream);
}

void stream_closed(struct sluice_stream *stream)
{
    struct sluice_engine *engine = stream->engine;

    assert(stream->state == SLUICE_CLOSING);
    set_cause(stream, 0, SLUICE_LOCAL);
    stop_writing(stream);
    stop_reading(stream);
    timers_stop(&engine->timers, &stream->timer);
    stream->lost += stream->unsent.len;
    counter_subtract(&engine->counters.queued_bytes, stream->unsent.len);
    bytes_clear(&stream->unsent, &engine->pool);
    stream->state = SLUICE_CLOSED;
    counter_subtract(&engine->counters.streams, 1);
    stream_schedule_work(stream);
}

/* -- The guarded flusher ------------------------------------------------------------------------------------- */

/* The queue is empty. If our direction is to end, it ends here; unless another thread aborted meanwhile. */
static void end_our_direction(struct sluice_stream *stream)
{
    uint8_t closing = SLUICE_WRITE_CLOSING;

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
        wind_down(stream);
        return;
    }
    if (!stream->is_ready || stream->ops->is_blocked(stream))
        return;
    if (bytes_is_empty(&stream->unsent)) {
        end_our_direction(stream);
        wind_down(stream);
        return;
    }
    if (stream_write_status(stream) == SLUICE_WRITE_CLOSED)
        return;
    stream->ops->flush(stream);
}

static void tell_drain(struct sluice_stream *stream)
{
    if (!stream->owes_drain || stream->unsent.len > stream->low_mark)
        return;
    stream->owes_drain = false;
    if (stream_write_status(stream) == SLUICE_WRITABLE && stream->events && stream->events->on_drain)
        stream->events->on_drain(stream, stream->user);
}

static void run_flush(struct task *task)
{
    struct sluice_stream *stream = container_of(task, struct sluice_stream, flush);

    if (stream->state != SLUICE_CLOSED && !stream->is_aborted) {
        pump(stream);
        tell_drain(stream);
    }
    stream_unguard(stream);
}

/* The queue has become `len` bytes shorter: whatever waited for that comes next. */
static void left_queue(struct sluice_stream *stream, size_t len)
{
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

/* -- Sending ------------------------------------------------------------------------------------------------- */

static int may_send(const struct sluice_stream *stream, size_t len)
{
    const struct sluice_engine *engine = stream->engine;
    uint64_t queued = atomic_load_explicit(&engine->counters.queued_bytes, memory_order_relaxed);

    if (stream_write_status(stream) != SLUICE_WRITABLE)
        return -EPIPE;
    if (len > stream->message_max)
        return -EMSGSIZE;
    if (len > stream->send_limit || stream->unsent.len > stream->send_limit - len)
        return -ENOBUFS;
    if (len > engine->options.memory_budget || queued > engine->options.memory_budget - len)
        return -ENOBUFS;
    return 0;
}

/* `len` bytes more are in the queue, prefix included. */
static int accepted(struct sluice_stream *stream, size_t len)
{
    counter_add(&stream->engine->counters.queued_bytes, len);
    stream_schedule_flush(stream);
    if (stream->unsent.len < stream->high_mark)
        return SLUICE_ROOM;
    stream->owes_drain = true;
    return SLUICE_FULL;
}

/*
 * Puts a message into the queue: its prefix, then either copies of the pieces or the view itself. All or nothing.
 * Returns the bytes that were added, or -ENOMEM.
 */
static ssize_t append_message(struct sluice_stream *stream, const struct iovec *pieces, size_t count, size_t len,
                              const struct sluice_view *view)
{
    struct pool *pool = &stream->engine->pool;
    size_t before = stream->unsent.len;
    uint8_t prefix[STREAM_PREFIX_MAX];
    struct iovec head = {.iov_base = prefix, .iov_len = stream->ops->prefix(stream, len, prefix)};
    int error = 0;

    if (head.iov_len > 0)
        error = bytes_append_copy(&stream->unsent, pool, &head, 1);
    if (!error && len > 0)
        error = view ? bytes_append_view(&stream->unsent, pool, view)
                     : bytes_append_copy(&stream->unsent, pool, pieces, count);
    if (error) {
        bytes_truncate(&stream->unsent, pool, before);
        return error;
    }
    return (ssize_t)(stream->unsent.len - before);
}

int sluice_stream_send_vector(struct sluice_stream *stream, const struct iovec *pieces, size_t count)
{
    size_t len = 0;
    ssize_t added;
    int refusal;

    assert(engine_is_mine(stream->engine));
    for (size_t i = 0; i < count; i++)
        len += pieces[i].iov_len;
    refusal = may_send(stream, len);
    if (refusal)
        return refusal;
    added = append_message(stream, pieces, count, len, NULL);
    return added < 0 ? (int)added : accepted(stream, (size_t)added);
}

int sluice_stream_send(struct sluice_stream *stream, const void *data, size_t len)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};

    return sluice_stream_send_vector(stream, &piece, 1);
}

int sluice_stream_send_view(struct sluice_stream *stream, const struct sluice_view *view)
{
    ssize_t added;
    int refusal;

    if (view->len < SHARE_MINIMUM || buffer_is_passing(view->buffer))
        return sluice_stream_send(stream, view->data, view->len);
    assert(engine_is_mine(stream->engine));
    refusal = may_send(stream, view->len);
    if (refusal)
        return refusal;
    added = append_message(stream, NULL, 0, view->len, view);
    return added < 0 ? (int)added : accepted(stream, (size_t)added);
}

/*
 * What is passed was accepted and counted above, so the limits of `lower` do not refuse it; its marks decide, because
 * the layer above passes nothing while `lower` owes a drain. So its queue stays below its high mark plus PASS_MAX.
 */
int stream_pass_down(struct sluice_stream *stream, struct sluice_stream *lower)
{
    struct pool *pool = &stream->engine->pool;
    size_t len = smaller(stream->unsent.len, smaller(lower->message_max, PASS_MAX));
    uint8_t prefix[STREAM_PREFIX_MAX];
    struct iovec head = {.iov_base = prefix, .iov_len = lower->ops->prefix(lower, len, prefix)};
    size_t before = lower->unsent.len;
    int error = 0;

    if (head.iov_len > 0)
        error = bytes_append_copy(&lower->unsent, pool, &head, 1);
    if (!error)
        error = bytes_move(&stream->unsent, &lower->unsent, pool, len);
    if (error) {
        bytes_truncate(&lower->unsent, pool, before);
        return error;
    }
    accepted(lower, len + head.iov_len);
    left_queue(stream, len);
    return 0;
}

int sluice_stream_set_send_limits(struct sluice_stream *stream, size_t low_mark, size_t high_mark, size_t limit)
{
    assert(engine_is_mine(stream->engine));
    if (low_mark >= high_mark || high_mark > limit)
        return -EINVAL;
    stream->low_mark = low_mark;
    stream->high_mark = high_mark;
    stream->send_limit = limit;
    /* A new low mark may be reached already. */
    if (stream->owes_drain)
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

/* Reserves `len` of what may be under way. Fails once the last count was taken: then nothing may come any more. */
static int reserve_posted(struct sluice_stream *stream, size_t len)
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

static void run_posted_send(struct sluice_post *post)
{
    struct posted_send *send = container_of(post, struct posted_send, post);
    struct sluice_stream *stream = send->stream;
    struct iovec piece = {.iov_base = send->data, .iov_len = send->len};
    bool was_counted = atomic_fetch_sub(&stream->posted, send->len) & STREAM_POSTS_CLOSED;
    ssize_t added = -EPIPE;

    /* Accepted when it was posted: no limit applies any more. */
    if (stream_write_status(stream) == SLUICE_WRITABLE)
        added = append_message(stream, &piece, 1, send->len, NULL);
    if (added >= 0)
        accepted(stream, (size_t)added);
    else if (!was_counted)
        stream->lost += send->len;
    sluice_stream_release(stream);
    free(send);
}

int sluice_stream_post_send(struct sluice_stream *stream, const void *data, size_t len)
{
    struct posted_send *send;
    int error;

    if (stream_write_status(stream) != SLUICE_WRITABLE)
        return -EPIPE;
    if (len > stream->message_max)
        return -EMSGSIZE;
    send = malloc(sizeof *send + len);
    if (!send)
        return -ENOMEM;
    error = reserve_posted(stream, len);
    if (error) {
        free(send);
        return error;
    }
    *send = (struct posted_send){.post.run = run_posted_send, .stream = stream, .len = len};
    memcpy(send->data, data, len);
    sluice_stream_hold(stream);
    sluice_engine_post(stream->engine, &send->post);
    return 0;
}

static void run_abort_post(struct sluice_post *post)
{
    struct sluice_stream *stream = container_of(post, struct sluice_stream, abort_post);

    stream_fail(stream, atomic_load(&stream->abort_error), SLUICE_LOCAL);
    sluice_stream_release(stream);
}

/* From this store on the flusher submits nothing more; the rest is done on the engine's thread. */
static void abort_from_afar(struct sluice_stream *stream, int error)
{
    int none = 0;

    if (atomic_load(&stream->posted) & STREAM_POSTS_CLOSED)
        return;
    if (!atomic_compare_exchange_strong(&stream->abort_error, &none, error))
        return;
    stop_writing(stream);
    sluice_stream_hold(stream);
    sluice_engine_post(stream->engine, &stream->abort_post);
}

void sluice_stream_abort(struct sluice_stream *stream, int error)
{
    if (error >= 0)
        error = -ECONNABORTED;
    if (engine_is_mine(stream->engine))
        stream_fail(stream, error, SLUICE_LOCAL);
    else
        abort_from_afar(stream, error);
}

/* -- Receiving ----------------------------------------------------------------------------------------------- */

bool stream_wants_data(const struct sluice_stream *stream)
{
    if (stream->state == SLUICE_CLOSING || stream->state == SLUICE_CLOSED)
        return !stream->is_aborted && stream->state != SLUICE_CLOSED;
    return stream->read_status == SLUICE_READABLE && stream->events && stream->events->on_data;
}

/* Bytes may be told right now, if nothing stands before them. */
static bool may_tell_data(const struct sluice_stream *stream)
{
    return stream->state == SLUICE_OPEN && !stream->owes_open && stream->read_status == SLUICE_READABLE &&
           stream->events && stream->events->on_data;
}

/* Held bytes that nobody takes for now must not keep shared buffers from everybody else. */
static void hold_privately(struct sluice_stream *stream)
{
    uint32_t copied = bytes_copy_out(&stream->held, &stream->engine->pool, buffer_is_lease);

    counter_add(&stream->engine->counters.views_copied, copied);
}

void stream_hold(struct sluice_stream *stream, const struct sluice_view *view)
{
    stream->active_at = stream->engine->now;
    if (stream->read_status == SLUICE_READ_CLOSED)
        return;
    if (bytes_append_view(&stream->held, &stream->engine->pool, view) < 0) {
        stream_fail(stream, -ENOMEM, SLUICE_LOCAL);
        return;
    }
    if (!may_tell_data(stream)) {
        hold_privately(stream);
        if (stream->held.len > stream->engine->options.receive_limit) {
            stream_fail(stream, -ENOBUFS, SLUICE_LOCAL);
            return;
        }
    }
    stream_schedule_work(stream);
}

void stream_receive(struct sluice_stream *stream, const struct sluice_view *view)
{
    struct sluice_view copy;

    if (stream->read_status == SLUICE_READ_CLOSED) {
        stream->active_at = stream->engine->now;
        return;
    }
    if (may_tell_data(stream) && bytes_is_empty(&stream->held)) {
        stream->active_at = stream->engine->now;
        stream->events->on_data(stream, view, stream->user);
    } else if (!buffer_is_passing(view->buffer)) {
        stream_hold(stream, view);
    } else if (sluice_view_keep(stream, view, &copy) < 0) {
        stream_fail(stream, -ENOMEM, SLUICE_LOCAL);
    } else {
        stream_hold(stream, &copy);
        sluice_buffer_drop(copy.buffer);
    }
}

int sluice_view_keep(struct sluice_stream *stream, const struct sluice_view *view, struct sluice_view *kept)
{
    struct sluice_engine *engine = stream->engine;
    struct block *block;

    assert(engine_is_mine(engine));
    if (!buffer_is_passing(view->buffer) &&
        !(buffer_is_lease(view->buffer) && leases_are_scarce(&engine->leases))) {
        sluice_buffer_hold(view->buffer);
        *kept = *view;
        return 0;
    }
    block = pool_take_block(&engine->pool, view->len, true);
    if (!block)
        return -ENOMEM;
    memcpy(block->data, view->data, view->len);
    block->used = view->len;
    *kept = (struct sluice_view){.data = block->data, .len = view->len, .buffer = &block->buffer};
    counter_add(&engine->counters.views_copied, 1);
    return 0;
}

void stream_end(struct sluice_stream *stream)
{
    stream->has_ended = true;
    if (stream->is_broken)
        stream_fail_after_data(stream, stream->error, (enum sluice_side)stream->side);
    else
        stream_schedule_work(stream);
}

int sluice_stream_pause(struct sluice_stream *stream)
{
    assert(engine_is_mine(stream->engine));
    if (stream->read_status == SLUICE_READ_CLOSED)
        return -EPIPE;
    if (stream->read_status == SLUICE_READABLE) {
        stream->read_status = SLUICE_READ_PAUSED;
        stream->ops->update_receive(stream);
    }
    return 0;
}

int sluice_stream_resume(struct sluice_stream *stream)
{
    assert(engine_is_mine(stream->engine));
    if (stream->read_status == SLUICE_READ_CLOSED)
        return -EPIPE;
    if (stream->read_status == SLUICE_READ_PAUSED) {
        stream->read_status = SLUICE_READABLE;
        stream->ops->update_receive(stream);
        stream_schedule_work(stream);
    }
    return 0;
}

void sluice_stream_set_events(struct sluice_stream *stream, const struct sluice_stream_events *events, void *user)
{
    assert(engine_is_mine(stream->engine));
    stream->events = events;
    stream->user = user;
    if (stream->state == SLUICE_CLOSED)
        return;
    stream->ops->update_receive(stream);
    stream_schedule_work(stream);
}

/* -- Telling the user ---------------------------------------------------------------------------------------- */

static void tell_open(struct sluice_stream *stream)
{
    if (!stream->owes_open || stream->state != SLUICE_OPEN)
        return;
    stream->owes_open = false;
    if (stream->events && stream->events->on_open)
        stream->events->on_open(stream, stream->user);
}

static void tell_data(struct sluice_stream *stream)
{
    for (int count = 0; !bytes_is_empty(&stream->held) && may_tell_data(stream); count++) {
        struct sluice_view view;

        if (count == STREAM_VIEWS_PER_TASK) {
            stream_schedule_work(stream);
            return;
        }
        view = bytes_take_first(&stream->held, &stream->engine->pool);
        stream->events->on_data(stream, &view, stream->user);
        sluice_buffer_drop(view.buffer);
    }
    if (!bytes_is_empty(&stream->held))
        hold_privately(stream);
}

static void tell_end(struct sluice_stream *stream)
{
    if (!stream->has_ended || stream->has_told_end || stream->state != SLUICE_OPEN || stream->owes_open)
        return;
    if (!stream->events || !bytes_is_empty(&stream->held))
        return;
    stream->has_told_end = true;
    stream->read_status = SLUICE_READ_CLOSED;
    if (stream->events->on_end)
        stream->events->on_end(stream, stream->user);
    wind_down(stream);
}

static void fail_after_data(struct sluice_stream *stream)
{
    if (stream->is_failing && bytes_is_empty(&stream->held))
        stream_fail(stream, stream->error, (enum sluice_side)stream->side);
}

static void tell_close(struct sluice_stream *stream)
{
    struct sluice_close why;

    if (stream->state != SLUICE_CLOSED || stream->has_told_close)
        return;
    stream->has_told_close = true;
    /* From here on a post is refused; what was posted and has not arrived is counted here, and nowhere else. */
    why.unsent = stream->lost + (atomic_fetch_or(&stream->posted, STREAM_POSTS_CLOSED) & ~STREAM_POSTS_CLOSED);
    why.error = stream->error;
    why.side = (enum sluice_side)stream->side;
    if (stream->events && stream->events->on_close)
        stream->events->on_close(stream, &why, stream->user);
}

/* The one place from which users hear of a stream, but for drains, and for bytes that a layer hands up. */
static void run_work(struct task *task)
{
    struct sluice_stream *stream = container_of(task, struct sluice_stream, work);

    tell_open(stream);
    tell_data(stream);
    tell_end(stream);
    fail_after_data(stream);
    tell_close(stream);
    stream_unguard(stream);
}

/* -- Opening and ending -------------------------------------------------------------------------------------- */

void stream_opened(struct sluice_stream *stream)
{
    assert(!stream->is_ready);
    stream->is_ready = true;
    if (stream->state == SLUICE_CONNECTING) {
        stream->state = SLUICE_OPEN;
        stream->owes_open = true;
        stream->active_at = stream->engine->now;
        sluice_stream_set_idle_timeout(stream, stream->idle_timeout_ns);
        stream_schedule_work(stream);
    }
    stream->ops->update_receive(stream);
    stream_schedule_flush(stream);
}

int sluice_stream_finish(struct sluice_stream *stream)
{
    uint8_t writable = SLUICE_WRITABLE;

    assert(engine_is_mine(stream->engine));
    if (!atomic_compare_exchange_strong(&stream->write_status, &writable, SLUICE_WRITE_CLOSING))
        return -EPIPE;
    stream_schedule_flush(stream);
    return 0;
}

void sluice_stream_close(struct sluice_stream *stream)
{
    uint8_t writable = SLUICE_WRITABLE;
    bool was_connecting = stream->state == SLUICE_CONNECTING;

    assert(engine_is_mine(stream->engine));
    if (stream->state >= SLUICE_CLOSING)
        return;
    if (stream->is_failing || stream->is_broken) {
        stream_fail(stream, stream->error, (enum sluice_side)stream->side);
        return;
    }
    if (was_connecting && bytes_is_empty(&stream->unsent)) {
        stream_fail(stream, -ECANCELED, SLUICE_LOCAL);
        return;
    }
    set_cause(stream, 0, SLUICE_LOCAL);
    atomic_compare_exchange_strong(&stream->write_status, &writable, SLUICE_WRITE_CLOSING);
    stream->state = SLUICE_CLOSING;
    stop_reading(stream);
    stream->active_at = stream->engine->now;
    start_timer(stream, stream->engine->now, stream->engine->options.linger_ns);
    stream->ops->update_receive(stream);
    stream_schedule_flush(stream);
}

/* -- Time ---------------------------------------------------------------------------------------------------- */

/* Fails unless a byte moved less than `limit_ns` ago: a moving byte costs a store, not a timer operation. */
static void check_progress(struct sluice_stream *stream, uint64_t limit_ns)
{
    uint64_t active = stream->ops->last_active(stream);

    if (active < stream->active_at)
        active = stream->active_at;
    if (stream->engine->now - active >= limit_ns)
        stream_fail(stream, -ETIMEDOUT, SLUICE_LOCAL);
    else
        start_timer(stream, active, limit_ns);
}

static void run_timer(struct sluice_timer *timer)
{
    struct sluice_stream *stream = container_of(timer, struct sluice_stream, timer);

    stream_guard(stream);
    if (stream->state == SLUICE_CONNECTING)
        stream_fail(stream, -ETIMEDOUT, SLUICE_LOCAL);
    else if (stream->state == SLUICE_OPEN)
        check_progress(stream, stream->idle_timeout_ns);
    else if (stream->is_winding_down)
        stream->ops->linger_over(stream);
    else
        check_progress(stream, stream->engine->options.linger_ns);
    stream_unguard(stream);
}

void sluice_stream_set_idle_timeout(struct sluice_stream *stream, uint64_t timeout_ns)
{
    assert(engine_is_mine(stream->engine));
    stream->idle_timeout_ns = timeout_ns;
    if (stream->state != SLUICE_OPEN)
        return;
    if (timeout_ns)
        start_timer(stream, stream->engine->now, timeout_ns);
    else
        timers_stop(&stream->engine->timers, &stream->timer);
}

void stream_start_linger(struct sluice_stream *stream)
{
    assert(stream->is_winding_down);
    start_timer(stream, stream->engine->now, stream->engine->options.linger_ns);
}

/* -- Asking -------------------------------------------------------------------------------------------------- */

enum sluice_write_status sluice_stream_write_status(const struct sluice_stream *stream)
{
    return stream_write_status(stream);
}

enum sluice_read_status sluice_stream_read_status(const struct sluice_stream *stream)
{
    return (enum sluice_read_status)stream->read_status;
}

enum sluice_state sluice_stream_state(const struct sluice_stream *stream)
{
    return (enum sluice_state)stream->state;
}

struct sluice_engine *sluice_stream_engine(const struct sluice_stream *stream)
{
    return stream->engine;
}

void *sluice_stream_user(const struct sluice_stream *stream)
{
    return stream->user;
}

const char *sluice_stream_kind(const struct sluice_stream *stream)
{
    return stream->ops->kind(stream);
}

static int write_address(const struct sluice_stream *stream, bool wants_peer, char *text, size_t text_size)
{
    struct ring_address address;
    int error;

    if (stream->state == SLUICE_CLOSED)
        return -ENOTCONN;
    error = stream->ops->address(stream, wants_peer, &address);
    return error ? error : address_format(&address, text, text_size);
}

int sluice_stream_peer_address(const struct sluice_stream *stream, char *text, size_t text_size)
{
    return write_address(stream, true, text, text_size);
}

int sluice_stream_local_address(const struct sluice_stream *stream, char *text, size_t text_size)
{
    return write_address(stream, false, text, text_size);
}

/* -- Defaults of ops ----------------------------------------------------------------------------------------- */

uint64_t stream_own_last_active(const struct sluice_stream *stream)
{
    return stream->active_at;
}

size_t stream_no_prefix(const struct sluice_stream *stream, size_t len, uint8_t prefix[STREAM_PREFIX_MAX])
{
    (void)stream;
    (void)len;
    (void)prefix;
    return 0;
}

void stream_never_lingers(struct sluice_stream *stream)
{
    (void)stream;
    assert(!"a stream that starts no linger time has none to end");
}
