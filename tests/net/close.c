/* How connections end: gracefully without losing a byte, at once, by the peer, in every order. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_end.h"
#include "tests/support/net_stories.h"
#include "tests/support/random.h"

#define MILLISECOND UINT64_C(1000000)

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
    CROWD = 100,
};

TestSuite(close, .timeout = 60);

static void expect_why(const struct end *end, int error, enum sluice_side side, uint64_t unsent)
{
    cr_assert_eq(end->closes, 1);
    cr_assert_eq(end->why.error, error, "%d", end->why.error);
    cr_assert_eq(end->why.side, side);
    cr_assert_eq(end->why.unsent, unsent, "%llu", (unsigned long long)end->why.unsent);
}

/* -- Gracefully ---------------------------------------------------------------------------------------------- */

Test(close, loses_nothing_when_a_tcp_peer_reads_slowly)
{
    story_slow_reader(NULL, PEER_TCP4);
}

Test(close, loses_nothing_when_a_unix_peer_reads_slowly)
{
    story_slow_reader(NULL, PEER_UNIX);
}

Test(close, outlasts_a_tcp_peer_that_keeps_sending)
{
    story_linger(NULL, PEER_TCP4);
}

Test(close, outlasts_a_unix_peer_that_keeps_sending)
{
    story_linger(NULL, PEER_UNIX);
}

/*
 * Some kernels (6.17) have a multishot receive that takes the last bytes wait for ever for the end that came with them.
 * Not this one, perhaps: so look whether each receive is a request of its own, which looks each time.
 */
Test(close, of_a_unix_peer_is_looked_for_with_each_receive)
{
    struct server server;
    struct net net;
    uint64_t before;
    int peer;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_UNIX, &end_polite);
    peer = peer_connect(server.address);
    net_until(&net, server.accepted == 1);
    before = net_stats(&net).submissions;
    for (unsigned i = 0; i < CROWD; i++) {
        cr_assert_eq(peer_send(peer, 0, i, 1), 1);
        net_until(&net, server.ends->received == i + 1);
    }
    cr_assert_geq(net_stats(&net).submissions, before + CROWD);
    peer_finish(peer);
    server_close(&server);
    close(peer);
    net_close(&net);
    peer_remove_folders();
}

/* Sends until the kernel and the queue are full. */
static void stuff(struct end *end)
{
    while (end_send(end, 64 * KIB) >= 0)
        continue;
}

Test(close, gives_up_on_a_peer_that_never_reads_and_counts_what_is_left)
{
    struct sluice_engine_options options = net_options();
    struct peer_received received;
    struct sluice_stats stats;
    struct meeting meeting;

    options.linger_ns = 30 * MILLISECOND;
    for (enum peer_family family = PEER_TCP4; family < PEER_FAMILIES; family++) {
        meeting_start(&meeting, &options, family, 0, &end_silent);
        stuff(meeting.end);
        end_close(meeting.end);
        net_until(&meeting.net, meeting.end->closes);
        stats = net_stats(&meeting.net);
        cr_assert_gt(stats.bytes_sent, 0);
        expect_why(meeting.end, -ETIMEDOUT, SLUICE_LOCAL, meeting.end->accepted - stats.bytes_sent);
        received = peer_receive(meeting.peer, 0, 0, UINT64_MAX, 65536);
        cr_assert(received.is_intact);
        cr_assert_leq(received.bytes, stats.bytes_sent);
        /* Unix sockets have no wire to lose it on. */
        if (family == PEER_UNIX || family == PEER_ABSTRACT)
            cr_assert_eq(received.bytes, meeting.end->accepted - meeting.end->why.unsent);
        close(meeting.peer);
        meeting_stop(&meeting);
    }
}

Test(close, does_not_wait_for_ever_for_a_peer_that_does_not_finish)
{
    struct sluice_engine_options options = net_options();
    struct meeting meeting;

    options.linger_ns = 20 * MILLISECOND;
    meeting_start(&meeting, &options, PEER_TCP4, 0, &end_silent);
    cr_assert_geq(end_send(meeting.end, 1000), 0);
    end_close(meeting.end);
    net_until(&meeting.net, meeting.end->closes);
    expect_why(meeting.end, 0, SLUICE_LOCAL, 0);
    cr_assert_eq(peer_receive(meeting.peer, 0, 0, UINT64_MAX, KIB).bytes, 1000);
    close(meeting.peer);
    meeting_stop(&meeting);
}

