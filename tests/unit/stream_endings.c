/* How streams end: what was accepted is flushed or counted, and on_close comes exactly once and last. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/support/stacks.h"

enum {
    LEN = 300 * 1000,
    NARROW = 1000,
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
    stack_open_narrow(stack, &scene->world, &scene->left, &scene->right, NARROW);
    scene->data = pattern(LEN, stack->seed);
}

static void clear_scene(struct scene *scene)
{
    if (scene->left.stream)
        sluice_stream_abort(scene->left.stream, 0);
    if (scene->right.stream)
        sluice_stream_abort(scene->right.stream, 0);
    world_until_closed(&scene->world, &scene->left, &scene->right);
    record_finish(&scene->left);
    record_finish(&scene->right);
    free(scene->data);
    world_close_empty(&scene->world);
}

/* -- Half-close ---------------------------------------------------------------------------------------------- */

STORY(endings, after_finish_the_peer_hears_the_end_and_may_go_on_sending)
{
    struct scene scene;

    set_scene(&scene, stack);
    send_now(&scene.left, scene.data, LEN);
    cr_assert_eq(sluice_stream_finish(scene.left.stream), 0);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    cr_assert_str_eq(scene.right.told, "ve");
    cr_assert_eq(sluice_stream_write_status(scene.left.stream), SLUICE_WRITE_CLOSED);
    cr_assert_eq(sluice_stream_state(scene.left.stream), SLUICE_OPEN);
    cr_assert_eq(sluice_stream_state(scene.right.stream), SLUICE_OPEN);

    send_now(&scene.right, scene.data, LEN);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.left, scene.data, LEN));
    cr_assert_eq(scene.left.ends, 0);

    cr_assert_eq(sluice_stream_finish(scene.right.stream), 0);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_str_eq(scene.left.told, "vec");
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    clear_scene(&scene);
}

STORY(endings, both_may_finish_at_once)
{
    struct scene scene;

    set_scene(&scene, stack);
    send_now(&scene.left, scene.data, LEN);
    send_now(&scene.right, scene.data, LEN);
    sluice_stream_finish(scene.left.stream);
    sluice_stream_finish(scene.right.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    cr_assert(has_heard(&scene.left, scene.data, LEN));
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    clear_scene(&scene);
}

static void send_and_finish_when_end(struct record *record)
{
    send_now(record, "and that was all", 16);
    cr_assert_eq(sluice_stream_finish(record->stream), 0);
}

STORY(endings, an_answer_may_follow_the_end_of_the_question)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.right.when_end = send_and_finish_when_end;
    sluice_stream_finish(scene.left.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert(has_heard(&scene.left, "and that was all", 16));
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    clear_scene(&scene);
}

/* X9 */
STORY(endings, the_peers_end_does_not_discard_what_we_have_queued)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, LEN);
    world_settle(&scene.world);
    sluice_stream_finish(scene.right.stream);
    world_settle(&scene.world);
    cr_assert_eq(scene.left.ends, 1);
    sluice_stream_resume(scene.right.stream);
    world_settle(&scene.world);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    clear_scene(&scene);
}

/* -- Close --------------------------------------------------------------------------------------------------- */

STORY(endings, a_close_flushes_everything_to_a_slow_reader)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    scene.right.when_end = close_when_end;
    for (int i = 0; i < 3; i++)
        send_now(&scene.left, scene.data + i * (LEN / 3), LEN / 3);
    sluice_stream_close(scene.left.stream);
    cr_assert_eq(sluice_stream_state(scene.left.stream), SLUICE_CLOSING);
    cr_assert_eq(sluice_stream_write_status(scene.left.stream), SLUICE_WRITE_CLOSING);
    world_settle(&scene.world);
    while (scene.right.len < LEN) {
        cr_assert_eq(scene.left.closes, 0);
        sluice_stream_resume(scene.right.stream);
        world_turn(&scene.world);
        if (scene.right.stream && scene.right.ends == 0)
            sluice_stream_pause(scene.right.stream);
    }
    if (scene.right.stream)
        sluice_stream_resume(scene.right.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    cr_assert_eq(scene.left.why.side, SLUICE_LOCAL);
    cr_assert_str_eq(scene.left.told, "c");
    clear_scene(&scene);
}

