/* Reading at the user's pace: pause, resume, hold, and who hears what and when. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/scripted_stream.h"
#include "tests/support/stacks.h"

enum {
    LEN = 50000,
};

struct scene {
    struct world world;
    struct record left;
    struct record right;
    uint8_t *data;
};

static void set_scene(struct scene *scene, const struct stack *stack)
{
    world_open(&scene->world, NULL);
    stack_open_narrow(stack, &scene->world, &scene->left, &scene->right, 1000);
    scene->data = pattern(LEN, stack->seed);
}

static void clear_scene(struct scene *scene)
{
    if (scene->left.stream)
        sluice_stream_abort(scene->left.stream, 0);
    world_until_closed(&scene->world, &scene->left, &scene->right);
    record_finish(&scene->left);
    record_finish(&scene->right);
    free(scene->data);
    world_close_empty(&scene->world);
}

STORY(reading, a_paused_stream_hears_nothing_until_it_resumes)
{
    struct scene scene;

    set_scene(&scene, stack);
    cr_assert_eq(sluice_stream_pause(scene.right.stream), 0);
    cr_assert_eq(sluice_stream_pause(scene.right.stream), 0);
    cr_assert_eq(sluice_stream_read_status(scene.right.stream), SLUICE_READ_PAUSED);
    send_now(&scene.left, scene.data, LEN);
    world_settle(&scene.world);
    cr_assert_eq(scene.right.views, 0);

    cr_assert_eq(sluice_stream_resume(scene.right.stream), 0);
    cr_assert_eq(sluice_stream_read_status(scene.right.stream), SLUICE_READABLE);
    cr_assert_eq(scene.right.views, 0, "held bytes follow in the next pass, not in the call");
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    clear_scene(&scene);
}

static void pause_when_data(struct record *record, const struct sluice_view *view)
{
    (void)view;
    cr_assert_eq(sluice_stream_read_status(record->stream), SLUICE_READABLE);
    cr_assert_eq(sluice_stream_pause(record->stream), 0);
}

STORY(reading, a_pause_within_on_data_holds_from_the_next_view_on)
{
    struct scene scene;
    unsigned views = 0;

    set_scene(&scene, stack);
    scene.right.when_data = pause_when_data;
    send_all(&scene.left, scene.data, LEN, 100);
    while (scene.right.len < LEN) {
        sluice_stream_resume(scene.right.stream);
        world_settle(&scene.world);
        cr_assert_eq(scene.right.views, ++views);
    }
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    clear_scene(&scene);
}

STORY(reading, a_reader_that_pauses_stops_the_writer)
{
    struct scene scene;
    static const uint8_t zeroes[64 * 1024];
    size_t queued = 0;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    /* Each layer below takes up to its high mark and a bit; from then on all stays where it was accepted. */
    for (int i = 0; i < 20; i++) {
        send_now(&scene.left, zeroes, sizeof zeroes);
        queued = sluice_stream_queued(scene.left.stream);
        world_settle(&scene.world);
    }
    cr_assert_eq(sluice_stream_queued(scene.left.stream), queued);
    cr_assert_gt(queued, 10 * sizeof zeroes);
    clear_scene(&scene);
}

STORY(reading, the_end_waits_behind_what_is_held)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, LEN);
    sluice_stream_finish(scene.left.stream);
    world_settle(&scene.world);
    cr_assert_eq(scene.right.ends, 0);
    sluice_stream_resume(scene.right.stream);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    cr_assert_str_eq(scene.right.told, "ve");
    clear_scene(&scene);
}

/* So few that our direction has ended long before they are read. */
STORY(reading, the_end_waits_behind_a_few_bytes_that_are_held)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, 10);
    sluice_stream_finish(scene.left.stream);
    world_settle(&scene.world);
    cr_assert_eq(sluice_stream_write_status(scene.left.stream), SLUICE_WRITE_CLOSED);
    cr_assert_eq(scene.right.ends, 0);
    sluice_stream_resume(scene.right.stream);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.right, scene.data, 10));
    cr_assert_str_eq(scene.right.told, "ve");
    clear_scene(&scene);
}