Test(close, with_data_of_the_peer_unread_still_delivers_ours)
{
    struct peer_received received;
    struct meeting meeting;

    for (enum peer_family family = PEER_TCP4; family < PEER_FAMILIES; family++) {
        meeting_start(&meeting, NULL, family, 0, &end_silent);
        cr_assert_eq(sluice_stream_pause(meeting.end->stream), 0);
        cr_assert_eq(peer_send(meeting.peer, 0, 0, 32 * KIB), 32 * KIB);
        cr_assert_geq(end_send(meeting.end, 100 * KIB), 0);
        end_close(meeting.end);
        net_turns(&meeting.net, 20);
        received = peer_receive(meeting.peer, 0, 0, UINT64_MAX, 65536);
        cr_assert_eq(received.error, 0);
        cr_assert_eq(received.bytes, 100 * KIB);
        cr_assert(received.has_ended && received.is_intact);
        close(meeting.peer);
        net_until(&meeting.net, meeting.end->closes);
        expect_why(meeting.end, 0, SLUICE_LOCAL, 0);
        meeting_stop(&meeting);
    }
}

Test(close, three_times_is_once)
{
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    cr_assert_geq(end_send(meeting.end, 1000), 0);
    end_close(meeting.end);
    end_close(meeting.end);
    net_turns(&meeting.net, 3);
    end_close(meeting.end);
    cr_assert_eq(peer_receive(meeting.peer, 0, 0, UINT64_MAX, KIB).bytes, 1000);
    close(meeting.peer);
    net_until(&meeting.net, meeting.end->closes);
    net_turns(&meeting.net, 5);
    expect_why(meeting.end, 0, SLUICE_LOCAL, 0);
    meeting_stop(&meeting);
}

Test(close, at_both_ends_at_once_is_graceful)
{
    struct server server;
    struct end client;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_silent);
    end_connect(&client, &net, server.address, &end_silent);
    net_until(&net, client.opens && server.accepted);
    cr_assert_geq(end_send(&client, 100 * KIB), 0);
    cr_assert_geq(end_send(server.ends, 100 * KIB), 0);
    end_close(&client);
    end_close(server.ends);
    cr_assert_eq(sluice_stream_state(client.stream), SLUICE_CLOSING);
    cr_assert_eq(sluice_stream_write_status(client.stream), SLUICE_WRITE_CLOSING);
    net_until(&net, client.closes && server.ends->closes);
    expect_why(&client, 0, SLUICE_LOCAL, 0);
    expect_why(server.ends, 0, SLUICE_LOCAL, 0);
    server_close(&server);
    net_close(&net);
}

Test(close, happens_by_itself_when_both_have_finished)
{
    struct meeting meeting;

    for (int peer_first = 0; peer_first < 2; peer_first++) {
        meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
        if (peer_first) {
            peer_finish(meeting.peer);
            net_until(&meeting.net, meeting.end->ends);
            cr_assert_eq(sluice_stream_state(meeting.end->stream), SLUICE_OPEN);
            cr_assert_eq(sluice_stream_write_status(meeting.end->stream), SLUICE_WRITABLE);
        }
        cr_assert_geq(end_send(meeting.end, 1000), 0);
        end_finish(meeting.end);
        net_turns(&meeting.net, 5);
        if (!peer_first) {
            cr_assert_eq(meeting.end->closes, 0);
            peer_finish(meeting.peer);
        }
        net_until(&meeting.net, meeting.end->closes);
        cr_assert_eq(meeting.end->ends, 1);
        cr_assert_eq(meeting.end->why.error, 0);
        cr_assert_eq(meeting.end->why.unsent, 0);
        cr_assert_eq(peer_receive(meeting.peer, 0, 0, UINT64_MAX, KIB).bytes, 1000);
        close(meeting.peer);
        meeting_stop(&meeting);
    }
}

Test(close, while_the_peer_still_writes_ends_both)
{
    struct server server;
    struct end client;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_polite);
    end_connect(&client, &net, server.address, &end_silent);
    net_until(&net, client.opens && server.accepted);
    end_pour(server.ends, 4 * MIB, 64 * KIB, END_STAY);
    net_until(&net, client.received > 64 * KIB);
    end_close(&client);
    net_until(&net, client.closes && server.ends->closes);
    cr_assert_eq(client.why.error, 0);
    cr_assert_eq(server.ends->why.error, 0, "%d", server.ends->why.error);
    server_close(&server);
    net_close(&net);
}

