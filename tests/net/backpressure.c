/* Load without bound meets limits: memory, stack and order hold whatever is asked for. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_end.h"
#include "tests/support/net_pattern.h"

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
    SENDS = 1000000,
    SEND_LIMIT = 16 * MIB,
    SLACK = 2 * MIB, /* what bookkeeping may cost beside the bytes */
};

TestSuite(backpressure, .timeout = 60);

/* -- Memory -------------------------------------------------------------------------------------------------- */

/* What a million sends inside one callback were answered. */
struct answers {
    int room;
    int full;
    int refused;
    bool is_in_order; /* room, then full, then refusals */
    size_t heap_growth;
};

static void flood(struct end *end, const struct sluice_view *view)
{
    struct answers *answers = end->user;
    size_t before = net_heap_in_use();

    (void)view;
    answers->is_in_order = true;
    for (int i = 0; i < SENDS; i++) {
        int answer = end_send(end, 100);

        if (answer == SLUICE_ROOM && (answers->full || answers->refused))
            answers->is_in_order = false;
        if (answer == SLUICE_FULL && answers->refused)
            answers->is_in_order = false;
        answers->room += answer == SLUICE_ROOM;
        answers->full += answer == SLUICE_FULL;
        answers->refused += answer == -ENOBUFS;
        cr_assert(answer != -EPIPE);
    }
    answers->heap_growth = net_heap_in_use() - before;
}

Test(backpressure, a_million_sends_in_one_callback_stay_within_the_limit_and_arrive)
{
    static const struct end_plan plan = {.on_data = flood};
    struct sluice_engine_options options = net_options();
    struct answers answers = {0};
    struct peer_thread sink = {0};
    struct meeting meeting;

    options.send_limit = SEND_LIMIT;
    meeting_start(&meeting, &options, PEER_TCP4, 0, &plan);
    meeting.end->user = &answers;
    cr_assert_eq(peer_send(meeting.peer, 0, 0, 1), 1);
    net_until(&meeting.net, meeting.end->received == 1);

    cr_assert_eq(answers.room + answers.full + answers.refused, SENDS);
    cr_assert(answers.is_in_order);
    cr_assert_eq(answers.room, 64 * KIB / 100);
    cr_assert_eq(meeting.end->accepted, SEND_LIMIT / 100 * 100);
    cr_assert_leq(answers.heap_growth, SEND_LIMIT + SLACK, "%zu", answers.heap_growth);

    net_turns(&meeting.net, 100);
    cr_assert_leq(sluice_stream_queued(meeting.end->stream), SEND_LIMIT);
    cr_assert_eq(meeting.end->drains, 0);
    sink.fd = meeting.peer;
    peer_thread_start(&sink, peer_run_sink);
    net_until(&meeting.net, meeting.end->drains);
    cr_assert_geq(end_send(meeting.end, 100), 0);
    end_close(meeting.end);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&sink);
    cr_assert_eq(meeting.end->why.error, 0);
    cr_assert_eq(meeting.end->drains, 1);
    cr_assert_eq(sink.received.bytes, meeting.end->accepted);
    cr_assert(sink.received.is_intact);
    meeting_stop(&meeting);
}

