/*
 * Fuzzes what the frame layer makes of the bytes that a peer sends, against a parser of twenty lines.
 *
 * Input: the kind of length, the limit (two bytes), how the bytes are cut, what the user does; then the bytes.
 */
#include <errno.h>

#include <sluice/sluice.h>

#include "engine/config.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/still_ring.h"
#include "tests/support/random.h"

enum {
    MESSAGES_MAX = 4096,
    KEPT_MAX = 8,
    MILLISECOND = 1000000,
};

/* What the user does. */
enum habit {
    PAUSES = 1,      /* after each message */
    KEEPS = 2,       /* the first messages */
    RESTS_OFTEN = 4, /* lets the engine come to rest after each piece, not only at the end */
};

struct message {
    size_t at;
    size_t len;
};

/* What should come of the bytes. */
struct expected {
    struct message messages[MESSAGES_MAX];
    size_t count;
    int error; /* by which the stream fails behind them; 0: it hears the end */
};

struct reader {
    struct sluice_stream *stream;
    const uint8_t *bytes;
    const struct expected *expected;
    size_t heard;
    uint8_t habits;
    struct sluice_view kept[KEPT_MAX];
    size_t kept_count;
    bool has_ended;
    bool is_closed;
    struct sluice_close why;
};

struct writer {
    bool is_closed;
};

/* -- The oracle ---------------------------------------------------------------------------------------------- */

/* Reads one length. Returns its bytes, 0 if there are too few, or -EBADMSG. */
static int expect_length(enum sluice_frame_length kind, const uint8_t *data, size_t len, uint64_t *value)
{
    *value = 0;
    if (kind == SLUICE_FRAME_VARINT) {
        for (size_t i = 0; i < 5 && i < len; i++) {
            *value |= (uint64_t)(data[i] & 0x7f) << (7 * i);
            if (data[i] < 0x80)
                return i > 0 && data[i] == 0 ? -EBADMSG : (int)i + 1;
        }
        return len > 5 ? -EBADMSG : 0;
    }
    size_t size = kind == SLUICE_FRAME_U16_BE || kind == SLUICE_FRAME_U16_LE ? 2 : 4;
    bool is_big = kind == SLUICE_FRAME_U16_BE || kind == SLUICE_FRAME_U32_BE;

    if (len < size)
        return 0;
    for (size_t i = 0; i < size; i++)
        *value = *value << 8 | data[is_big ? i : size - 1 - i];
    return (int)size;
}

static void expect(struct expected *expected, enum sluice_frame_length kind, uint64_t limit, const uint8_t *data,
                   size_t len)
{
    size_t at = 0;

    expected->count = 0;
    while (at < len) {
        uint64_t value;
        int size = expect_length(kind, data + at, len - at, &value);

        expected->error = size > 0 && value > limit ? -EMSGSIZE : -EBADMSG;
        if (size <= 0 || value > limit || value > len - at - (size_t)size)
            return;
        must(expected->count < MESSAGES_MAX);
        expected->messages[expected->count++] = (struct message){at + (size_t)size, (size_t)value};
        at += (size_t)size + (size_t)value;
    }
    expected->error = 0;
}

/* -- The two ends -------------------------------------------------------------------------------------------- */

static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct reader *reader = user;
    const struct message *message = &reader->expected->messages[reader->heard];

    must(!reader->has_ended && !reader->is_closed);
    must(reader->heard < reader->expected->count, "a message more than was sent");
    must(view->len == message->len);
    must(view->len == 0 || memcmp(view->data, reader->bytes + message->at, view->len) == 0);
    reader->heard++;
    if (reader->habits & KEEPS && reader->kept_count < KEPT_MAX)
        must(sluice_view_keep(stream, view, &reader->kept[reader->kept_count++]) == 0);
    if (reader->habits & PAUSES)
        must(sluice_stream_pause(stream) == 0);
}

static void on_end(struct sluice_stream *stream, void *user)
{
    struct reader *reader = user;

    must(!reader->has_ended && !reader->is_closed);
    reader->has_ended = true;
    sluice_stream_close(stream);
}

