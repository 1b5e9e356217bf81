/* Time and streams: idle timeouts, and how long a closing stream waits for its peer. No story depends on how long. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/support/stacks.h"

enum {
    LEN = 300 * 1000,
    NARROW = 1000,
    SHORT_NS = 20 * MS,
};

struct scene {
    struct world world;
    struct record left;
    struct record right;
    uint8_t *data;
};

static void set_scene(struct scene *scene, const struct stack *stack, const struct sluice_engine_options *options)
{
    world_open(&scene->world, options);
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

STORY(time, an_idle_stream_fails)
{
    struct scene scene;

    set_scene(&scene, stack, NULL);
    sluice_stream_set_idle_timeout(scene.left.stream, SHORT_NS);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    assert_closed(&scene.left, -ETIMEDOUT, 0);
    cr_assert_eq(scene.left.why.side, SLUICE_LOCAL);
    cr_assert_eq(scene.right.why.error, -ECONNRESET);
    clear_scene(&scene);
}

STORY(time, every_stream_of_an_engine_may_have_an_idle_timeout)
{
    struct sluice_engine_options options = {.idle_timeout_ns = SHORT_NS};
    struct scene scene;

    set_scene(&scene, stack, &options);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert(scene.left.why.error == -ETIMEDOUT || scene.right.why.error == -ETIMEDOUT);
    clear_scene(&scene);
}

struct later {
    struct sluice_timer timer;
    bool has_come;
};

static void come(struct sluice_timer *timer)
{
    ((struct later *)timer)->has_come = true;
}

STORY(time, an_idle_timeout_may_be_taken_back)
{
    struct sluice_engine_options options = {.idle_timeout_ns = 5000 * (uint64_t)MS};
    struct later later = {.timer.fire = come};
    struct scene scene;

    set_scene(&scene, stack, &options);
    sluice_stream_set_idle_timeout(scene.left.stream, SHORT_NS);
    sluice_stream_set_idle_timeout(scene.left.stream, 0);
    sluice_timer_start(scene.world.engine, &later.timer, 3 * SHORT_NS);
    world_turns_until(&scene.world, later.has_come, MANY_TURNS);
    cr_assert_eq(scene.left.closes, 0);
    clear_scene(&scene);
}

/* Whoever holds the upper end of a stack may not name what is below it. */
STORY(time, an_idle_timeout_of_all_is_taken_back_for_the_whole_stack)
{
    struct sluice_engine_options options = {.idle_timeout_ns = 1000 * (uint64_t)MS};
    struct later later = {.timer.fire = come};
    struct scene scene;

    if (strlen(stack->layers) > 1)
        return;
    set_scene(&scene, stack, &options);
    sluice_stream_set_idle_timeout(scene.left.stream, 0);
    sluice_stream_set_idle_timeout(scene.right.stream, 0);
    sluice_timer_start(scene.world.engine, &later.timer, 1500 * (uint64_t)MS);
    world_turns_until(&scene.world, later.has_come, 100 * MANY_TURNS);
    cr_assert_eq(scene.left.closes, 0);
    cr_assert_eq(scene.right.closes, 0);
    clear_scene(&scene);
}

struct ticking {
    struct sluice_timer timer;
    struct scene *scene;
    unsigned ticks;
};

/* Sends a byte, or takes one, long before the timeout. */
static void tick(struct sluice_timer *timer)
{
    struct ticking *ticking = (struct ticking *)timer;

    ticking->ticks++;
    send_now(&ticking->scene->left, "x", 1);
    sluice_timer_start(ticking->scene->world.engine, timer, 1 * MS);
}

/* A second is long enough that nobody stops for it between two ticks. */
STORY(time, a_stream_whose_bytes_move_is_not_idle)
{
    struct sluice_engine_options options = {.idle_timeout_ns = 1000 * (uint64_t)MS};
    struct ticking ticking = {.timer.fire = tick};
    struct scene scene;

    if (strlen(stack->layers) > 1)
        return;
    set_scene(&scene, stack, &options);
    ticking.scene = &scene;
    sluice_timer_start(scene.world.engine, &ticking.timer, 0);
    world_turns_until(&scene.world, ticking.ticks > 1200, 100 * MANY_TURNS);
    cr_assert_eq(scene.left.closes, 0, "sending is activity");
    cr_assert_eq(scene.right.closes, 0, "receiving is activity");
    sluice_timer_stop(scene.world.engine, &ticking.timer);
    clear_scene(&scene);
}

