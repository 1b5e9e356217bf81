/* Sends that are refused: each for its reason, and with nothing taken. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/support/glass_layer.h"
#include "tests/support/stacks.h"

enum {
    LEN = 1000,
};

static const uint8_t bytes[4 * LEN];

struct scene {
    struct world world;
    struct record left;
    struct record right;
};

static void set_scene(struct scene *scene, const struct stack *stack, const struct sluice_engine_options *options)
{
    world_open(&scene->world, options);
    stack_open(stack, &scene->world, &scene->left, &scene->right);
}

static void clear_scene(struct scene *scene)
{
    sluice_stream_abort(scene->left.stream, 0);
    world_until_closed(&scene->world, &scene->left, &scene->right);
    record_finish(&scene->left);
    record_finish(&scene->right);
    world_close_empty(&scene->world);
}

/* Each way to send is refused with this, and takes nothing. */
static void assert_refused(struct scene *scene, size_t len, int error)
{
    struct sluice_stream *stream = scene->left.stream;
    struct iovec halves[] = {
        {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len / 2},
        {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len - len / 2},
    };
    struct sluice_buffer buffer = {.references = 1};
    struct sluice_view view = {.data = bytes, .len = len, .buffer = &buffer};
    size_t queued = sluice_stream_queued(stream);

    cr_assert_eq(sluice_stream_send(stream, bytes, len), error);
    cr_assert_eq(sluice_stream_send_vector(stream, halves, 2), error);
    cr_assert_eq(sluice_stream_send_view(stream, &view), error);
    cr_assert_eq(buffer.references, 1);
    cr_assert_eq(sluice_stream_queued(stream), queued);
}

STORY(refusals, after_finish_nothing_is_taken)
{
    struct scene scene;

    set_scene(&scene, stack, NULL);
    cr_assert_eq(sluice_stream_write_status(scene.left.stream), SLUICE_WRITABLE);
    cr_assert_eq(sluice_stream_finish(scene.left.stream), 0);
    cr_assert_eq(sluice_stream_write_status(scene.left.stream), SLUICE_WRITE_CLOSING);
    assert_refused(&scene, LEN, -EPIPE);
    assert_refused(&scene, 0, -EPIPE);
    cr_assert_eq(sluice_stream_finish(scene.left.stream), -EPIPE);
    world_settle(&scene.world);
    cr_assert_eq(sluice_stream_write_status(scene.left.stream), SLUICE_WRITE_CLOSED);
    assert_refused(&scene, LEN, -EPIPE);
    cr_assert_eq(sluice_stream_finish(scene.left.stream), -EPIPE);
    clear_scene(&scene);
}

STORY(refusals, after_close_nothing_is_taken)
{
    struct scene scene;

    set_scene(&scene, stack, NULL);
    sluice_stream_close(scene.left.stream);
    assert_refused(&scene, LEN, -EPIPE);
    cr_assert_eq(sluice_stream_finish(scene.left.stream), -EPIPE);
    cr_assert_eq(sluice_stream_pause(scene.left.stream), -EPIPE);
    cr_assert_eq(sluice_stream_resume(scene.left.stream), -EPIPE);
    clear_scene(&scene);
}

STORY(refusals, after_abort_nothing_is_taken)
{
    struct scene scene;

    set_scene(&scene, stack, NULL);
    sluice_stream_abort(scene.left.stream, -EINTR);
    cr_assert_eq(sluice_stream_write_status(scene.left.stream), SLUICE_WRITE_CLOSED);
    assert_refused(&scene, LEN, -EPIPE);
    cr_assert_eq(sluice_stream_finish(scene.left.stream), -EPIPE);
    cr_assert_eq(sluice_stream_pause(scene.left.stream), -EPIPE);
    clear_scene(&scene);
}

STORY(refusals, beyond_the_limit_nothing_is_taken)
{
    struct scene scene;

    set_scene(&scene, stack, NULL);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, LEN, 2 * LEN, 3 * LEN), 0);
    assert_refused(&scene, 3 * LEN + 1, -ENOBUFS);
    cr_assert_eq(send_now(&scene.left, bytes, LEN), SLUICE_ROOM);
    cr_assert_eq(send_now(&scene.left, bytes, LEN), SLUICE_FULL);
    assert_refused(&scene, LEN + 1, -ENOBUFS);
    cr_assert_eq(send_now(&scene.left, bytes, LEN / 2), SLUICE_FULL);
    world_settle(&scene.world);
    cr_assert_eq(scene.left.drains, 1);
    cr_assert_eq(scene.right.len, 2 * LEN + LEN / 2);
    clear_scene(&scene);
}

/* The header says of -ENOBUFS: wait for on_drain. So it must come, although nobody was told FULL. */
STORY(refusals, beyond_the_limit_are_followed_by_a_drain)
{
    struct scene scene;

    set_scene(&scene, stack, NULL);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, LEN / 2, 2 * LEN, 2 * LEN), 0);
    cr_assert_eq(send_now(&scene.left, bytes, LEN), SLUICE_ROOM);
    assert_refused(&scene, 2 * LEN, -ENOBUFS);
    world_settle(&scene.world);
    cr_assert_eq(scene.left.drains, 1);
    clear_scene(&scene);
}