static void on_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct reader *reader = user;

    (void)stream;
    must(!reader->is_closed);
    reader->is_closed = true;
    reader->why = *why;
    reader->stream = NULL;
}

static void on_writer_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    (void)stream;
    (void)why;
    ((struct writer *)user)->is_closed = true;
}

static void ignore_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    (void)view;
    (void)user;
}

static const struct sluice_stream_events reader_events = {.on_data = on_data, .on_end = on_end, .on_close = on_close};
static const struct sluice_stream_events writer_events = {.on_data = ignore_data, .on_close = on_writer_close};

/* -- The story ----------------------------------------------------------------------------------------------- */

static void settle(struct sluice_engine *engine, struct reader *reader, uint64_t *now_ns)
{
    size_t heard;

    do {
        heard = reader->heard;
        if (reader->stream && reader->habits & PAUSES)
            sluice_stream_resume(reader->stream);
        still_settle(&engine, 1, now_ns, MILLISECOND);
    } while (reader->heard > heard);
}

/* What was kept is still what was heard. */
static void drop_kept(struct reader *reader)
{
    for (size_t i = 0; i < reader->kept_count; i++) {
        const struct message *message = &reader->expected->messages[i];
        const struct sluice_view *kept = &reader->kept[i];

        must(kept->len == message->len);
        must(kept->len == 0 || memcmp(kept->data, reader->bytes + message->at, kept->len) == 0);
        sluice_buffer_drop(kept->buffer);
    }
}

static void send_all(struct sluice_engine *engine, struct reader *reader, struct writer *writer,
                     struct sluice_stream *stream, struct input *input, uint64_t cut, uint64_t *now_ns)
{
    while (input->len > 0 && !writer->is_closed) {
        size_t len = random_size(&cut, input->len);

        if (sluice_stream_send(stream, input->data, len) < 0)
            break; /* it was reset, and will hear of it */
        input->data += len;
        input->len -= len;
        if (reader->habits & RESTS_OFTEN)
            settle(engine, reader, now_ns);
    }
    if (!writer->is_closed)
        sluice_stream_close(stream);
    settle(engine, reader, now_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct expected expected;
    struct input input = {data, len};
    struct sluice_engine_options options;
    struct sluice_frame_options frame = {.length = (enum sluice_frame_length)(input_byte(&input) % 5)};
    struct reader reader = {.expected = &expected};
    struct writer writer = {0};
    struct sluice_engine *engine;
    struct sluice_stream *raw;
    struct sluice_stream *upper;
    char why[SLUICE_REASON_MAX];
    uint64_t now_ns = MILLISECOND;
    uint64_t cut;

    frame.message_limit = input_number(&input);
    cut = input_byte(&input);
    reader.habits = input_byte(&input);
    if (input.len >= MESSAGES_MAX)
        input.len = MESSAGES_MAX - 1;
    reader.bytes = input.data;
    bool is_short = frame.length == SLUICE_FRAME_U16_BE || frame.length == SLUICE_FRAME_U16_LE;
    expect(&expected, frame.length, frame.message_limit ? frame.message_limit : (is_short ? 65535 : 1 << 20),
           input.data, input.len);
    config_complete(NULL, &options, why, sizeof why);
    options.receive_buffer_count = 8;
    options.receive_buffer_size = 256;
    engine = still_engine_create(&options, &now_ns);
    must(sluice_pair(&(struct sluice_pair_end){engine, &writer_events, &writer},
                     &(struct sluice_pair_end){engine, &reader_events, &reader}, 1 + cut, &raw, &reader.stream) == 0);
    must(sluice_frame_stream(reader.stream, &frame, &reader_events, &reader, &upper) == 0);
    reader.stream = upper;
    send_all(engine, &reader, &writer, raw, &input, cut, &now_ns);
    must(reader.heard == expected.count, "%zu of %zu messages were heard", reader.heard, expected.count);
    must(reader.is_closed && writer.is_closed);
    must(reader.why.error == expected.error, "%d instead of %d", reader.why.error, expected.error);
    must(reader.has_ended == (expected.error == 0));
    must(!expected.error || reader.why.side == SLUICE_REMOTE);
    drop_kept(&reader);
    sluice_engine_destroy(engine);
    return 0;
}
