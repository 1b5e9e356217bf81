/* The receive queue: see recv_queue.h. */
#include "engine/recv_queue.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* -- Receiving ----------------------------------------------------------------------------------------------- */

bool stream_wants_data(const struct sluice_stream *stream)
{
    if (stream->state == SLUICE_CLOSING || stream->state == SLUICE_CLOSED)
        return !stream->is_aborted && stream->state != SLUICE_CLOSED;
    /* What a broken stream's peer has sent before comes to its end, and has to be heard to know it. */
    return stream->is_broken || (stream->read_status == SLUICE_READABLE && stream->events && stream->events->on_data &&
                                 bytes_is_empty(&stream->held));
}

bool stream_may_receive(struct sluice_stream *stream)
{
    stream->is_held_back = !bytes_is_empty(&stream->held);
    return stream_wants_data(stream);
}

/* Bytes may be told right now, if nothing stands before them. */
static bool may_tell_data(const struct sluice_stream *stream)
{
    return stream->state == SLUICE_OPEN && !stream->owes_open && stream->read_status == SLUICE_READABLE &&
           stream->events && stream->events->on_data;
}

/* Held bytes that nobody takes for now must not keep shared buffers from everybody else who needs them. */
static void hold_privately(struct sluice_stream *stream)
{
    uint32_t copied;

    if (!leases_are_scarce(&stream->engine->leases))
        return;
    copied = bytes_copy_out(&stream->held, &stream->engine->pool, buffer_is_lease);

    counter_add(&stream->engine->counters.views_copied, copied);
}

/* What waits before it was looked at when the user stopped taking: each view is, once, however many there are. */
static int append_held(struct sluice_stream *stream, const struct sluice_view *view, bool is_told_soon)
{
    struct pool *pool = &stream->engine->pool;

    if (is_told_soon || leases_may_keep(&stream->engine->leases, view->buffer))
        return bytes_append_view(&stream->held, pool, view);
    counter_add(&stream->engine->counters.views_copied, 1);
    return bytes_append_private(&stream->held, pool, view);
}

void stream_hold(struct sluice_stream *stream, const struct sluice_view *view)
{
    bool is_told_soon = may_tell_data(stream);

    stream->active_at = stream->engine->now;
    if (stream->read_status == SLUICE_READ_CLOSED)
        return;
    if (append_held(stream, view, is_told_soon) < 0)
        stream_fail(stream, -ENOMEM, SLUICE_LOCAL);
    else if (!is_told_soon && stream->held.len > stream->engine->options.receive_limit)
        stream_fail(stream, -ENOBUFS, SLUICE_LOCAL);
    else
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

    assert(mailbox_is_mine(stream->mailbox));
    if (leases_may_keep(&engine->leases, view->buffer)) {
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

int sluice_stream_pause(struct sluice_stream *stream)
{
    assert(mailbox_is_mine(stream->mailbox));
    if (stream->read_status == SLUICE_READ_CLOSED)
        return -EPIPE;
    if (stream->read_status == SLUICE_READABLE) {
        stream->read_status = SLUICE_READ_PAUSED;
        stream->ops->update_receive(stream);
        /* It breaks, and its user means to wait for a drain that cannot come. */
        if (stream->error && stream->owes_drain)
            stream_fail(stream, stream->error, (enum sluice_side)stream->side);
    }
    return 0;
}

int sluice_stream_resume(struct sluice_stream *stream)
{
    assert(mailbox_is_mine(stream->mailbox));
    if (stream->read_status == SLUICE_READ_CLOSED)
        return -EPIPE;
    if (stream->read_status == SLUICE_READ_PAUSED) {
        stream->read_status = SLUICE_READABLE;
        stream->ops->update_receive(stream);
        stream_schedule_work(stream);
    }
    return 0;
}

void recv_queue_tell(struct sluice_stream *stream)
{
    for (int count = 0; !bytes_is_empty(&stream->held) && may_tell_data(stream); count++) {
        struct sluice_view view;

        if (count == STREAM_VIEWS_PER_TASK) {
            stream_schedule_work(stream);
            return;
        }
        view = bytes_take_first(&stream->held, &stream->engine->pool);
        stream->events->on_data(stream, &view, stream->user);
        stream->keeps_views |= view.buffer->references > 1;
        sluice_buffer_drop(view.buffer);
    }
    if (!bytes_is_empty(&stream->held))
        hold_privately(stream);
    else if (stream->is_held_back && stream->state != SLUICE_CLOSED)
        stream->ops->update_receive(stream); /* a resumed stream takes in more only once it has told what it held */
}
