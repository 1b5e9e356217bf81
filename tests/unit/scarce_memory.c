/* Memory that runs out at one exact moment: what could not be had is told, and nothing is half done. */
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "engine/bytes.h"
#include "engine/engine.h"
#include "engine/operation.h"
#include "tests/support/glass_layer.h"
#include "tests/support/real_ring.h"
#include "tests/support/refusing_kernel.h"
#include "tests/support/world.h"

TestSuite(memory, .timeout = 30);

/* -- Bytes --------------------------------------------------------------------------------------------------- */

static void ignore_release(struct sluice_buffer *buffer)
{
    (void)buffer;
}

Test(memory, that_lacks_for_a_part_leaves_the_whole_where_it_is)
{
    struct sluice_buffer buffer;
    struct sluice_view view = {.data = (const uint8_t *)"0123456789", .len = 10, .buffer = &buffer};
    struct bytes from;
    struct bytes to;
    struct pool pool;

    pool_init(&pool);
    bytes_init(&from);
    bytes_init(&to);
    sluice_buffer_init(&buffer, ignore_release);
    cr_assert_geq(bytes_append_view(&from, &pool, &view), 0);
    refuse_nothing();
    refuse(CALL_MALLOC, 1, ENOMEM);
    cr_assert_eq(bytes_move(&from, &to, &pool, 4), -ENOMEM);
    cr_assert_eq(from.len, 10);
    cr_assert_eq(to.len, 0);
    cr_assert_eq(bytes_move(&from, &to, &pool, 4), 0);
    cr_assert_eq(to.len, 4);
    bytes_clear(&from, &pool);
    bytes_clear(&to, &pool);
    cr_assert_eq(buffer.references, 1);
    pool_finish(&pool);
}

static bool is_any(const struct sluice_buffer *buffer)
{
    return buffer;
}

Test(memory, that_lacks_for_a_copy_leaves_the_bytes_where_they_lie)
{
    struct sluice_buffer buffer;
    struct sluice_view view = {.data = (const uint8_t *)"0123456789", .len = 10, .buffer = &buffer};
    struct bytes bytes;
    struct pool pool;

    pool_init(&pool);
    bytes_init(&bytes);
    sluice_buffer_init(&buffer, ignore_release);
    cr_assert_eq(bytes_append_view(&bytes, &pool, &view), 0);
    refuse_nothing();
    refuse(CALL_MALLOC, 1, ENOMEM);
    cr_assert_eq(bytes_copy_out(&bytes, &pool, is_any), 0);
    cr_assert_eq(bytes.first->data, view.data);
    cr_assert_eq(bytes_copy_out(&bytes, &pool, is_any), 1);
    cr_assert_eq(memcmp(bytes.first->data, view.data, view.len), 0);
    cr_assert_eq(buffer.references, 1);
    bytes_clear(&bytes, &pool);
    pool_finish(&pool);
}

/* A copy of their own needs a place in the queue, and a block. */
Test(memory, that_lacks_for_a_private_copy_leaves_the_queue_as_it_was)
{
    struct sluice_buffer buffer;
    struct sluice_view view = {.data = (const uint8_t *)"0123456789", .len = 10, .buffer = &buffer};
    struct sluice_view empty = {.data = view.data, .buffer = &buffer};
    struct bytes bytes;
    struct pool pool;

    pool_init(&pool);
    bytes_init(&bytes);
    sluice_buffer_init(&buffer, ignore_release);
    for (unsigned nth = 1; nth <= 2; nth++) {
        refuse_nothing();
        refuse(CALL_MALLOC, nth, ENOMEM);
        cr_assert_eq(bytes_append_private(&bytes, &pool, &view), -ENOMEM);
        cr_assert(bytes_is_empty(&bytes));
        pool_finish(&pool);
        pool_init(&pool);
    }
    cr_assert_eq(bytes_append_private(&bytes, &pool, &view), 0);
    cr_assert_eq(bytes_append_private(&bytes, &pool, &empty), 0);
    cr_assert_eq(bytes.len, view.len);
    cr_assert_eq(buffer.references, 1);
    bytes_clear(&bytes, &pool);
    pool_finish(&pool);
}

