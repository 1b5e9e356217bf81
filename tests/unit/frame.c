/* The frame layer: messages keep their boundaries, however they are cut on the way, and bad ones are refused. */
#include <sluice/frame.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/support/random.h"
#include "tests/support/scripted_stream.h"
#include "tests/support/stacks.h"

enum {
    KINDS = SLUICE_FRAME_VARINT + 1,
    MESSAGES_MAX = 4096,
};

/* The messages that a record heard, besides their bytes. */
struct messages {
    size_t lens[MESSAGES_MAX];
    size_t count;
};

static void note_message(struct record *record, const struct sluice_view *view)
{
    struct messages *messages = record->story;

    cr_assert_lt(messages->count, MESSAGES_MAX);
    messages->lens[messages->count++] = view->len;
}

/* A frame layer on a script. */
struct scene {
    struct world world;
    struct scripted *below;
    struct record user;
    struct messages messages;
};

static void set_scene(struct scene *scene, const struct sluice_frame_options *options)
{
    world_open(&scene->world, NULL);
    record_init(&scene->user, &scene->world);
    scene->messages.count = 0;
    scene->user.story = &scene->messages;
    scene->user.when_data = note_message;
    scene->below = scripted_create(scene->world.engine, SLUICE_OPEN, &record_events, &scene->user);
    sluice_stream_hold(&scene->below->stream);
    cr_assert_eq(sluice_frame_stream(&scene->below->stream, options, &record_events, &scene->user, &scene->user.stream),
                 0);
    world_settle(&scene->world);
    cr_assert_eq(scene->user.opens, 1);
}

static void clear_scene(struct scene *scene)
{
    if (scene->user.stream)
        sluice_stream_abort(scene->user.stream, 0);
    if (scene->below->in_flight > 0)
        scripted_complete(scene->below);
    world_settle(&scene->world);
    cr_assert_eq(scene->user.closes, 1);
    sluice_stream_release(&scene->below->stream);
    record_finish(&scene->user);
    world_close_empty(&scene->world);
}

static void arrive(struct scene *scene, const void *data, size_t len)
{
    if (len > 0)
        scripted_receive(scene->below, data, len);
    world_settle(&scene->world);
}

/* -- On the wire --------------------------------------------------------------------------------------------- */

Test(frame, lengths_are_written_as_their_kind_says, .timeout = 10)
{
    static const struct {
        enum sluice_frame_length length;
        size_t len;
        uint8_t prefix[5];
        size_t prefix_len;
    } cases[] = {
        {SLUICE_FRAME_U16_BE, 0, {0, 0}, 2},
        {SLUICE_FRAME_U16_BE, 0x1ff, {0x01, 0xff}, 2},
        {SLUICE_FRAME_U16_LE, 0x1ff, {0xff, 0x01}, 2},
        {SLUICE_FRAME_U32_BE, 0x1ff, {0, 0, 0x01, 0xff}, 4},
        {SLUICE_FRAME_U32_LE, 0x1ff, {0xff, 0x01, 0, 0}, 4},
        {SLUICE_FRAME_VARINT, 0, {0}, 1},
        {SLUICE_FRAME_VARINT, 0x7f, {0x7f}, 1},
        {SLUICE_FRAME_VARINT, 0x80, {0x80, 0x01}, 2},
        {SLUICE_FRAME_VARINT, 300, {0xac, 0x02}, 2},
    };
    static const uint8_t message[0x200] = {1, 2, 3};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sluice_frame_options options = {.length = cases[i].length};
        struct scene scene;

        set_scene(&scene, &options);
        send_now(&scene.user, message, cases[i].len);
        world_settle(&scene.world);
        cr_assert_eq(scene.below->submissions, 1);
        scripted_complete(scene.below);
        cr_assert_eq(scene.below->wire_len, cases[i].prefix_len + cases[i].len);
        cr_assert_eq(memcmp(scene.below->wire, cases[i].prefix, cases[i].prefix_len), 0, "case %zu", i);
        cr_assert_eq(memcmp(scene.below->wire + cases[i].prefix_len, message, cases[i].len), 0);
        clear_scene(&scene);
    }
}

