/* The frame layer: messages, each behind its length. See <sluice/frame.h>. */
#include <sluice/frame.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/layer.h"

enum {
    VARINT_MAX = 5,              /* bytes of a varint of 32 bits */
    LIMIT_DEFAULT = 1024 * 1024, /* of a message, unless its length has 16 bits */
};

struct frame {
    struct layer layer;
    enum sluice_frame_length length;
    size_t limit;
    uint8_t header[VARINT_MAX]; /* the part of a length that has arrived */
    size_t header_len;
    bool has_length; /* true exactly while the header is whole and its message is not */
    size_t message_len;
    struct block *partial; /* the part of a message that has arrived; else NULL */
};

/* -- Lengths ------------------------------------------------------------------------------------------------- */

static size_t fixed_header_len(enum sluice_frame_length length)
{
    switch (length) {
    case SLUICE_FRAME_U16_BE:
    case SLUICE_FRAME_U16_LE:
        return 2;
    case SLUICE_FRAME_U32_BE:
    case SLUICE_FRAME_U32_LE:
        return 4;
    case SLUICE_FRAME_VARINT:
        break;
    }
    return 0;
}

static bool is_big_endian(enum sluice_frame_length length)
{
    return length == SLUICE_FRAME_U16_BE || length == SLUICE_FRAME_U32_BE;
}

static size_t write_fixed(enum sluice_frame_length length, size_t value, uint8_t *out)
{
    size_t len = fixed_header_len(length);

    for (size_t i = 0; i < len; i++)
        out[is_big_endian(length) ? len - 1 - i : i] = (uint8_t)(value >> (8 * i));
    return len;
}

static size_t read_fixed(enum sluice_frame_length length, const uint8_t *in)
{
    size_t len = fixed_header_len(length);
    size_t value = 0;

    for (size_t i = 0; i < len; i++)
        value |= (size_t)in[is_big_endian(length) ? len - 1 - i : i] << (8 * i);
    return value;
}

static size_t write_varint(size_t value, uint8_t *out)
{
    size_t len = 0;

    for (; value >= 0x80; value >>= 7)
        out[len++] = (uint8_t)(value | 0x80);
    out[len++] = (uint8_t)value;
    return len;
}

static size_t read_varint(const uint8_t *in, size_t len)
{
    size_t value = 0;

    for (size_t i = 0; i < len; i++)
        value |= (size_t)(in[i] & 0x7f) << (7 * i);
    return value;
}

/* -- Up ------------------------------------------------------------------------------------------------------ */

static bool header_is_whole(const struct frame *frame)
{
    if (frame->length == SLUICE_FRAME_VARINT)
        return frame->header_len > 0 && !(frame->header[frame->header_len - 1] & 0x80);
    return frame->header_len == fixed_header_len(frame->length);
}

static size_t header_value(const struct frame *frame)
{
    if (frame->length == SLUICE_FRAME_VARINT)
        return read_varint(frame->header, frame->header_len);
    return read_fixed(frame->length, frame->header);
}

/*
 * A number has one way to be written, so that two readers cannot disagree on it: without zeroes behind its last bits.
 */
static bool is_padded(const struct frame *frame)
{
    return frame->length == SLUICE_FRAME_VARINT && frame->header_len > 1 && frame->header[frame->header_len - 1] == 0;
}

/* The usual way of a length of fixed size: it lies whole at the front of the view. */
static bool take_whole_header(struct frame *frame, struct sluice_view *view)
{
    size_t len = fixed_header_len(frame->length);

    if (len == 0 || frame->header_len > 0 || view->len < len)
        return false;
    frame->message_len = read_fixed(frame->length, view->data);
    view->data += len;
    view->len -= len;
    return true;
}

/* Byte by byte. Returns 0 also if it is not whole yet, or -EBADMSG. */
static int gather_header(struct frame *frame, struct sluice_view *view)
{
    while (view->len > 0 && !header_is_whole(frame)) {
        if (frame->header_len >= VARINT_MAX)
            return -EBADMSG;
        frame->header[frame->header_len++] = *view->data;
        view->data++;
        view->len--;
    }
    if (is_padded(frame))
        return -EBADMSG;
    return 0;
}

/* Takes bytes of a length off the view. A refusal comes from the length alone: nothing of the message is stored. */
static int take_header(struct frame *frame, struct sluice_view *view)
{
    if (!take_whole_header(frame, view)) {
        int error = gather_header(frame, view);

        if (error || !header_is_whole(frame))
            return error;
        frame->message_len = header_value(frame);
    }
    if (frame->message_len > frame->limit)
        return -EMSGSIZE;
    frame->header_len = 0;
    frame->has_length = true;
    return 0;
}

