/*
 * Where Sluice comes from: a drain that arrives after the transport went away must not write into what is closed, and
 * one that arrives while a graceful close is flushing must flush.
 *
 * Each story is told twice: of a stream on its transport, and of a layer between the two, to which the drain is
 * relayed. The transport is a script, so that the drain comes at exactly the moment that the story is about.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "tests/support/glass_layer.h"
#include "tests/support/scripted_stream.h"
#include "tests/support/world.h"

enum {
    LOW_MARK = 8,
    HIGH_MARK = 32,
    PART = 100, /* of what is sent: above the high mark */
    WHOLE = 2 * PART,
};

struct stage {
    struct world world;
    struct scripted *transport;
    struct record user;
    bool has_layer;
    uint8_t *data;
    struct task interruption;
};

static void set_stage(struct stage *stage, bool has_layer)
{
    struct sluice_stream *lower;

    *stage = (struct stage){.has_layer = has_layer, .data = pattern(WHOLE, 1)};
    world_open(&stage->world, NULL);
    record_init(&stage->user, &stage->world);
    stage->transport = scripted_create(stage->world.engine, SLUICE_OPEN, &record_events, &stage->user);
    lower = &stage->transport->stream;
    sluice_stream_hold(lower); /* what was submitted is looked at when all is over */
    stage->user.stream = lower;
    cr_assert_eq(sluice_stream_set_send_limits(lower, LOW_MARK, HIGH_MARK, 4096), 0);
    if (has_layer)
        cr_assert_eq(glass_stream(lower, &record_events, &stage->user, &stage->user.stream), 0);
    cr_assert_eq(sluice_stream_set_send_limits(stage->user.stream, LOW_MARK, HIGH_MARK, 4096), 0);
    world_settle(&stage->world);
}

static void clear_stage(struct stage *stage)
{
    free(stage->data);
    record_finish(&stage->user);
    sluice_stream_release(&stage->transport->stream);
    world_close_empty(&stage->world);
}

/*
 * Half of the data is out or below, the other half waits behind it, and both the stream below and the user's were told
 * FULL: the moment before a drain.
 */
static void send_until_full(struct stage *stage)
{
    send_now(&stage->user, stage->data, PART);
    world_settle(&stage->world);
    cr_assert_eq(send_now(&stage->user, stage->data + PART, PART), SLUICE_FULL);
    world_settle(&stage->world);
    cr_assert_eq(stage->transport->submissions, 1);
    cr_assert_geq(sluice_stream_queued(stage->user.stream), PART);
    stage->user.drains = 0;
}

static void assert_nothing_more_was_submitted(const struct stage *stage)
{
    cr_assert_eq(stage->transport->submissions, 1);
    cr_assert_eq(stage->transport->wire_len, PART);
    cr_assert_eq(stage->transport->finishes, 0);
    cr_assert_eq(stage->user.drains, 0);
}

static void tell(void (*story)(struct stage *stage))
{
    for (int has_layer = 0; has_layer < 2; has_layer++) {
        struct stage stage;

        fprintf(stderr, has_layer ? "with a layer between\n" : "plain\n");
        set_stage(&stage, has_layer);
        story(&stage);
        clear_stage(&stage);
    }
}