Test(frame, each_kind_brings_messages_of_all_sizes_across, .timeout = 60)
{
    static const size_t lens[] = {0, 1, 2, 126, 127, 128, 255, 256, 16383, 16384, 65535, 65536, 100000, 1024 * 1024};
    uint8_t *data = pattern(1024 * 1024, 1);

    for (int kind = 0; kind < KINDS; kind++) {
        bool is_short = kind == SLUICE_FRAME_U16_BE || kind == SLUICE_FRAME_U16_LE;
        size_t count = sizeof lens / sizeof *lens - (is_short ? 3 : 0);
        struct sluice_frame_options options = {.length = (enum sluice_frame_length)kind};
        struct messages messages = {.count = 0};
        struct world world;
        struct record left;
        struct record right;
        size_t at = 0;

        world_open(&world, NULL);
        world_pair(&world, &left, &right, 0);
        cr_assert_eq(sluice_frame_stream(left.stream, &options, &record_events, &left, &left.stream), 0);
        cr_assert_eq(sluice_frame_stream(right.stream, &options, &record_events, &right, &right.stream), 0);
        cr_assert_str_eq(sluice_stream_kind(left.stream), "frame");
        right.story = &messages;
        right.when_data = note_message;
        for (size_t i = 0; i < count; i++)
            send_now(&left, data, lens[i]);
        world_turns_until(&world, messages.count == count, MANY_TURNS);
        for (size_t i = 0; i < count; i++) {
            cr_assert_eq(messages.lens[i], lens[i]);
            cr_assert_eq(memcmp(right.bytes + at, data, lens[i]), 0);
            at += lens[i];
        }
        sluice_stream_close(left.stream);
        sluice_stream_close(right.stream);
        world_until_closed(&world, &left, &right);
        assert_closed(&left, 0, 0);
        assert_closed(&right, 0, 0);
        record_finish(&left);
        record_finish(&right);
        world_close_empty(&world);
    }
    free(data);
}

/* -- Cut anywhere -------------------------------------------------------------------------------------------- */

static const size_t sequence_lens[] = {0, 1, 5, 0, 0, 300, 128, 0};

enum {
    SEQUENCE = sizeof sequence_lens / sizeof *sequence_lens,
    SEQUENCE_BYTES = 1 + 5 + 300 + 128,
};

/* Writes the sequence as a frame layer does. Returns its length. */
static size_t write_sequence(const struct sluice_frame_options *options, const uint8_t *data, uint8_t *wire)
{
    struct scene scene;
    size_t len;

    set_scene(&scene, options);
    for (int i = 0; i < SEQUENCE; i++) {
        send_now(&scene.user, data, sequence_lens[i]);
        data += sequence_lens[i];
    }
    world_settle(&scene.world);
    scripted_complete(scene.below);
    len = scene.below->wire_len;
    memcpy(wire, scene.below->wire, len);
    clear_scene(&scene);
    return len;
}

static void assert_sequence(const struct scene *scene, const uint8_t *data)
{
    cr_assert_eq(scene->messages.count, SEQUENCE);
    for (int i = 0; i < SEQUENCE; i++)
        cr_assert_eq(scene->messages.lens[i], sequence_lens[i]);
    cr_assert(has_heard(&scene->user, data, SEQUENCE_BYTES));
}

Test(frame, messages_survive_a_cut_at_every_point, .timeout = 60)
{
    uint8_t *data = pattern(SEQUENCE_BYTES, 2);

    for (int kind = 0; kind < KINDS; kind++) {
        struct sluice_frame_options options = {.length = (enum sluice_frame_length)kind};
        uint8_t wire[WIRE_MAX];
        size_t len = write_sequence(&options, data, wire);

        for (size_t cut = 0; cut <= len; cut++) {
            struct scene scene;

            set_scene(&scene, &options);
            arrive(&scene, wire, cut);
            arrive(&scene, wire + cut, len - cut);
            assert_sequence(&scene, data);
            clear_scene(&scene);
        }
    }
    free(data);
}

