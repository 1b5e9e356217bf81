/* Streams over descriptors: see transport.h. */
#include "engine/transport.h"

#include <assert.h>
#include <errno.h>

static const struct transport_ops *ops_of(const struct transport *transport)
{
    return container_of(transport->stream.ops, const struct transport_ops, stream);
}

/* -- Leaving ------------------------------------------------------------------------------------------------- */

/* Closes once the last completion is in: a descriptor with a request in flight would not really close. */
static void settle(struct transport *transport)
{
    if (!transport->is_leaving || transport->is_gone || transport->sending || transport->receive.is_armed)
        return;
    transport->is_gone = true;
    ops_of(transport)->close(transport);
    stream_closed(&transport->stream);
}

static void stop_receiving(struct transport *transport)
{
    if (!link_is_alone(&transport->starving))
        link_remove(&transport->starving);
    if (transport->receive.is_armed)
        engine_cancel(transport->stream.engine, &transport->receive);
}

void transport_leave(struct transport *transport)
{
    assert(!transport->is_gone);
    transport->is_leaving = true;
    stop_receiving(transport);
    if (transport->sending)
        engine_cancel(transport->stream.engine, transport->sending);
    settle(transport);
}

/* -- Receiving ----------------------------------------------------------------------------------------------- */

static void start_receiving(struct transport *transport)
{
    struct sluice_engine *engine = transport->stream.engine;
    struct io_uring_sqe *entry;

    if (transport->receive.is_armed || !link_is_alone(&transport->starving))
        return;
    entry = engine_get_entry(engine);
    ops_of(transport)->prepare_receive(transport, entry);
    engine_arm(engine, &transport->receive, entry);
    stream_guard(&transport->stream);
}

void transport_update_receive(struct sluice_stream *stream)
{
    struct transport *transport = transport_of(stream);
    bool can_receive = stream->is_ready && !stream->has_ended && !stream->is_failing && !transport->is_leaving;

    if (can_receive && stream_may_receive(stream))
        start_receiving(transport);
    else
        stop_receiving(transport);
}

void transport_feed(struct link *starving)
{
    transport_update_receive(&container_of(starving, struct transport, starving)->stream);
}

/* What lies in a buffer that the kernel filled. Returns how much that is. */
static size_t take_buffer(struct transport *transport, uint16_t id, size_t len)
{
    struct sluice_stream *stream = &transport->stream;
    struct leases *leases = &stream->engine->leases;
    struct sluice_view view = leases_take(leases, id, smaller(len, leases->buffers.size));

    if (view.len > 0)
        stream_hold(stream, &view);
    sluice_buffer_drop(view.buffer);
    return view.len;
}

/*
 * A receive has filled its buffer, so there may be more than fits one. Who sends on what came sends more at a time
 * then; who only looks at it has the first part sooner, and the next one meanwhile, without. Unix sockets gain in any
 * case.
 */
static bool gains_by_bundles(const struct transport *transport)
{
    return (transport->stream.keeps_views || transport->is_unix) &&
           engine_uses(transport->stream.engine, RING_RECEIVE_BUNDLE);
}

/* From now on a receive may fill several. One that goes on into one at a time is ended, and armed again. */
static void expect_more(struct transport *transport)
{
    transport->fills_buffers = true;
    if (transport->receive.is_armed)
        engine_cancel(transport->stream.engine, &transport->receive);
}

/* The bytes that arrived, if the completion has any: in one buffer, or in several. Also an empty one was taken. */
static void take_bytes(struct transport *transport, const struct io_uring_cqe *completion)
{
    struct sluice_engine *engine = transport->stream.engine;
    uint16_t id = (uint16_t)(completion->flags >> IORING_CQE_BUFFER_SHIFT);
    size_t left = completion->res > 0 ? (size_t)completion->res : 0;

    if (completion->res < 0 || !(completion->flags & IORING_CQE_F_BUFFER))
        return;
    counter_add(&engine->counters.bytes_received, left);
    if (left >= engine->leases.buffers.size && !transport->fills_buffers && gains_by_bundles(transport))
        expect_more(transport);
    while (left > engine->leases.buffers.size) {
        uint16_t next = buffers_behind(&engine->leases.buffers, id); /* before this one goes back */

        left -= take_buffer(transport, id, left);
        id = next;
    }
    take_buffer(transport, id, left);
}

static void take_error(struct transport *transport, int error)
{
    struct sluice_stream *stream = &transport->stream;

    switch (error) {
    case -ECANCELED: /* we paused, or leave; if we want bytes again by now, the receive is armed again */
    case -EINTR:
        break;
    case -ENOBUFS:
        counter_add(&stream->engine->counters.buffers_exhausted, 1);
        if (stream_wants_data(stream) && !transport->is_leaving)
            leases_starve(&stream->engine->leases, &transport->starving);
        break;
    default:
        stream_fail_after_data(stream, error, SLUICE_REMOTE);
    }
}

