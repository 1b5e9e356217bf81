/* What is sent comes back, over every kind of socket, in every size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_end.h"
#include "tests/support/net_pattern.h"
#include "tests/support/net_stories.h"

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
    SEQUENTIAL = 2000,
};

TestSuite(echo, .timeout = 60);

static void echo_every_size(enum peer_family family)
{
    static const uint64_t sizes[] = {0, 1, 5, 255, 256, 257, KIB, 16 * KIB, 16 * KIB + 1, 64 * KIB, MIB + 7, 10 * MIB};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        story_echo(NULL, family, sizes[i], 100 * KIB);
        story_echo_plain(NULL, family, sizes[i]);
    }
}

Test(echo, over_tcp_4)
{
    echo_every_size(PEER_TCP4);
}

Test(echo, over_tcp_6)
{
    echo_every_size(PEER_TCP6);
}

Test(echo, over_a_unix_path)
{
    echo_every_size(PEER_UNIX);
}

Test(echo, over_an_abstract_unix_name)
{
    echo_every_size(PEER_ABSTRACT);
}

Test(echo, of_small_pieces)
{
    story_echo(NULL, PEER_TCP4, 200 * KIB, 7);
    story_echo(NULL, PEER_UNIX, 200 * KIB, 1);
}

Test(echo, of_views)
{
    story_views(NULL, PEER_TCP4, 8 * MIB, 16 * KIB);
    story_views(NULL, PEER_TCP4, 100 * KIB, 300);
    story_views(NULL, PEER_UNIX, 4 * MIB, 300 * KIB);
}

Test(echo, of_ten_mebibytes_after_a_half_close)
{
    for (enum peer_family family = PEER_TCP4; family < PEER_FAMILIES; family++)
        story_half_close(NULL, family, 10 * MIB);
}

Test(echo, with_many_at_once)
{
    story_crowd(NULL, 100, 20 * KIB);
}

Test(echo, by_name)
{
    char address[SLUICE_ADDRESS_MAX];
    struct server server;
    struct end client;
    struct net net;

    net_open(&net, NULL);
    server_open_at(&server, &net, "localhost:0", NULL, &end_echo);
    snprintf(address, sizeof address, "localhost:%s", strrchr(server.address, ':') + 1);
    end_connect(&client, &net, address, &end_silent);
    end_pour(&client, 5, 5, END_FINISH);
    net_until(&net, client.closes);
    cr_assert_eq(client.why.error, 0);
    cr_assert_eq(client.received, 5);
    server_close(&server);
    net_close(&net);
}

Test(echo, on_every_address)
{
    char address[SLUICE_ADDRESS_MAX];
    struct server server;
    struct end clients[2];
    struct net net;

    net_open(&net, NULL);
    server_open_at(&server, &net, "*:0", NULL, &end_echo);
    for (int i = 0; i < 2; i++) {
        snprintf(address, sizeof address, "%s:%s", i ? "[::1]" : "127.0.0.1", strrchr(server.address, ':') + 1);
        end_connect(&clients[i], &net, address, &end_silent);
        end_pour(&clients[i], 5, 5, END_FINISH);
    }
    net_until(&net, clients[0].closes && clients[1].closes);
    cr_assert_eq(clients[0].received, 5);
    cr_assert_eq(clients[1].received, 5);
    server_close(&server);
    net_close(&net);
}

/* One kibibyte there and back; the client closes as soon as it has it. */
static void close_when_back(struct end *end, const struct sluice_view *view)
{
    (void)view;
    if (end->received == KIB)
        end_close(end);
}

static void echo_in_sequence(enum peer_family family, int count)
{
    static const struct end_plan plan = {.on_data = close_when_back};
    struct server server;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, family, &end_echo);
    for (int i = 0; i < count; i++) {
        struct end client;

        end_connect(&client, &net, server.address, &plan);
        cr_assert_geq(end_send(&client, KIB), 0);
        net_until(&net, client.closes && server.accepted == i + 1 && server.ends->closes);
        cr_assert_eq(client.why.error, 0);
        cr_assert_eq(client.received, KIB);
        cr_assert_eq(server.ends->why.error, 0);
        cr_assert_eq(net_stats(&net).streams, 0);
    }
    cr_assert_eq(server.accepted, count);
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

Test(echo, two_thousand_times_in_sequence_leaves_nothing)
{
    echo_in_sequence(PEER_TCP4, SEQUENTIAL);
}

Test(echo, two_thousand_times_in_sequence_leaves_nothing_on_unix)
{
    echo_in_sequence(PEER_UNIX, SEQUENTIAL);
}

/* -- Both ways ----------------------------------------------------------------------------------------------- */

