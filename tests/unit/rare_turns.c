/*
 * Turns of an engine that hardly ever come: too many completions, strange ones, a broken ring, the last possible
 * moment.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <sluice/sluice.h>

#include "engine/config.h"
#include "engine/engine.h"
#include "engine/listener.h"
#include "tests/support/real_ring.h"
#include "tests/support/refusing_kernel.h"
#include "tests/support/world.h"

TestSuite(turns, .timeout = 30);

/* -- A ring that can be bent --------------------------------------------------------------------------------- */

/* How the one ring of a test departs from the true one. All zero: not at all. */
static struct {
    const struct ring_ops *straight;
    struct ring_ops ops;
    unsigned flood;     /* completions that come out of nowhere */
    uint64_t flood_for; /* what they are for */
    int32_t result;     /* told instead of the next success; 0: none */
    bool is_broken;
    bool holds_back;
    uint64_t now;       /* its clock, which time moves only by the next two; 0: the true one */
    uint64_t look_ns;   /* how long it takes to enter without waiting */
    uint64_t sleep_ns;  /* …and what a wait takes, which brings one completion */
    unsigned looks;     /* entries without a wait */
    unsigned looks_max; /* after which the engine is stopped */
    struct sluice_engine *engine;
} bend;

static uint32_t peek_bent(struct ring *ring, struct io_uring_cqe **completions, uint32_t max)
{
    static struct io_uring_cqe flood[COMPLETION_BATCH];
    uint32_t count = bend.flood < max ? bend.flood : max;

    for (uint32_t i = 0; i < count; i++) {
        flood[i] = (struct io_uring_cqe){.user_data = bend.flood_for};
        completions[i] = &flood[i];
    }
    if (count > 0)
        return count;
    count = bend.straight->peek(ring, completions, max);
    for (uint32_t i = 0; i < count && bend.result; i++)
        if (!(completions[i]->user_data & RING_CANCEL) && completions[i]->res > 0) {
            close(completions[i]->res);
            completions[i]->res = bend.result;
            bend.result = 0;
        }
    return count;
}

static void seen_bent(struct ring *ring, uint32_t count)
{
    if (bend.flood > 0)
        bend.flood -= count;
    else
        bend.straight->seen(ring, count);
}

static bool holds_back_bent(struct ring *ring)
{
    return bend.holds_back || bend.straight->holds_back(ring);
}

static struct io_uring_sqe *get_entry_bent(struct ring *ring)
{
    return bend.is_broken ? NULL : bend.straight->get_entry(ring);
}

/* Nobody waits while the clock is ours. A wait stops the engine, and so do too many looks. */
static int enter_by_our_clock(struct ring *ring, uint32_t completions, uint64_t deadline_ns)
{
    bend.now += deadline_ns > 0 ? bend.sleep_ns : bend.look_ns;
    bend.looks += deadline_ns == 0;
    if (deadline_ns > 0) {
        bend.flood_for = RING_CANCEL;
        bend.flood = 1;
    }
    if (deadline_ns > 0 || bend.looks == bend.looks_max)
        sluice_engine_stop(bend.engine);
    return bend.straight->enter(ring, completions, 0);
}

static int enter_bent(struct ring *ring, uint32_t completions, uint64_t deadline_ns)
{
    if (bend.is_broken)
        return -EBADR;
    if (bend.now)
        return enter_by_our_clock(ring, completions, deadline_ns);
    return bend.straight->enter(ring, completions, deadline_ns);
}

static uint64_t now_bent(struct ring *ring)
{
    return bend.now ? bend.now : bend.straight->now(ring);
}

static struct sluice_engine *create_polling_engine(uint64_t busy_poll_ns)
{
    const struct sluice_engine_options small = {
        .size = sizeof small,
        .ring_entries = ENTRIES,
        .completion_entries = COMPLETIONS,
        .receive_buffer_count = 8,
        .busy_poll_ns = busy_poll_ns,
    };
    struct sluice_engine_options options;
    struct ring *ring = open_ring(plain);
    struct sluice_engine *engine;
    char why[SLUICE_REASON_MAX];

    cr_assert_eq(config_complete(&small, &options, why, sizeof why), 0, "%s", why);
    bend.straight = ring->ops;
    bend.ops = *ring->ops;
    bend.ops.peek = peek_bent;
    bend.ops.seen = seen_bent;
    bend.ops.holds_back = holds_back_bent;
    bend.ops.get_entry = get_entry_bent;
    bend.ops.enter = enter_bent;
    bend.ops.now = now_bent;
    ring->ops = &bend.ops;
    cr_assert_eq(engine_create_on(ring, &options, &engine), 0);
    return engine;
}