STORY(endings, a_close_discards_what_still_arrives)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.right.when_end = close_when_end;
    send_now(&scene.right, scene.data, LEN);
    sluice_stream_close(scene.left.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    cr_assert_eq(scene.left.views, 0);
    clear_scene(&scene);
}

STORY(endings, both_may_close_at_once)
{
    struct scene scene;

    set_scene(&scene, stack);
    send_now(&scene.left, scene.data, LEN);
    send_now(&scene.right, scene.data, LEN);
    sluice_stream_close(scene.left.stream);
    sluice_stream_close(scene.right.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    cr_assert_str_eq(scene.left.told, "c");
    clear_scene(&scene);
}

STORY(endings, a_third_close_is_as_good_as_one)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.right.when_end = close_when_end;
    send_now(&scene.left, scene.data, LEN);
    for (int i = 0; i < 3; i++)
        sluice_stream_close(scene.left.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    clear_scene(&scene);
}

static void close_again(struct record *record)
{
    sluice_stream_close(record->stream);
    sluice_stream_abort(record->stream, -EINTR);
    cr_assert_eq(sluice_stream_send(record->stream, "x", 1), -EPIPE);
    cr_assert_eq(sluice_stream_finish(record->stream), -EPIPE);
    cr_assert_eq(sluice_stream_pause(record->stream), -EPIPE);
    cr_assert_eq(sluice_stream_resume(record->stream), -EPIPE);
}

STORY(endings, within_on_close_a_stream_may_still_be_named)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.left.when_close = close_again;
    scene.right.when_close = close_again;
    sluice_stream_close(scene.left.stream);
    sluice_stream_close(scene.right.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    clear_scene(&scene);
}

/* -- Abort --------------------------------------------------------------------------------------------------- */

STORY(endings, an_abort_counts_what_was_queued_and_resets_the_peer)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, LEN);
    world_settle(&scene.world);
    sluice_stream_abort(scene.left.stream, -ETIME);
    cr_assert_eq(scene.left.closes, 0, "on_close comes from a turn");
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(scene.left.why.error, -ETIME);
    cr_assert_eq(scene.left.why.side, SLUICE_LOCAL);
    cr_assert_geq(scene.left.why.unsent, LEN - 2 * NARROW - 64 * 1024);
    cr_assert_eq(scene.right.why.error, -ECONNRESET);
    cr_assert_eq(scene.right.why.side, SLUICE_REMOTE);
    clear_scene(&scene);
}

Test(endings, an_abort_counts_to_the_byte, .timeout = 10)
{
    static const struct stack bare = {.name = "a pair", .layers = ""};
    struct scene scene;

    set_scene(&scene, &bare);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, LEN);
    world_settle(&scene.world);
    cr_assert_eq(sluice_stream_queued(scene.left.stream), LEN - NARROW);
    sluice_stream_abort(scene.left.stream, 0);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, -ECONNABORTED, LEN - NARROW);
    clear_scene(&scene);
}

STORY(endings, the_first_abort_wins)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_abort(scene.left.stream, -ETIME);
    sluice_stream_abort(scene.left.stream, -EINTR);
    sluice_stream_close(scene.left.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, -ETIME, 0);
    clear_scene(&scene);
}

static void *abort_from_elsewhere(void *stream)
{
    sluice_stream_abort(stream, -ETIME);
    return NULL;
}

STORY(endings, the_first_abort_wins_though_it_is_still_on_its_way_from_another_thread)
{
    struct scene scene;
    pthread_t thread;

    set_scene(&scene, stack);
    cr_assert_eq(pthread_create(&thread, NULL, abort_from_elsewhere, scene.left.stream), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    sluice_stream_abort(scene.left.stream, -EINTR);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, -ETIME, 0);
    clear_scene(&scene);
}

