/* Streams and other threads: what may be called from anywhere, and pairs whose ends live on two threads. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/random.h"
#include "tests/support/stacks.h"

enum {
    POSTERS = 4,
    POSTS = 500,
    ROUNDS = 60,
    SPIN_MAX = 3000, /* between the start of a thread and what it does */
};

static void spin(uint64_t count)
{
    for (volatile uint64_t i = 0; i < count; i++)
        continue;
}

/* -- Posting ------------------------------------------------------------------------------------------------- */

struct number {
    uint32_t poster;
    uint32_t count;
};

struct poster {
    pthread_t thread;
    struct sluice_stream *stream; /* held */
    uint32_t index;
    uint64_t accepted; /* bytes */
    int refusal;       /* the one that ended it; 0: all was posted */
};

/* Posts numbers until all are posted or the stream takes no more. */
static void *post_numbers(void *argument)
{
    struct poster *poster = argument;

    for (uint32_t i = 0; i < POSTS && !poster->refusal; i++) {
        struct number number = {.poster = poster->index, .count = i};
        int answer = sluice_stream_post_send(poster->stream, &number, sizeof number);

        for (; answer == -ENOBUFS; answer = sluice_stream_post_send(poster->stream, &number, sizeof number))
            sched_yield();
        if (answer == 0)
            poster->accepted += sizeof number;
        poster->refusal = answer;
    }
    return NULL;
}

static void start_posters(struct poster posters[POSTERS], struct sluice_stream *stream)
{
    for (uint32_t i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.stream = stream, .index = i};
        sluice_stream_hold(stream);
        cr_assert_eq(pthread_create(&posters[i].thread, NULL, post_numbers, &posters[i]), 0);
    }
}

/* Returns the bytes that were accepted. */
static uint64_t join_posters(struct poster posters[POSTERS])
{
    uint64_t accepted = 0;

    for (uint32_t i = 0; i < POSTERS; i++) {
        cr_assert_eq(pthread_join(posters[i].thread, NULL), 0);
        sluice_stream_release(posters[i].stream);
        accepted += posters[i].accepted;
    }
    return accepted;
}

/* The numbers of each poster came in order, without a gap. */
static void assert_in_order(const struct record *record)
{
    uint32_t next[POSTERS] = {0};

    cr_assert_eq(record->len % sizeof(struct number), 0);
    for (size_t at = 0; at < record->len; at += sizeof(struct number)) {
        struct number number;

        memcpy(&number, record->bytes + at, sizeof number);
        cr_assert_lt(number.poster, POSTERS);
        cr_assert_eq(number.count, next[number.poster]);
        next[number.poster]++;
    }
}

static void end_all(struct world *world, struct record *left, struct record *right)
{
    if (left->stream)
        sluice_stream_abort(left->stream, 0);
    if (right->stream)
        sluice_stream_abort(right->stream, 0);
    world_until_closed(world, left, right);
    record_finish(left);
    record_finish(right);
    world_close_empty(world);
}

STORY(threads, what_each_of_them_posts_arrives_in_order)
{
    struct poster posters[POSTERS];
    struct world world;
    struct record left;
    struct record right;

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    start_posters(posters, left.stream);
    world_turns_until(&world, right.len == POSTERS * POSTS * sizeof(struct number), 10 * MANY_TURNS);
    cr_assert_eq(join_posters(posters), right.len);
    assert_in_order(&right);
    end_all(&world, &left, &right);
}

STORY(threads, may_post_up_to_the_limit)
{
    struct world world;
    struct record left;
    struct record right;
    static const uint8_t bytes[101];

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    cr_assert_eq(sluice_stream_set_send_limits(left.stream, 10, 20, 100), 0);
    cr_assert_eq(sluice_stream_post_send(left.stream, bytes, 101), -ENOBUFS);
    cr_assert_eq(sluice_stream_post_send(left.stream, bytes, 60), 0);
    cr_assert_eq(sluice_stream_post_send(left.stream, bytes, 41), -ENOBUFS);
    cr_assert_eq(sluice_stream_post_send(left.stream, bytes, 40), 0);
    cr_assert_eq(sluice_stream_post_send(left.stream, bytes, 1), -ENOBUFS);
    world_settle(&world);
    cr_assert_eq(right.len, 100);
    cr_assert_eq(sluice_stream_post_send(left.stream, bytes, 100), 0);
    world_settle(&world);
    cr_assert_eq(right.len, 200);
    cr_assert_eq(left.drains, 0, "nobody was told FULL");
    end_all(&world, &left, &right);
}

