/* The source service: every connection sends views of the same pattern. */
#include <errno.h>
#include <stdlib.h>

#include <sluice/buffer.h>
#include <sluice/stream.h>

#include "tools/container_of.h"
#include "tools/pattern.h"
#include "tools/services.h"

/* Its buffer owns itself: it is freed after on_close and the kernel's last use of the bytes. */
struct source {
    struct sluice_buffer buffer;
    const struct pattern *pattern;
};

static void release(struct sluice_buffer *buffer)
{
    free(container_of(buffer, struct source, buffer));
}

/* Every round of the pattern continues the one before, so the stream is the pattern without a seam. */
static void fill(struct sluice_stream *stream, struct source *source)
{
    struct sluice_view round = {.data = source->pattern->bytes, .len = PATTERN_PERIOD, .buffer = &source->buffer};
    int answer = SLUICE_ROOM;

    while (answer == SLUICE_ROOM)
        answer = sluice_stream_send_view(stream, &round);
    if (answer == -ENOMEM)
        sluice_stream_abort(stream, answer);
    /* FULL and -ENOBUFS: on_drain goes on. -EPIPE: on_close is on its way. */
}

static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    (void)view;
    (void)user;
}

static void on_drain(struct sluice_stream *stream, void *user)
{
    fill(stream, user);
}

static void on_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct source *source = user;

    (void)stream;
    (void)why;
    sluice_buffer_drop(&source->buffer);
}

/* The peer's end is no reason to stop: it may read on. */
static const struct sluice_stream_events source_events = {
    .on_data = on_data,
    .on_drain = on_drain,
    .on_close = on_close,
};

static void on_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    struct source *source = malloc(sizeof *source);

    (void)listener;
    if (source == NULL) {
        sluice_stream_abort(stream, -ENOMEM);
        return;
    }
    source->pattern = user;
    sluice_buffer_init(&source->buffer, release);
    sluice_stream_set_events(stream, &source_events, source);
    fill(stream, source);
}

const struct sluice_listener_events source_service = {
    .on_accept = on_accept,
};
