/* The base of every stream: see stream.h. */
#include "engine/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/address.h"
#include "engine/probes.h"
#include "engine/recv_queue.h"
#include "engine/send_queue.h"

/* -- Making and freeing -------------------------------------------------------------------------------------- */

static void run_work(struct task *task);
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
    engine_look_at_clock(engine);
    *stream = (struct sluice_stream){
        .ops = ops,
        .events = events,
        .user = user,
        .engine = engine,
        .mailbox = engine->mailbox,
        .state = state,
        .is_ready = state == SLUICE_OPEN,
        .holders = 1,
        .work.run = run_work,
        .flush.run = send_queue_run,
        .timer.fire = run_timer,
        .abort_post.run = run_abort_post,
        .idle_timeout_ns = engine->options.idle_timeout_ns,
        .active_at = engine->now,
        .low_mark = engine->options.send_low_mark,
        .high_mark = engine->options.send_high_mark,
        .send_limit = engine->options.send_limit,
        .message_max = UINT32_MAX,
    };
    mailbox_hold(stream->mailbox);
    link_append(&engine->streams, &stream->link);
    counter_add(&engine->counters.streams, 1);
    if (state == SLUICE_CONNECTING)
        start_timer(stream, engine->now, engine->options.connect_timeout_ns);
    else if (stream->idle_timeout_ns)
        start_timer(stream, engine->now, stream->idle_timeout_ns);
}

void sluice_stream_hold(struct sluice_stream *stream)
{
    atomic_fetch_add_explicit(&stream->holders, 1, memory_order_relaxed);
}

void sluice_stream_release(struct sluice_stream *stream)
{
    /* Release what this thread wrote, acquire what the others wrote before they let go. */
    if (atomic_fetch_sub_explicit(&stream->holders, 1, memory_order_acq_rel) > 1)
        return;
    mailbox_drop(stream->mailbox);
    free(stream);
}

void stream_destroy(struct sluice_stream *stream)
{
    assert(bytes_is_empty(&stream->unsent));
    assert(bytes_is_empty(&stream->held));
    assert(!timer_is_armed(&stream->timer));
    assert(!task_is_queued(&stream->work));
    assert(!task_is_queued(&stream->flush));
    link_remove(&stream->link);
    stream->ops->destroy(stream);
    sluice_stream_release(stream);
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

/*
 * Our direction is broken: what is queued will not be sent, and need not wait for the end unless the kernel has it. A
 * layer above is broken with it: it would wait for a drain that does not come.
 */
static void stop_sending(struct sluice_stream *stream)
{
    stop_writing(stream);
    if (!stream->ops->is_blocked(stream))
        send_queue_drop(stream);
    if (stream->has_upper)
        stream_break(stream->user, stream->error, (enum sluice_side)stream->side);
}

/* Its user has paused until on_drain, which will not come: only the end can reach them. */
static bool waits_in_vain(const struct sluice_stream *stream)
{
    return stream->owes_drain && stream->read_status == SLUICE_READ_PAUSED;
}

void stream_fail_after_data(struct sluice_stream *stream, int error, enum sluice_side side)
{
    if (stream->state != SLUICE_OPEN || bytes_is_empty(&stream->held) || waits_in_vain(stream)) {
        stream_fail(stream, error, side);
        return;
    }
    set_cause(stream, error, side);
    stop_sending(stream);
    stream->is_failing = true;
    stream_schedule_work(stream);
}

void stream_break(struct sluice_stream *stream, int error, enum sluice_side side)
{
    if (stream->state != SLUICE_OPEN || stream->has_ended || waits_in_vain(stream)) {
        stream_fail_after_data(stream, error, side);
        return;
    }
    set_cause(stream, error, side);
    stop_sending(stream);
    stream->is_broken = true;
    stream->ops->update_receive(stream);
}

void stream_wind_down(struct sluice_stream *stream)
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
    send_queue_drop(stream);
    stream->state = SLUICE_CLOSED;
    counter_subtract(&engine->counters.streams, 1);
    stream_schedule_work(stream);
}

/* -- From other threads -------------------------------------------------------------------------------------- */

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

    if (!atomic_compare_exchange_strong(&stream->abort_error, &none, error))
        return;
    stop_writing(stream);
    sluice_stream_hold(stream);
    /* Refused if the engine is gone; then so is whatever there was to abort. */
    if (!mailbox_post(stream->mailbox, &stream->abort_post))
        sluice_stream_release(stream);
}