static void pour_both_ways(uint64_t bytes, size_t piece)
{
    struct server server;
    struct end client;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_silent);
    end_connect(&client, &net, server.address, &end_silent);
    net_until(&net, client.opens && server.accepted);
    client.lane_in = server.ends->lane_out = 3;
    end_pour(&client, bytes, piece, END_FINISH);
    end_pour(server.ends, bytes, piece, END_FINISH);
    net_until(&net, client.closes && server.ends->closes);
    cr_assert_eq(client.why.error, 0);
    cr_assert_eq(server.ends->why.error, 0);
    cr_assert_eq(client.received, bytes);
    cr_assert_eq(server.ends->received, bytes);
    server_close(&server);
    net_close(&net);
}

Test(echo, both_ways_at_once)
{
    pour_both_ways(1000 * 100, 100);
    pour_both_ways(10 * MIB, MIB);
    pour_both_ways(50 * MIB, 64 * KIB);
}

/* -- Order and holding --------------------------------------------------------------------------------------- */

Test(echo, bytes_that_came_before_anybody_heard_them_are_told_once)
{
    struct meeting meeting;
    struct end *end;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    end = meeting.end;
    sluice_stream_set_events(end->stream, NULL, NULL);
    cr_assert_eq(peer_send(meeting.peer, 0, 0, 1000), 1000);
    peer_finish(meeting.peer);
    net_turns(&meeting.net, 20);
    cr_assert_eq(end->received, 0);
    end_take(end, end->stream);
    net_until(&meeting.net, end->ends);
    cr_assert_eq(end->received, 1000);
    end_close(end);
    close(meeting.peer);
    net_until(&meeting.net, end->closes);
    cr_assert_eq(end->why.error, 0);
    meeting_stop(&meeting);
}

static void pause_self(struct end *end, const struct sluice_view *view)
{
    (void)view;
    cr_assert_eq(sluice_stream_pause(end->stream), 0);
}

Test(echo, pausing_and_resuming_keeps_the_order)
{
    static const struct end_plan plan = {.on_data = pause_self};
    struct peer_thread source = {.send_bytes = MIB};
    struct meeting meeting;
    int turns = 0;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &plan);
    source.fd = meeting.peer;
    peer_thread_start(&source, peer_run_source);
    net_until(&meeting.net, (++turns % 3 == 0 && sluice_stream_resume(meeting.end->stream)) || meeting.end->ends);
    cr_assert_eq(meeting.end->received, MIB);
    end_close(meeting.end);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&source);
    meeting_stop(&meeting);
}

Test(echo, bytes_before_the_peers_end_are_told_before_it)
{
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    cr_assert_eq(sluice_stream_pause(meeting.end->stream), 0);
    cr_assert_eq(peer_send(meeting.peer, 0, 0, 20 * KIB), 20 * KIB);
    close(meeting.peer);
    net_turns(&meeting.net, 20);
    cr_assert_eq(meeting.end->received, 0);
    cr_assert_eq(meeting.end->ends, 0);
    cr_assert_eq(sluice_stream_resume(meeting.end->stream), 0);
    net_until(&meeting.net, meeting.end->ends);
    cr_assert_eq(meeting.end->received, 20 * KIB);
    end_close(meeting.end);
    meeting_stop(&meeting);
}

/* -- Asking -------------------------------------------------------------------------------------------------- */

Test(echo, each_end_knows_the_address_of_the_other)
{
    char there[SLUICE_ADDRESS_MAX];
    char here[SLUICE_ADDRESS_MAX];
    struct server server;
    struct end client;
    struct net net;

    for (enum peer_family family = PEER_TCP4; family < PEER_FAMILIES; family++) {
        net_open(&net, NULL);
        server_open(&server, &net, family, &end_polite);
        end_connect(&client, &net, server.address, &end_silent);
        net_until(&net, client.opens && server.accepted);
        cr_assert_str_eq(sluice_stream_kind(client.stream), family <= PEER_TCP6 ? "tcp" : "unix");
        cr_assert_eq(sluice_stream_peer_address(client.stream, there, sizeof there), 0);
        cr_assert_str_eq(there, server.address);
        cr_assert_eq(sluice_stream_local_address(client.stream, here, sizeof here), 0);
        cr_assert_eq(sluice_stream_peer_address(server.ends->stream, there, sizeof there), 0);
        cr_assert_str_eq(there, here);
        cr_assert_eq(sluice_stream_local_address(server.ends->stream, there, sizeof there), 0);
        cr_assert_str_eq(there, server.address);
        end_close(&client);
        net_until(&net, client.closes);
        server_close(&server);
        net_close(&net);
        peer_remove_folders();
    }
}