static void abort_elsewhere_and_close(struct record *record, const struct sluice_view *view)
{
    pthread_t thread;

    (void)view;
    cr_assert_eq(pthread_create(&thread, NULL, abort_from_elsewhere, record->stream), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    sluice_stream_close(record->stream);
}

/* The abort comes with the next turn, and there is more to tell in this one. */
STORY(endings, nothing_is_told_behind_a_close_though_another_thread_aborted_first)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.left.when_data = abort_elsewhere_and_close;
    send_now(&scene.right, scene.data, LEN);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(scene.left.views, 1);
    assert_closed(&scene.left, -ETIME, 0);
    clear_scene(&scene);
}

static void post_and_abort(struct record *record, const struct sluice_view *view)
{
    (void)view;
    cr_assert_eq(sluice_stream_post_send(record->stream, "ten bytes.", 10), 0);
    sluice_stream_abort(record->stream, -ETIME);
}

/* The end is told within the turn, and posts are run at the beginning of the next. */
STORY(endings, what_was_posted_and_has_not_arrived_is_counted)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.left.when_data = post_and_abort;
    send_now(&scene.right, "x", 1);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, -ETIME, 10);
    clear_scene(&scene);
}

/* X3 */
STORY(endings, an_abort_cuts_a_close_short)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, LEN);
    sluice_stream_close(scene.left.stream);
    world_settle(&scene.world);
    cr_assert_eq(scene.left.closes, 0);
    sluice_stream_abort(scene.left.stream, -ETIME);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(scene.left.why.error, -ETIME);
    cr_assert_gt(scene.left.why.unsent, 0);
    cr_assert_eq(scene.right.why.error, -ECONNRESET);
    clear_scene(&scene);
}

STORY(endings, an_abort_without_a_word_ever_sent_is_told_once)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_abort(scene.left.stream, 1234);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, -ECONNABORTED, 0);
    assert_closed(&scene.right, -ECONNRESET, 0);
    clear_scene(&scene);
}

STORY(endings, what_stands_on_a_stream_that_is_opening_may_be_cancelled)
{
    struct world world;
    struct record left;
    struct record right;
    uint64_t seed = stack->seed;

    world_open(&world, NULL);
    world_pair(&world, &left, &right, 0);
    put_layers(stack->layers, &left, &seed);
    put_layers(stack->layers, &right, &seed);
    sluice_stream_close(left.stream);
    right.when_end = close_when_end;
    world_until_closed(&world, &left, &right);
    cr_assert_eq(left.why.error, *stack->layers ? -ECANCELED : 0);
    cr_assert_eq(left.opens, 0);
    record_finish(&left);
    record_finish(&right);
    world_close_empty(&world);
}

STORY(endings, what_was_sent_while_opening_is_flushed_by_a_close)
{
    struct world world;
    struct record left;
    struct record right;
    uint64_t seed = stack->seed;

    world_open(&world, NULL);
    world_pair(&world, &left, &right, 3);
    put_layers(stack->layers, &left, &seed);
    put_layers(stack->layers, &right, &seed);
    send_now(&left, "early", 5);
    sluice_stream_close(left.stream);
    right.when_end = close_when_end;
    world_until_closed(&world, &left, &right);
    assert_closed(&left, 0, 0);
    assert_closed(&right, 0, 0);
    cr_assert(has_heard(&right, "early", 5));
    cr_assert_str_eq(left.told, "c");
    record_finish(&left);
    record_finish(&right);
    world_close_empty(&world);
}

/* -- Every ordering (X4) ------------------------------------------------------------------------------------- */

enum step {
    CLOSE,
    ABORT,
    FINISH,
    PEER_CLOSE,
    PEER_ABORT,
    PEER_FINISH,
    STEPS,
};