Test(frame, messages_survive_arriving_byte_by_byte, .timeout = 60)
{
    uint8_t *data = pattern(SEQUENCE_BYTES, 3);

    for (int kind = 0; kind < KINDS; kind++) {
        struct sluice_frame_options options = {.length = (enum sluice_frame_length)kind};
        uint8_t wire[WIRE_MAX];
        size_t len = write_sequence(&options, data, wire);
        struct scene scene;

        set_scene(&scene, &options);
        for (size_t i = 0; i < len; i++)
            arrive(&scene, wire + i, 1);
        assert_sequence(&scene, data);
        scripted_end(scene.below);
        world_settle(&scene.world);
        cr_assert_eq(scene.user.ends, 1);
        clear_scene(&scene);
    }
    free(data);
}

static void pause_when_message(struct record *record, const struct sluice_view *view)
{
    note_message(record, view);
    sluice_stream_pause(record->stream);
}

Test(frame, messages_of_one_buffer_stay_apart_when_the_user_pauses_between_them, .timeout = 10)
{
    uint8_t *data = pattern(SEQUENCE_BYTES, 4);
    struct sluice_frame_options options = {.length = SLUICE_FRAME_VARINT};
    uint8_t wire[WIRE_MAX];
    size_t len = write_sequence(&options, data, wire);
    struct scene scene;

    set_scene(&scene, &options);
    scene.user.when_data = pause_when_message;
    arrive(&scene, wire, len);
    for (size_t i = 1; i <= SEQUENCE; i++) {
        cr_assert_eq(scene.messages.count, i);
        cr_assert_not(scene.below->wants_data);
        sluice_stream_resume(scene.user.stream);
        world_settle(&scene.world);
    }
    assert_sequence(&scene, data);
    clear_scene(&scene);
    free(data);
}

/* -- Without a copy ------------------------------------------------------------------------------------------ */

static uint8_t arrival[] = {0, 3, 'o', 'n', 'e', 0, 0, 0, 3, 't', 'w', 'o', 0, 5, 't', 'h'};
static struct sluice_buffer arrival_buffer;

static void never(struct sluice_buffer *buffer)
{
    (void)buffer;
}

static void assert_within_arrival(struct record *record, const struct sluice_view *view)
{
    note_message(record, view);
    if (record->views == 4)
        return; /* "three" comes in two buffers */
    cr_assert_geq(view->data, arrival);
    cr_assert_leq(view->data + view->len, arrival + sizeof arrival);
    cr_assert_eq(view->buffer, &arrival_buffer);
}

Test(frame, messages_that_lie_in_one_buffer_are_not_copied, .timeout = 10)
{
    struct scene scene;

    set_scene(&scene, NULL);
    scene.user.when_data = assert_within_arrival;
    sluice_buffer_init(&arrival_buffer, never);
    scripted_receive_view(scene.below, &(struct sluice_view){arrival, sizeof arrival, &arrival_buffer});
    world_settle(&scene.world);
    arrive(&scene, "ree", 3);
    cr_assert_eq(scene.messages.count, 4);
    cr_assert(has_heard(&scene.user, "onetwothree", 11));
    cr_assert_eq(arrival_buffer.references, 1);
    clear_scene(&scene);
}

/* -- Limits -------------------------------------------------------------------------------------------------- */

Test(frame, options_that_cannot_be_are_refused_and_change_nothing, .timeout = 10)
{
    static const struct sluice_frame_options impossible[] = {
        {.length = SLUICE_FRAME_U16_BE, .message_limit = 65536},
        {.length = SLUICE_FRAME_U16_LE, .message_limit = 65536},
        {.length = SLUICE_FRAME_U32_BE, .message_limit = (size_t)UINT32_MAX + 1},
        {.length = SLUICE_FRAME_VARINT, .message_limit = SIZE_MAX},
        {.length = (enum sluice_frame_length)5},
        {.length = (enum sluice_frame_length) - 1},
    };
    struct world world;
    struct record left;
    struct record right;
    struct sluice_stream *stream = NULL;

    world_open(&world, NULL);
    world_pair(&world, &left, &right, 0);
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++)
        cr_assert_eq(sluice_frame_stream(left.stream, &impossible[i], NULL, NULL, &stream), -EINVAL, "case %zu", i);
    cr_assert_null(stream);
    send_now(&right, "hello", 5);
    world_settle(&world);
    cr_assert(has_heard(&left, "hello", 5));
    sluice_stream_abort(left.stream, 0);
    world_until_closed(&world, &left, &right);
    record_finish(&left);
    record_finish(&right);
    world_close_empty(&world);
}