/* Tells the message, which lies whole at the front of the view. */
static void tell_from_view(struct frame *frame, struct sluice_view *view)
{
    struct sluice_view message = {.data = view->data, .len = frame->message_len, .buffer = view->buffer};

    view->data += frame->message_len;
    view->len -= frame->message_len;
    frame->has_length = false;
    stream_receive(&frame->layer.stream, &message);
}

/* Adds what the view has of the message to the part that came before, and tells it if that makes it whole. */
static int gather_message(struct frame *frame, struct sluice_view *view)
{
    struct block *partial = frame->partial;
    size_t part;

    if (!partial)
        partial = pool_take_block(&frame->layer.stream.engine->pool, frame->message_len, true);
    if (!partial)
        return -ENOMEM;
    frame->partial = partial;
    part = frame->message_len - partial->used;
    if (part > view->len)
        part = view->len;
    memcpy(partial->data + partial->used, view->data, part);
    partial->used += part;
    view->data += part;
    view->len -= part;
    if (partial->used == frame->message_len) {
        struct sluice_view message = {.data = partial->data, .len = partial->used, .buffer = &partial->buffer};

        /* Not kept for the next one: an idle connection holds no memory for messages, and the pool has it back. */
        frame->partial = NULL;
        frame->has_length = false;
        stream_receive(&frame->layer.stream, &message);
        sluice_buffer_drop(&partial->buffer);
    }
    return 0;
}

static int frame_receive(struct layer *layer, const struct sluice_view *arrived)
{
    struct frame *frame = container_of(layer, struct frame, layer);
    struct sluice_view view = *arrived;
    int error = 0;

    while (view.len > 0 && !error && !layer->stream.is_aborted) {
        if (!frame->has_length)
            error = take_header(frame, &view);
        if (error || !frame->has_length)
            break;
        if (!frame->partial && view.len >= frame->message_len)
            tell_from_view(frame, &view); /* also an empty one behind the last byte */
        else if (view.len > 0)
            error = gather_message(frame, &view);
    }
    return error;
}

static int frame_end(struct layer *layer)
{
    const struct frame *frame = container_of(layer, struct frame, layer);

    return frame->has_length || frame->header_len > 0 ? -EBADMSG : 0;
}

/* -- Down ---------------------------------------------------------------------------------------------------- */

static size_t frame_prefix(const struct sluice_stream *stream, size_t len, uint8_t prefix[STREAM_PREFIX_MAX])
{
    const struct frame *frame = container_of(layer_of(stream), struct frame, layer);

    if (frame->length == SLUICE_FRAME_VARINT)
        return write_varint(len, prefix);
    return write_fixed(frame->length, len, prefix);
}

static void frame_destroy(struct layer *layer)
{
    struct frame *frame = container_of(layer, struct frame, layer);

    if (frame->partial)
        sluice_buffer_drop(&frame->partial->buffer);
}

static const struct layer_kind frame_kind = {
    .name = "frame",
    .start = layer_start_open,
    .receive = frame_receive,
    .end = frame_end,
    .send = layer_pass_down,
    .finish = layer_no_goodbye,
    .prefix = frame_prefix,
    .destroy = frame_destroy,
};

/* -- Making -------------------------------------------------------------------------------------------------- */

/* The longest message that a length of this kind can announce; 0 for an unknown kind. */
static size_t longest_message(enum sluice_frame_length length)
{
    switch (length) {
    case SLUICE_FRAME_U16_BE:
    case SLUICE_FRAME_U16_LE:
        return UINT16_MAX;
    case SLUICE_FRAME_U32_BE:
    case SLUICE_FRAME_U32_LE:
    case SLUICE_FRAME_VARINT:
        return UINT32_MAX;
    }
    return 0;
}

int sluice_frame_stream(struct sluice_stream *lower, const struct sluice_frame_options *options,
                        const struct sluice_stream_events *events, void *user, struct sluice_stream **stream)
{
    enum sluice_frame_length length = options ? options->length : SLUICE_FRAME_U16_BE;
    size_t longest = longest_message(length);
    size_t limit = options && options->message_limit ? options->message_limit
                                                     : (longest < LIMIT_DEFAULT ? longest : LIMIT_DEFAULT);
    struct frame *frame;
    int error;

    if (longest == 0 || limit > longest)
        return -EINVAL;
    frame = calloc(1, sizeof *frame);
    if (!frame)
        return -ENOMEM;
    error = layer_init(&frame->layer, &frame_kind, lower, events, user);
    if (error) {
        free(frame);
        return error;
    }
    frame->length = length;
    frame->limit = limit;
    frame->layer.stream.has_messages = true;
    frame->layer.stream.message_max = (uint32_t)limit;
    *stream = &frame->layer.stream;
    return 0;
}
