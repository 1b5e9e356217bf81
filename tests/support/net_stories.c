/* Stories that must go the same way whatever the settings: see net_stories.h. */
#include "tests/support/net_stories.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_end.h"
#include "tests/support/net_pattern.h"

#define MILLISECOND UINT64_C(1000000)

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
    LINGER_MS = 50,
    SLOW_BYTES = 6 * MIB,
    SLOW_READ = 1024,
};

static void expect_graceful(const struct end *end)
{
    cr_assert_eq(end->closes, 1);
    cr_assert_eq(end->why.error, 0, "%s after %llu bytes in, %llu out, %llu unsent", strerror(-end->why.error),
                 (unsigned long long)end->received, (unsigned long long)end->accepted,
                 (unsigned long long)end->why.unsent);
    cr_assert_eq(end->why.unsent, 0);
}

/* -- Echo ---------------------------------------------------------------------------------------------------- */

void story_echo(const struct sluice_engine_options *options, enum peer_family family, uint64_t bytes, size_t piece)
{
    struct server server;
    struct end client;
    struct net net;

    net_open(&net, options);
    server_open(&server, &net, family, &end_echo);
    end_connect(&client, &net, server.address, &end_silent);
    end_pour(&client, bytes, piece, END_FINISH);
    net_until(&net, client.closes && server.closed == 0 && server.ends && server.ends->closes);

    expect_graceful(&client);
    expect_graceful(server.ends);
    cr_assert_eq(client.opens, 1);
    cr_assert_eq(client.ends, 1);
    cr_assert_eq(client.accepted, bytes);
    cr_assert_eq(client.received, bytes);
    /* The last send may have filled it; then finishing came before the drain. */
    cr_assert(client.drains == client.fulls || client.drains == client.fulls - 1);
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

void story_echo_plain(const struct sluice_engine_options *options, enum peer_family family, uint64_t bytes)
{
    struct meeting meeting;
    struct peer_thread source = {.send_bytes = bytes};

    /* It would wait for room while we wait for it to read: so it reads on a thread of its own. */
    struct peer_thread sink = {0};

    meeting_start(&meeting, options, family, 0, &end_echo);
    sink.fd = dup(meeting.peer);
    source.fd = meeting.peer;
    peer_thread_start(&sink, peer_run_sink);
    source.received.bytes = 0;
    peer_thread_start(&source, peer_run_source);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&source);
    peer_thread_join(&sink);

    expect_graceful(meeting.end);
    cr_assert_eq(source.sent, bytes);
    cr_assert_eq(meeting.end->received, bytes);
    /* Either of them may have read the one or other piece at the end. */
    cr_assert_eq(sink.received.bytes + source.received.bytes, bytes);
    cr_assert_eq(sink.received.error, 0);
    cr_assert_eq(source.received.error, 0);
    meeting_stop(&meeting);
}

/* -- Views --------------------------------------------------------------------------------------------------- */

/* Memory of ours that travels without a copy. */
struct parcel {
    struct sluice_buffer buffer;
    int *released;
    uint8_t data[];
};

static void release_parcel(struct sluice_buffer *buffer)
{
    struct parcel *parcel = (struct parcel *)buffer;

    ++*parcel->released;
    free(parcel);
}

/* Returns as sluice_stream_send_view(). Our own reference is dropped at once: the stream has its own. */
static int send_parcel(struct end *end, size_t len, int *released)
{
    struct parcel *parcel = malloc(sizeof *parcel + len);
    struct sluice_view view = {.data = parcel->data, .len = len, .buffer = &parcel->buffer};
    int answer;

    sluice_buffer_init(&parcel->buffer, release_parcel);
    parcel->released = released;
    pattern_fill(parcel->data, end->lane_out, end->accepted, len);
    answer = sluice_stream_send_view(end->stream, &view);
    if (answer >= 0)
        end->accepted += len;
    sluice_buffer_drop(&parcel->buffer);
    return answer;
}

