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

/* One send, of as much as may be queued: where all of it never may, even by itself, a part of it. */
static int send_some(struct sluice_stream *target, struct sluice_view *rest)
{
    struct sluice_view part = *rest;
    int answer = sluice_stream_send_view(target, &part);

    while (answer == -ENOBUFS && part.len > 1 && sluice_stream_queued(target) == 0) {
        part.len /= 2;
        answer = sluice_stream_send_view(target, &part);
    }
    if (answer >= 0) {
        rest->data += part.len;
        rest->len -= part.len;
    }
    return answer;
}

/* Until all is taken, or something is refused: that stays in `rest`. Returns the last answer. */
static int send_all(struct sluice_stream *target, struct sluice_view *rest)
{
    int answer = send_some(target, rest);

    while (answer >= 0 && rest->len > 0)
        answer = send_some(target, rest);
    return answer;
}

void relay_data(struct relay *relay, const struct sluice_view *view)
{
    struct sluice_view rest = *view;
    int answer = send_all(relay->target, &rest);

    assert(relay->refused.buffer == NULL); /* else the source is paused */
    if (answer == SLUICE_FULL)
        sluice_stream_pause(relay->source);
    else if (answer == -ENOBUFS)
        keep_refused(relay, &rest);
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
    int answer = send_all(relay->target, &relay->refused);

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
