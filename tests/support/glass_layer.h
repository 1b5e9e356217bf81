/* A layer for tests that changes nothing: all that it does is what the framework does for every layer. */
#ifndef SUPPORT_GLASS_LAYER_H
#define SUPPORT_GLASS_LAYER_H

#include <sluice/stream.h>

/* Returns 0, -EPIPE (lower is closing), or -ENOMEM. */
int glass_stream(struct sluice_stream *lower, const struct sluice_stream_events *events, void *user,
                 struct sluice_stream **stream);

#endif