/* What has arrived is in the queue, and the queue has a limit, too. */
STORY(threads, whose_posts_arrive_faster_than_they_are_sent_are_refused_in_the_end)
{
    static const uint8_t bytes[10000];
    struct world world;
    struct record left;
    struct record right;
    int answer = 0;
    int posts;

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    sluice_stream_pause(right.stream);
    cr_assert_eq(sluice_stream_set_send_limits(left.stream, 1000, 2000, 100000), 0);
    for (posts = 0; answer == 0 && posts < 10000; posts++) {
        answer = sluice_stream_post_send(left.stream, bytes, sizeof bytes);
        world_turn(&world);
        cr_assert_leq(sluice_stream_queued(left.stream), 210000);
    }
    cr_assert_eq(answer, -ENOBUFS);
    sluice_stream_resume(right.stream);
    world_turns_until(&world, right.len == (size_t)(posts - 1) * sizeof bytes, 10 * MANY_TURNS);
    cr_assert_eq(sluice_stream_post_send(left.stream, bytes, sizeof bytes), 0);
    end_all(&world, &left, &right);
}

/* Each takes memory, though it brings nothing. */
Test(threads, who_post_nothing_are_refused_in_the_end)
{
    struct world world;
    struct record left;
    struct record right;
    int posts = 0;

    world_open(&world, NULL);
    world_pair(&world, &left, &right, 0);
    while (sluice_stream_post_send(left.stream, "", 0) == 0)
        posts++;
    cr_assert_eq(sluice_stream_post_send(left.stream, "x", 1), -ENOBUFS);
    cr_assert_leq(posts, 100000);
    world_settle(&world);
    cr_assert_eq(sluice_stream_post_send(left.stream, "x", 1), 0);
    world_settle(&world);
    cr_assert_eq(right.len, 1);
    end_all(&world, &left, &right);
}

STORY(threads, whose_posts_come_too_late_are_counted)
{
    struct world world;
    struct record left;
    struct record right;

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    cr_assert_eq(sluice_stream_post_send(left.stream, "late", 4), 0);
    sluice_stream_abort(left.stream, -EINTR);
    cr_assert_eq(sluice_stream_post_send(left.stream, "later", 5), -EPIPE);
    world_until_closed(&world, &left, &right);
    assert_closed(&left, -EINTR, 4);
    end_all(&world, &left, &right);
}

static void post_and_abort(struct record *record, const struct sluice_view *view)
{
    (void)view;
    cr_assert_eq(sluice_stream_post_send(record->stream, "late", 4), 0);
    sluice_stream_abort(record->stream, -EINTR);
}

/* The stream closes in this turn, and the mailbox is read in the next. */
STORY(threads, whose_posts_have_not_arrived_when_it_closes_are_counted)
{
    struct world world;
    struct record left;
    struct record right;

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    left.when_data = post_and_abort;
    send_now(&right, "x", 1);
    world_until_closed(&world, &left, &right);
    assert_closed(&left, -EINTR, 4);
    end_all(&world, &left, &right);
}

