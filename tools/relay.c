/* One direction between two streams. */
#include "tools/relay.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

void relay_init(struct relay *relay, struct sluice_stream *source, struct sluice_stream *target)
{
    *relay = (struct relay){.source = source, .target = target};
    sluice_stream_hold(source);
    sluice_stream_hold(target);
}

static void drop_refused(struct relay *relay)
{
    if (relay->refused.buffer != NULL)
        sluice_buffer_drop(relay->refused.buffer);
    relay->refused.buffer = NULL;
}

void relay_finish(struct relay *relay)
{
    drop_refused(relay);
    sluice_stream_release(relay->source);
    sluice_stream_release(relay->target);
}

/* Nothing was taken, so nothing may be lost: keeps the bytes until the target has drained. */
static void keep_refused(struct relay *relay, const struct sluice_view *view)
{
    int error = sluice_view_keep(relay->source, view, &relay->refused);

    if (error < 0)
        sluice_stream_abort(relay->source, error);
    else
        sluice_stream_pause(relay->source);
}

void relay_data(struct relay *relay, const struct sluice_view *view)
{
    int answer = sluice_stream_send_view(relay->target, view);

    assert(relay->refused.buffer == NULL); /* else the source is paused */
    if (answer == SLUICE_FULL)
        sluice_stream_pause(relay->source);
    else if (answer == -ENOBUFS)
        keep_refused(relay, view);
    else if (answer < 0 && answer != -EPIPE) /* else the target takes no more, and its owner hears why */
        sluice_stream_abort(relay->source, answer);
}

void relay_end(struct relay *relay)
{
    relay->has_ended = true;
    if (relay->refused.buffer == NULL)
        sluice_stream_finish(relay->target);
}

/* Returns true if the target has taken it and has room for more. */
static bool offer_refused(struct relay *relay)
{
    int answer = sluice_stream_send_view(relay->target, &relay->refused);

    if (answer == -ENOBUFS)
        return false; /* the next drain will call again */
    drop_refused(relay);
    if (answer < 0)
        sluice_stream_abort(relay->source, answer);
    return answer == SLUICE_ROOM;
}

void relay_drain(struct relay *relay)
{
    bool has_room = relay->refused.buffer == NULL || offer_refused(relay);

    if (relay->has_ended && relay->refused.buffer == NULL)
        sluice_stream_finish(relay->target);
    else if (has_room)
        sluice_stream_resume(relay->source);
}
