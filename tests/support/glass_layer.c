/* The glass layer: see glass_layer.h. */
#include "tests/support/glass_layer.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/layer.h"

static int glass_receive(struct layer *layer, const struct sluice_view *view)
{
    stream_receive(&layer->stream, view);
    return 0;
}

static const struct layer_kind glass_kind = {
    .name = "glass",
    .start = layer_start_open,
    .receive = glass_receive,
    .end = layer_end_anywhere,
    .send = layer_pass_down,
    .finish = layer_no_goodbye,
    .prefix = stream_no_prefix,
    .destroy = layer_nothing_to_destroy,
};

int glass_stream(struct sluice_stream *lower, const struct sluice_stream_events *events, void *user,
                 struct sluice_stream **stream)
{
    struct layer *layer = calloc(1, sizeof *layer);
    int error;

    if (!layer)
        return -ENOMEM;
    error = layer_init(layer, &glass_kind, lower, events, user);
    if (error) {
        free(layer);
        return error;
    }
    *stream = &layer->stream;
    return 0;
}