/* -- At once ------------------------------------------------------------------------------------------------- */

Test(close, by_abort_resets_a_tcp_peer)
{
    story_abort(NULL, PEER_TCP4);
    story_abort(NULL, PEER_TCP6);
}

Test(close, by_abort_ends_a_unix_peer)
{
    story_abort(NULL, PEER_UNIX);
}

Test(close, by_abort_counts_every_byte_that_was_queued)
{
    struct peer_received received;
    struct sluice_stats stats;
    struct meeting meeting;

    for (enum peer_family family = PEER_TCP4; family < PEER_FAMILIES; family++) {
        meeting_start(&meeting, NULL, family, 0, &end_silent);
        stuff(meeting.end);
        net_turns(&meeting.net, 50);
        cr_assert_gt(sluice_stream_queued(meeting.end->stream), 0);
        end_abort(meeting.end, 0);
        net_until(&meeting.net, meeting.end->closes);
        stats = net_stats(&meeting.net);
        expect_why(meeting.end, -ECONNABORTED, SLUICE_LOCAL, meeting.end->accepted - stats.bytes_sent);
        received = peer_receive(meeting.peer, 0, 0, UINT64_MAX, 65536);
        if (family == PEER_UNIX || family == PEER_ABSTRACT)
            cr_assert_eq(received.bytes, stats.bytes_sent);
        cr_assert(received.is_intact);
        close(meeting.peer);
        meeting_stop(&meeting);
    }
}

Test(close, by_abort_wins_over_a_close_under_way)
{
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    stuff(meeting.end);
    end_close(meeting.end);
    net_turns(&meeting.net, 10);
    cr_assert_eq(meeting.end->closes, 0);
    end_abort(meeting.end, -EPROTO);
    end_abort(meeting.end, -EIO);
    end_close(meeting.end);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert_eq(meeting.end->why.error, -EPROTO);
    cr_assert_gt(meeting.end->why.unsent, 0);
    close(meeting.peer);
    meeting_stop(&meeting);
}

Test(close, by_abort_while_the_peer_keeps_sending_stops_it)
{
    struct peer_thread peer = {.send_bytes = UINT64_C(1) << 40};
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    peer.fd = meeting.peer;
    peer_thread_start(&peer, peer_run_source);
    net_until(&meeting.net, meeting.end->received > MIB);
    end_abort(meeting.end, 0);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&peer);
    cr_assert_lt(peer.sent, peer.send_bytes);
    expect_why(meeting.end, -ECONNABORTED, SLUICE_LOCAL, 0);
    meeting_stop(&meeting);
}

/* -- By the peer --------------------------------------------------------------------------------------------- */

Test(close, by_reset_comes_after_the_data_before_it)
{
    story_reset(NULL);
}

Test(close, by_reset_comes_after_data_that_was_held_while_paused)
{
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    cr_assert_eq(peer_send(meeting.peer, 0, 0, 100), 100);
    net_until(&meeting.net, meeting.end->received == 100);
    cr_assert_eq(peer_send(meeting.peer, 0, 100, 100), 100);
    cr_assert_eq(sluice_stream_pause(meeting.end->stream), 0);
    peer_reset(meeting.peer);
    net_turns(&meeting.net, 20);
    cr_assert_eq(meeting.end->received, 100);
    cr_assert_eq(meeting.end->closes, 0);
    cr_assert_eq(sluice_stream_resume(meeting.end->stream), 0);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert_eq(meeting.end->received, 200);
    expect_why(meeting.end, -ECONNRESET, SLUICE_REMOTE, 0);
    meeting_stop(&meeting);
}

Test(close, by_reset_without_data)
{
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    peer_reset(meeting.peer);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert_eq(meeting.end->received, 0);
    cr_assert_eq(meeting.end->ends, 0);
    expect_why(meeting.end, -ECONNRESET, SLUICE_REMOTE, 0);
    meeting_stop(&meeting);
}

/* The reset, the bytes before it, the end of connecting and our first send come together. */
Test(close, by_reset_right_after_connecting)
{
    char address[SLUICE_ADDRESS_MAX];
    int listener = peer_listen(PEER_TCP4, 10, address);
    struct end client;
    struct net net;

    net_open(&net, NULL);
    for (int i = 0; i < 200; i++) {
        int turns = i % 4;
        int peer;

        end_connect(&client, &net, address, &end_silent);
        cr_assert_geq(end_send(&client, 79), 0);
        net_turns(&net, 1);
        peer = peer_accept(listener);
        net_turns(&net, turns);
        cr_assert_eq(peer_send(peer, 0, 0, 11166), 11166);
        peer_reset(peer);
        net_until(&net, client.closes);
        cr_assert(client.why.error == -ECONNRESET || client.why.error == -EPIPE || client.why.error == -ECONNABORTED,
                  "%d", client.why.error);
        cr_assert_eq(client.why.side, SLUICE_REMOTE);
    }
    net_close(&net);
    close(listener);
}