static struct sluice_engine *create_bent_engine(void)
{
    return create_polling_engine(0);
}

static struct sluice_stats stats_of(const struct sluice_engine *engine)
{
    struct sluice_stats stats;

    sluice_engine_stats(engine, &stats);
    return stats;
}

/* -- Completions --------------------------------------------------------------------------------------------- */

Test(turns, take_so_many_completions_and_leave_the_others_to_the_next)
{
    struct sluice_engine *engine = create_bent_engine();

    bend.flood_for = RING_CANCEL; /* the answer to a cancel whose request is gone */
    bend.flood = TURN_COMPLETIONS + 10;
    cr_assert_eq(sluice_engine_turn(engine), 0);
    cr_assert_eq(bend.flood, 10);
    cr_assert_eq(sluice_engine_wait_ns(engine), 0);
    cr_assert_eq(sluice_engine_turn(engine), 0);
    cr_assert_eq(bend.flood, 0);
    cr_assert_eq(stats_of(engine).completions, TURN_COMPLETIONS + 10);
    cr_assert_eq(stats_of(engine).stale_completions, 0);
    sluice_engine_destroy(engine);
}

Test(turns, count_completions_that_nobody_waits_for)
{
    struct sluice_engine *engine = create_bent_engine();

    bend.flood_for = 12345;
    bend.flood = 3;
    cr_assert_eq(sluice_engine_turn(engine), 0);
    cr_assert_eq(stats_of(engine).stale_completions, 3);
    sluice_engine_destroy(engine);
}

Test(turns, are_due_while_the_kernel_holds_completions_back)
{
    struct sluice_engine *engine = create_bent_engine();

    cr_assert_eq(sluice_engine_turn(engine), 0);
    cr_assert_eq(sluice_engine_wait_ns(engine), UINT64_MAX);
    bend.holds_back = true;
    cr_assert_eq(sluice_engine_wait_ns(engine), 0);
    cr_assert_eq(sluice_engine_turn(engine), 0);
    sluice_engine_destroy(engine);
}

/* -- Busy polling -------------------------------------------------------------------------------------------- */

/* How often it looks before it waits; a wait of `sleep_ns` follows, or none if it still looks after `looks_max`. */
static unsigned count_looks(uint64_t sleep_ns, unsigned looks_max)
{
    bend.sleep_ns = sleep_ns;
    bend.looks = 0;
    bend.looks_max = looks_max;
    cr_assert_eq(sluice_engine_run(bend.engine), 0);
    return bend.looks;
}

Test(turns, do_not_sleep_while_waits_are_short)
{
    struct sluice_engine *engine;

    bend.now = 1;
    bend.look_ns = 1000;
    engine = bend.engine = create_polling_engine(50000);
    cr_assert_eq(count_looks(20000, 1000), 50, "until the budget is spent");
    cr_assert_eq(count_looks(20000, 1000), 0, "the last wait took longer: 70 us");
    cr_assert_eq(count_looks(1, 10), 10, "the last wait was short: 20 us");
    bend.now = 0;
    sluice_engine_destroy(engine);
}

Test(turns, sleep_at_once_without_busy_polling)
{
    struct sluice_engine *engine;

    bend.now = 1;
    bend.look_ns = 1000;
    engine = bend.engine = create_bent_engine();
    for (int i = 0; i < 3; i++)
        cr_assert_eq(count_looks(1, 10), 0);
    bend.now = 0;
    sluice_engine_destroy(engine);
}

/* -- A broken ring ------------------------------------------------------------------------------------------- */

static void count_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    int *closes = user;

    (void)stream;
    cr_assert_eq(why->error, -ECANCELED);
    ++*closes;
}

Test(turns, on_a_broken_ring_say_so_and_let_all_end)
{
    static const struct sluice_stream_events events = {.on_close = count_close};
    struct sluice_engine *engine = create_bent_engine();
    struct sluice_stream *stream;
    int closes = 0;

    bend.is_broken = true;
    cr_assert_eq(sluice_connect(engine, "127.0.0.1:9", &events, &closes, &stream), 0);
    cr_assert_eq(sluice_engine_turn(engine), -EBADR);
    cr_assert_eq(sluice_engine_run(engine), -EBADR);
    cr_assert_eq(closes, 0);
    sluice_engine_destroy(engine);
    cr_assert_eq(closes, 1);
}

