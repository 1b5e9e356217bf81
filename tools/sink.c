/* The sink service: the engine counts the bytes, nobody looks at them. */
#include <stddef.h>

#include <sluice/stream.h>

#include "tools/services.h"

static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    (void)view;
    (void)user;
}

static void on_end(struct sluice_stream *stream, void *user)
{
    (void)user;
    sluice_stream_finish(stream);
}

static const struct sluice_stream_events sink_events = {
    .on_data = on_data,
    .on_end = on_end,
};

static void on_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    sluice_stream_set_events(stream, &sink_events, NULL);
}

const struct sluice_listener_events sink_service = {
    .on_accept = on_accept,
};