/* Nothing that was accepted is lost in silence, whenever our direction ends. */
STORY(threads, may_post_while_the_stream_finishes)
{
    uint64_t random = stack->seed;

    for (int round = 0; round < ROUNDS / 10; round++) {
        struct poster posters[POSTERS];
        struct world world;
        struct record left;
        struct record right;
        uint64_t turns = random_below(&random, 20);
        uint64_t accepted;

        world_open(&world, NULL);
        stack_open(stack, &world, &left, &right);
        right.when_end = close_when_end;
        start_posters(posters, left.stream);
        for (uint64_t i = 0; i < turns; i++)
            world_turn(&world);
        sluice_stream_close(left.stream);
        world_until_closed(&world, &left, &right);
        accepted = join_posters(posters);
        assert_in_order(&right);
        assert_closed(&left, 0, accepted - right.len);
        end_all(&world, &left, &right);
    }
}

/* -- Aborting ------------------------------------------------------------------------------------------------ */

struct aborter {
    pthread_t thread;
    struct sluice_stream *stream; /* held */
    uint64_t delay;
    int error;
};

static void *abort_later(void *argument)
{
    const struct aborter *aborter = argument;

    spin(aborter->delay);
    sluice_stream_abort(aborter->stream, aborter->error);
    sluice_stream_release(aborter->stream);
    return NULL;
}

static void start_aborter(struct aborter *aborter, struct sluice_stream *stream, uint64_t delay, int error)
{
    *aborter = (struct aborter){.stream = stream, .delay = delay, .error = error};
    sluice_stream_hold(stream);
    cr_assert_eq(pthread_create(&aborter->thread, NULL, abort_later, aborter), 0);
}

/* Sends as long as there is somebody to send to; unlike record_events, at any time another thread may have aborted. */
static void send_until_refused(struct record *record)
{
    static const uint8_t bytes[10000];
    int answer = SLUICE_ROOM;

    for (int i = 0; i < 10 && answer == SLUICE_ROOM && record->stream; i++)
        answer = sluice_stream_send(record->stream, bytes, sizeof bytes);
    cr_assert(answer >= 0 || answer == -EPIPE);
}

STORY(threads, may_abort_at_any_moment)
{
    uint64_t random = stack->seed;

    for (int round = 0; round < ROUNDS; round++) {
        struct aborter aborters[2];
        struct world world;
        struct record left;
        struct record right;

        world_open(&world, NULL);
        stack_open(stack, &world, &left, &right);
        left.may_be_aborted = true;
        for (int i = 0; i < 2; i++)
            start_aborter(&aborters[i], left.stream, random_below(&random, SPIN_MAX), -ETIME - i);
        for (unsigned turns = 0; left.closes == 0; turns++) {
            cr_assert_lt(turns, 10 * MANY_TURNS);
            send_until_refused(&left);
            world_turn(&world);
        }
        for (int i = 0; i < 2; i++)
            cr_assert_eq(pthread_join(aborters[i].thread, NULL), 0);
        world_until_closed(&world, &left, &right);
        cr_assert(left.why.error == -ETIME || left.why.error == -ETIME - 1);
        cr_assert_eq(left.why.side, SLUICE_LOCAL);
        cr_assert_eq(right.why.error, -ECONNRESET);
        end_all(&world, &left, &right);
    }
}

STORY(threads, may_abort_what_closes)
{
    uint64_t random = stack->seed;

    for (int round = 0; round < ROUNDS; round++) {
        struct aborter aborter;
        struct world world;
        struct record left;
        struct record right;

        world_open(&world, NULL);
        stack_open(stack, &world, &left, &right);
        left.may_be_aborted = true;
        right.when_end = close_when_end;
        send_until_refused(&left);
        start_aborter(&aborter, left.stream, random_below(&random, SPIN_MAX), -ETIME);
        sluice_stream_close(left.stream);
        world_until_closed(&world, &left, &right);
        cr_assert_eq(pthread_join(aborter.thread, NULL), 0);
        cr_assert(left.why.error == 0 || left.why.error == -ETIME);
        cr_assert(left.why.error != 0 || left.why.unsent == 0);
        end_all(&world, &left, &right);
    }
}

/* -- A pair between two threads ------------------------------------------------------------------------------ */

/* An engine that runs on a thread of its own. */
struct far {
    pthread_t thread;
    struct world world;
    sem_t is_running;
};