Test(backpressure, the_budget_of_an_engine_bounds_all_streams_together)
{
    struct sluice_engine_options options = net_options();
    struct server server;
    struct net net;
    int peers[10];
    int refused = 0;

    options.memory_budget = MIB;
    net_open(&net, &options);
    server_open(&server, &net, PEER_UNIX, &end_silent);
    for (int i = 0; i < 10; i++)
        peers[i] = peer_connect(server.address);
    net_until(&net, server.accepted == 10);
    for (struct end *end = server.ends; end; end = end->next)
        for (int i = 0; i < 4; i++)
            refused += end_send(end, 64 * KIB) == -ENOBUFS;
    cr_assert_eq(net_stats(&net).queued_bytes, MIB);
    cr_assert_eq(refused, 40 - 16);
    for (int i = 0; i < 10; i++) {
        peer_finish(peers[i]);
        fcntl(peers[i], F_SETFL, O_NONBLOCK);
    }
    struct end *end = server.ends;
    for (int i = 9; i >= 0; i--, end = end->next) {
        uint64_t got = 0;

        net_until(&net, (got += peer_receive_now(peers[i], 0, got, 64 * KIB).bytes) == end->accepted);
        end_close(end);
        close(peers[i]);
    }
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

/* -- Stack --------------------------------------------------------------------------------------------------- */

/* How far apart the frames of callbacks lie on the stack. */
struct depth {
    uintptr_t lowest;
    uintptr_t highest;
    int callbacks;
};

static struct depth depth;

static void note_depth(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    if (!depth.callbacks || here < depth.lowest)
        depth.lowest = here;
    if (!depth.callbacks || here > depth.highest)
        depth.highest = here;
    depth.callbacks++;
}

static void echo_noting(struct end *end, const struct sluice_view *view)
{
    note_depth();
    end_echo.on_data(end, view);
}

static void drain_noting(struct end *end)
{
    note_depth();
    end_echo.on_drain(end);
}

static void end_noting(struct end *end)
{
    note_depth();
    end_echo.on_end(end);
}

static void hear_noting(struct end *end, const struct sluice_view *view)
{
    (void)end;
    (void)view;
    note_depth();
}

static void only_noting(struct end *end)
{
    (void)end;
    note_depth();
}

static size_t measure_depth(uint64_t bytes, size_t piece)
{
    static const struct end_plan server_plan = {
        .on_data = echo_noting,
        .on_drain = drain_noting,
        .on_end = end_noting,
        .on_close = only_noting,
    };
    static const struct end_plan client_plan = {
        .on_open = only_noting,
        .on_data = hear_noting,
        .on_drain = only_noting,
        .on_end = only_noting,
        .on_close = only_noting,
    };
    struct server server;
    struct end client;
    struct net net;

    depth = (struct depth){0};
    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &server_plan);
    end_connect(&client, &net, server.address, &client_plan);
    end_pour(&client, bytes, piece, END_FINISH);
    net_until(&net, client.closes && server.ends && server.ends->closes);
    cr_assert_eq(client.received, bytes);
    cr_assert_gt(client.drains, 1);
    server_close(&server);
    net_close(&net);
    return depth.highest - depth.lowest;
}

Test(backpressure, the_stack_is_as_deep_under_ten_times_the_load)
{
    size_t light = measure_depth(2 * MIB, 1000);
    int light_callbacks = depth.callbacks;
    size_t heavy = measure_depth(20 * MIB, 1000);

    cr_assert_gt(depth.callbacks, 4 * light_callbacks);
    cr_assert_lt(light, 4 * KIB, "%zu", light);
    cr_assert_lt(heavy, 4 * KIB, "%zu", heavy);
    cr_assert_leq(heavy, light + 256, "%zu, %zu", light, heavy);
}

/* -- Windows ------------------------------------------------------------------------------------------------- */