static void take_step(struct scene *scene, enum step step)
{
    struct record *who = step < PEER_CLOSE ? &scene->left : &scene->right;

    if (!who->stream)
        return;
    switch (step % PEER_CLOSE) {
    case CLOSE:
        sluice_stream_close(who->stream);
        break;
    case ABORT:
        sluice_stream_abort(who->stream, -ETIME);
        break;
    default:
        sluice_stream_finish(who->stream);
    }
}

/* An end is in order: it is graceful if nobody aborted, and whoever aborted first knows that it did. */
static void assert_ended_in_order(const struct scene *scene, bool is_graceful)
{
    const int left = scene->left.why.error;
    const int right = scene->right.why.error;

    if (is_graceful) {
        assert_closed(&scene->left, 0, 0);
        assert_closed(&scene->right, 0, 0);
        return;
    }
    cr_assert(left == 0 || left == -ETIME || left == -ECONNRESET, "left: %d", left);
    cr_assert(right == 0 || right == -ETIME || right == -ECONNRESET, "right: %d", right);
    cr_assert(left == -ETIME || right == -ETIME || (left == 0 && right == 0), "%d and %d", left, right);
}

/*
 * Takes the steps in this order, a turn apart or all in one, with bytes queued on both sides or none. Whoever is open
 * after that is closed, and so the story ends.
 */
static void tell_ordering(const struct stack *stack, const enum step *steps, int count, bool has_turns, bool has_bytes)
{
    struct scene scene;
    bool is_graceful = true;

    set_scene(&scene, stack);
    if (has_bytes) {
        send_now(&scene.left, scene.data, 3 * NARROW);
        send_now(&scene.right, scene.data, 3 * NARROW);
    }
    for (int i = 0; i < count; i++) {
        is_graceful = is_graceful && steps[i] % PEER_CLOSE != ABORT;
        take_step(&scene, steps[i]);
        if (has_turns)
            world_turn(&scene.world);
    }
    take_step(&scene, CLOSE);
    take_step(&scene, PEER_CLOSE);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_ended_in_order(&scene, is_graceful);
    clear_scene(&scene);
}

static void tell_orderings(const struct stack *stack, bool has_turns, bool has_bytes)
{
    for (enum step first = 0; first < STEPS; first++)
        for (enum step second = 0; second < STEPS; second++)
            for (enum step third = 0; third < STEPS; third++) {
                enum step steps[] = {first, second, third};
                int count = first == second ? 1 : second == third ? 2 : 3;

                tell_ordering(stack, steps, count, has_turns, has_bytes);
            }
}

STORY(orderings, of_ends_in_one_turn_tell_on_close_once_and_last)
{
    tell_orderings(stack, false, false);
}

STORY(orderings, of_ends_a_turn_apart_tell_on_close_once_and_last)
{
    tell_orderings(stack, true, false);
}

STORY(orderings, of_ends_with_bytes_on_their_way_tell_on_close_once_and_last)
{
    tell_orderings(stack, false, true);
}

STORY(orderings, of_ends_a_turn_apart_with_bytes_on_their_way_tell_on_close_once_and_last)
{
    tell_orderings(stack, true, true);
}

/* -- After the end ------------------------------------------------------------------------------------------- */

/* X6 */
STORY(endings, nothing_is_kept_of_a_closed_stream)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, LEN);
    send_now(&scene.right, scene.data, LEN);
    world_settle(&scene.world);
    cr_assert_gt(world_stats(&scene.world).queued_bytes, 0);
    cr_assert_gt(world_stats(&scene.world).streams, 0);
    sluice_stream_abort(scene.left.stream, 0);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(world_stats(&scene.world).queued_bytes, 0);
    cr_assert_eq(world_stats(&scene.world).streams, 0);
    clear_scene(&scene);
}

