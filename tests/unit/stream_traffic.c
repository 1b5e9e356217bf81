/* Bytes on their way: what is sent arrives, whole and in order, on every stack, however full the way is. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/support/random.h"
#include "tests/support/stacks.h"

enum {
    A_LOT = 10 * 1024 * 1024,
    LOW_MARK = 1000,
    HIGH_MARK = 4000,
    LIMIT = 1024 * 1024,
    NARROW = 512, /* bytes between the ends, where the way is to be full soon */
};

static void open_with_marks(const struct stack *stack, struct world *world, struct record *left, struct record *right)
{
    world_open(world, NULL);
    stack_open_narrow(stack, world, left, right, NARROW);
    cr_assert_eq(sluice_stream_set_send_limits(left->stream, LOW_MARK, HIGH_MARK, LIMIT), 0);
}

/* Closes left; right hears the end and closes, too. Both ends were graceful. */
static void close_both(struct world *world, struct record *left, struct record *right)
{
    right->when_end = close_when_end;
    sluice_stream_close(left->stream);
    if (right->ends > 0)
        sluice_stream_close(right->stream);
    world_until_closed(world, left, right);
    assert_closed(left, 0, 0);
    assert_closed(right, 0, 0);
    record_finish(left);
    record_finish(right);
    world_close_empty(world);
}

STORY(traffic, what_one_end_sends_the_other_hears)
{
    struct world world;
    struct record left;
    struct record right;

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    cr_assert_eq(send_now(&left, "hello", 5), SLUICE_ROOM);
    world_turns_until(&world, right.len == 5, MANY_TURNS);
    cr_assert(has_heard(&right, "hello", 5));
    cr_assert_eq(left.views, 0);
    close_both(&world, &left, &right);
}

STORY(traffic, an_echo_comes_back)
{
    struct world world;
    struct record left;
    struct record right;
    uint8_t *data = pattern(A_LOT / 100, stack->seed);

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    right.when_data = echo_when_data;
    send_all(&left, data, A_LOT / 100, 1000);
    world_turns_until(&world, left.len == A_LOT / 100, MANY_TURNS);
    cr_assert(has_heard(&left, data, A_LOT / 100));
    close_both(&world, &left, &right);
    free(data);
}

STORY(traffic, one_byte_echoes_a_thousand_times)
{
    struct world world;
    struct record left;
    struct record right;

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    right.when_data = echo_when_data;
    for (unsigned i = 1; i <= 1000; i++) {
        send_now(&left, &i, 1);
        world_turns_until(&world, left.len == i, MANY_TURNS);
        cr_assert_eq(left.bytes[i - 1], (uint8_t)i);
    }
    close_both(&world, &left, &right);
}

STORY(traffic, both_ends_send_a_lot_at_once_and_wait_for_drains)
{
    struct world world;
    struct record left;
    struct record right;
    uint8_t *leftward = pattern(A_LOT, stack->seed);
    uint8_t *rightward = pattern(A_LOT, ~stack->seed);

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    send_all(&left, rightward, A_LOT, 50000);
    send_all(&right, leftward, A_LOT, 3000);
    world_turns_until(&world, left.len == A_LOT && right.len == A_LOT, MANY_TURNS);
    cr_assert(has_heard(&left, leftward, A_LOT));
    cr_assert(has_heard(&right, rightward, A_LOT));
    cr_assert_eq(left.drains, left.fulls);
    cr_assert_eq(right.drains, right.fulls);
    cr_assert_gt(left.drains, 10);
    cr_assert_eq(world_stats(&world).queued_bytes, 0);
    close_both(&world, &left, &right);
    free(leftward);
    free(rightward);
}

/* Takes turns until the queue of the stream has nothing more to lose: whoever is below is full. */
static void fill_the_way(struct world *world, struct record *left)
{
    static const uint8_t zeroes[HIGH_MARK];

    for (int i = 0; i < 1000; i++) {
        send_now(left, zeroes, sizeof zeroes);
        world_settle(world);
        if (sluice_stream_queued(left->stream) >= sizeof zeroes)
            return;
    }
    cr_assert_fail("the way does not fill");
}

STORY(traffic, a_full_stream_drains_once_each_time)
{
    struct world world;
    struct record left;
    struct record right;
    uint8_t *data = pattern(HIGH_MARK, stack->seed);

    open_with_marks(stack, &world, &left, &right);
    for (unsigned episode = 1; episode <= 5; episode++) {
        /* given a reader that has stopped, and a way that is full */
        cr_assert_eq(sluice_stream_pause(right.stream), 0);
        fill_the_way(&world, &left);
        left.drains = 0;
        /* when the user goes on although it was told FULL */
        cr_assert_eq(send_now(&left, data, 1), SLUICE_FULL);
        cr_assert_eq(send_now(&left, data, 1), SLUICE_FULL);
        world_settle(&world);
        cr_assert_eq(left.drains, 0);
        /* then there is one drain, after the reader went on */
        cr_assert_eq(sluice_stream_resume(right.stream), 0);
        world_settle(&world);
        cr_assert_eq(left.drains, 1, "%u in episode %u", left.drains, episode);
        cr_assert_eq(sluice_stream_queued(left.stream), 0);
    }
    close_both(&world, &left, &right);
    free(data);
}