/* Sends what the socket takes now. Returns how much that was. */
static uint64_t send_now(int fd, uint64_t offset)
{
    uint8_t data[4096];
    uint64_t sent = 0;
    ssize_t result;

    do {
        pattern_fill(data, 0, offset + sent, sizeof data);
        result = send(fd, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += result > 0 ? (uint64_t)result : 0;
    } while (result > 0);
    return sent;
}

static void pause_and_fill(enum peer_family family)
{
    struct meeting meeting;
    uint64_t sent = 0;
    uint64_t before;

    meeting_start(&meeting, NULL, family, 0, &end_silent);
    cr_assert_eq(sluice_stream_pause(meeting.end->stream), 0);
    /* Until nothing has gone for a hundred turns: the kernel's buffers are full, ours take none. */
    for (int quiet = 0; quiet < 100; quiet++) {
        before = sent;
        sent += send_now(meeting.peer, sent);
        net_turns(&meeting.net, 1);
        if (sent > before)
            quiet = 0;
        cr_assert_lt(sent, 64 * MIB, "nothing stops the sender");
    }
    cr_assert_eq(meeting.end->received, 0);
    cr_assert_eq(net_stats(&meeting.net).receive_buffers_lent, 0);
    cr_assert_leq(net_stats(&meeting.net).bytes_received, 4 * MIB);
    cr_assert_eq(sluice_stream_resume(meeting.end->stream), 0);
    net_until(&meeting.net, meeting.end->received == sent);
    close(meeting.peer);
    net_until(&meeting.net, meeting.end->ends);
    end_close(meeting.end);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert_eq(meeting.end->why.error, 0);
    meeting_stop(&meeting);
}

Test(backpressure, a_paused_receiver_stops_the_sender)
{
    pause_and_fill(PEER_TCP4);
    pause_and_fill(PEER_UNIX);
}

static void pause_at_once(struct end *end, const struct sluice_view *view)
{
    (void)view;
    cr_assert_eq(sluice_stream_pause(end->stream), 0);
}

Test(backpressure, a_pause_holds_against_a_flood)
{
    static const struct end_plan plan = {.on_data = pause_at_once};
    struct peer_thread source = {.send_bytes = 64 * MIB};
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &plan);
    source.fd = meeting.peer;
    peer_thread_start(&source, peer_run_source);
    for (int i = 0; i < 50; i++) {
        uint64_t received = meeting.end->received;
        uint64_t before;

        cr_assert_eq(sluice_stream_resume(meeting.end->stream), 0);
        net_until(&meeting.net, meeting.end->received > received);
        before = net_stats(&meeting.net).bytes_received;
        net_turns(&meeting.net, 50);
        cr_assert_eq(meeting.end->closes, 0, "%d", meeting.end->why.error);
        /* What was on its way: some rounds of the buffers there are, at the most. */
        cr_assert_lt(net_stats(&meeting.net).bytes_received - before, 2 * MIB);
    }
    end_abort(meeting.end, 0);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&source);
    meeting_stop(&meeting);
}

/* -- Drains -------------------------------------------------------------------------------------------------- */

Test(backpressure, each_full_is_followed_by_one_drain)
{
    struct sluice_engine_options options = net_options();
    struct peer_thread sink = {0};
    struct meeting meeting;

    options.send_high_mark = 8 * KIB;
    options.send_low_mark = 4 * KIB;
    meeting_start(&meeting, &options, PEER_TCP4, 0, &end_silent);
    sink.fd = meeting.peer;
    peer_thread_start(&sink, peer_run_sink);
    end_pour(meeting.end, 16 * MIB, 1000, END_CLOSE);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&sink);
    cr_assert_gt(meeting.end->drains, 1000);
    /* Unless the last send filled it: then the close comes first. */
    cr_assert(meeting.end->fulls == meeting.end->drains || meeting.end->fulls == meeting.end->drains + 1);
    cr_assert_eq(sink.received.bytes, 16 * MIB);
    cr_assert(sink.received.is_intact);
    meeting_stop(&meeting);
}

Test(backpressure, a_drain_is_not_told_once_our_direction_is_closing)
{
    struct peer_thread sink = {0};
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    while (end_send(meeting.end, 64 * KIB) >= 0)
        continue;
    end_finish(meeting.end);
    sink.fd = meeting.peer;
    peer_thread_start(&sink, peer_run_sink);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&sink);
    cr_assert_eq(meeting.end->drains, 0);
    cr_assert_eq(sink.received.bytes, meeting.end->accepted);
    meeting_stop(&meeting);
}

Test(backpressure, a_stream_can_have_limits_of_its_own)
{
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    cr_assert_eq(sluice_stream_set_send_limits(meeting.end->stream, 100, 100, 1000), -EINVAL);
    cr_assert_eq(sluice_stream_set_send_limits(meeting.end->stream, 100, 2000, 1000), -EINVAL);
    cr_assert_eq(sluice_stream_set_send_limits(meeting.end->stream, 100, 500, 1000), 0);
    cr_assert_eq(end_send(meeting.end, 499), SLUICE_ROOM);
    cr_assert_eq(end_send(meeting.end, 1), SLUICE_FULL);
    cr_assert_eq(end_send(meeting.end, 501), -ENOBUFS);
    cr_assert_eq(end_send(meeting.end, 500), SLUICE_FULL);
    cr_assert_eq(sluice_stream_queued(meeting.end->stream), 1000);
    net_until(&meeting.net, meeting.end->drains == 1);
    cr_assert_eq(peer_receive(meeting.peer, 0, 0, 1000, 1000).bytes, 1000);
    end_close(meeting.end);
    close(meeting.peer);
    meeting_stop(&meeting);
}
