/* Users who want to hear little or nothing: what is not heard waits, and nothing else depends on it. */
#include <errno.h>
#include <stdlib.h>

#include <criterion/criterion.h>

#include "tests/support/real_ring.h"
#include "tests/support/world.h"

TestSuite(silent, .timeout = 20);

static const struct sluice_stream_events deaf = {0};

struct scene {
    struct world world;
    struct record left; /* whose stream is heard by others at first */
    struct record right;
};

static void set_scene(struct scene *scene, const struct sluice_stream_events *events)
{
    world_open(&scene->world, NULL);
    world_pair(&scene->world, &scene->left, &scene->right, 0);
    sluice_stream_set_events(scene->left.stream, events, NULL);
}

static void clear_scene(struct scene *scene)
{
    if (scene->left.stream)
        sluice_stream_abort(scene->left.stream, 0);
    world_until_closed(&scene->world, &scene->left, &scene->right);
    record_finish(&scene->left);
    record_finish(&scene->right);
    world_close_empty(&scene->world);
}

static void hear_again(struct scene *scene)
{
    sluice_stream_set_events(scene->left.stream, &record_events, &scene->left);
    world_settle(&scene->world);
}

/* What comes while nobody listens is heard by whoever listens then. */
static void assert_waits(const struct sluice_stream_events *events)
{
    struct scene scene;

    set_scene(&scene, events);
    send_now(&scene.right, "hello", 5);
    cr_assert_eq(sluice_stream_finish(scene.right.stream), 0);
    world_settle(&scene.world);
    cr_assert_eq(sluice_stream_read_status(scene.left.stream), SLUICE_READABLE);
    hear_again(&scene);
    cr_assert(has_heard(&scene.left, "hello", 5));
    cr_assert_eq(scene.left.ends, 1);
    clear_scene(&scene);
}

Test(silent, users_miss_no_bytes_and_no_end)
{
    assert_waits(NULL);
    assert_waits(&deaf);
}

Test(silent, users_miss_an_end_without_bytes_only_if_they_want_to)
{
    struct scene scene;

    set_scene(&scene, NULL);
    cr_assert_eq(sluice_stream_finish(scene.right.stream), 0);
    world_settle(&scene.world);
    cr_assert_eq(sluice_stream_read_status(scene.left.stream), SLUICE_READABLE);
    hear_again(&scene);
    cr_assert_eq(scene.left.ends, 1);
    clear_scene(&scene);

    set_scene(&scene, &deaf);
    cr_assert_eq(sluice_stream_finish(scene.right.stream), 0);
    world_settle(&scene.world);
    cr_assert_eq(sluice_stream_read_status(scene.left.stream), SLUICE_READ_CLOSED);
    hear_again(&scene);
    cr_assert_eq(scene.left.ends, 0);
    clear_scene(&scene);
}

static void stop_listening(struct record *record, const struct sluice_view *view)
{
    (void)view;
    record->when_data = NULL;
    sluice_stream_set_events(record->stream, record->story, NULL);
}

/* The user stops listening while more is on its way up from the kernel. */
static void assert_held(const struct sluice_stream_events *events)
{
    enum {
        LEN = 100000,
    };
    uint8_t *bytes = pattern(LEN, 1);
    struct record record;
    struct world world;
    size_t heard;
    int sockets[2];

    world_open(&world, NULL);
    record_init(&record, &world);
    record.when_data = stop_listening;
    record.story = (void *)(uintptr_t)events;
    open_sockets(sockets);
    cr_assert_eq(sluice_fd_stream(world.engine, sockets[0], sockets[0], &record_events, &record, &record.stream), 0);
    world_settle(&world);
    cr_assert_eq(send(sockets[1], bytes, LEN, MSG_DONTWAIT), LEN);
    world_turns_until(&world, record.len > 0, MANY_TURNS);
    heard = record.len;
    world_settle(&world);
    cr_assert_eq(record.len, heard);
    cr_assert_lt(heard, LEN);
    sluice_stream_set_events(record.stream, &record_events, &record);
    world_turns_until(&world, record.len == LEN, MANY_TURNS);
    cr_assert(has_heard(&record, bytes, LEN));
    sluice_stream_abort(record.stream, 0);
    world_turns_until(&world, record.closes, MANY_TURNS);
    close(sockets[1]);
    record_finish(&record);
    world_close_empty(&world);
    free(bytes);
}

