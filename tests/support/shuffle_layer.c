/* The shuffle layer: see shuffle_layer.h. */
#include "tests/support/shuffle_layer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/layer.h"
#include "tests/support/random.h"

enum {
    PIECE_MAX = 64 * 1024, /* bytes handed on at a time */
    PIECES_DOWN = 8,       /* in which they may lie */
    DELAY_ONE_IN = 8,      /* pieces that come late */
    DELAY_MAX_NS = 100000,
};

struct shuffle {
    struct layer layer;
    uint64_t random;
    struct bytes late;         /* arrived, and not handed up yet */
    struct sluice_timer timer; /* armed exactly while `late` waits */
};

static struct shuffle *shuffle_of(struct layer *layer)
{
    return container_of(layer, struct shuffle, layer);
}

/* -- Up ------------------------------------------------------------------------------------------------------ */

/* Hands up the first bytes of `late` as one piece, however they came. */
static int hand_up_piece(struct shuffle *shuffle)
{
    struct pool *pool = &shuffle->layer.stream.engine->pool;
    size_t len = random_size(&shuffle->random, PIECE_MAX);
    struct block *block;

    if (len > shuffle->late.len)
        len = shuffle->late.len;
    block = pool_take_block(pool, len, true);
    if (!block)
        return -ENOMEM;
    while (block->used < len) {
        struct iovec part;
        size_t part_len;

        bytes_gather(&shuffle->late, &part, 1, len - block->used, &part_len);
        memcpy(block->data + block->used, part.iov_base, part_len);
        block->used += part_len;
        bytes_consume(&shuffle->late, pool, part_len);
    }
    stream_receive(&shuffle->layer.stream,
                   &(struct sluice_view){.data = block->data, .len = len, .buffer = &block->buffer});
    sluice_buffer_drop(&block->buffer);
    return 0;
}

static int hand_up(struct shuffle *shuffle, bool may_wait)
{
    int error = 0;

    while (!error && !bytes_is_empty(&shuffle->late)) {
        if (may_wait && random_below(&shuffle->random, DELAY_ONE_IN) == 0) {
            sluice_timer_start(shuffle->layer.stream.engine, &shuffle->timer,
                               random_below(&shuffle->random, DELAY_MAX_NS));
            return 0;
        }
        error = hand_up_piece(shuffle);
    }
    return error;
}

static void hand_up_late(struct sluice_timer *timer)
{
    struct shuffle *shuffle = container_of(timer, struct shuffle, timer);
    int error = hand_up(shuffle, true);

    if (error)
        stream_fail(&shuffle->layer.stream, error, SLUICE_LOCAL);
}

/* What waits already goes first: then the new bytes wait behind it. */
static int shuffle_receive(struct layer *layer, const struct sluice_view *view)
{
    struct shuffle *shuffle = shuffle_of(layer);
    struct sluice_view kept;
    int error;

    if (view->len == 0)
        return 0;
    error = sluice_view_keep(layer->lower, view, &kept);
    if (error)
        return error;
    error = bytes_append_view(&shuffle->late, &layer->stream.engine->pool, &kept);
    sluice_buffer_drop(kept.buffer);
    if (error || shuffle->timer.link)
        return error;
    return hand_up(shuffle, true);
}

/* The end must not overtake what is late. */
static int shuffle_end(struct layer *layer)
{
    sluice_timer_stop(layer->stream.engine, &shuffle_of(layer)->timer);
    return hand_up(shuffle_of(layer), false);
}

/* -- Down ---------------------------------------------------------------------------------------------------- */

/* Passes on the first bytes, as many as chance wants. The framework asks again for the rest, in the next pass. */
static int shuffle_send(struct layer *layer)
{
    struct sluice_stream *lower = layer->lower;
    size_t wanted = random_size(&shuffle_of(layer)->random, PIECE_MAX);
    struct iovec pieces[PIECES_DOWN];
    size_t len;
    uint32_t count = bytes_gather(&layer->stream.unsent, pieces, PIECES_DOWN,
                                  wanted < lower->message_max ? wanted : lower->message_max, &len);
    int answer = layer_send(layer, pieces, count);

    /* If it is ending, its on_close will tell why; until then the bytes stay here, and are counted here. */
    if (answer < 0)
        return answer == -EPIPE ? 0 : answer;
    stream_sent(&layer->stream, len);
    return 0;
}

/* -- Making -------------------------------------------------------------------------------------------------- */

static void shuffle_destroy(struct layer *layer)
{
    sluice_timer_stop(layer->stream.engine, &shuffle_of(layer)->timer);
    bytes_clear(&shuffle_of(layer)->late, &layer->stream.engine->pool);
}

static const struct layer_kind shuffle_kind = {
    .name = "shuffle",
    .start = layer_start_open,
    .receive = shuffle_receive,
    .end = shuffle_end,
    .send = shuffle_send,
    .finish = layer_no_goodbye,
    .prefix = stream_no_prefix,
    .destroy = shuffle_destroy,
};

int shuffle_stream(struct sluice_stream *lower, uint64_t seed, const struct sluice_stream_events *events, void *user,
                   struct sluice_stream **stream)
{
    struct shuffle *shuffle = calloc(1, sizeof *shuffle);
    int error;

    if (!shuffle)
        return -ENOMEM;
    error = layer_init(&shuffle->layer, &shuffle_kind, lower, events, user);
    if (error) {
        free(shuffle);
        return error;
    }
    shuffle->random = seed;
    shuffle->timer.fire = hand_up_late;
    *stream = &shuffle->layer.stream;
    return 0;
}