STORY(traffic, a_drain_comes_at_the_low_mark_and_not_before)
{
    struct world world;
    struct record left;
    struct record right;

    open_with_marks(stack, &world, &left, &right);
    sluice_stream_pause(right.stream);
    fill_the_way(&world, &left);
    left.drains = 0;
    sluice_stream_resume(right.stream);
    while (left.drains == 0) {
        size_t queued = sluice_stream_queued(left.stream);

        world_turn(&world);
        cr_assert(left.drains > 0 || queued > 0);
        cr_assert(left.drains == 0 || sluice_stream_queued(left.stream) <= LOW_MARK);
    }
    close_both(&world, &left, &right);
}

STORY(traffic, there_is_no_drain_without_full)
{
    struct world world;
    struct record left;
    struct record right;
    static const uint8_t little[HIGH_MARK / 2];

    open_with_marks(stack, &world, &left, &right);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(send_now(&left, little, sizeof little), SLUICE_ROOM);
        world_turns_until(&world, right.len == (size_t)(i + 1) * sizeof little, MANY_TURNS);
    }
    cr_assert_eq(left.drains, 0);
    close_both(&world, &left, &right);
}

/* Fills the queue again each time it is told that there is room, ten times. */
static void fill_when_drain(struct record *record)
{
    static const uint8_t much[HIGH_MARK];

    if (record->drains < 10)
        cr_assert_eq(sluice_stream_send(record->stream, much, sizeof much), SLUICE_FULL);
}

STORY(traffic, what_is_sent_from_on_drain_is_sent_and_drains_again)
{
    struct world world;
    struct record left;
    struct record right;
    static const uint8_t much[HIGH_MARK];

    open_with_marks(stack, &world, &left, &right);
    left.when_drain = fill_when_drain;
    cr_assert_eq(send_now(&left, much, sizeof much), SLUICE_FULL);
    world_turns_until(&world, right.len == 10 * sizeof much, MANY_TURNS);
    world_settle(&world);
    cr_assert_eq(left.drains, 10);
    close_both(&world, &left, &right);
}

STORY(traffic, a_vector_goes_as_one)
{
    struct world world;
    struct record left;
    struct record right;
    struct iovec pieces[] = {
        {.iov_base = "to", .iov_len = 2},
        {.iov_base = NULL, .iov_len = 0},
        {.iov_base = "get", .iov_len = 3},
        {.iov_base = "her", .iov_len = 3},
    };

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    cr_assert_eq(sluice_stream_send_vector(left.stream, pieces, 4), SLUICE_ROOM);
    cr_assert_geq(sluice_stream_queued(left.stream), 8);
    world_turns_until(&world, right.len == 8, MANY_TURNS);
    cr_assert(has_heard(&right, "together", 8));
    close_both(&world, &left, &right);
}

STORY(traffic, copied_bytes_are_free_on_return)
{
    struct world world;
    struct record left;
    struct record right;
    uint8_t *data = pattern(HIGH_MARK, stack->seed);
    uint8_t *copy = pattern(HIGH_MARK, stack->seed);

    open_with_marks(stack, &world, &left, &right);
    send_now(&left, copy, HIGH_MARK);
    memset(copy, 0xee, HIGH_MARK);
    free(copy);
    world_turns_until(&world, right.len == HIGH_MARK, MANY_TURNS);
    cr_assert(has_heard(&right, data, HIGH_MARK));
    close_both(&world, &left, &right);
    free(data);
}

STORY(traffic, sends_of_all_kinds_and_sizes_stay_in_order)
{
    struct world world;
    struct record left;
    struct record right;
    uint64_t random = stack->seed;
    uint8_t *data = pattern(A_LOT / 10, stack->seed);
    size_t sent = 0;

    world_open(&world, NULL);
    stack_open_narrow(stack, &world, &left, &right, 1000 + random_size(&random, 100000));
    while (sent < A_LOT / 10) {
        size_t len = random_size(&random, 20000);
        int answer;

        if (len > A_LOT / 10 - sent)
            len = A_LOT / 10 - sent;
        answer = send_now(&left, data + sent, len);
        sent += len;
        if (random_below(&random, 5) == 0)
            sluice_stream_pause(right.stream);
        if (answer == SLUICE_FULL || random_below(&random, 5) == 0)
            world_turn(&world);
        if (answer == SLUICE_FULL || random_below(&random, 3) == 0)
            sluice_stream_resume(right.stream);
    }
    sluice_stream_resume(right.stream);
    world_turns_until(&world, right.len == A_LOT / 10, MANY_TURNS);
    cr_assert(has_heard(&right, data, A_LOT / 10));
    close_both(&world, &left, &right);
    free(data);
}

STORY(traffic, sends_of_one_turn_leave_together)
{
    struct world world;
    struct record left;
    struct record right;

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    for (int i = 0; i < 10; i++)
        send_now(&left, "x", 1);
    world_turns_until(&world, right.len == 10, MANY_TURNS);
    if (!*stack->layers)
        cr_assert_eq(right.views, 1);
    close_both(&world, &left, &right);
}