void story_views(const struct sluice_engine_options *options, enum peer_family family, uint64_t bytes, size_t piece)
{
    struct meeting meeting;
    struct peer_thread sink = {0};
    int released = 0;
    int sent = 0;

    meeting_start(&meeting, options, family, 0, &end_silent);
    sink.fd = meeting.peer;
    peer_thread_start(&sink, peer_run_sink);
    while (meeting.end->accepted < bytes) {
        if (send_parcel(meeting.end, piece, &released) == SLUICE_FULL) {
            meeting.end->is_full = true;
            meeting.end->fulls++;
            net_until(&meeting.net, !meeting.end->is_full);
        }
        sent++;
    }
    end_close(meeting.end);
    net_until(&meeting.net, meeting.end->closes && released == sent);
    peer_thread_join(&sink);
    expect_graceful(meeting.end);
    cr_assert_eq(sink.received.bytes, meeting.end->accepted);
    cr_assert(sink.received.is_intact);
    cr_assert_eq(sink.received.error, 0);
    meeting_stop(&meeting);
    cr_assert_eq(released, sent);
}

/* -- Half-close ---------------------------------------------------------------------------------------------- */

void story_half_close(const struct sluice_engine_options *options, enum peer_family family, uint64_t bytes)
{
    struct peer_thread source = {.send_bytes = bytes};
    struct peer_received question;
    struct meeting meeting;

    meeting_start(&meeting, options, family, 0, &end_silent);
    cr_assert_geq(end_send(meeting.end, 5), 0);
    end_finish(meeting.end);
    cr_assert_eq(sluice_stream_finish(meeting.end->stream), -EPIPE);
    cr_assert_eq(end_send(meeting.end, 1), -EPIPE);
    net_until(&meeting.net, sluice_stream_write_status(meeting.end->stream) == SLUICE_WRITE_CLOSED);
    question = peer_receive(meeting.peer, 0, 0, UINT64_MAX, KIB);
    cr_assert_eq(question.bytes, 5);
    cr_assert(question.has_ended && question.is_intact);
    cr_assert_eq(sluice_stream_state(meeting.end->stream), SLUICE_OPEN);
    cr_assert_eq(sluice_stream_read_status(meeting.end->stream), SLUICE_READABLE);

    source.fd = meeting.peer;
    peer_thread_start(&source, peer_run_source);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&source);
    cr_assert_eq(source.sent, bytes);
    cr_assert_eq(meeting.end->received, bytes);
    cr_assert_eq(meeting.end->ends, 1);
    expect_graceful(meeting.end);
    meeting_stop(&meeting);
}

/* -- Close --------------------------------------------------------------------------------------------------- */

static uint64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/*
 * Reads a little at a time, 16 bytes a microsecond at the most, turn about with the engine. A reader as slow as that
 * takes many times the linger time; how long exactly says nothing.
 */
static struct peer_received read_slowly(struct meeting *meeting)
{
    struct peer_received all = {.is_intact = true};
    uint64_t start = clock_now();

    while (!all.has_ended && all.is_intact && (!all.error || all.error == -EAGAIN)) {
        struct peer_received some;

        cr_assert_eq(sluice_engine_turn(meeting->net.engine), 0);
        if (all.bytes > (clock_now() - start) / 1000 * 16)
            continue;
        some = peer_receive_now(meeting->peer, 0, all.bytes, SLOW_READ);
        all.bytes += some.bytes;
        all.is_intact = some.is_intact;
        all.has_ended = some.has_ended;
        all.error = some.error;
        cr_assert_lt(clock_now() - start, PEER_PATIENCE_MS * MILLISECOND, "%llu bytes came",
                     (unsigned long long)all.bytes);
    }
    cr_assert(all.error || clock_now() - start > 2 * LINGER_MS * MILLISECOND);
    return all;
}

void story_slow_reader(const struct sluice_engine_options *options, enum peer_family family)
{
    struct sluice_engine_options hasty = options ? *options : net_options();
    struct peer_received received;
    struct meeting meeting;

    hasty.linger_ns = LINGER_MS * MILLISECOND;
    meeting_start(&meeting, &hasty, family, 65536, &end_silent);
    /* More than the kernel's buffers hold, so that most of it waits in our queue. */
    for (int i = 0; i < SLOW_BYTES / 65536; i++)
        cr_assert_geq(end_send(meeting.end, 65536), 0);
    end_close(meeting.end);
    received = read_slowly(&meeting);
    close(meeting.peer);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert_eq(received.error, 0, "%s after %llu", strerror(-received.error), (unsigned long long)received.bytes);
    cr_assert(received.is_intact);
    cr_assert_eq(received.bytes, SLOW_BYTES);
    expect_graceful(meeting.end);
    meeting_stop(&meeting);
}