static void take_end(struct transport *transport)
{
    struct sluice_stream *stream = &transport->stream;

    stream_end(stream);
    /* What a closing stream waited for. */
    if (stream->is_winding_down && !transport->is_leaving)
        transport_leave(transport);
}

static void complete_receive(struct operation *operation, const struct io_uring_cqe *completion)
{
    struct transport *transport = container_of(operation, struct transport, receive);
    struct sluice_stream *stream = &transport->stream;

    /* First the result, then whether more will come, then whether to ask again. */
    take_bytes(transport, completion);
    if (completion->res < 0)
        take_error(transport, completion->res);
    else if (completion->res == 0)
        take_end(transport);
    if (operation->is_armed)
        return;
    transport_update_receive(stream);
    settle(transport);
    stream_unguard(stream);
}

/* -- Sending ------------------------------------------------------------------------------------------------- */

bool transport_is_blocked(const struct sluice_stream *stream)
{
    return transport_of(stream)->sending != NULL;
}

/* Some of it lies in a buffer that somebody waits to have back. Quiet sends are few slices. */
static bool holds_lease(const struct bytes *bytes)
{
    const struct slice *slice = bytes->first;

    while (slice && block_of(slice->buffer))
        slice = slice->next;
    return slice;
}

void transport_arm_send(struct transport *transport, struct operation *operation, struct io_uring_sqe *entry,
                        size_t len)
{
    struct sluice_engine *engine = transport->stream.engine;

    assert(!transport->sending);
    assert(len > 0);
    transport->sending = operation;
    transport->sending_len = (uint32_t)len;
    engine_arm(engine, operation, entry);
    if (entry->flags & IOSQE_CQE_SKIP_SUCCESS)
        quiet_add(&engine->quiet, operation, (uint32_t)len, holds_lease(&transport->stream.unsent));
    stream_guard(&transport->stream);
}

static void fail_send(struct transport *transport, int error)
{
    struct sluice_stream *stream = &transport->stream;

    if (error != -EPIPE && error != -ECONNRESET) {
        stream_fail_after_data(stream, error, SLUICE_REMOTE);
        return;
    }
    /* The peer is gone, but what it sent before may still be on its way up: hear it out. */
    stream_break(stream, error, SLUICE_REMOTE);
    /*
     * Our send took the news of the reset from the socket, and a receive that waits may not be woken for it again: a
     * new one looks for itself.
     */
    if (transport->receive.is_armed)
        engine_cancel(stream->engine, &transport->receive);
}

void transport_sent(struct transport *transport, int32_t result)
{
    struct sluice_stream *stream = &transport->stream;
    struct counters *counters = &stream->engine->counters;

    assert(transport->sending);
    transport->sending = NULL;
    transport->must_wait = result == -EAGAIN || (result >= 0 && (uint32_t)result < transport->sending_len);
    counter_add(&counters->sends, 1);
    counter_add(&counters->short_sends, transport->must_wait);
    if (result > 0) {
        transport->sent += (uint64_t)result;
        counter_add(&counters->bytes_sent, (uint64_t)result);
        stream_sent(stream, (size_t)result);
    } else if (result == -EAGAIN || result == -EINTR) {
        stream_schedule_flush(stream);
    } else if (!transport->is_leaving) {
        fail_send(transport, result ? result : -EIO);
    }
    settle(transport);
}

static void complete_send(struct operation *operation, const struct io_uring_cqe *completion)
{
    struct transport *transport = container_of(operation, struct transport, send);

    transport_sent(transport, completion->res);
    stream_unguard(&transport->stream);
}

/* -- Making and freeing -------------------------------------------------------------------------------------- */

int transport_init(struct transport *transport, const struct transport_ops *ops, struct sluice_engine *engine,
                   enum sluice_state state, const struct sluice_stream_events *events, void *user)
{
    int error = operation_init(&transport->receive, &engine->operations, complete_receive);

    if (error)
        return error;
    error = operation_init(&transport->send, &engine->operations, complete_send);
    if (error) {
        operation_finish(&transport->receive, &engine->operations);
        return error;
    }
    transport->read_fd = -1;
    transport->write_fd = -1;
    link_init(&transport->starving);
    stream_init(&transport->stream, &ops->stream, engine, state, events, user);
    return 0;
}

void transport_destroy(struct sluice_stream *stream)
{
    struct transport *transport = transport_of(stream);

    assert(transport->is_gone);
    operation_finish(&transport->receive, &stream->engine->operations);
    operation_finish(&transport->send, &stream->engine->operations);
}