/* -- Accepting ----------------------------------------------------------------------------------------------- */

struct hearing {
    struct sluice_stream *accepted[4]; /* held */
    int accepts;
    int errors;
    int closes; /* of the listener */
};

static void hear_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    struct hearing *hearing = user;

    (void)listener;
    sluice_stream_hold(stream);
    hearing->accepted[hearing->accepts++] = stream;
}

static void hear_error(struct sluice_listener *listener, int error, void *user)
{
    struct hearing *hearing = user;

    (void)listener;
    cr_assert_eq(error, -EMFILE);
    hearing->errors++;
}

static void hear_listener_close(struct sluice_listener *listener, void *user)
{
    struct hearing *hearing = user;

    (void)listener;
    hearing->closes++;
}

static const struct sluice_listener_events attentive = {
    .on_accept = hear_accept,
    .on_error = hear_error,
    .on_close = hear_listener_close,
};
static const struct sluice_listener_events careless = {.on_accept = hear_accept};

static int connect_plainly(struct sluice_listener *listener)
{
    const struct sockaddr_in *name = (const struct sockaddr_in *)&listener->address.storage;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(connect(fd, (const struct sockaddr *)name, sizeof *name), 0);
    return fd;
}

#define TURNS_UNTIL(engine, condition)                                                                                 \
    do {                                                                                                               \
        struct pollfd watch_ = {.fd = sluice_engine_fd(engine), .events = POLLIN};                                     \
        for (int taken_ = 0; !(condition) && taken_ < MANY_TURNS; taken_++) {                                          \
            poll(&watch_, 1, 1);                                                                                       \
            cr_assert_eq(sluice_engine_turn(engine), 0);                                                               \
        }                                                                                                              \
        cr_assert(condition);                                                                                          \
    } while (0)

/*
 * One connection is answered with `error`. The next is accepted all the same. Returns how often that paused accepting.
 */
static uint64_t accept_after(int error, const struct sluice_listener_events *events, struct hearing *hearing)
{
    struct sluice_engine *engine = create_bent_engine();
    struct sluice_listener *listener;
    uint64_t pauses;
    int peers[2];

    *hearing = (struct hearing){0};
    cr_assert_eq(sluice_listen(engine, "127.0.0.1:0", NULL, events, hearing, &listener), 0);
    cr_assert_eq(sluice_engine_turn(engine), 0);
    bend.result = error;
    peers[0] = connect_plainly(listener);
    TURNS_UNTIL(engine, bend.result == 0);
    peers[1] = connect_plainly(listener);
    TURNS_UNTIL(engine, hearing->accepts == 1);
    pauses = stats_of(engine).accept_errors;
    close(peers[0]);
    close(peers[1]);
    sluice_stream_release(hearing->accepted[0]);
    sluice_engine_destroy(engine);
    return pauses;
}

Test(turns, go_on_accepting_after_errors_that_are_not_ours)
{
    static const int passing[] = {-ECONNABORTED, -EINTR, -ECANCELED};
    struct hearing hearing;

    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) {
        cr_assert_eq(accept_after(passing[i], &attentive, &hearing), 0);
        cr_assert_eq(hearing.errors, 0);
        cr_assert_eq(hearing.closes, 1);
    }
}

Test(turns, go_on_accepting_after_a_pause_whether_or_not_somebody_hears_of_it)
{
    struct hearing hearing;

    cr_assert_eq(accept_after(-EMFILE, &attentive, &hearing), 1);
    cr_assert_eq(hearing.errors, 1);
    cr_assert_eq(accept_after(-EMFILE, &careless, &hearing), 1);
    cr_assert_eq(hearing.errors, 0);
}