STORY(reading, a_paused_stream_with_nothing_held_hears_the_end)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    sluice_stream_finish(scene.left.stream);
    world_settle(&scene.world);
    cr_assert_eq(scene.right.ends, 1);
    cr_assert_eq(sluice_stream_read_status(scene.right.stream), SLUICE_READ_CLOSED);
    clear_scene(&scene);
}

/* X5 */
STORY(reading, a_paused_stream_comes_to_an_end_after_the_close_of_its_peer)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, LEN);
    sluice_stream_close(scene.left.stream);
    world_settle(&scene.world);
    cr_assert_eq(scene.right.closes, 0);
    sluice_stream_close(scene.right.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.right, 0, 0);
    assert_closed(&scene.left, 0, 0);
    cr_assert_eq(scene.right.views, 0);
    clear_scene(&scene);
}

STORY(reading, a_paused_stream_closes_when_its_peer_aborts)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    world_settle(&scene.world);
    sluice_stream_abort(scene.left.stream, -EINTR);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.right, -ECONNRESET, 0);
    cr_assert_eq(scene.right.why.side, SLUICE_REMOTE);
    clear_scene(&scene);
}

STORY(reading, a_paused_stream_that_holds_bytes_closes_after_it_resumes_when_its_peer_aborts)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.right.when_data = pause_when_data;
    send_all(&scene.left, scene.data, LEN, 100);
    world_settle(&scene.world);
    sluice_stream_abort(scene.left.stream, -EINTR);
    world_settle(&scene.world);
    scene.right.when_data = NULL;
    if (scene.right.stream)
        sluice_stream_resume(scene.right.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(scene.right.why.error, -ECONNRESET);
    cr_assert_eq(memcmp(scene.right.bytes, scene.data, scene.right.len), 0);
    clear_scene(&scene);
}

STORY(reading, bytes_that_nobody_hears_yet_are_kept_for_whoever_comes)
{
    struct scene scene;
    struct sluice_stream *stream;

    set_scene(&scene, stack);
    stream = scene.right.stream;
    sluice_stream_set_events(stream, NULL, NULL);
    send_now(&scene.left, scene.data, LEN);
    sluice_stream_finish(scene.left.stream);
    world_settle(&scene.world);
    cr_assert_eq(scene.right.views, 0);
    cr_assert_eq(sluice_stream_user(stream), NULL);
    sluice_stream_set_events(stream, &record_events, &scene.right);
    cr_assert_eq(sluice_stream_user(stream), &scene.right);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    cr_assert_str_eq(scene.right.told, "ve");
    clear_scene(&scene);
}

static void hear_only_the_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    record_events.on_close(stream, why, user);
}

STORY(reading, without_on_data_bytes_are_held_and_the_end_waits_behind_them)
{
    static const struct sluice_stream_events only_close = {.on_close = hear_only_the_close};
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_set_events(scene.right.stream, &only_close, &scene.right);
    send_now(&scene.left, scene.data, LEN);
    sluice_stream_finish(scene.left.stream);
    world_settle(&scene.world);
    cr_assert_neq(sluice_stream_read_status(scene.right.stream), SLUICE_READ_CLOSED);
    sluice_stream_set_events(scene.right.stream, &record_events, &scene.right);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    cr_assert_eq(scene.right.ends, 1);
    clear_scene(&scene);
}

STORY(reading, a_stream_that_nobody_hears_may_end_unheard)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_hold(scene.right.stream);
    sluice_stream_set_events(scene.right.stream, NULL, NULL);
    sluice_stream_abort(scene.left.stream, 0);
    world_turns_until(&scene.world, world_stats(&scene.world).streams == 0, MANY_TURNS);
    world_settle(&scene.world);
    cr_assert_eq(scene.right.closes, 0);
    cr_assert_eq(sluice_stream_state(scene.right.stream), SLUICE_CLOSED);
    sluice_stream_release(scene.right.stream);
    scene.right.closes = 1;
    clear_scene(&scene);
}

/* -- The limit of what is held ------------------------------------------------------------------------------- */

