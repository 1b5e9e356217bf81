/* A layer for tests: hands on every byte in order, in pieces other than those that came, and some later. */
#ifndef SUPPORT_SHUFFLE_LAYER_H
#define SUPPORT_SHUFFLE_LAYER_H

#include <stdint.h>

#include <sluice/stream.h>

/* Returns 0, -EPIPE (lower is closing), or -ENOMEM. The same seed gives the same pieces. */
int shuffle_stream(struct sluice_stream *lower, uint64_t seed, const struct sluice_stream_events *events, void *user,
                   struct sluice_stream **stream);

#endif
