/*
 * What the framework relays through layers (X20): a property of every stack, so the stacks are chosen at random.
 *
 * Below stands a script, which sees what reaches it; above, a user, which must hear as if there were no layer.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/layer.h"
#include "tests/support/random.h"
#include "tests/support/scripted_stream.h"
#include "tests/support/stacks.h"

enum {
    STACKS = 100,
    DEPTH_MAX = 4,
    LEN = 1000,
};

struct scene {
    char layers[DEPTH_MAX + 1];
    uint64_t random;
    struct world world;
    struct scripted *below;
    struct record user;
};

static void choose_layers(char layers[DEPTH_MAX + 1], uint64_t *random)
{
    size_t depth = 1 + random_below(random, DEPTH_MAX);

    for (size_t i = 0; i < depth; i++)
        layers[i] = "fgrs"[random_below(random, 4)];
    layers[depth] = '\0';
}

static void set_scene(struct scene *scene, enum sluice_state state)
{
    world_open(&scene->world, NULL);
    record_init(&scene->user, &scene->world);
    scene->below = scripted_create(scene->world.engine, state, &record_events, &scene->user);
    sluice_stream_hold(&scene->below->stream);
    scene->user.stream = &scene->below->stream;
    put_layers(scene->layers, &scene->user, &scene->random);
    if (state == SLUICE_CONNECTING)
        return;
    world_settle(&scene->world);
    cr_assert_eq(scene->user.opens, 1);
}

static void complete_all(struct scene *scene)
{
    for (int i = 0; i < 1000 && scene->below->in_flight > 0; i++) {
        scripted_complete(scene->below);
        world_settle(&scene->world);
    }
    cr_assert_eq(scene->below->in_flight, 0);
}

static void clear_scene(struct scene *scene)
{
    if (scene->user.stream)
        sluice_stream_abort(scene->user.stream, 0);
    complete_all(scene);
    world_settle(&scene->world);
    cr_assert_eq(scene->user.closes, 1);
    sluice_stream_release(&scene->below->stream);
    record_finish(&scene->user);
    world_close_empty(&scene->world);
}

static void tell_on_random_stacks(void (*tale)(struct scene *scene))
{
    uint64_t random = random_seed();

    for (int i = 0; i < STACKS; i++) {
        struct scene scene = {.random = random_next(&random)};

        choose_layers(scene.layers, &scene.random);
        fprintf(stderr, "on %s\n", scene.layers);
        tale(&scene);
    }
}

#define RELAY(name)                                                                                                    \
    static void name##_tale(struct scene *scene);                                                                      \
    Test(relays, name, .timeout = 60)                                                                                  \
    {                                                                                                                  \
        tell_on_random_stacks(name##_tale);                                                                            \
    }                                                                                                                  \
    static void name##_tale(struct scene *scene)

static const uint8_t bytes[LEN];

RELAY(open_goes_up)
{
    set_scene(scene, SLUICE_CONNECTING);
    cr_assert_eq(sluice_stream_state(scene->user.stream), SLUICE_CONNECTING);
    world_settle(&scene->world);
    cr_assert_eq(scene->user.opens, 0);
    send_now(&scene->user, bytes, LEN);
    world_settle(&scene->world);
    cr_assert_eq(scene->below->submissions, 0);

    stream_opened(&scene->below->stream);
    world_settle(&scene->world);
    cr_assert_eq(scene->user.opens, 1);
    cr_assert_eq(sluice_stream_state(scene->user.stream), SLUICE_OPEN);
    complete_all(scene);
    cr_assert_geq(scene->below->wire_len, LEN);
    clear_scene(scene);
}

RELAY(a_connection_that_fails_goes_up)
{
    set_scene(scene, SLUICE_CONNECTING);
    send_now(&scene->user, bytes, LEN);
    stream_fail(&scene->below->stream, -ECONNREFUSED, SLUICE_REMOTE);
    world_settle(&scene->world);
    cr_assert_eq(scene->user.opens, 0);
    cr_assert_eq(scene->user.why.error, -ECONNREFUSED);
    cr_assert_eq(scene->user.why.side, SLUICE_REMOTE);
    cr_assert_geq(scene->user.why.unsent, LEN);
    clear_scene(scene);
}

RELAY(pause_and_resume_go_down)
{
    set_scene(scene, SLUICE_OPEN);
    cr_assert(scene->below->wants_data);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(sluice_stream_pause(scene->user.stream), 0);
        world_settle(&scene->world);
        cr_assert_not(scene->below->wants_data, "the stream below is really paused");
        cr_assert_eq(sluice_stream_resume(scene->user.stream), 0);
        world_settle(&scene->world);
        cr_assert(scene->below->wants_data);
    }
    clear_scene(scene);
}

RELAY(a_user_that_hears_no_data_pauses_what_is_below)
{
    set_scene(scene, SLUICE_OPEN);
    sluice_stream_set_events(scene->user.stream, NULL, NULL);
    world_settle(&scene->world);
    cr_assert_not(scene->below->wants_data);
    sluice_stream_set_events(scene->user.stream, &record_events, &scene->user);
    world_settle(&scene->world);
    cr_assert(scene->below->wants_data);
    clear_scene(scene);
}

RELAY(an_opening_that_nobody_heard_is_told_to_whoever_comes)
{
    set_scene(scene, SLUICE_CONNECTING);
    sluice_stream_set_events(scene->user.stream, NULL, NULL);
    stream_opened(&scene->below->stream);
    world_settle(&scene->world);
    cr_assert_eq(sluice_stream_state(scene->user.stream), SLUICE_OPEN);
    cr_assert_eq(scene->user.opens, 0);
    for (int i = 0; i < 2; i++) {
        sluice_stream_set_events(scene->user.stream, &record_events, &scene->user);
        world_settle(&scene->world);
        cr_assert_eq(scene->user.opens, 1);
    }
    clear_scene(scene);
}

RELAY(full_goes_up_and_so_does_the_drain)
{
    set_scene(scene, SLUICE_OPEN);
    /* Every stream of the stack takes little, so that all of them are full. */
    for (struct sluice_stream *stream = scene->user.stream; stream != &scene->below->stream;
         stream = container_of(stream, struct layer, stream)->lower)
        cr_assert_eq(sluice_stream_set_send_limits(stream, 10, 20, 4000), 0);
    cr_assert_eq(sluice_stream_set_send_limits(&scene->below->stream, 10, 20, 4000), 0);
    scene->below->is_full = true;
    for (int i = 0; sluice_stream_queued(scene->user.stream) < 20; i++) {
        cr_assert_lt(i, 20, "nothing stops the user");
        send_now(&scene->user, bytes, 100);
        world_settle(&scene->world);
    }
    scene->user.drains = 0;

    scene->below->is_full = false;
    stream_schedule_flush(&scene->below->stream);
    world_settle(&scene->world);
    complete_all(scene);
    cr_assert_eq(scene->user.drains, 1);
    cr_assert_eq(sluice_stream_queued(scene->user.stream), 0);
    clear_scene(scene);
}