/* -- Layers -------------------------------------------------------------------------------------------------- */

/* A glass on a frame: what is sent goes down twice, with a length before it. Returns how the sender ended. */
static int pass_down_without(unsigned allocation, unsigned *allocations)
{
    const struct sluice_frame_options options = {0};
    static const uint8_t bytes[3000];
    struct world world;
    struct record left;
    struct record right;
    int error;

    world_open(&world, NULL);
    world_pair(&world, &left, &right, 0);
    cr_assert_eq(sluice_frame_stream(left.stream, &options, NULL, NULL, &left.stream), 0);
    cr_assert_eq(glass_stream(left.stream, &record_events, &left, &left.stream), 0);
    world_settle(&world);
    refuse_nothing();
    refuse(CALL_MALLOC, allocation, ENOMEM);
    error = sluice_stream_send(left.stream, bytes, sizeof bytes);
    if (error >= 0)
        world_settle(&world);
    *allocations = calls_made(CALL_MALLOC);
    refuse_nothing();
    if (error >= 0 && left.closes) {
        error = left.why.error;
        cr_assert_eq(left.why.unsent, sizeof bytes);
    }
    if (left.stream)
        sluice_stream_abort(left.stream, 0);
    world_until_closed(&world, &left, &right);
    if (error >= 0)
        cr_assert_eq(right.len, 2 + sizeof bytes);
    record_finish(&left);
    record_finish(&right);
    world_close_empty(&world);
    return error;
}

Test(memory, that_lacks_on_the_way_through_layers_is_told_as_the_cause)
{
    unsigned allocations;
    unsigned needed;

    cr_assert_geq(pass_down_without(REFUSALS_MAX, &needed), 0);
    cr_assert_gt(needed, 2);
    cr_assert_lt(needed, REFUSALS_MAX);
    for (unsigned nth = 1; nth <= needed; nth++) {
        int error = pass_down_without(nth, &allocations);

        cr_assert(error >= 0 || error == -ENOMEM, "without allocation %u: %d", nth, error);
        cr_assert_geq(allocations, nth);
    }
    cr_assert_eq(pass_down_without(1, &allocations), -ENOMEM);
}

/* -- Operations ---------------------------------------------------------------------------------------------- */

enum {
    SLOTS = 64, /* that the table of an engine has at first */
};

static void never_complete(struct operation *operation, const struct io_uring_cqe *completion)
{
    (void)operation;
    (void)completion;
    cr_assert_fail("it was never armed");
}

/* Takes slots of a fresh engine until only so many are left, and the table cannot grow any more. */
static unsigned fill_slots(struct world *world, struct operation operations[SLOTS], unsigned left)
{
    struct operations *table = &world->engine->operations;
    unsigned taken = 0;

    refuse_nothing();
    do
        cr_assert_eq(operation_init(&operations[taken++], table, never_complete), 0);
    while (table->count < SLOTS - left);
    cr_assert_eq(table->capacity, SLOTS);
    refuse_all(CALL_REALLOC, ENOMEM);
    return taken;
}

static void empty_slots(struct world *world, struct operation operations[SLOTS], unsigned taken)
{
    refuse_nothing();
    while (taken > 0)
        operation_finish(&operations[--taken], &world->engine->operations);
}

