/*
 * What came while an engine slept, or while its loop was busy elsewhere, came when it woke; and it sleeps over nothing.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/socket.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "engine/engine.h"
#include "tests/support/net_end.h"
#include "tests/support/peer.h"

enum {
    MS = 1000000,
};

static const uint64_t timeout_ns = 1000 * (uint64_t)MS;
static const uint64_t longer_ns = 1200 * (uint64_t)MS;

TestSuite(sleep, .timeout = 60);

static uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

static void be_busy_elsewhere(void)
{
    uint64_t end = clock_ns() + longer_ns;

    while (clock_ns() < end)
        continue;
}

struct alarm_clock {
    struct sluice_timer timer;
    struct sluice_engine *engine;
    bool has_rung;
};

static void ring_alarm(struct sluice_timer *timer)
{
    ((struct alarm_clock *)timer)->has_rung = true;
}

Test(sleep, times_count_from_the_call_and_not_from_the_last_turn)
{
    struct sluice_engine_options options = net_options();
    struct alarm_clock clock = {.timer.fire = ring_alarm};
    struct end left;
    struct end right;
    struct net net;
    int sockets[2];

    options.idle_timeout_ns = timeout_ns;
    net_open(&net, &options);
    net_turns(&net, 1);
    be_busy_elsewhere();
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    end_open_fd(&left, &net, sockets[0], sockets[0], &end_silent);
    end_open_fd(&right, &net, sockets[1], sockets[1], &end_silent);
    sluice_timer_start(net.engine, &clock.timer, timeout_ns);
    net_turns(&net, 2);
    cr_assert(!clock.has_rung);
    cr_assert(!left.closes);
    sluice_timer_stop(net.engine, &clock.timer);
    end_close(&left);
    end_close(&right);
    net_until(&net, left.closes && right.closes);
    net_close(&net);
}

/* The server's engine runs on this thread; a connection comes when it has slept longer than any may be idle. */
struct night {
    struct sluice_engine *engine;
    char address[SLUICE_ADDRESS_MAX];
    int error;
    uint64_t received;
};

static void take_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct night *night = user;

    night->received += view->len;
    sluice_stream_close(stream);
}

static void take_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct night *night = user;

    (void)stream;
    night->error = why->error;
    sluice_engine_stop(night->engine);
}

static const struct sluice_stream_events woken = {.on_data = take_data, .on_close = take_close};

static void take_guest(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    sluice_stream_set_events(stream, &woken, user);
}

static const struct sluice_listener_events door = {.on_accept = take_guest};

static void *come_late(void *argument)
{
    const struct night *night = argument;
    int fd;

    be_busy_elsewhere();
    fd = peer_connect(night->address);
    peer_send(fd, 0, 0, 1);
    peer_finish(fd);
    peer_receive(fd, 1, 0, UINT64_MAX, 1);
    close(fd);
    return NULL;
}

Test(sleep, does_not_count_as_idleness_of_whoever_ends_it)
{
    struct sluice_engine_options options = net_options();
    struct sluice_listener *listener;
    struct night night = {.error = -1};
    pthread_t thread;

    options.idle_timeout_ns = timeout_ns;
    cr_assert_eq(sluice_engine_create(&options, &night.engine), 0);
    cr_assert_eq(sluice_listen(night.engine, "127.0.0.1:0", NULL, &door, &night, &listener), 0);
    cr_assert_eq(sluice_listener_address(listener, night.address, sizeof night.address), 0);
    cr_assert_eq(pthread_create(&thread, NULL, come_late, &night), 0);
    cr_assert_eq(sluice_engine_run(night.engine), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(night.received, 1);
    cr_assert_eq(night.error, 0, "%s", strerror(-night.error));
    sluice_engine_destroy(night.engine);
}

/* A send that will be taken without an answer, and behind it one that is refused: its drain may not wait for chance. */
struct evening {
    struct sluice_timer soon;
    struct sluice_engine *engine;
    struct sluice_stream *stream;
    int answer;
    bool is_last; /* the next sleep would be */
};

static const uint8_t bytes[600];

/* Timers come behind the flush in a turn: the first send is prepared, and not yet tried. */
static void send_second(struct sluice_timer *timer)
{
    struct evening *evening = (struct evening *)timer;

    evening->answer = sluice_stream_send(evening->stream, bytes, sizeof bytes);
    evening->is_last = true;
}

/* -- What a sleep is asked to last --------------------------------------------------------------------------- */

static int (*enter_ring)(struct ring *ring, uint32_t completions, uint64_t deadline_ns);
static bool (*holds_back_ring)(struct ring *ring);
static struct evening *noted;
static uint64_t last_deadline;

/* Of the sleep behind which nothing more is to be done; the engine runs until then. */
static int note_deadline(struct ring *ring, uint32_t completions, uint64_t deadline_ns)
{
    last_deadline = deadline_ns;
    if (noted->is_last)
        sluice_engine_stop(noted->engine);
    return enter_ring(ring, completions, 0);
}

static void open_evening(struct evening *evening, struct ring_ops *noting, int sockets[2])
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    cr_assert_eq(sluice_engine_create(NULL, &evening->engine), 0);
    cr_assert_eq(sluice_fd_stream(evening->engine, sockets[0], sockets[0], NULL, NULL, &evening->stream), 0);
    cr_assert_eq(sluice_stream_set_send_limits(evening->stream, 10, 900, 1000), 0);
    cr_assert_eq(sluice_engine_turn(evening->engine), 0);
    *noting = *evening->engine->ring->ops;
    enter_ring = noting->enter;
    holds_back_ring = noting->holds_back;
    noting->enter = note_deadline;
    noted = evening;
    evening->engine->ring->ops = noting;
}