RELAY(half_close_goes_down_behind_the_last_byte)
{
    set_scene(scene, SLUICE_OPEN);
    send_now(&scene->user, bytes, LEN);
    cr_assert_eq(sluice_stream_finish(scene->user.stream), 0);
    world_settle(&scene->world);
    cr_assert_eq(scene->below->finishes, 0);
    complete_all(scene);
    cr_assert_geq(scene->below->wire_len, LEN);
    cr_assert_eq(scene->below->finishes, 1);
    cr_assert_eq(scene->below->closes, 0);
    cr_assert(scene->below->wants_data, "reading goes on");
    cr_assert_eq(scene->user.closes, 0);
    clear_scene(scene);
}

RELAY(the_peers_half_close_goes_up_and_leaves_our_direction_open)
{
    set_scene(scene, SLUICE_OPEN);
    scripted_end(scene->below);
    world_settle(&scene->world);
    cr_assert_eq(scene->user.ends, 1);
    cr_assert_eq(scene->user.closes, 0);
    cr_assert_eq(sluice_stream_write_status(scene->user.stream), SLUICE_WRITABLE);
    send_now(&scene->user, bytes, LEN);
    world_settle(&scene->world);
    complete_all(scene);
    cr_assert_geq(scene->below->wire_len, LEN);
    clear_scene(scene);
}

RELAY(both_half_closes_close_it_all)
{
    set_scene(scene, SLUICE_OPEN);
    sluice_stream_finish(scene->user.stream);
    world_settle(&scene->world);
    scripted_end(scene->below);
    world_settle(&scene->world);
    assert_closed(&scene->user, 0, 0);
    cr_assert_eq(scene->below->closes, 1);
    cr_assert_eq(scene->below->aborts, 0);
    clear_scene(scene);
}

RELAY(close_goes_down_behind_the_last_byte)
{
    set_scene(scene, SLUICE_OPEN);
    send_now(&scene->user, bytes, LEN);
    sluice_stream_close(scene->user.stream);
    world_settle(&scene->world);
    cr_assert_eq(scene->below->closes, 0);
    complete_all(scene);
    cr_assert_geq(scene->below->wire_len, LEN);
    cr_assert_eq(scene->below->finishes, 1);
    cr_assert_eq(scene->below->closes, 1);
    cr_assert(scene->below->wants_data, "what arrives is discarded, not left");
    cr_assert_eq(scene->user.closes, 0, "it closes when the stream below has");
    scripted_end(scene->below);
    world_settle(&scene->world);
    assert_closed(&scene->user, 0, 0);
    cr_assert_eq(scene->user.why.side, SLUICE_LOCAL);
    clear_scene(scene);
}

RELAY(close_of_a_paused_stream_reads_on_below)
{
    set_scene(scene, SLUICE_OPEN);
    sluice_stream_pause(scene->user.stream);
    world_settle(&scene->world);
    sluice_stream_close(scene->user.stream);
    world_settle(&scene->world);
    cr_assert(scene->below->wants_data);
    scripted_end(scene->below);
    world_settle(&scene->world);
    assert_closed(&scene->user, 0, 0);
    clear_scene(scene);
}