STORY(time, a_close_gives_up_on_a_peer_that_never_reads)
{
    struct sluice_engine_options options = {.linger_ns = SHORT_NS};
    struct scene scene;

    set_scene(&scene, stack, &options);
    sluice_stream_pause(scene.right.stream);
    send_now(&scene.left, scene.data, LEN);
    sluice_stream_close(scene.left.stream);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(scene.left.why.error, -ETIMEDOUT);
    cr_assert_eq(scene.left.why.side, SLUICE_LOCAL);
    if (!strchr(stack->layers, 'f'))
        cr_assert_eq(scene.left.why.unsent, LEN - NARROW);
    cr_assert_geq(scene.left.why.unsent, LEN - NARROW);
    cr_assert_eq(scene.right.why.error, -ECONNRESET);
    clear_scene(&scene);
}

STORY(time, a_close_waits_for_the_peers_end_only_so_long)
{
    struct sluice_engine_options options = {.linger_ns = SHORT_NS};
    struct scene scene;

    set_scene(&scene, stack, &options);
    send_now(&scene.left, scene.data, LEN);
    sluice_stream_close(scene.left.stream);
    world_turns_until(&scene.world, scene.left.closes == 1, MANY_TURNS);
    assert_closed(&scene.left, 0, 0);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    cr_assert_eq(scene.right.ends, 1);
    cr_assert_eq(scene.right.closes, 0);
    /* Whoever still sends finds out. */
    for (int i = 0; scene.right.closes == 0 && i < 1000; i++) {
        sluice_stream_send(scene.right.stream, "?", 1);
        world_turn(&scene.world);
    }
    cr_assert_eq(scene.right.closes, 1);
    cr_assert(scene.right.why.error == -EPIPE || scene.right.why.error == -ECONNRESET);
    clear_scene(&scene);
}

/* Takes a view each few milliseconds, though much less often than it could. */
struct slow {
    struct sluice_timer timer;
    struct scene *scene;
};

static void pause_when_data(struct record *record, const struct sluice_view *view)
{
    (void)view;
    sluice_stream_pause(record->stream);
}

static void take_one(struct sluice_timer *timer)
{
    const struct slow *slow = (struct slow *)timer;

    if (slow->scene->right.stream)
        sluice_stream_resume(slow->scene->right.stream);
    sluice_timer_start(slow->scene->world.engine, timer, 3 * MS);
}

/* The whole takes several times the linger time; each step takes a small part of it. */
STORY(time, a_peer_that_reads_slowly_for_longer_than_the_linger_time_loses_nothing)
{
    struct sluice_engine_options options = {.linger_ns = 1000 * (uint64_t)MS};
    struct slow slow = {.timer.fire = take_one};
    struct scene scene;
    enum {
        SLOW_LEN = 400 * NARROW
    };
    uint8_t *data = pattern(SLOW_LEN, stack->seed);

    if (strchr(stack->layers, 's'))
        return free(data); /* hands up at random; here the pace is the story's */
    set_scene(&scene, stack, &options);
    slow.scene = &scene;
    scene.right.when_data = pause_when_data;
    scene.right.when_end = close_when_end;
    send_all(&scene.left, data, SLOW_LEN, SLOW_LEN / 400);
    while (!has_sent_all(&scene.left))
        send_all(&scene.left, scene.left.source, scene.left.source_len, scene.left.source_chunk);
    sluice_stream_close(scene.left.stream);
    sluice_timer_start(scene.world.engine, &slow.timer, 0);
    world_turns_until(&scene.world, scene.left.closes && scene.right.closes, 10 * MANY_TURNS);
    sluice_timer_stop(scene.world.engine, &slow.timer);
    cr_assert(has_heard(&scene.right, data, SLOW_LEN));
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    free(data);
    clear_scene(&scene);
}