static void *run_far(void *argument)
{
    struct far *far = argument;

    world_open(&far->world, NULL);
    far->world.is_in_turn = true;
    sem_post(&far->is_running);
    cr_assert_eq(sluice_engine_run(far->world.engine), 0);
    world_close(&far->world);
    return NULL;
}

static void start_far(struct far *far)
{
    cr_assert_eq(sem_init(&far->is_running, 0, 0), 0);
    cr_assert_eq(pthread_create(&far->thread, NULL, run_far, far), 0);
    while (sem_wait(&far->is_running) < 0)
        continue;
}

static void stop_far(struct far *far)
{
    sluice_engine_stop(far->world.engine);
    cr_assert_eq(pthread_join(far->thread, NULL), 0);
    sem_destroy(&far->is_running);
}

static void remember_stream(struct sluice_stream *stream, void *user)
{
    struct record *record = user;

    record->stream = stream;
}

static void far_opened(struct sluice_stream *stream, void *user)
{
    remember_stream(stream, user);
    record_events.on_open(stream, user);
}

static void far_heard(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    remember_stream(stream, user);
    record_events.on_data(stream, view, user);
}

static void far_drained(struct sluice_stream *stream, void *user)
{
    record_events.on_drain(stream, user);
}

static void far_ended(struct sluice_stream *stream, void *user)
{
    remember_stream(stream, user);
    record_events.on_end(stream, user);
}

static void far_closed(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    remember_stream(stream, user);
    record_events.on_close(stream, why, user);
}

/* As record_events, but the record learns of its stream when it first hears of it: not its thread made it. */
static const struct sluice_stream_events far_events = {
    .on_open = far_opened,
    .on_data = far_heard,
    .on_drain = far_drained,
    .on_end = far_ended,
    .on_close = far_closed,
};

/* Puts layers on the far end, on its thread. */
struct stacking {
    struct sluice_post post;
    struct record *record;
    struct sluice_stream *stream;
    const char *layers;
    uint64_t seed;
};

static void stack_far_end(struct sluice_post *post)
{
    struct stacking *stacking = (struct stacking *)post;

    /* Its peer may have ended by now. */
    if (stacking->record->closes)
        return;
    stacking->record->stream = stacking->stream;
    if (sluice_stream_write_status(stacking->stream) == SLUICE_WRITABLE)
        put_layers(stacking->layers, stacking->record, &stacking->seed);
}

static void open_between(const struct stack *stack, struct world *near_world, struct far *far, struct record *near,
                         struct record *record, struct stacking *stacking)
{
    struct sluice_pair_end ends[2] = {
        {.engine = near_world->engine, .events = &record_events, .user = near},
        {.engine = far->world.engine, .events = &far_events, .user = record},
    };
    uint64_t seed = stack->seed;

    record_init(near, near_world);
    *stacking = (struct stacking){.post.run = stack_far_end, .record = record, .layers = stack->layers, .seed = ~seed};
    cr_assert_eq(sluice_pair(&ends[0], &ends[1], 1000, &near->stream, &stacking->stream), 0);
    sluice_engine_post(far->world.engine, &stacking->post);
    put_layers(stack->layers, near, &seed);
}

/* What the far thread knows of a record, which is its own. */
struct question {
    struct sluice_post post;
    const struct record *record;
    bool has_closed;
    sem_t is_answered;
};

static void answer(struct sluice_post *post)
{
    struct question *question = (struct question *)post;

    question->has_closed = question->record->closes > 0;
    sem_post(&question->is_answered);
}

/* Posts of one thread run in order: what was posted before has run when this returns. */
static bool has_closed_far(const struct far *far, const struct record *record)
{
    struct question question = {.post.run = answer, .record = record};

    cr_assert_eq(sem_init(&question.is_answered, 0, 0), 0);
    sluice_engine_post(far->world.engine, &question.post);
    while (sem_wait(&question.is_answered) < 0)
        continue;
    sem_destroy(&question.is_answered);
    return question.has_closed;
}