#define TALE(name)                                                                                                     \
    static void name##_tale(struct stage *stage);                                                                      \
    Test(drain_after_transport_went_away, name, .timeout = 10)                                                         \
    {                                                                                                                  \
        tell(name##_tale);                                                                                             \
    }                                                                                                                  \
    static void name##_tale(struct stage *stage)

/* -- The transport went away, and then comes the drain ------------------------------------------------------- */

TALE(submits_nothing_and_counts_what_is_lost)
{
    send_until_full(stage);
    scripted_vanish(stage->transport, -ECONNRESET);
    world_settle(&stage->world);
    cr_assert_eq(stage->user.closes, 0, "a submission is still out");

    scripted_complete(stage->transport);
    world_settle(&stage->world);

    assert_nothing_more_was_submitted(stage);
    assert_closed(&stage->user, -ECONNRESET, PART);
    cr_assert_eq(stage->user.why.side, SLUICE_REMOTE);
}

TALE(submits_nothing_if_both_come_in_one_turn)
{
    send_until_full(stage);
    scripted_vanish(stage->transport, -ECONNRESET);
    scripted_complete(stage->transport);
    world_settle(&stage->world);

    assert_nothing_more_was_submitted(stage);
    assert_closed(&stage->user, -ECONNRESET, PART);
}

TALE(submits_nothing_if_the_transport_goes_between_the_drain_and_the_flush)
{
    send_until_full(stage);
    scripted_complete(stage->transport);
    scripted_vanish(stage->transport, -ECONNRESET);
    world_settle(&stage->world);

    assert_nothing_more_was_submitted(stage);
    assert_closed(&stage->user, -ECONNRESET, PART);
}

/* The end waits for bytes that came before it, and the kernel still reads what was submitted. */
TALE(leaves_what_is_out_in_the_queue_until_it_completes)
{
    send_until_full(stage);
    scripted_receive(stage->transport, "before", 6);
    scripted_vanish(stage->transport, -ETIMEDOUT);
    scripted_complete(stage->transport);
    world_settle(&stage->world);

    cr_assert(has_heard(&stage->user, "before", 6));
    assert_nothing_more_was_submitted(stage);
    assert_closed(&stage->user, -ETIMEDOUT, PART);
}

/* It pauses until on_drain, which will not come: what it waits for is the end. */
TALE(ends_a_stream_that_has_paused_until_its_drain)
{
    cr_assert_eq(send_now(&stage->user, stage->data, PART), SLUICE_FULL);
    cr_assert_eq(sluice_stream_pause(stage->user.stream), 0);
    stream_break(&stage->transport->stream, -EPIPE, SLUICE_REMOTE);
    world_settle(&stage->world);

    cr_assert_eq(stage->transport->submissions, 0);
    assert_closed(&stage->user, -EPIPE, PART);
}

TALE(ends_a_stream_that_pauses_until_its_drain_afterwards)
{
    cr_assert_eq(send_now(&stage->user, stage->data, PART), SLUICE_FULL);
    stream_break(&stage->transport->stream, -EPIPE, SLUICE_REMOTE);
    cr_assert_eq(sluice_stream_pause(stage->user.stream), 0);
    world_settle(&stage->world);

    cr_assert_eq(stage->transport->submissions, 0);
    assert_closed(&stage->user, -EPIPE, PART);
}

/* Our send took the news of the reset, so that what a receive sees then only looks like an end. */
TALE(tells_what_came_before_a_reset_and_no_end_behind_it)
{
    stream_break(&stage->transport->stream, -ECONNRESET, SLUICE_REMOTE);
    scripted_receive(stage->transport, "before", 6);
    scripted_end(stage->transport);
    world_settle(&stage->world);

    cr_assert(has_heard(&stage->user, "before", 6));
    cr_assert_eq(stage->user.ends, 0);
    assert_closed(&stage->user, -ECONNRESET, 0);
}

static void vanish_when_flushed(struct scripted *scripted)
{
    scripted_vanish(scripted, -EPIPE);
}

TALE(submits_nothing_if_the_transport_goes_in_the_flush)
{
    send_until_full(stage);
    stage->transport->when_flushed = vanish_when_flushed;
    scripted_complete(stage->transport);
    world_settle(&stage->world);

    /* The layer's queue had moved down by then, of which its user may have heard. */
    cr_assert_leq(stage->user.drains, stage->has_layer ? 1 : 0);
    cr_assert_eq(stage->transport->submissions, 1);
    assert_closed(&stage->user, -EPIPE, PART);
}

/* The stream and the layer above it flush in one pass, and the first flush finds out that the transport is gone. */
TALE(loses_nothing_in_silence_if_the_layer_flushes_right_after_that)
{
    enum {
        LITTLE = 20
    }; /* below the high mark: nobody is told FULL, nobody waits */

    stage->transport->is_full = true;
    send_now(&stage->user, stage->data, LITTLE);
    world_settle(&stage->world);
    cr_assert_eq(stage->transport->stream.unsent.len, LITTLE);

    stage->transport->is_full = false;
    stage->transport->when_flushed = vanish_when_flushed;
    stream_schedule_flush(&stage->transport->stream);
    send_now(&stage->user, stage->data, LITTLE);
    world_settle(&stage->world);

    cr_assert_eq(stage->transport->submissions, 0);
    assert_closed(&stage->user, -EPIPE, 2 * LITTLE);
}

static void *abort_stream(void *stream)
{
    sluice_stream_abort(stream, -EINTR);
    return NULL;
}

static void abort_from_elsewhere(struct sluice_stream *stream)
{
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, abort_stream, stream), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

static void interrupt(struct task *task)
{
    abort_from_elsewhere(container_of(task, struct stage, interruption)->user.stream);
}

/* Only the write status says so at that moment: the engine's thread has not been told yet. */
TALE(submits_nothing_if_another_thread_aborts_between_the_drain_and_the_flush)
{
    struct sluice_stream *stream = stage->user.stream;

    send_until_full(stage);
    sluice_stream_hold(stream);
    stage->interruption.run = interrupt;
    scripted_complete(stage->transport);
    lane_push(&stage->world.engine->tasks.work, &stage->interruption);
    world_turn(&stage->world);
    cr_assert_eq(sluice_stream_write_status(stream), SLUICE_WRITE_CLOSED);
    world_settle(&stage->world);

    assert_nothing_more_was_submitted(stage);
    assert_closed(&stage->user, -EINTR, PART);
    cr_assert_eq(stage->user.why.side, SLUICE_LOCAL);
    sluice_stream_release(stream);
}

static void abort_when_asked(struct scripted *scripted)
{
    scripted->when_asked = NULL;
    abort_from_elsewhere(&scripted->stream);
}

/* The write status is asked behind every other question, and tells what happened during them. */
TALE(submits_nothing_if_another_thread_aborts_between_two_questions_of_the_flusher)
{
    send_until_full(stage);
    stage->transport->when_asked = abort_when_asked;
    scripted_complete(stage->transport);
    world_settle(&stage->world);

    assert_nothing_more_was_submitted(stage);
    assert_closed(&stage->user, -EINTR, PART);
}

static void send_and_abort(struct record *record)
{
    struct stage *stage = record->story;

    send_now(record, stage->data, PART);
    sluice_stream_abort(record->stream, -EINTR);
    cr_assert_eq(sluice_stream_send(record->stream, stage->data, PART), -EPIPE);
}

TALE(is_where_a_user_may_send_and_abort)
{
    send_until_full(stage);
    stage->user.story = stage;
    stage->user.when_drain = send_and_abort;
    while (stage->transport->in_flight > 0) {
        scripted_complete(stage->transport);
        world_settle(&stage->world);
    }

    cr_assert_eq(stage->user.drains, 1);
    assert_closed(&stage->user, -EINTR, WHOLE + PART - stage->transport->wire_len);
    cr_assert_eq(memcmp(stage->transport->wire, stage->data, stage->transport->wire_len), 0);
    cr_assert_eq(stage->transport->finishes, 0);
}

/* -- A graceful close is flushing, and then comes the drain -------------------------------------------------- */

/* Completes what is out until nothing is. Returns how often. */
static unsigned complete_all(struct stage *stage)
{
    unsigned count = 0;

    for (; stage->transport->in_flight > 0; count++) {
        cr_assert_eq(stage->transport->finishes, 0, "our direction ends behind the last byte");
        scripted_complete(stage->transport);
        world_settle(&stage->world);
    }
    return count;
}

static void assert_all_was_sent(const struct stage *stage)
{
    cr_assert_eq(stage->transport->wire_len, WHOLE);
    cr_assert_eq(memcmp(stage->transport->wire, stage->data, WHOLE), 0);
}

TALE(flushes_while_a_close_does)
{
    unsigned completions;

    stage->transport->submission_max = 16;
    send_until_full(stage);
    sluice_stream_close(stage->user.stream);
    world_settle(&stage->world);
    cr_assert_eq(sluice_stream_write_status(stage->user.stream), SLUICE_WRITE_CLOSING);

    completions = complete_all(stage);
    assert_all_was_sent(stage);
    cr_assert_eq(stage->transport->submissions, completions, "no submission without bytes");
    cr_assert_eq(stage->transport->finishes, 1);
    cr_assert_eq(stage->transport->closes, 1);

    scripted_end(stage->transport);
    world_settle(&stage->world);
    cr_assert_eq(stage->user.drains, 0, "nothing but on_close is told after close");
    assert_closed(&stage->user, 0, 0);
}

TALE(flushes_while_a_finish_does)
{
    stage->transport->submission_max = 16;
    send_until_full(stage);
    cr_assert_eq(sluice_stream_finish(stage->user.stream), 0);
    complete_all(stage);

    assert_all_was_sent(stage);
    cr_assert_eq(stage->transport->finishes, 1);
    cr_assert_eq(stage->transport->closes, 0, "reading goes on");
    cr_assert_eq(stage->user.drains, 0);

    scripted_end(stage->transport);
    world_settle(&stage->world);
    assert_closed(&stage->user, 0, 0);
}

TALE(flushes_while_a_close_does_until_the_transport_goes_away)
{
    stage->transport->submission_max = 16;
    send_until_full(stage);
    sluice_stream_close(stage->user.stream);
    scripted_complete(stage->transport);
    world_settle(&stage->world);
    cr_assert_eq(stage->transport->submissions, 2);

    scripted_vanish(stage->transport, -ECONNRESET);
    scripted_complete(stage->transport);
    world_settle(&stage->world);

    cr_assert_eq(stage->transport->submissions, 2);
    cr_assert_eq(stage->transport->finishes, 0);
    assert_closed(&stage->user, -ECONNRESET, WHOLE - 2 * 16);
}
