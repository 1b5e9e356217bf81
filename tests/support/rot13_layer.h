/* The layer of docs/writing-a-layer.md: what is sent through it is turned by 13 letters, and turned back. */
#ifndef SUPPORT_ROT13_LAYER_H
#define SUPPORT_ROT13_LAYER_H

#include <sluice/stream.h>

/* Puts the layer on top of `lower`, which it owns from now on. Returns 0, -EPIPE (lower is ending), or -ENOMEM. */
int rot13_stream(struct sluice_stream *lower, const struct sluice_stream_events *events, void *user,
                 struct sluice_stream **stream);

#endif