STORY(refusals, beyond_the_budget_of_the_engine_nothing_is_taken)
{
    struct sluice_engine_options options = {
        .memory_budget = 64 * 1024, .send_limit = 64 * 1024, .send_high_mark = 60 * 1024};
    static const uint8_t much[40 * 1024];
    struct scene scene;
    struct record other[2];

    if (strchr(stack->layers, 's'))
        return; /* copies on its way down, for which there must be room as well */
    set_scene(&scene, stack, &options);
    stack_open(stack, &scene.world, &other[0], &other[1]);
    cr_assert_eq(send_now(&other[0], much, sizeof much), SLUICE_ROOM);
    cr_assert_geq(world_stats(&scene.world).queued_bytes, sizeof much);
    cr_assert_eq(sluice_stream_send(scene.left.stream, much, sizeof much), -ENOBUFS);
    cr_assert_eq(send_now(&scene.left, bytes, LEN), SLUICE_ROOM);

    world_settle(&scene.world);
    cr_assert_eq(other[1].len, sizeof much);
    cr_assert_eq(send_now(&scene.left, much, sizeof much), SLUICE_ROOM);
    world_settle(&scene.world);
    cr_assert_eq(scene.right.len, LEN + sizeof much);
    sluice_stream_abort(other[0].stream, 0);
    world_until_closed(&scene.world, &other[0], &other[1]);
    record_finish(&other[0]);
    record_finish(&other[1]);
    clear_scene(&scene);
}

STORY(refusals, of_marks_that_make_no_sense_change_nothing)
{
    struct scene scene;

    set_scene(&scene, stack, NULL);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, 10, 20, 30), 0);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, 20, 20, 30), -EINVAL);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, 21, 20, 30), -EINVAL);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, 10, 31, 30), -EINVAL);
    assert_refused(&scene, 31, -ENOBUFS);
    cr_assert_eq(send_now(&scene.left, bytes, 20), SLUICE_FULL);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, 0, 1, 1), 0);
    clear_scene(&scene);
}

STORY(refusals, a_new_low_mark_that_is_reached_already_drains)
{
    struct scene scene;

    world_open(&scene.world, NULL);
    stack_open_narrow(stack, &scene.world, &scene.left, &scene.right, 100);
    sluice_stream_pause(scene.right.stream);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, 0, 1, 1000 * LEN), 0);
    for (int i = 0; sluice_stream_queued(scene.left.stream) < LEN; i++) {
        cr_assert_lt(i, 1000);
        send_now(&scene.left, bytes, LEN);
        world_settle(&scene.world);
    }
    scene.left.drains = 0;
    cr_assert_eq(send_now(&scene.left, bytes, 1), SLUICE_FULL);
    world_settle(&scene.world);
    cr_assert_eq(scene.left.drains, 0);
    cr_assert_eq(sluice_stream_set_send_limits(scene.left.stream, 999 * LEN, 1000 * LEN, 1000 * LEN), 0);
    cr_assert_eq(scene.left.drains, 0);
    world_settle(&scene.world);
    cr_assert_eq(scene.left.drains, 1);
    clear_scene(&scene);
}

Test(refusals, messages_over_their_limit_are_not_taken, .timeout = 10)
{
    static const struct stack framed = {.name = "frame", .layers = "f"};
    static const uint8_t long_message[1024 * 1024 + 1];
    struct scene scene;

    set_scene(&scene, &framed, NULL);
    cr_assert_eq(sluice_stream_send(scene.left.stream, long_message, sizeof long_message), -EMSGSIZE);
    cr_assert_eq(sluice_stream_queued(scene.left.stream), 0);
    cr_assert_eq(sluice_stream_post_send(scene.left.stream, long_message, sizeof long_message), -EMSGSIZE);
    clear_scene(&scene);
}

Test(refusals, no_layer_stands_on_a_stream_that_is_ending, .timeout = 10)
{
    static const struct stack bare = {.name = "a pair", .layers = ""};
    struct scene scene;
    struct sluice_stream *layer;

    set_scene(&scene, &bare, NULL);
    sluice_stream_finish(scene.left.stream);
    cr_assert_eq(glass_stream(scene.left.stream, &record_events, &scene.left, &layer), -EPIPE);
    cr_assert_eq(sluice_frame_stream(scene.left.stream, NULL, &record_events, &scene.left, &layer), -EPIPE);
    world_settle(&scene.world);
    cr_assert_eq(scene.right.ends, 1);
    cr_assert_eq(glass_stream(scene.right.stream, &record_events, &scene.right, &layer), -EPIPE);
    send_now(&scene.right, "still", 5);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.left, "still", 5));
    clear_scene(&scene);
}