static void talk_then_listen(struct peer_thread *peer)
{
    /* As much as is taken: the other end may have closed by then, which must cost us nothing that it sent. */
    peer->sent = peer_send(peer->fd, peer->lane, 0, peer->send_bytes);
    peer->received = peer_receive(peer->fd, peer->lane, 0, UINT64_MAX, 65536);
    close(peer->fd);
}

void story_linger(const struct sluice_engine_options *options, enum peer_family family)
{
    struct peer_thread peer = {.send_bytes = 8 * MIB};
    struct meeting meeting;

    meeting_start(&meeting, options, family, 0, &end_silent);
    cr_assert_eq(sluice_stream_pause(meeting.end->stream), 0);
    cr_assert_eq(peer_send(meeting.peer, 0, 0, 64 * KIB), 64 * KIB);
    for (int i = 0; i < 16; i++)
        cr_assert_geq(end_send(meeting.end, 64 * KIB), 0);
    net_turns(&meeting.net, 4);
    end_close(meeting.end);
    net_turns(&meeting.net, 4);
    peer.fd = meeting.peer;
    peer_thread_start(&peer, talk_then_listen);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&peer);
    cr_assert_eq(peer.received.error, 0, "%s after %llu", strerror(-peer.received.error),
                 (unsigned long long)peer.received.bytes);
    cr_assert(peer.received.has_ended && peer.received.is_intact);
    cr_assert_eq(peer.received.bytes, meeting.end->accepted);
    cr_assert_eq(peer.sent, 8 * MIB);
    expect_graceful(meeting.end);
    meeting_stop(&meeting);
}

void story_abort(const struct sluice_engine_options *options, enum peer_family family)
{
    struct peer_received received;
    struct meeting meeting;

    meeting_start(&meeting, options, family, 0, &end_silent);
    cr_assert_eq(peer_send(meeting.peer, 0, 0, 10), 10);
    net_until(&meeting.net, meeting.end->received == 10);
    end_abort(meeting.end, -EPROTO);
    cr_assert_eq(meeting.end->closes, 0, "never from inside a call");
    cr_assert_eq(end_send(meeting.end, 1), -EPIPE);
    net_until(&meeting.net, meeting.end->closes);
    received = peer_receive(meeting.peer, 0, 0, 1, 1);
    cr_assert_eq(received.bytes, 0);
    if (family == PEER_TCP4 || family == PEER_TCP6)
        cr_assert_eq(received.error, -ECONNRESET, "a reset, not an end: %d", received.error);
    close(meeting.peer);
    cr_assert_eq(meeting.end->why.error, -EPROTO);
    cr_assert_eq(meeting.end->why.side, SLUICE_LOCAL);
    meeting_stop(&meeting);
}

void story_reset(const struct sluice_engine_options *options)
{
    struct meeting meeting;

    meeting_start(&meeting, options, PEER_TCP4, 0, &end_silent);
    /* Less than a window: it has arrived, as far as the peer's kernel knows. */
    cr_assert_eq(peer_send(meeting.peer, 0, 0, 20 * KIB), 20 * KIB);
    peer_reset(meeting.peer);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert_eq(meeting.end->received, 20 * KIB);
    cr_assert_eq(meeting.end->ends, 0);
    cr_assert_eq(meeting.end->why.error, -ECONNRESET);
    cr_assert_eq(meeting.end->why.side, SLUICE_REMOTE);
    meeting_stop(&meeting);
}

/* -- Many at once -------------------------------------------------------------------------------------------- */

static bool all_over(const struct end *ends, int count)
{
    for (int i = 0; i < count; i++)
        if (ends[i].closes == 0)
            return false;
    return true;
}

void story_crowd(const struct sluice_engine_options *options, int count, uint64_t bytes)
{
    struct end *clients = calloc((size_t)count, sizeof *clients);
    struct server servers[2];
    struct net net;

    net_open(&net, options);
    server_open(&servers[0], &net, PEER_TCP4, &end_echo);
    server_open(&servers[1], &net, PEER_UNIX, &end_echo);
    for (int i = 0; i < count; i++) {
        end_connect(&clients[i], &net, servers[i % 2].address, &end_silent);
        end_pour(&clients[i], bytes, 1000, END_FINISH);
    }
    net_until(&net, all_over(clients, count));
    for (int i = 0; i < count; i++) {
        expect_graceful(&clients[i]);
        cr_assert_eq(clients[i].received, bytes);
    }
    server_close(&servers[0]);
    server_close(&servers[1]);
    net_close(&net);
    free(clients);
    peer_remove_folders();
}