Test(turns, keep_a_closed_listener_until_its_last_connection_is_gone)
{
    struct sluice_engine *engine = create_bent_engine();
    struct sluice_listener *listener;
    struct hearing hearing = {0};
    int peers[2];

    cr_assert_eq(sluice_listen(engine, "127.0.0.1:0", NULL, &attentive, &hearing, &listener), 0);
    peers[0] = connect_plainly(listener);
    peers[1] = connect_plainly(listener);
    TURNS_UNTIL(engine, hearing.accepts == 2);
    sluice_listener_close(listener);
    TURNS_UNTIL(engine, hearing.closes == 1);
    for (int i = 0; i < 2; i++) {
        sluice_stream_abort(hearing.accepted[i], 0);
        TURNS_UNTIL(engine, sluice_stream_state(hearing.accepted[i]) == SLUICE_CLOSED);
        sluice_stream_release(hearing.accepted[i]);
        close(peers[i]);
    }
    cr_assert_eq(stats_of(engine).streams, 0);
    sluice_engine_destroy(engine);
}

/* -- Sending ------------------------------------------------------------------------------------------------- */

static uint32_t buffers_out;

static void count_release(struct sluice_buffer *buffer)
{
    (void)buffer;
    buffers_out--;
}

Test(turns, send_more_vectors_than_there_is_room_for_between_two_enters)
{
    enum {
        STREAMS = GATHERS + 6,
        PART = 300, /* not copied */
    };
    static const uint8_t bytes[PART];
    static struct sluice_buffer buffers[STREAMS];
    struct sluice_engine_options options = {.ring_entries = 256, .completion_entries = 1024};
    struct sluice_stream *streams[STREAMS];
    char heard[2 * PART + 1];
    struct world world;
    int peers[STREAMS];

    world_open(&world, &options);
    for (int i = 0; i < STREAMS; i++) {
        int sockets[2];

        open_sockets(sockets);
        peers[i] = sockets[1];
        cr_assert_eq(sluice_fd_stream(world.engine, sockets[0], sockets[0], NULL, NULL, &streams[i]), 0);
    }
    world_turn(&world);
    for (int i = 0; i < STREAMS; i++) {
        struct sluice_view view = {.data = bytes, .len = PART, .buffer = &buffers[i]};

        sluice_buffer_init(&buffers[i], count_release);
        buffers_out++;
        cr_assert_eq(sluice_stream_send_view(streams[i], &view), SLUICE_ROOM);
        cr_assert_eq(sluice_stream_send_view(streams[i], &view), SLUICE_ROOM);
        sluice_buffer_drop(&buffers[i]);
    }
    world_turns_until(&world, buffers_out == 0, MANY_TURNS);
    for (int i = 0; i < STREAMS; i++) {
        cr_assert_eq(recv(peers[i], heard, sizeof heard, MSG_DONTWAIT), 2 * PART);
        close(peers[i]);
    }
    world_close(&world);
}

Test(turns, refuse_what_no_budget_could_ever_hold)
{
    enum {
        BUDGET = 1 << 20,
    };
    struct sluice_engine_options options = {.memory_budget = BUDGET, .send_high_mark = BUDGET / 2};
    uint8_t *bytes = calloc(1, 2 * BUDGET);
    struct world world;
    struct record left;
    struct record right;

    options.send_low_mark = BUDGET / 4;
    options.send_limit = BUDGET;
    world_open(&world, &options);
    world_pair(&world, &left, &right, 0);
    cr_assert_eq(sluice_stream_set_send_limits(left.stream, 1, 2, 4 * BUDGET), 0);
    cr_assert_eq(sluice_stream_send(left.stream, bytes, BUDGET + 1), -ENOBUFS);
    cr_assert_eq(sluice_stream_queued(left.stream), 0);
    sluice_stream_abort(left.stream, 0);
    world_until_closed(&world, &left, &right);
    record_finish(&left);
    record_finish(&right);
    world_close_empty(&world);
    free(bytes);
}

Test(turns, tell_that_our_direction_could_not_be_ended)
{
    struct world world;
    struct record record;
    int sockets[2];

    world_open(&world, NULL);
    record_init(&record, &world);
    open_sockets(sockets);
    cr_assert_eq(sluice_fd_stream(world.engine, sockets[0], sockets[0], &record_events, &record, &record.stream), 0);
    refuse_nothing();
    refuse(CALL_SHUTDOWN, 1, ENOBUFS);
    cr_assert_eq(sluice_stream_finish(record.stream), 0);
    world_turns_until(&world, record.closes, MANY_TURNS);
    assert_closed(&record, -ENOBUFS, 0);
    close(sockets[1]);
    record_finish(&record);
    world_close_empty(&world);
}

/* -- Connecting ---------------------------------------------------------------------------------------------- */

