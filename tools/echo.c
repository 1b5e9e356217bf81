/* The echo service: a relay from a stream to itself. */
#include <errno.h>
#include <stdlib.h>

#include <sluice/stream.h>

#include "tools/relay.h"
#include "tools/services.h"

static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    relay_data(user, view);
}

static void on_drain(struct sluice_stream *stream, void *user)
{
    (void)stream;
    relay_drain(user);
}

static void on_end(struct sluice_stream *stream, void *user)
{
    (void)stream;
    relay_end(user);
}

static void on_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    (void)stream;
    (void)why;
    relay_finish(user);
    free(user);
}

static const struct sluice_stream_events echo_events = {
    .on_data = on_data,
    .on_drain = on_drain,
    .on_end = on_end,
    .on_close = on_close,
};

static void on_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    struct relay *relay = malloc(sizeof *relay);

    (void)listener;
    (void)user;
    if (relay == NULL) {
        sluice_stream_abort(stream, -ENOMEM);
        return;
    }
    relay_init(relay, stream, stream);
    sluice_stream_set_events(stream, &echo_events, relay);
}

const struct sluice_listener_events echo_service = {
    .on_accept = on_accept,
};