STORY(endings, a_held_stream_answers_after_its_close)
{
    struct scene scene;
    struct sluice_stream *stream;
    char text[SLUICE_ADDRESS_MAX];

    set_scene(&scene, stack);
    stream = scene.left.stream;
    sluice_stream_hold(stream);
    sluice_stream_hold(stream);
    sluice_stream_abort(stream, -ETIME);
    world_until_closed(&scene.world, &scene.left, &scene.right);

    cr_assert_eq(sluice_stream_state(stream), SLUICE_CLOSED);
    cr_assert_eq(sluice_stream_write_status(stream), SLUICE_WRITE_CLOSED);
    cr_assert_eq(sluice_stream_read_status(stream), SLUICE_READ_CLOSED);
    cr_assert_eq(sluice_stream_queued(stream), 0);
    cr_assert_eq(sluice_stream_send(stream, "x", 1), -EPIPE);
    cr_assert_eq(sluice_stream_post_send(stream, "x", 1), -EPIPE);
    cr_assert_eq(sluice_stream_finish(stream), -EPIPE);
    cr_assert_eq(sluice_stream_pause(stream), -EPIPE);
    cr_assert_eq(sluice_stream_resume(stream), -EPIPE);
    cr_assert_eq(sluice_stream_peer_address(stream, text, sizeof text), -ENOTCONN);
    sluice_stream_close(stream);
    sluice_stream_abort(stream, -EINTR);
    sluice_stream_set_events(stream, NULL, NULL);
    sluice_stream_set_idle_timeout(stream, 1);
    world_settle(&scene.world);
    assert_closed(&scene.left, -ETIME, 0);

    sluice_stream_release(stream);
    cr_assert_eq(sluice_stream_state(stream), SLUICE_CLOSED);
    sluice_stream_release(stream);
    clear_scene(&scene);
}

STORY(endings, a_held_stream_answers_after_its_engine_is_gone)
{
    struct scene scene;
    struct sluice_stream *stream;

    set_scene(&scene, stack);
    stream = scene.left.stream;
    sluice_stream_hold(stream);
    world_close(&scene.world);
    cr_assert_eq(scene.left.why.error, -ECANCELED);
    cr_assert_eq(scene.right.why.error, -ECANCELED);
    cr_assert_eq(sluice_stream_state(stream), SLUICE_CLOSED);
    cr_assert_eq(sluice_stream_write_status(stream), SLUICE_WRITE_CLOSED);
    cr_assert_eq(sluice_stream_post_send(stream, "x", 1), -EPIPE);
    sluice_stream_abort(stream, -EINTR);
    sluice_stream_release(stream);
    record_finish(&scene.left);
    record_finish(&scene.right);
    free(scene.data);
}

STORY(endings, the_end_of_the_engine_is_told_to_every_stream)
{
    struct scene scene;

    set_scene(&scene, stack);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, LEN);
    world_settle(&scene.world);
    world_close(&scene.world);
    cr_assert_eq(scene.left.closes, 1);
    cr_assert_eq(scene.left.why.error, -ECANCELED);
    cr_assert_eq(scene.left.why.side, SLUICE_LOCAL);
    cr_assert_gt(scene.left.why.unsent, LEN / 3);
    cr_assert_eq(scene.right.closes, 1);
    record_finish(&scene.left);
    record_finish(&scene.right);
    free(scene.data);
}

STORY(endings, of_a_hundred_streams_leave_the_others_open)
{
    enum {
        COUNT = 100
    };
    struct world world;
    struct record left[COUNT];
    struct record right[COUNT];

    world_open(&world, NULL);
    for (int i = 0; i < COUNT; i++) {
        stack_open(stack, &world, &left[i], &right[i]);
        right[i].when_data = echo_when_data;
        right[i].when_end = close_when_end;
    }
    for (int i = 0; i < COUNT; i++) {
        for (int j = i; j < COUNT; j++)
            send_now(&left[j], "x", 1);
        sluice_stream_close(left[i].stream);
        world_until_closed(&world, &left[i], &right[i]);
        cr_assert_eq(right[i].len, (size_t)i + 1);
        assert_closed(&left[i], 0, 0);
        record_finish(&left[i]);
        record_finish(&right[i]);
    }
    world_close_empty(&world);
}