Test(turns, tell_a_want_of_ours_from_a_fault_of_the_network)
{
    static const int wants[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS};
    struct world world;

    world_open(&world, NULL);
    for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
        struct record record;

        record_init(&record, &world);
        refuse_nothing();
        refuse(CALL_SOCKET, 1, wants[i]);
        cr_assert_eq(sluice_connect(world.engine, "127.0.0.1:9", &record_events, &record, &record.stream), 0);
        cr_assert_str_eq(sluice_stream_kind(record.stream), "socket");
        world_turns_until(&world, record.closes, MANY_TURNS);
        assert_closed(&record, -wants[i], 0);
        cr_assert_eq(record.why.side, SLUICE_LOCAL);
        record_finish(&record);
    }
    refuse_nothing();
    world_close_empty(&world);
}

Test(turns, know_no_address_of_a_stream_that_is_not_connected)
{
    char text[SLUICE_ADDRESS_MAX];
    struct record record;
    struct world world;

    world_open(&world, NULL);
    record_init(&record, &world);
    cr_assert_eq(sluice_connect(world.engine, "127.0.0.1:9", &record_events, &record, &record.stream), 0);
    cr_assert_eq(sluice_stream_peer_address(record.stream, text, sizeof text), -ENOTCONN);
    cr_assert_eq(sluice_stream_local_address(record.stream, text, sizeof text), -ENOTCONN);
    sluice_stream_abort(record.stream, 0);
    world_turns_until(&world, record.closes, MANY_TURNS);
    record_finish(&record);
    world_close_empty(&world);
}

/* -- The last moment ----------------------------------------------------------------------------------------- */

static void never_fire(struct sluice_timer *timer)
{
    (void)timer;
    cr_assert_fail("the end of time has come");
}

Test(turns, have_timers_that_never_fire)
{
    struct sluice_timer timer = {.fire = never_fire};
    struct world world;
    struct record left;
    struct record right;

    world_open(&world, NULL);
    world_pair(&world, &left, &right, 0);
    sluice_stream_set_idle_timeout(left.stream, UINT64_MAX);
    sluice_timer_start(world.engine, &timer, UINT64_MAX);
    world_settle(&world);
    sluice_timer_start(world.engine, &timer, UINT64_MAX - 1);
    world_settle(&world);
    cr_assert_eq(left.closes, 0);
    sluice_timer_stop(world.engine, &timer);
    sluice_stream_abort(left.stream, 0);
    world_until_closed(&world, &left, &right);
    record_finish(&left);
    record_finish(&right);
    world_close_empty(&world);
}

/* Everything that could be begun is refused. */
static void begin_all(struct record *record)
{
    static const struct sluice_listener_events events = {.on_accept = hear_accept};
    const struct sluice_pair_end end = {.engine = record->world->engine};
    struct sluice_listener *listener;
    struct sluice_stream *streams[2];
    int *begun = record->story;
    int sockets[2];

    open_sockets(sockets);
    cr_assert_eq(sluice_listen(end.engine, "127.0.0.1:0", NULL, &events, NULL, &listener), -ESHUTDOWN);
    cr_assert_eq(sluice_connect(end.engine, "127.0.0.1:9", NULL, NULL, &streams[0]), -ESHUTDOWN);
    cr_assert_eq(sluice_fd_stream(end.engine, sockets[0], sockets[0], NULL, NULL, &streams[0]), -ESHUTDOWN);
    cr_assert_eq(sluice_pair(&end, &end, 0, &streams[0], &streams[1]), -ESHUTDOWN);
    close(sockets[0]);
    close(sockets[1]);
    ++*begun;
}

Test(turns, of_an_engine_that_ends_begin_nothing)
{
    int begun = 0;
    struct world world;
    struct record left;
    struct record right;

    world_open(&world, NULL);
    world_pair(&world, &left, &right, 0);
    left.story = &begun;
    left.when_close = begin_all;
    world_close(&world);
    cr_assert_eq(begun, 1);
    record_finish(&left);
    record_finish(&right);
    sluice_engine_destroy(NULL);
}

Test(turns, of_an_engine_that_cannot_be_had_are_none)
{
    struct sluice_engine_options options = {.size = sizeof options, .ring_entries = 3};
    struct sluice_engine *engine;

    cr_assert_eq(sluice_engine_create(&options, &engine), -EINVAL);
    options = (struct sluice_engine_options){.size = sizeof options, .thread_cpu = 1024};
    cr_assert_eq(sluice_engine_create(&options, &engine), -EINVAL);
}
