/* The rot13 layer: see rot13_layer.h. */
#include "tests/support/rot13_layer.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/layer.h"

enum {
    PIECES = 16,
    PIECE_MAX = 4096, /* bytes turned at a time */
};

/* A layer with more to remember has a struct of its own, whose first member is the layer. */
struct rot13 {
    struct layer layer;
    uint64_t turned; /* letters, both ways */
};

static struct rot13 *rot13_of(struct layer *layer)
{
    return container_of(layer, struct rot13, layer);
}

static uint8_t turn_letter(uint8_t letter)
{
    uint8_t small = letter | 0x20;

    if (small < 'a' || small > 'z')
        return letter;
    return small < 'n' ? letter + 13 : letter - 13;
}

static void turn(struct rot13 *rot13, uint8_t *to, const uint8_t *from, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        to[i] = turn_letter(from[i]);
        rot13->turned += to[i] != from[i];
    }
}

/* Up: the bytes that came are not ours to change, so they are turned into a block of our own. */
static int rot13_receive(struct layer *layer, const struct sluice_view *view)
{
    struct block *block = pool_take_block(&layer->stream.engine->pool, view->len, true);

    if (!block)
        return -ENOMEM;
    turn(rot13_of(layer), block->data, view->data, view->len);
    block->used = view->len;
    stream_receive(&layer->stream,
                   &(struct sluice_view){.data = block->data, .len = view->len, .buffer = &block->buffer});
    sluice_buffer_drop(&block->buffer);
    return 0;
}

/* Down: a part of the queue. Once it is reported as sent, the framework asks again for the rest. */
static int rot13_send(struct layer *layer)
{
    size_t max = layer->lower->message_max < PIECE_MAX ? layer->lower->message_max : PIECE_MAX;
    struct iovec pieces[PIECES];
    uint8_t turned[PIECE_MAX];
    size_t len;
    uint32_t count = bytes_gather(&layer->stream.unsent, pieces, PIECES, max, &len);
    size_t at = 0;
    int error;

    for (uint32_t i = 0; i < count; i++) {
        turn(rot13_of(layer), turned + at, pieces[i].iov_base, pieces[i].iov_len);
        at += pieces[i].iov_len;
    }
    error = layer_send(layer, &(struct iovec){.iov_base = turned, .iov_len = len}, 1);
    /* -EPIPE: the stream below is ending and will say why. Until then the bytes stay queued, and are counted. */
    if (error)
        return error == -EPIPE ? 0 : error;
    stream_sent(&layer->stream, len);
    return 0;
}

static const struct layer_kind rot13_kind = {
    .name = "rot13",
    .start = layer_start_open,
    .receive = rot13_receive,
    .end = layer_end_anywhere,
    .send = rot13_send,
    .finish = layer_no_goodbye,
    .prefix = stream_no_prefix,
    .destroy = layer_nothing_to_destroy,
};

int rot13_stream(struct sluice_stream *lower, const struct sluice_stream_events *events, void *user,
                 struct sluice_stream **stream)
{
    struct rot13 *rot13 = calloc(1, sizeof *rot13);
    int error;

    if (!rot13)
        return -ENOMEM;
    error = layer_init(&rot13->layer, &rot13_kind, lower, events, user);
    if (error) {
        free(rot13);
        return error;
    }
    *stream = &rot13->layer.stream;
    return 0;
}
