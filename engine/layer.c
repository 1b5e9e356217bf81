/* The layer framework: the relays between a stream and the one it stands on. See layer.h. */
#include "engine/layer.h"

#include <assert.h>
#include <errno.h>

/* -- From the stream below to the layer ---------------------------------------------------------------------- */

static void lower_opened(struct sluice_stream *lower, void *user)
{
    struct layer *layer = layer_of(user);

    (void)lower;
    if (!layer->stream.is_aborted)
        layer->kind->start(layer);
}

static void lower_received(struct sluice_stream *lower, const struct sluice_view *view, void *user)
{
    struct layer *layer = layer_of(user);
    int error;

    (void)lower;
    if (layer->stream.is_aborted || layer->stream.is_failing)
        return;
    stream_guard(&layer->stream);
    layer->stream.active_at = layer->stream.engine->now;
    error = layer->kind->receive(layer, view);
    if (error)
        stream_fail_after_data(&layer->stream, error, SLUICE_REMOTE);
    stream_unguard(&layer->stream);
}

static void lower_drained(struct sluice_stream *lower, void *user)
{
    struct layer *layer = layer_of(user);

    (void)lower;
    /* Only a hint that flushing may help again. The layer's own guards decide, and its own user hears of it only if
     * its own queue has drained. */
    stream_schedule_flush(&layer->stream);
}

static void lower_ended(struct sluice_stream *lower, void *user)
{
    struct layer *layer = layer_of(user);
    int error;

    (void)lower;
    if (layer->stream.is_aborted || layer->stream.is_failing)
        return;
    /* An end in the middle of a handshake is the end of it all. */
    error = layer->stream.is_ready ? layer->kind->end(layer) : -ECONNRESET;
    if (error)
        stream_fail_after_data(&layer->stream, error, SLUICE_REMOTE);
    else
        stream_end(&layer->stream);
}

static void lower_closed(struct sluice_stream *lower, const struct sluice_close *why, void *user)
{
    struct layer *layer = layer_of(user);
    struct sluice_stream *stream = &layer->stream;

    lower->has_upper = false;
    layer->lower = NULL;
    stream->lost += why->unsent;
    if (stream->is_aborted || (stream->is_winding_down && !why->error))
        stream_closed(stream);
    else if (why->error)
        stream_fail_after_data(stream, why->error, why->side);
    /* Otherwise both directions have ended below, and the layer's user has yet to hear what is held. */
}

static const struct sluice_stream_events layer_events = {
    .on_open = lower_opened,
    .on_data = lower_received,
    .on_drain = lower_drained,
    .on_end = lower_ended,
    .on_close = lower_closed,
};

/* -- From the layer to the stream below ---------------------------------------------------------------------- */

static const char *layer_name(const struct sluice_stream *stream)
{
    return layer_of(stream)->kind->name;
}

static bool layer_is_blocked(const struct sluice_stream *stream)
{
    const struct layer *layer = layer_of(stream);

    /* While the stream below owes us a drain, it comes; once it takes nothing more, its end does. */
    return !layer->lower || layer->lower->owes_drain || stream_write_status(layer->lower) == SLUICE_WRITE_CLOSED;
}

static void layer_flush(struct sluice_stream *stream)
{
    struct layer *layer = layer_of(stream);
    int error = layer->kind->send(layer);

    if (error)
        stream_fail(stream, error, SLUICE_LOCAL);
}

static void layer_finish(struct sluice_stream *stream)
{
    struct layer *layer = layer_of(stream);

    layer->kind->finish(layer);
    sluice_stream_finish(layer->lower);
}

static void layer_close(struct sluice_stream *stream)
{
    struct layer *layer = layer_of(stream);

    if (layer->lower)
        sluice_stream_close(layer->lower);
    else
        stream_closed(stream);
}

static void layer_abort(struct sluice_stream *stream)
{
    struct layer *layer = layer_of(stream);

    if (layer->lower)
        stream_fail(layer->lower, stream->error, (enum sluice_side)stream->side);
    else
        stream_closed(stream);
}

static void layer_update_receive(struct sluice_stream *stream)
{
    struct layer *layer = layer_of(stream);

    if (!layer->lower)
        return;
    if (!stream->is_ready || stream_may_receive(stream))
        sluice_stream_resume(layer->lower);
    else
        sluice_stream_pause(layer->lower);
}

static uint64_t layer_last_active(struct sluice_stream *stream)
{
    struct sluice_stream *lower = layer_of(stream)->lower;
    uint64_t below = lower ? lower->ops->last_active(lower) : 0;

    return below > stream->active_at ? below : stream->active_at;
}

static size_t layer_prefix(const struct sluice_stream *stream, size_t len, uint8_t prefix[STREAM_PREFIX_MAX])
{
    return layer_of(stream)->kind->prefix(stream, len, prefix);
}

static int layer_address(const struct sluice_stream *stream, bool wants_peer, struct ring_address *address)
{
    const struct sluice_stream *lower = layer_of(stream)->lower;

    return lower ? lower->ops->address(lower, wants_peer, address) : -ENOTCONN;
}

static void layer_destroy(struct sluice_stream *stream)
{
    struct layer *layer = layer_of(stream);

    assert(!layer->lower);
    layer->kind->destroy(layer);
}

static const struct stream_ops layer_ops = {
    .kind = layer_name,
    .is_blocked = layer_is_blocked,
    .flush = layer_flush,
    .finish = layer_finish,
    .close = layer_close,
    .abort = layer_abort,
    .update_receive = layer_update_receive,
    .linger_over = stream_never_lingers,
    .prefix = layer_prefix,
    .last_active = layer_last_active,
    .address = layer_address,
    .destroy = layer_destroy,
};

/* -- Making -------------------------------------------------------------------------------------------------- */

int layer_init(struct layer *layer, const struct layer_kind *kind, struct sluice_stream *lower,
               const struct sluice_stream_events *events, void *user)
{
    assert(engine_is_mine(lower->engine));
    assert(kind->name && kind->start && kind->receive && kind->end);
    assert(kind->send && kind->finish && kind->prefix && kind->destroy);
    if (stream_write_status(lower) != SLUICE_WRITABLE || lower->state >= SLUICE_CLOSING || lower->has_told_end)
        return -EPIPE;
    stream_init(&layer->stream, &layer_ops, lower->engine, SLUICE_CONNECTING, events, user);
    layer->kind = kind;
    layer->lower = lower;
    sluice_stream_set_events(lower, &layer_events, &layer->stream);
    lower->has_upper = true;
    /* Idle time is the layer's from now on: it asks below when a byte last moved. */
    sluice_stream_set_idle_timeout(lower, 0);
    /* The layer starts when it hears that `lower` is open, also if somebody else has heard it before. */
    lower->owes_open = lower->state == SLUICE_OPEN;
    return 0;
}

int layer_send(struct layer *layer, const struct iovec *pieces, size_t count)
{
    return layer->lower ? stream_carry(layer->lower, pieces, count) : -EPIPE;
}

/* -- Defaults of a kind -------------------------------------------------------------------------------------- */

void layer_start_open(struct layer *layer)
{
    layer_opened(layer);
}

int layer_end_anywhere(struct layer *layer)
{
    (void)layer;
    return 0;
}

int layer_pass_down(struct layer *layer)
{
    return stream_pass_down(&layer->stream, layer->lower);
}

void layer_no_goodbye(struct layer *layer)
{
    (void)layer;
}

void layer_nothing_to_destroy(struct layer *layer)
{
    (void)layer;
}