static void abort_from_here(struct sluice_stream *stream, int error)
{
    int first = 0;

    /* Another thread may have been first, and its post is still on its way. */
    if (atomic_compare_exchange_strong(&stream->abort_error, &first, error))
        first = error;
    stream_fail(stream, first, SLUICE_LOCAL);
}

void sluice_stream_abort(struct sluice_stream *stream, int error)
{
    if (error >= 0)
        error = -ECONNABORTED;
    if (mailbox_is_mine(stream->mailbox))
        abort_from_here(stream, error);
    else
        abort_from_afar(stream, error);
}

void stream_end(struct sluice_stream *stream)
{
    stream->has_ended = true;
    if (stream->is_broken)
        stream_fail_after_data(stream, stream->error, (enum sluice_side)stream->side);
    else
        stream_schedule_work(stream);
}

void sluice_stream_set_events(struct sluice_stream *stream, const struct sluice_stream_events *events, void *user)
{
    assert(mailbox_is_mine(stream->mailbox));
    stream->events = events;
    stream->user = user;
    stream->has_upper = false; /* a layer says so itself, afterwards */
    if (stream->state == SLUICE_CLOSED)
        return;
    stream->ops->update_receive(stream);
    stream_schedule_work(stream);
}

/* -- Telling the user ---------------------------------------------------------------------------------------- */

static void tell_open(struct sluice_stream *stream)
{
    if (!stream->owes_open || !stream->events || stream->state != SLUICE_OPEN)
        return;
    stream->owes_open = false;
    if (stream->events->on_open)
        stream->events->on_open(stream, stream->user);
}

static void tell_end(struct sluice_stream *stream)
{
    if (!stream->has_ended || stream->has_told_end || stream->state != SLUICE_OPEN || stream->owes_open)
        return;
    if (!stream->events || !bytes_is_empty(&stream->held))
        return;
    /* Our send took the news of the reset: what the receive saw then only looks like an end. */
    if (stream->is_broken && stream->error == -ECONNRESET)
        return;
    stream->has_told_end = true;
    stream->read_status = SLUICE_READ_CLOSED;
    if (stream->events->on_end)
        stream->events->on_end(stream, stream->user);
    stream_wind_down(stream);
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
    why.unsent = stream->lost + send_queue_close_posts(stream);
    why.error = stream->error;
    why.side = (enum sluice_side)stream->side;
    probe_close(stream, &why);
    if (stream->events && stream->events->on_close)
        stream->events->on_close(stream, &why, stream->user);
}

/* The one place from which users hear of a stream, but for drains, and for bytes that a layer hands up. */
static void run_work(struct task *task)
{
    struct sluice_stream *stream = container_of(task, struct sluice_stream, work);

    tell_open(stream);
    recv_queue_tell(stream);
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

    assert(mailbox_is_mine(stream->mailbox));
    if (!atomic_compare_exchange_strong(&stream->write_status, &writable, SLUICE_WRITE_CLOSING))
        return -EPIPE;
    stream_schedule_flush(stream);
    return 0;
}

void sluice_stream_close(struct sluice_stream *stream)
{
    uint8_t writable = SLUICE_WRITABLE;
    bool was_connecting = stream->state == SLUICE_CONNECTING;
    int aborted = atomic_load(&stream->abort_error);

    assert(mailbox_is_mine(stream->mailbox));
    if (stream->state >= SLUICE_CLOSING)
        return;
    /* Another thread's abort is still on its way: it was first. */
    if (aborted) {
        stream_fail(stream, aborted, SLUICE_LOCAL);
        return;
    }
    if (stream->is_failing || stream->is_broken) {
        stream_fail(stream, stream->error, (enum sluice_side)stream->side);
        return;
    }
    if (was_connecting && bytes_is_empty(&stream->unsent)) {
        stream_fail(stream, -ECANCELED, SLUICE_LOCAL);
        return;
    }
    engine_look_at_clock(stream->engine);
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
    assert(mailbox_is_mine(stream->mailbox));
    stream->idle_timeout_ns = timeout_ns;
    if (stream->state != SLUICE_OPEN)
        return;
    engine_look_at_clock(stream->engine);
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

uint64_t stream_own_last_active(struct sluice_stream *stream)
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