Test(silent, users_who_stop_listening_miss_nothing)
{
    assert_held(NULL);
    assert_held(&deaf);
}

/* Nobody is told that there is room again. There is all the same. */
static void assert_drains(const struct sluice_stream_events *events)
{
    static const uint8_t bytes[100];
    struct scene scene;

    set_scene(&scene, events);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, 10, 50, 100), 0);
    cr_assert_eq(sluice_stream_send(scene.left.stream, bytes, 100), SLUICE_FULL);
    world_settle(&scene.world);
    cr_assert_eq(sluice_stream_queued(scene.left.stream), 0);
    cr_assert_eq(sluice_stream_send(scene.left.stream, bytes, 1), SLUICE_ROOM);
    hear_again(&scene);
    cr_assert_eq(scene.right.len, 101);
    cr_assert_eq(scene.left.drains, 0); /* it was of another time */
    clear_scene(&scene);
}

Test(silent, users_send_on_when_there_is_room)
{
    assert_drains(NULL);
    assert_drains(&deaf);
}

/* -- Of layers ----------------------------------------------------------------------------------------------- */

/* Puts a frame layer on the stream of the record. */
static void frame(struct record *record, const struct sluice_stream_events *events)
{
    const struct sluice_frame_options options = {0};

    cr_assert_eq(sluice_frame_stream(record->stream, &options, events, record, &record->stream), 0);
}

/* A layer opens, whether or not it is heard. Only what nobody could hear is told later. */
static void assert_opens(const struct sluice_stream_events *events, unsigned told_later)
{
    struct scene scene;

    world_open(&scene.world, NULL);
    world_pair(&scene.world, &scene.left, &scene.right, 0);
    frame(&scene.left, events);
    frame(&scene.right, &record_events);
    world_settle(&scene.world);
    cr_assert_eq(sluice_stream_state(scene.left.stream), SLUICE_OPEN);
    hear_again(&scene);
    cr_assert_eq(scene.left.opens, told_later);
    cr_assert_eq(scene.right.opens, 1);
    clear_scene(&scene);
}

Test(silent, users_have_layers_that_open)
{
    assert_opens(NULL, 1);
    assert_opens(&deaf, 0);
}

Test(silent, streams_that_have_told_their_end_carry_no_layer)
{
    const struct sluice_frame_options options = {0};
    struct sluice_stream *framed;
    struct scene scene;

    set_scene(&scene, NULL);
    hear_again(&scene);
    cr_assert_eq(sluice_stream_finish(scene.right.stream), 0);
    world_settle(&scene.world);
    cr_assert_eq(scene.left.ends, 1);
    cr_assert_eq(sluice_frame_stream(scene.left.stream, &options, &record_events, &scene.left, &framed), -EPIPE);
    cr_assert_eq(sluice_stream_send(scene.left.stream, "x", 1), SLUICE_ROOM); /* it is as it was */
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.right, "x", 1));
    clear_scene(&scene);
}

static void pause_when_data(struct record *record, const struct sluice_view *view)
{
    (void)view;
    sluice_stream_pause(record->stream);
}

/* What they stand on was reset, and the second of two messages is still held above. */
Test(silent, layers_that_outlive_what_they_stand_on_have_no_address)
{
    char text[SLUICE_ADDRESS_MAX];
    struct scene scene;

    world_open(&scene.world, NULL);
    world_pair(&scene.world, &scene.left, &scene.right, 0);
    frame(&scene.left, &record_events);
    frame(&scene.right, &record_events);
    world_settle(&scene.world);
    cr_assert_eq(sluice_stream_peer_address(scene.left.stream, text, sizeof text), -EOPNOTSUPP);
    scene.left.when_data = pause_when_data;
    send_now(&scene.right, "told", 4);
    send_now(&scene.right, "held", 4);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.left, "told", 4));
    sluice_stream_abort(scene.right.stream, 0);
    world_settle(&scene.world);
    cr_assert_eq(scene.left.closes, 0);
    cr_assert_eq(sluice_stream_peer_address(scene.left.stream, text, sizeof text), -ENOTCONN);
    cr_assert_eq(sluice_stream_resume(scene.left.stream), 0);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.left, "toldheld", 8));
    cr_assert_eq(scene.left.why.error, -ECONNRESET);
    clear_scene(&scene);
}