STORY(threads, talk_through_a_pair)
{
    enum {
        MUCH = 500 * 1000
    };
    struct stacking stacking;
    struct world world;
    struct record near;
    struct record record;
    struct far far;
    uint8_t *data = pattern(MUCH, stack->seed);

    world_open(&world, NULL);
    start_far(&far);
    record_init(&record, &far.world);
    record.when_data = echo_when_data;
    record.when_end = close_when_end;
    open_between(stack, &world, &far, &near, &record, &stacking);
    send_all(&near, data, MUCH, 5000);
    world_turns_until(&world, near.len == MUCH, 100 * MANY_TURNS);
    cr_assert(has_heard(&near, data, MUCH));
    sluice_stream_close(near.stream);
    world_turns_until(&world, near.closes == 1, 100 * MANY_TURNS);
    world_turns_until(&world, has_closed_far(&far, &record), 100 * MANY_TURNS);
    stop_far(&far);
    assert_closed(&near, 0, 0);
    assert_closed(&record, 0, 0);
    cr_assert(has_heard(&record, data, MUCH));
    record_finish(&near);
    record_finish(&record);
    world_close_empty(&world);
    free(data);
}

static void abort_far_end(struct sluice_post *post)
{
    struct stacking *stacking = (struct stacking *)post;

    if (stacking->record->stream)
        sluice_stream_abort(stacking->record->stream, -ETIME);
}

/* Tries to echo: its peer may be gone. */
static void echo_if_possible(struct record *record, const struct sluice_view *view)
{
    int answer = sluice_stream_send_view(record->stream, view);

    cr_assert(answer >= 0 || answer == -EPIPE);
}

STORY(threads, abort_their_ends_of_a_pair_at_any_moment)
{
    uint64_t random = stack->seed;
    struct world world;
    struct far far;

    world_open(&world, NULL);
    start_far(&far);
    for (int round = 0; round < ROUNDS; round++) {
        struct stacking stacking;
        struct stacking aborting = {.post.run = abort_far_end};
        struct record near;
        struct record record;
        uint64_t turns = random_below(&random, 10);

        record_init(&record, &far.world);
        record.when_data = echo_if_possible;
        aborting.record = &record;
        open_between(stack, &world, &far, &near, &record, &stacking);
        send_until_refused(&near);
        for (uint64_t i = 0; i < turns; i++)
            world_turn(&world);
        if (random_below(&random, 2) == 0)
            sluice_engine_post(far.world.engine, &aborting.post);
        spin(random_below(&random, SPIN_MAX));
        if (near.stream)
            sluice_stream_abort(near.stream, -EINTR);
        world_turns_until(&world, near.closes == 1, MANY_TURNS);
        cr_assert(near.why.error == -EINTR || near.why.error == -ECONNRESET, "%s", strerror(-near.why.error));
        world_turns_until(&world, has_closed_far(&far, &record), MANY_TURNS);
        cr_assert(record.why.error == -ETIME || record.why.error == -ECONNRESET, "%s", strerror(-record.why.error));
        record_finish(&near);
        record_finish(&record);
    }
    stop_far(&far);
    world_close_empty(&world);
}

STORY(threads, may_end_while_the_other_end_of_a_pair_lives)
{
    uint64_t random = stack->seed;

    for (int round = 0; round < ROUNDS / 4; round++) {
        struct stacking stacking;
        struct world world;
        struct record near;
        struct record record;
        struct far far;

        world_open(&world, NULL);
        start_far(&far);
        record_init(&record, &far.world);
        record.when_data = echo_if_possible;
        open_between(stack, &world, &far, &near, &record, &stacking);
        send_until_refused(&near);
        for (uint64_t turns = random_below(&random, 5); turns > 0; turns--)
            world_turn(&world);
        stop_far(&far);
        world_turns_until(&world, near.closes == 1, MANY_TURNS);
        cr_assert_eq(near.why.error, -ECONNRESET, "%s", strerror(-near.why.error));
        record_finish(&near);
        record_finish(&record);
        world_close_empty(&world);
    }
}