Test(close, by_reset_with_a_full_queue_counts_what_is_lost)
{
    struct sluice_stats stats;
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    stuff(meeting.end);
    net_turns(&meeting.net, 20);
    peer_reset(meeting.peer);
    net_until(&meeting.net, meeting.end->closes);
    stats = net_stats(&meeting.net);
    cr_assert_eq(meeting.end->why.unsent, meeting.end->accepted - stats.bytes_sent);
    cr_assert_eq(meeting.end->why.side, SLUICE_REMOTE);
    cr_assert(meeting.end->why.error == -ECONNRESET || meeting.end->why.error == -EPIPE);
    meeting_stop(&meeting);
}

static void stuff_and_pause(struct end *end, const struct sluice_view *view)
{
    (void)view;
    while (!end->is_full)
        end_send(end, 16 * KIB);
    cr_assert_eq(sluice_stream_pause(end->stream), 0);
}

static void resume(struct end *end)
{
    cr_assert_eq(sluice_stream_resume(end->stream), 0);
}

/*
 * As every echo and proxy does: no bytes are wanted until there is room for them on the other side. Whichever of
 * receive, send and the end of the receive meets the reset first.
 */
Test(close, by_reset_reaches_a_stream_that_paused_until_drain)
{
    static const struct end_plan plan = {.on_data = stuff_and_pause, .on_drain = resume};
    struct meeting meeting;

    for (int turns_between = 0; turns_between < 4; turns_between++) {
        meeting_start(&meeting, NULL, PEER_TCP4, 0, &plan);
        cr_assert_eq(peer_send(meeting.peer, 0, 0, 1000), 1000);
        net_until(&meeting.net, meeting.end->received == 1000);
        net_turns(&meeting.net, turns_between);
        peer_reset(meeting.peer);
        net_until(&meeting.net, meeting.end->closes);
        cr_assert(meeting.end->why.error == -ECONNRESET || meeting.end->why.error == -EPIPE, "%d",
                  meeting.end->why.error);
        meeting_stop(&meeting);
    }
}

Test(close, by_reset_during_our_graceful_close)
{
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    stuff(meeting.end);
    end_close(meeting.end);
    net_turns(&meeting.net, 10);
    peer_reset(meeting.peer);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert(meeting.end->why.error == -ECONNRESET || meeting.end->why.error == -EPIPE, "%d", meeting.end->why.error);
    cr_assert_gt(meeting.end->why.unsent, 0);
    meeting_stop(&meeting);
}

/* Ends a child without a word, as the kernel does to a process that is out of memory. */
static void kill_child(pid_t child)
{
    int status;

    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status));
}

Test(close, by_a_peer_that_is_killed_is_its_end)
{
    struct meeting meeting;
    pid_t child;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_polite);
    child = fork();
    if (child == 0) {
        peer_send(meeting.peer, 0, 0, 100 * KIB);
        for (;;)
            pause();
    }
    close(meeting.peer);
    net_until(&meeting.net, meeting.end->received == 100 * KIB);
    cr_assert_eq(meeting.end->ends, 0);
    kill_child(child);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert_eq(meeting.end->ends, 1);
    expect_why(meeting.end, 0, SLUICE_LOCAL, 0);
    meeting_stop(&meeting);
}

Test(close, by_a_peer_that_is_killed_with_our_bytes_unread_is_a_reset)
{
    struct meeting meeting;
    pid_t child;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    child = fork();
    if (child == 0) {
        peer_send(meeting.peer, 0, 0, 10);
        for (;;)
            pause();
    }
    close(meeting.peer);
    stuff(meeting.end);
    net_until(&meeting.net, meeting.end->received == 10);
    net_turns(&meeting.net, 10);
    kill_child(child);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert(meeting.end->why.error == -ECONNRESET || meeting.end->why.error == -EPIPE, "%d", meeting.end->why.error);
    cr_assert_eq(meeting.end->why.side, SLUICE_REMOTE);
    cr_assert_gt(meeting.end->why.unsent, 0);
    meeting_stop(&meeting);
}

