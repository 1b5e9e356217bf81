/* Bytes that travel without being copied: references are counted, and given back exactly once. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/support/stacks.h"

enum {
    LEN = 5000,
    SHORT = 255, /* is copied instead */
};

/* Memory of the test's own. */
struct own {
    struct sluice_buffer buffer;
    unsigned releases;
    uint8_t *data;
};

static void release_own(struct sluice_buffer *buffer)
{
    struct own *own = (struct own *)buffer;

    own->releases++;
    memset(own->data, 0xdd, LEN); /* whoever still reads it finds out */
}

static struct sluice_view own_init(struct own *own, uint64_t seed)
{
    *own = (struct own){.data = pattern(LEN, seed)};
    sluice_buffer_init(&own->buffer, release_own);
    return (struct sluice_view){.data = own->data, .len = LEN, .buffer = &own->buffer};
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

STORY(views, are_released_once_when_they_were_sent)
{
    struct world world;
    struct record left;
    struct record right;
    struct own own;
    struct sluice_view view = own_init(&own, 7);
    uint8_t *data = pattern(LEN, 7);

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    cr_assert_eq(sluice_stream_send_view(left.stream, &view), SLUICE_ROOM);
    cr_assert_eq(own.buffer.references, 2);
    sluice_buffer_drop(&own.buffer);
    cr_assert_eq(own.releases, 0);
    world_turns_until(&world, right.len == LEN, MANY_TURNS);
    cr_assert(has_heard(&right, data, LEN));
    cr_assert_eq(own.releases, 1);
    end_all(&world, &left, &right);
    cr_assert_eq(own.releases, 1);
    free(own.data);
    free(data);
}

STORY(views, of_one_buffer_go_to_many_streams)
{
    struct world world;
    struct record left[3];
    struct record right[3];
    struct own own;
    struct sluice_view view = own_init(&own, 8);
    uint8_t *data = pattern(LEN, 8);

    world_open(&world, NULL);
    for (int i = 0; i < 3; i++) {
        struct sluice_view part = {.data = view.data + i * 100, .len = LEN - (size_t)i * 200, .buffer = view.buffer};

        stack_open_narrow(stack, &world, &left[i], &right[i], 1000);
        cr_assert_eq(sluice_stream_send_view(left[i].stream, &part), SLUICE_ROOM);
    }
    sluice_buffer_drop(&own.buffer);
    for (int i = 0; i < 3; i++) {
        world_turns_until(&world, right[i].len == LEN - (size_t)i * 200, MANY_TURNS);
        cr_assert(has_heard(&right[i], data + i * 100, LEN - (size_t)i * 200));
    }
    cr_assert_eq(own.releases, 1);
    for (int i = 0; i < 3; i++) {
        sluice_stream_abort(left[i].stream, 0);
        world_until_closed(&world, &left[i], &right[i]);
        record_finish(&left[i]);
        record_finish(&right[i]);
    }
    world_close_empty(&world);
    cr_assert_eq(own.releases, 1);
    free(own.data);
    free(data);
}

STORY(views, are_released_once_after_an_abort)
{
    struct world world;
    struct record left;
    struct record right;
    struct own own;
    struct sluice_view view = own_init(&own, 9);

    world_open(&world, NULL);
    stack_open_narrow(stack, &world, &left, &right, 100);
    sluice_stream_pause(right.stream);
    for (int i = 0; i < 100; i++) /* more than all layers below take */
        cr_assert_geq(sluice_stream_send_view(left.stream, &view), 0);
    sluice_buffer_drop(&own.buffer);
    world_settle(&world);
    cr_assert_eq(own.releases, 0);

    sluice_stream_abort(left.stream, -EINTR);
    cr_assert_eq(sluice_stream_send_view(left.stream, &view), -EPIPE);
    world_until_closed(&world, &left, &right);
    cr_assert_eq(own.releases, 1);
    cr_assert_gt(left.why.unsent, 0);
    end_all(&world, &left, &right);
    cr_assert_eq(own.releases, 1);
    free(own.data);
}

STORY(views, are_released_when_the_engine_ends)
{
    struct world world;
    struct record left;
    struct record right;
    struct own own;
    struct sluice_view view = own_init(&own, 9);

    world_open(&world, NULL);
    stack_open_narrow(stack, &world, &left, &right, 100);
    cr_assert_eq(sluice_stream_send_view(left.stream, &view), SLUICE_ROOM);
    sluice_buffer_drop(&own.buffer);
    world_turn(&world);
    world_close(&world);
    cr_assert_eq(own.releases, 1);
    assert_closed(&right, -ECANCELED, 0);
    cr_assert_eq(left.why.error, -ECANCELED);
    cr_assert_gt(left.why.unsent, 0);
    record_finish(&left);
    record_finish(&right);
    free(own.data);
}

STORY(views, that_are_short_are_copied)
{
    struct world world;
    struct record left;
    struct record right;
    struct own own;
    struct sluice_view view = own_init(&own, 10);
    uint8_t *data = pattern(LEN, 10);

    view.len = SHORT;
    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    cr_assert_eq(sluice_stream_send_view(left.stream, &view), SLUICE_ROOM);
    cr_assert_eq(own.buffer.references, 1);
    sluice_buffer_drop(&own.buffer);
    cr_assert_eq(own.releases, 1);
    world_turns_until(&world, right.len == SHORT, MANY_TURNS);
    cr_assert(has_heard(&right, data, SHORT));
    end_all(&world, &left, &right);
    free(own.data);
    free(data);
}

STORY(views, are_not_taken_with_a_refusal)
{
    struct world world;
    struct record left;
    struct record right;
    struct own own;
    struct sluice_view view = own_init(&own, 11);

    world_open(&world, NULL);
    stack_open(stack, &world, &left, &right);
    cr_assert_eq(sluice_stream_set_send_limits(left.stream, 10, 100, LEN - 1), 0);
    cr_assert_eq(sluice_stream_send_view(left.stream, &view), -ENOBUFS);
    cr_assert_eq(own.buffer.references, 1);
    cr_assert_eq(sluice_stream_queued(left.stream), 0);
    cr_assert_eq(sluice_stream_finish(left.stream), 0);
    cr_assert_eq(sluice_stream_send_view(left.stream, &view), -EPIPE);
    cr_assert_eq(own.buffer.references, 1);
    sluice_buffer_drop(&own.buffer);
    cr_assert_eq(own.releases, 1);
    end_all(&world, &left, &right);
    free(own.data);
}

/* -- Keeping what arrived ------------------------------------------------------------------------------------ */

struct kept {
    struct sluice_view views[1000];
    size_t count;
};

static void keep_when_data(struct record *record, const struct sluice_view *view)
{
    struct kept *kept = record->story;

    cr_assert_lt(kept->count, 1000);
    cr_assert_eq(sluice_view_keep(record->stream, view, &kept->views[kept->count++]), 0);
}

STORY(views, that_are_kept_outlast_the_stream)
{
    struct world world;
    struct record left;
    struct record right;
    struct kept kept = {.count = 0};
    uint8_t *data = pattern(LEN, 12);
    size_t at = 0;

    world_open(&world, NULL);
    stack_open_narrow(stack, &world, &left, &right, 300);
    right.story = &kept;
    right.when_data = keep_when_data;
    send_now(&left, data, LEN);
    world_turns_until(&world, right.len == LEN, MANY_TURNS);
    sluice_stream_abort(left.stream, 0);
    world_until_closed(&world, &left, &right);

    for (size_t i = 0; i < kept.count; i++) {
        cr_assert_eq(memcmp(kept.views[i].data, data + at, kept.views[i].len), 0);
        at += kept.views[i].len;
        sluice_buffer_drop(kept.views[i].buffer);
    }
    cr_assert_eq(at, LEN);
    end_all(&world, &left, &right);
    free(data);
}

static void forward_when_data(struct record *record, const struct sluice_view *view)
{
    const struct record *next = record->story;

    cr_assert_geq(sluice_stream_send_view(next->stream, view), 0);
}

STORY(views, are_forwarded_from_stream_to_stream)
{
    struct world world;
    struct record first[2];
    struct record second[2];
    uint8_t *data = pattern(LEN, 13);

    world_open(&world, NULL);
    stack_open_narrow(stack, &world, &first[0], &first[1], 700);
    stack_open_narrow(stack, &world, &second[0], &second[1], 900);
    first[1].story = &second[0];
    first[1].when_data = forward_when_data;
    send_now(&first[0], data, LEN);
    world_turns_until(&world, second[1].len == LEN, MANY_TURNS);
    cr_assert(has_heard(&second[1], data, LEN));
    for (int i = 0; i < 2; i++) {
        sluice_stream_abort(first[i].stream, 0);
        sluice_stream_abort(second[i].stream, 0);
    }
    world_until_closed(&world, &first[0], &first[1]);
    world_until_closed(&world, &second[0], &second[1]);
    for (int i = 0; i < 2; i++) {
        record_finish(&first[i]);
        record_finish(&second[i]);
    }
    world_close_empty(&world);
    free(data);
}