Test(frame, a_message_as_long_as_the_limit_is_sent_and_a_longer_one_is_not, .timeout = 10)
{
    static const uint8_t message[101];
    struct sluice_frame_options options = {.length = SLUICE_FRAME_VARINT, .message_limit = 100};
    struct iovec halves[] = {
        {.iov_base = (void *)(uintptr_t)message, .iov_len = 50},
        {.iov_base = (void *)(uintptr_t)message, .iov_len = 51},
    };
    struct scene scene;

    set_scene(&scene, &options);
    cr_assert_eq(send_now(&scene.user, message, 100), SLUICE_ROOM);
    cr_assert_eq(sluice_stream_send(scene.user.stream, message, 101), -EMSGSIZE);
    cr_assert_eq(sluice_stream_send_vector(scene.user.stream, halves, 2), -EMSGSIZE);
    cr_assert_eq(sluice_stream_queued(scene.user.stream), 101);
    arrive(&scene, "d", 1);
    arrive(&scene, message, 100);
    cr_assert_eq(scene.messages.count, 1);
    cr_assert_eq(scene.messages.lens[0], 100);
    clear_scene(&scene);
}

struct refusal {
    struct sluice_frame_options options;
    uint8_t bytes[12];
    size_t len;
    int error;
};

Test(frame, lengths_over_the_limit_and_lengths_that_are_none_are_refused_before_the_message_comes, .timeout = 10)
{
    static const struct refusal refusals[] = {
        {{SLUICE_FRAME_U16_BE, 100}, {0, 101}, 2, -EMSGSIZE},
        {{SLUICE_FRAME_U16_LE, 100}, {101, 0}, 2, -EMSGSIZE},
        {{SLUICE_FRAME_U32_BE, 100}, {0, 0, 0, 101}, 4, -EMSGSIZE},
        {{SLUICE_FRAME_U32_BE, 0}, {0xff, 0xff, 0xff, 0xff}, 4, -EMSGSIZE},
        {{SLUICE_FRAME_U32_LE, 100}, {101, 0, 0, 0}, 4, -EMSGSIZE},
        {{SLUICE_FRAME_VARINT, 100}, {101}, 1, -EMSGSIZE},
        {{SLUICE_FRAME_VARINT, 0}, {0x81, 0x80, 0x40}, 3, -EMSGSIZE},
        {{SLUICE_FRAME_VARINT, 0}, {0xff, 0xff, 0xff, 0xff, 0x7f}, 5, -EMSGSIZE},
        {{SLUICE_FRAME_VARINT, 0}, {0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, 6, -EBADMSG},
        {{SLUICE_FRAME_VARINT, 0}, {0x80, 0x00}, 2, -EBADMSG},
        {{SLUICE_FRAME_VARINT, 0}, {0x81, 0x80, 0x00}, 3, -EBADMSG},
        {{SLUICE_FRAME_VARINT, 0}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 7, -EBADMSG},
    };

    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *refusal = &refusals[i];
        struct scene scene;

        set_scene(&scene, &refusal->options);
        arrive(&scene, refusal->bytes, refusal->len);
        cr_assert_eq(scene.user.closes, 1, "case %zu", i);
        assert_closed(&scene.user, refusal->error, 0);
        cr_assert_eq(scene.user.why.side, SLUICE_REMOTE);
        cr_assert_eq(scene.below->aborts, 1);
        clear_scene(&scene);
    }
}

Test(frame, the_messages_before_a_bad_one_are_heard, .timeout = 10)
{
    static const uint8_t bytes[] = {0, 4, 'g', 'o', 'o', 'd', 0, 4, 'f', 'i', 'n', 'e', 0xff, 0xff, 'b', 'a', 'd'};
    struct sluice_frame_options options = {.message_limit = 4};

    for (size_t cut = 0; cut <= sizeof bytes; cut++) {
        struct scene scene;

        set_scene(&scene, &options);
        arrive(&scene, bytes, cut);
        if (scene.user.stream)
            arrive(&scene, bytes + cut, sizeof bytes - cut);
        cr_assert_eq(scene.messages.count, 2);
        cr_assert(has_heard(&scene.user, "goodfine", 8));
        assert_closed(&scene.user, -EMSGSIZE, 0);
        clear_scene(&scene);
    }
}