static void close_evening(struct evening *evening, const int sockets[2])
{
    sluice_engine_destroy(evening->engine);
    close(sockets[1]);
}

Test(sleep, does_not_begin_while_a_drain_is_owed_for_what_was_refused)
{
    struct evening evening = {.soon.fire = send_second};
    struct ring_ops noting;
    int sockets[2];

    open_evening(&evening, &noting, sockets);
    sluice_timer_start(evening.engine, &evening.soon, 1 * MS);
    be_busy_elsewhere();
    cr_assert_eq(sluice_stream_send(evening.stream, bytes, sizeof bytes), SLUICE_ROOM);
    cr_assert_eq(sluice_engine_run(evening.engine), 0);
    cr_assert_eq(evening.answer, -ENOBUFS);
    cr_assert_eq(last_deadline, 0, "nothing would wake it");
    close_evening(&evening, sockets);
}

/* The end of our direction comes behind the flush as well. */
static void finish_now(struct sluice_timer *timer)
{
    struct evening *evening = (struct evening *)timer;

    sluice_stream_abort(evening->stream, 0);
    evening->is_last = true;
}

Test(sleep, does_not_begin_while_a_stream_that_is_aborted_waits_for_its_send)
{
    struct evening evening = {.soon.fire = finish_now};
    struct ring_ops noting;
    int sockets[2];

    open_evening(&evening, &noting, sockets);
    sluice_timer_start(evening.engine, &evening.soon, 1 * MS);
    be_busy_elsewhere();
    cr_assert_eq(sluice_stream_send(evening.stream, bytes, sizeof bytes), SLUICE_ROOM);
    cr_assert_eq(sluice_engine_run(evening.engine), 0);
    cr_assert_eq(last_deadline, 0, "nothing would wake it");
    close_evening(&evening, sockets);
}

static bool is_released;

static void note_release(struct sluice_buffer *buffer)
{
    (void)buffer;
    is_released = true;
}

Test(sleep, is_short_while_the_users_buffer_is_kept_by_a_send_that_is_over)
{
    struct evening evening = {.is_last = true};
    struct sluice_buffer buffer;
    struct ring_ops noting;
    int sockets[2];

    open_evening(&evening, &noting, sockets);
    sluice_buffer_init(&buffer, note_release);
    cr_assert_eq(sluice_stream_send_view(evening.stream,
                                         &(struct sluice_view){.data = bytes, .len = sizeof bytes, .buffer = &buffer}),
                 SLUICE_ROOM);
    sluice_buffer_drop(&buffer);
    cr_assert(!is_released);
    cr_assert_eq(sluice_engine_run(evening.engine), 0);
    cr_assert_leq(last_deadline, sluice_engine_now(evening.engine) + 1 * MS);
    cr_assert(is_released);
    close_evening(&evening, sockets);
}

static bool hold_back(struct ring *ring)
{
    (void)ring;
    return true;
}

/* Among what an overflow holds back may be the refusal: silence proves nothing then. */
Test(sleep, over_a_send_does_not_prove_it_taken_while_answers_are_held_back)
{
    struct evening evening = {.is_last = true};
    struct ring_ops noting;
    int sockets[2];

    open_evening(&evening, &noting, sockets);
    noting.holds_back = hold_back;
    cr_assert_eq(sluice_stream_send(evening.stream, bytes, sizeof bytes), SLUICE_ROOM);
    cr_assert_eq(sluice_engine_run(evening.engine), 0);
    cr_assert_eq(sluice_stream_queued(evening.stream), sizeof bytes);
    noting.holds_back = holds_back_ring;
    cr_assert_eq(sluice_engine_turn(evening.engine), 0);
    cr_assert_eq(sluice_stream_queued(evening.stream), 0);
    close_evening(&evening, sockets);
}