Test(memory, that_lacks_for_an_attempt_to_connect_is_the_cause_of_its_end)
{
    struct operation operations[SLOTS];
    struct sluice_stream *stream;
    struct record record;
    struct world world;
    unsigned taken;

    for (unsigned left = 0; left < 2; left++) {
        world_open(&world, NULL);
        taken = fill_slots(&world, operations, left);
        cr_assert_eq(sluice_connect(world.engine, "127.0.0.1:9", NULL, NULL, &stream), -ENOMEM);
        empty_slots(&world, operations, taken);
        world_close_empty(&world);
    }
    world_open(&world, NULL);
    record_init(&record, &world);
    taken = fill_slots(&world, operations, 2);
    cr_assert_eq(sluice_connect(world.engine, "127.0.0.1:9", &record_events, &record, &record.stream), 0);
    world_turns_until(&world, record.closes, MANY_TURNS);
    assert_closed(&record, -ENOMEM, 0);
    cr_assert_eq(record.why.side, SLUICE_LOCAL);
    empty_slots(&world, operations, taken);
    record_finish(&record);
    world_close_empty(&world);
}

/* The bytes go the ordinary way. */
Test(memory, that_lacks_for_zero_copy_costs_only_a_copy)
{
    enum {
        LEN = 4096,
    };
    static const uint8_t bytes[LEN];
    struct sluice_engine_options options = {.zero_copy_minimum = 256};
    struct operation operations[SLOTS];
    struct sluice_buffer buffer;
    struct sluice_view view = {.data = bytes, .len = LEN, .buffer = &buffer};
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct record record;
    struct world world;
    char heard[LEN];
    unsigned taken;
    int peer;

    cr_assert_eq(bind(listener, (struct sockaddr *)&name, len), 0);
    cr_assert_eq(listen(listener, 1), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&name, &len), 0);
    cr_assert_eq(connect(client, (struct sockaddr *)&name, len), 0);
    peer = accept(listener, NULL, NULL);
    world_open(&world, &options);
    record_init(&record, &world);
    cr_assert_eq(sluice_fd_stream(world.engine, client, client, &record_events, &record, &record.stream), 0);
    world_turn(&world);
    taken = fill_slots(&world, operations, 0);
    sluice_buffer_init(&buffer, ignore_release);
    cr_assert_eq(sluice_stream_send_view(record.stream, &view), SLUICE_ROOM);
    world_turns_until(&world, buffer.references == 1, MANY_TURNS);
    cr_assert_eq(world_stats(&world).zero_copy_sends, 0);
    cr_assert_eq(recv(peer, heard, sizeof heard, MSG_WAITALL), LEN);
    empty_slots(&world, operations, taken);
    cr_assert_eq(sluice_stream_send_view(record.stream, &view), SLUICE_ROOM);
    world_turns_until(&world, buffer.references == 1, MANY_TURNS);
    sluice_stream_abort(record.stream, 0);
    world_turns_until(&world, record.closes, MANY_TURNS);
    close(peer);
    close(listener);
    record_finish(&record);
    world_close_empty(&world);
}

/* -- Engines ------------------------------------------------------------------------------------------------- */

/* Whichever allocation fails, the thread may run where it could before. */
Test(memory, that_lacks_for_an_engine_leaves_its_thread_where_it_was)
{
    struct sluice_engine_options options = {.size = sizeof options};
    struct sluice_engine *engine;
    cpu_set_t before;
    int error = -ENOMEM;

    cr_assert_eq(sched_getaffinity(0, sizeof before, &before), 0);
    for (options.thread_cpu = 1; !CPU_ISSET(options.thread_cpu - 1, &before); options.thread_cpu++)
        continue;
    for (unsigned nth = 1; error; nth++) {
        cpu_set_t after;

        refuse_nothing();
        refuse(CALL_CALLOC, nth, ENOMEM);
        error = sluice_engine_create(&options, &engine);
        cr_assert_eq(sched_getaffinity(0, sizeof after, &after), 0);
        cr_assert(error == 0 || error == -ENOMEM, "%d", error);
        cr_assert(error == 0 || CPU_EQUAL(&before, &after), "the allocation number %u", nth);
    }
    sluice_engine_destroy(engine);
    sched_setaffinity(0, sizeof before, &before);
}