RELAY(abort_goes_down_at_once)
{
    set_scene(scene, SLUICE_OPEN);
    scene->below->is_full = true;
    send_now(&scene->user, bytes, LEN);
    world_settle(&scene->world);
    sluice_stream_abort(scene->user.stream, -ETIME);
    cr_assert_eq(scene->below->aborts, 1);
    cr_assert_eq(scene->below->stream.error, -ETIME);
    world_settle(&scene->world);
    cr_assert_eq(scene->below->submissions, 0);
    cr_assert_eq(scene->user.why.error, -ETIME);
    cr_assert_eq(scene->user.why.side, SLUICE_LOCAL);
    cr_assert_geq(scene->user.why.unsent, LEN);
    if (!strchr(scene->layers, 'f'))
        cr_assert_eq(scene->user.why.unsent, LEN);
    clear_scene(scene);
}

RELAY(the_cause_the_side_and_what_was_lost_go_up)
{
    set_scene(scene, SLUICE_OPEN);
    scene->below->is_full = true;
    send_now(&scene->user, bytes, LEN);
    world_settle(&scene->world);
    scripted_vanish(scene->below, -EHOSTUNREACH);
    world_settle(&scene->world);
    cr_assert_eq(scene->user.why.error, -EHOSTUNREACH);
    cr_assert_eq(scene->user.why.side, SLUICE_REMOTE);
    cr_assert_geq(scene->user.why.unsent, LEN);
    if (!strchr(scene->layers, 'f'))
        cr_assert_eq(scene->user.why.unsent, LEN);
    clear_scene(scene);
}

RELAY(the_cause_goes_up_to_a_paused_user)
{
    set_scene(scene, SLUICE_OPEN);
    sluice_stream_pause(scene->user.stream);
    scripted_vanish(scene->below, -EHOSTUNREACH);
    world_settle(&scene->world);
    assert_closed(&scene->user, -EHOSTUNREACH, 0);
    clear_scene(scene);
}

RELAY(addresses_are_those_of_what_is_below)
{
    char text[SLUICE_ADDRESS_MAX];

    set_scene(scene, SLUICE_OPEN);
    cr_assert_eq(sluice_stream_peer_address(scene->user.stream, text, sizeof text), 0);
    cr_assert_str_eq(text, "127.0.0.1:7000");
    cr_assert_eq(sluice_stream_local_address(scene->user.stream, text, sizeof text), 0);
    cr_assert_str_eq(text, "127.0.0.1:7001");
    cr_assert_eq(sluice_stream_peer_address(scene->user.stream, text, 3), -ENOSPC);
    clear_scene(scene);
}

RELAY(what_moves_below_is_activity)
{
    struct sluice_stream *stream;

    set_scene(scene, SLUICE_OPEN);
    stream = scene->user.stream;
    scene->below->submission_max = 1;
    send_now(&scene->user, bytes, LEN);
    world_settle(&scene->world);
    for (int i = 0; i < 10; i++) {
        scripted_complete(scene->below); /* nothing but the lowest queue moves */
        cr_assert_eq(stream->ops->last_active(stream), scene->below->stream.active_at);
        world_settle(&scene->world);
    }
    scene->below->submission_max = 0;
    clear_scene(scene);
}

/* -- Bytes --------------------------------------------------------------------------------------------------- */

/* Both ways at once over a pair, on a stack of its own each time. */
Test(relays, data_and_drains_go_both_ways, .timeout = 60)
{
    enum {
        MUCH = 300 * 1000
    };
    uint64_t random = random_seed();
    uint8_t *data = pattern(MUCH, random);

    for (int i = 0; i < STACKS / 2; i++) {
        char layers[DEPTH_MAX + 1];
        struct stack stack = {.name = "random", .layers = layers, .seed = random_next(&random)};
        struct world world;
        struct record left;
        struct record right;

        choose_layers(layers, &random);
        fprintf(stderr, "on %s\n", layers);
        world_open(&world, NULL);
        stack_open_narrow(&stack, &world, &left, &right, 500 + random_size(&random, 30000));
        send_all(&left, data, MUCH, random_size(&random, 50000) + 50);
        send_all(&right, data, MUCH, random_size(&random, 50000) + 50);
        world_turns_until(&world, has_sent_all(&left) && has_sent_all(&right), MANY_TURNS);
        sluice_stream_finish(left.stream);
        sluice_stream_finish(right.stream);
        world_until_closed(&world, &left, &right);
        cr_assert(has_heard(&left, data, MUCH));
        cr_assert(has_heard(&right, data, MUCH));
        cr_assert_leq(left.drains, left.fulls);
        cr_assert_geq(left.drains + 1, left.fulls, "only the finish spares a drain");
        assert_closed(&left, 0, 0);
        assert_closed(&right, 0, 0);
        record_finish(&left);
        record_finish(&right);
        world_close_empty(&world);
    }
    free(data);
}