/* -- For want of bytes --------------------------------------------------------------------------------------- */

Test(close, by_idle_timeout_resets_the_peer)
{
    struct sluice_engine_options options = net_options();
    struct meeting meeting;

    options.idle_timeout_ns = 20 * MILLISECOND;
    meeting_start(&meeting, &options, PEER_TCP4, 0, &end_silent);
    net_until(&meeting.net, meeting.end->closes);
    expect_why(meeting.end, -ETIMEDOUT, SLUICE_LOCAL, 0);
    cr_assert_eq(peer_receive(meeting.peer, 0, 0, 1, 1).error, -ECONNRESET);
    close(meeting.peer);
    meeting_stop(&meeting);
}

Test(close, by_idle_timeout_ends_a_half_open_peer)
{
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    peer_finish(meeting.peer);
    net_until(&meeting.net, meeting.end->ends);
    sluice_stream_set_idle_timeout(meeting.end->stream, 20 * MILLISECOND);
    net_until(&meeting.net, meeting.end->closes);
    expect_why(meeting.end, -ETIMEDOUT, SLUICE_LOCAL, 0);
    close(meeting.peer);
    meeting_stop(&meeting);
}

/* -- From inside callbacks ----------------------------------------------------------------------------------- */

static void close_self(struct end *end)
{
    end_close(end);
    end_close(end);
}

static void close_on_data(struct end *end, const struct sluice_view *view)
{
    (void)view;
    end_close(end);
}

static void abort_self(struct end *end)
{
    end_abort(end, -EPROTO);
    end_close(end);
}

static void abort_on_data(struct end *end, const struct sluice_view *view)
{
    (void)view;
    abort_self(end);
}

static void close_when_closed(struct end *end)
{
    sluice_stream_close(end->stream);
    sluice_stream_abort(end->stream, -EIO);
    cr_assert_eq(sluice_stream_send(end->stream, "x", 1), -EPIPE);
    cr_assert_eq(sluice_stream_finish(end->stream), -EPIPE);
    cr_assert_eq(sluice_stream_pause(end->stream), -EPIPE);
    cr_assert_eq(sluice_stream_resume(end->stream), -EPIPE);
}

/* A client of ours that hears everything there is to hear, until its plan ends it. */
static void play(const struct end_plan *plan, int expected)
{
    struct server server;
    struct end client;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_echo);
    end_connect(&client, &net, server.address, plan);
    end_pour(&client, 256 * KIB, 32 * KIB, END_FINISH);
    net_until(&net, client.closes);
    net_turns(&net, 10);
    cr_assert_eq(client.why.error, expected, "%d", client.why.error);
    server_close(&server);
    net_close(&net);
}

Test(close, from_on_open)
{
    play(&(struct end_plan){.on_open = close_self, .on_close = close_when_closed}, 0);
    play(&(struct end_plan){.on_open = abort_self}, -EPROTO);
}

Test(close, from_on_data)
{
    play(&(struct end_plan){.on_data = close_on_data, .on_close = close_when_closed}, 0);
    play(&(struct end_plan){.on_data = abort_on_data}, -EPROTO);
}

Test(close, from_on_drain)
{
    play(&(struct end_plan){.on_drain = close_self, .on_close = close_when_closed}, 0);
    play(&(struct end_plan){.on_drain = abort_self}, -EPROTO);
}

Test(close, from_on_end)
{
    play(&(struct end_plan){.on_end = close_self, .on_close = close_when_closed}, 0);
    play(&(struct end_plan){.on_end = abort_self}, -EPROTO);
}

/* -- Right after accepting ----------------------------------------------------------------------------------- */

static void close_accepted(struct server *server, struct end *end)
{
    (void)server;
    end_close(end);
}

static void abort_accepted(struct server *server, struct end *end)
{
    (void)server;
    end_abort(end, 0);
}