Test(frame, the_messages_before_a_bad_one_are_heard_by_a_user_that_pauses, .timeout = 10)
{
    static const uint8_t bytes[] = {0, 1, 'a', 0, 1, 'b', 0, 1, 'c', 0xff, 0xff};
    struct sluice_frame_options options = {.message_limit = 4};
    struct scene scene;

    set_scene(&scene, &options);
    scene.user.when_data = pause_when_message;
    arrive(&scene, bytes, sizeof bytes);
    for (size_t i = 1; i <= 3; i++) {
        cr_assert_eq(scene.messages.count, i);
        if (scene.user.stream) /* the failure waits for the last message, not for the user */
            sluice_stream_resume(scene.user.stream);
        world_settle(&scene.world);
    }
    cr_assert(has_heard(&scene.user, "abc", 3));
    assert_closed(&scene.user, -EMSGSIZE, 0);
    clear_scene(&scene);
}

Test(frame, an_end_within_a_message_is_a_bad_end, .timeout = 10)
{
    static const uint8_t bytes[] = {0, 0, 0, 3, 'o', 'n', 'e', 0, 0, 0, 0};

    for (size_t len = 0; len <= sizeof bytes; len++) {
        struct sluice_frame_options options = {.length = SLUICE_FRAME_U32_BE};
        bool is_whole = len == 0 || len == 7 || len == 11;
        struct scene scene;

        set_scene(&scene, &options);
        arrive(&scene, bytes, len);
        scripted_end(scene.below);
        world_settle(&scene.world);
        cr_assert_eq(scene.user.ends, is_whole ? 1 : 0, "after %zu bytes", len);
        cr_assert_eq(scene.user.closes, is_whole ? 0 : 1, "after %zu bytes", len);
        if (!is_whole)
            assert_closed(&scene.user, -EBADMSG, 0);
        clear_scene(&scene);
    }
}

/* -- On other stacks ----------------------------------------------------------------------------------------- */

/* The stack's layers, and a frame layer above them. */
STORY(frame, messages_of_random_sizes_keep_their_boundaries)
{
    struct messages *messages = calloc(1, sizeof *messages);
    uint8_t *data = pattern(1000 * 1000, stack->seed);
    uint64_t random = stack->seed;
    size_t *lens = calloc(500, sizeof *lens);
    struct world world;
    struct record left;
    struct record right;
    size_t at = 0;

    world_open(&world, NULL);
    stack_open_narrow(stack, &world, &left, &right, 1000 + random_size(&random, 100000));
    left.opens = right.opens = 0;
    put_layers("f", &left, &random);
    put_layers("f", &right, &random);
    world_turns_until(&world, left.opens == 1 && right.opens == 1, MANY_TURNS);
    right.story = messages;
    right.when_data = note_message;
    for (int i = 0; i < 500; i++) {
        lens[i] = random_below(&random, 4) == 0 ? 0 : random_size(&random, 2000);
        send_now(&left, data + at, lens[i]);
        at += lens[i];
        if (random_below(&random, 10) == 0)
            world_turn(&world);
        if (random_below(&random, 10) == 0)
            sluice_stream_pause(right.stream);
        if (random_below(&random, 5) == 0)
            sluice_stream_resume(right.stream);
    }
    sluice_stream_resume(right.stream);
    sluice_stream_close(left.stream);
    right.when_end = close_when_end;
    world_until_closed(&world, &left, &right);
    cr_assert_eq(messages->count, 500);
    cr_assert_eq(memcmp(messages->lens, lens, 500 * sizeof *lens), 0);
    cr_assert(has_heard(&right, data, at));
    assert_closed(&left, 0, 0);
    assert_closed(&right, 0, 0);
    record_finish(&left);
    record_finish(&right);
    free(messages);
    free(data);
    free(lens);
    world_close_empty(&world);
}
