/*
 * A layer: a stream that stands on another stream.
 *
 * The framework hears the stream below and relays, once for all layers: open, drain, pause and resume, half-close,
 * close, abort, the cause of the end, and activity. A layer only transforms bytes; it cannot forget a relay, because it
 * is never asked to make one. docs/writing-a-layer.md shows one from start to end.
 */
#ifndef ENGINE_LAYER_H
#define ENGINE_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/stream.h"

struct layer;

/* What one kind of layer does with bytes. Every member is set; layer_ functions below serve as defaults. */
struct layer_kind {
    const char *name;
    /* The stream below is open: shake hands, and call layer_opened() when done, now or later. */
    void (*start)(struct layer *layer);
    /* Bytes came up. Hand what they mean to stream_receive(). Returns 0, or -errno: the stream then fails with it. */
    int (*receive)(struct layer *layer, const struct sluice_view *view);
    /* The peer ended its direction below. Returns 0, or -errno if that is no proper end here. */
    int (*end)(struct layer *layer);
    /*
     * Moves bytes of layer->stream.unsent down with layer_send(), and reports them with stream_sent(). Called while the
     * stream below is not full; may move only some, as long as it moves some. Returns 0, or -errno: the stream then
     * fails with it.
     */
    int (*send)(struct layer *layer);
    /* Everything was sent and our direction ends: say goodbye below. The framework then ends the stream below. */
    void (*finish)(struct layer *layer);
    /* As in stream_ops: asked if the layer's stream `has_messages`. */
    size_t (*prefix)(const struct sluice_stream *stream, size_t len, uint8_t prefix[STREAM_PREFIX_MAX]);
    /* Gives back what the layer took for itself. */
    void (*destroy)(struct layer *layer);
};

struct layer {
    struct sluice_stream stream;
    const struct layer_kind *kind;
    struct sluice_stream *lower; /* NULL once it is closed */
};

/*
 * Puts a layer, in zeroed memory that starts with it, on top of `lower`, which it owns from now on. Returns 0, or
 * -EPIPE if `lower` is ending: then nothing has changed, and the memory is still the caller's.
 */
int layer_init(struct layer *layer, const struct layer_kind *kind, struct sluice_stream *lower,
               const struct sluice_stream_events *events, void *user);

static inline struct layer *layer_of(const struct sluice_stream *stream)
{
    return container_of(stream, struct layer, stream);
}

/* The handshake is done: the user may send and hear. */
static inline void layer_opened(struct layer *layer)
{
    stream_opened(&layer->stream);
}

/*
 * Sends below: the handshake, the goodbye, or what kind->send made of the queue; as one message if the stream below has
 * messages. It is not refused for want of room, since what it carries was accepted above.
 * Returns 0, -EPIPE (the stream below is ending, and its end will follow), -EMSGSIZE or -ENOMEM.
 */
int layer_send(struct layer *layer, const struct iovec *pieces, size_t count);

/* Defaults of a kind: no handshake; any end is proper; bytes go down as they are; no goodbye; nothing to free. */
void layer_start_open(struct layer *layer);
int layer_end_anywhere(struct layer *layer);
int layer_pass_down(struct layer *layer);
void layer_no_goodbye(struct layer *layer);
void layer_nothing_to_destroy(struct layer *layer);

#endif