static void accept_and_end(enum peer_family family, void (*on_accept)(struct server *, struct end *), bool is_reset)
{
    struct server server;
    struct net net;
    int peer;

    net_open(&net, NULL);
    server_open(&server, &net, family, &end_silent);
    server.on_accept = on_accept;
    peer = peer_connect(server.address);
    net_until(&net, server.accepted);
    if (!is_reset)
        cr_assert(peer_receive(peer, 0, 0, 1, 1).has_ended);
    else
        cr_assert_eq(peer_receive(peer, 0, 0, 1, 1).error, -ECONNRESET);
    close(peer);
    net_until(&net, server.ends->closes);
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

Test(close, right_after_accepting)
{
    for (enum peer_family family = PEER_TCP4; family < PEER_FAMILIES; family++)
        accept_and_end(family, close_accepted, false);
}

Test(close, by_abort_right_after_accepting)
{
    accept_and_end(PEER_TCP4, abort_accepted, true);
    accept_and_end(PEER_TCP6, abort_accepted, true);
    accept_and_end(PEER_UNIX, abort_accepted, false);
}

static void close_unheard(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    ++*(int *)user;
    sluice_stream_close(stream);
}

Test(close, of_a_stream_that_nobody_ever_hears)
{
    static const struct sluice_listener_events events = {.on_accept = close_unheard};
    struct sluice_listener *listener;
    char address[SLUICE_ADDRESS_MAX];
    int accepted = 0;
    struct net net;
    int peer;

    net_open(&net, NULL);
    cr_assert_eq(sluice_listen(net.engine, "127.0.0.1:0", NULL, &events, &accepted, &listener), 0);
    sluice_listener_address(listener, address, sizeof address);
    peer = peer_connect(address);
    peer_send(peer, 0, 0, 1000);
    net_until(&net, accepted == 1);
    net_turns(&net, 5);
    close(peer);
    net_until(&net, net_stats(&net).streams == 0);
    sluice_listener_close(listener);
    net_close(&net);
}

/* -- With the engine ----------------------------------------------------------------------------------------- */

/* Brings a stream of ours into one of the states that there are; the kernel's other end is `peer`. */
static void disturb(struct end *end, int peer, uint64_t state)
{
    switch (state) {
    case 0: /* idle */
        break;
    case 1: /* much to flush, and a send in the kernel */
        stuff(end);
        break;
    case 2: /* paused, with bytes on their way */
        sluice_stream_pause(end->stream);
        peer_send(peer, 0, 0, 1000);
        break;
    case 3: /* half closed by us */
        end_send(end, 10);
        end_finish(end);
        break;
    case 4: /* half closed by the peer */
        peer_finish(peer);
        break;
    case 5: /* flushing before it closes */
        stuff(end);
        end_close(end);
        break;
    case 6: /* waiting for the peer to close */
        end_close(end);
        break;
    case 7:
        end_abort(end, -EPROTO);
        break;
    default: /* nobody takes what comes */
        sluice_stream_set_events(end->stream, NULL, NULL);
        peer_send(peer, 0, 0, 1000);
        sluice_stream_pause(end->stream);
        end_take(end, end->stream);
    }
}

Test(close, of_the_engine_ends_every_stream_in_whatever_state)
{
    uint64_t seed = random_seed();
    struct sluice_engine_options options = net_options();
    struct end *connecting = calloc(CROWD, sizeof *connecting);
    struct server server;
    int peers[CROWD];
    struct net net;
    int closed = 0;

    options.send_limit = 512 * KIB;
    net_open(&net, &options);
    net.is_unsettled = true;
    server_open(&server, &net, PEER_TCP4, &end_silent);
    for (int i = 0; i < CROWD; i++)
        peers[i] = peer_connect(server.address);
    net_until(&net, server.accepted == CROWD);
    int i = 0;
    for (struct end *end = server.ends; end; end = end->next)
        disturb(end, peers[CROWD - 1 - i++], random_below(&seed, 9));
    net_turns(&net, (int)random_below(&seed, 5));
    /* These get no further than connecting. */
    for (i = 0; i < CROWD; i++)
        end_connect(&connecting[i], &net, server.address, &end_silent);
    sluice_engine_destroy(net.engine);
    for (struct end *end = server.ends; end; end = end->next) {
        cr_assert_eq(end->closes, 1);
        cr_assert(end->why.error == -ECANCELED || (end->is_silenced && end->why.error == -EPROTO) ||
                      (end->is_silenced && end->why.error == 0),
                  "%d", end->why.error);
        closed++;
    }
    cr_assert_eq(closed, CROWD);
    for (i = 0; i < CROWD; i++) {
        cr_assert_eq(connecting[i].closes, 1);
        cr_assert_eq(connecting[i].why.error, -ECANCELED);
        close(peers[i]);
    }
    cr_assert_eq(server.listener_closes, 1);
    cr_assert_eq(net_count_fds(), net.fds_before);
    server_free_ends(&server);
    free(connecting);
}