Test(reading, what_arrives_for_a_paused_stream_is_held_up_to_the_limit, .timeout = 10)
{
    struct sluice_engine_options options = {.receive_limit = 4096};
    static const uint8_t bytes[1024];
    struct world world;
    struct record user;
    struct scripted *below;

    world_open(&world, &options);
    record_init(&user, &world);
    below = scripted_create(world.engine, SLUICE_OPEN, &record_events, &user);
    user.stream = &below->stream;
    cr_assert(below->wants_data);
    sluice_stream_pause(user.stream);
    cr_assert_not(below->wants_data);
    for (int i = 0; i < 4; i++)
        scripted_receive(below, bytes, sizeof bytes);
    world_settle(&world);
    cr_assert_eq(user.closes, 0, "exactly the limit is held");
    scripted_receive(below, bytes, 1);
    world_settle(&world);
    assert_closed(&user, -ENOBUFS, 0);
    cr_assert_eq(user.why.side, SLUICE_LOCAL);
    cr_assert_eq(user.views, 0);
    record_finish(&user);
    world_close_empty(&world);
}

Test(reading, an_end_waits_behind_what_arrived_before_it, .timeout = 10)
{
    struct world world;
    struct record user;
    struct scripted *below;

    world_open(&world, NULL);
    record_init(&user, &world);
    below = scripted_create(world.engine, SLUICE_OPEN, &record_events, &user);
    user.stream = &below->stream;
    sluice_stream_pause(user.stream);
    scripted_receive(below, "last words", 10);
    scripted_end(below);
    world_settle(&world);
    cr_assert_eq(user.ends, 0);
    sluice_stream_resume(user.stream);
    world_settle(&world);
    cr_assert(has_heard(&user, "last words", 10));
    cr_assert_str_eq(user.told, "ve");
    sluice_stream_close(user.stream);
    world_settle(&world);
    assert_closed(&user, 0, 0);
    record_finish(&user);
    world_close_empty(&world);
}

Test(reading, an_error_waits_behind_what_arrived_before_it, .timeout = 10)
{
    struct world world;
    struct record user;
    struct scripted *below;

    world_open(&world, NULL);
    record_init(&user, &world);
    below = scripted_create(world.engine, SLUICE_OPEN, &record_events, &user);
    user.stream = &below->stream;
    sluice_stream_pause(user.stream);
    scripted_receive(below, "last words", 10);
    scripted_vanish(below, -ECONNRESET);
    world_settle(&world);
    cr_assert_eq(user.closes, 0);
    cr_assert_eq(sluice_stream_send(user.stream, "x", 1), -EPIPE);
    sluice_stream_resume(user.stream);
    world_settle(&world);
    cr_assert(has_heard(&user, "last words", 10));
    assert_closed(&user, -ECONNRESET, 0);
    cr_assert_eq(user.ends, 0);
    record_finish(&user);
    world_close_empty(&world);
}

static void abort_when_data(struct record *record, const struct sluice_view *view)
{
    (void)view;
    sluice_stream_abort(record->stream, -EINTR);
}

static void close_when_data(struct record *record, const struct sluice_view *view)
{
    (void)view;
    sluice_stream_close(record->stream);
}

STORY(reading, nothing_is_told_after_an_abort_within_on_data)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.right.when_data = abort_when_data;
    send_all(&scene.left, scene.data, LEN, 100);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(scene.right.views, 1);
    assert_closed(&scene.right, -EINTR, 0);
    cr_assert_eq(scene.left.why.error, -ECONNRESET, "%s", strerror(-scene.left.why.error));
    clear_scene(&scene);
}

STORY(reading, nothing_but_the_end_of_it_is_told_after_a_close_within_on_data)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.right.when_data = close_when_data;
    scene.left.when_end = close_when_end;
    send_all(&scene.left, scene.data, LEN, 100);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(scene.right.views, 1);
    cr_assert_str_eq(scene.right.told, "vc");
    assert_closed(&scene.right, 0, 0);
    assert_closed(&scene.left, 0, 0);
    clear_scene(&scene);
}
