/* Received buffers are few and shared: want of them delays streams, and loses and starves nobody. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_end.h"
#include "tests/support/net_pattern.h"

enum {
    KIB = 1024,
    CROWD = 200,
    FLOODERS = 4, /* of the crowd: these never stop */
    FINITE_BYTES = 32 * KIB,
    IDLE = 1000,
};

TestSuite(buffers, .timeout = 60);

static struct sluice_engine_options few_buffers(uint32_t count)
{
    struct sluice_engine_options options = net_options();

    options.receive_buffer_count = count;
    options.receive_buffer_size = 4096;
    return options;
}

/* -- Storms -------------------------------------------------------------------------------------------------- */

/* Plain sockets that send what they can, in turn, on one thread. */
struct flood {
    struct peer_thread thread;
    int fds[CROWD];
    uint64_t sent[CROWD];
    atomic_bool is_over; /* the flooders may stop */
};

static bool send_some(struct flood *flood, int i)
{
    uint8_t data[3000];
    uint64_t limit = i < FLOODERS ? UINT64_MAX : FINITE_BYTES;
    size_t len = limit - flood->sent[i] < sizeof data ? (size_t)(limit - flood->sent[i]) : sizeof data;
    ssize_t result;

    if (len == 0)
        return false;
    pattern_fill(data, 0, flood->sent[i], len);
    result = send(flood->fds[i], data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    flood->sent[i] += result > 0 ? (uint64_t)result : 0;
    return i >= FLOODERS;
}

static void run_flood(struct peer_thread *peer)
{
    struct flood *flood = peer->user;
    bool is_busy = true;

    while (is_busy || !atomic_load(&flood->is_over)) {
        is_busy = false;
        for (int i = 0; i < CROWD; i++)
            is_busy |= send_some(flood, i);
    }
    for (int i = 0; i < CROWD; i++)
        close(flood->fds[i]);
}

/* How many have heard all that a finite sender sends. */
static int count_fed(const struct server *server)
{
    int count = 0;

    for (const struct end *end = server->ends; end; end = end->next)
        count += end->received >= FINITE_BYTES;
    return count;
}

static uint64_t total_received(const struct server *server)
{
    uint64_t total = 0;

    for (const struct end *end = server->ends; end; end = end->next)
        total += end->received;
    return total;
}

static void storm(uint32_t buffer_count)
{
    struct sluice_engine_options options = few_buffers(buffer_count);
    struct flood *flood = calloc(1, sizeof *flood);
    struct server server;
    struct net net;
    uint64_t sent = 0;

    net_open(&net, &options);
    server_open(&server, &net, PEER_TCP4, &end_polite);
    for (int i = 0; i < CROWD; i++)
        flood->fds[i] = peer_connect(server.address);
    net_until(&net, server.accepted == CROWD);
    flood->thread.user = flood;
    peer_thread_start(&flood->thread, run_flood);

    /* Nobody starves: all the others are through while the flooders still flood. */
    net_until(&net, count_fed(&server) == CROWD);
    atomic_store(&flood->is_over, true);
    net_until(&net, net_stats(&net).streams == 0);
    peer_thread_join(&flood->thread);
    for (int i = 0; i < CROWD; i++)
        sent += flood->sent[i];
    cr_assert_eq(total_received(&server), sent);
    cr_assert_gt(net_stats(&net).buffers_exhausted, 0);
    server_close(&server);
    net_close(&net);
    free(flood);
}

Test(buffers, eight_of_them_serve_two_hundred_floods)
{
    storm(8);
}

Test(buffers, sixteen_of_them_serve_two_hundred_floods)
{
    storm(16);
}

/* -- Keeping ------------------------------------------------------------------------------------------------- */

struct keeper {
    struct sluice_view kept[4096];
    size_t count;
};

static void keep(struct end *end, const struct sluice_view *view)
{
    struct keeper *keeper = end->user;

    cr_assert_lt(keeper->count, sizeof keeper->kept / sizeof *keeper->kept);
    cr_assert_eq(sluice_view_keep(end->stream, view, &keeper->kept[keeper->count]), 0);
    keeper->count++;
}

Test(buffers, a_keeper_of_everything_stops_nobody)
{
    static const struct end_plan plan = {.on_data = keep};
    struct sluice_engine_options options = few_buffers(16);
    struct keeper *keeper = calloc(1, sizeof *keeper);
    struct peer_thread source = {.send_bytes = 2048 * KIB};
    struct meeting meeting;
    uint64_t offset = 0;
    int other;

    meeting_start(&meeting, &options, PEER_TCP4, 0, &plan);
    meeting.end->user = keeper;
    source.fd = meeting.peer;
    peer_thread_start(&source, peer_run_source);
    net_until(&meeting.net, meeting.end->ends);
    cr_assert_eq(meeting.end->received, source.send_bytes);
    cr_assert_gt(net_stats(&meeting.net).views_copied, 0);

    /* The keeper lets none go; another stream receives all the same. */
    meeting.server.plan = &end_silent;
    other = peer_connect(meeting.server.address);
    net_until(&meeting.net, meeting.server.accepted == 2);
    cr_assert_eq(peer_send(other, 0, 0, 100 * KIB), 100 * KIB);
    net_until(&meeting.net, meeting.server.ends->received == 100 * KIB);
    close(other);
    end_close(meeting.server.ends);

    for (size_t i = 0; i < keeper->count; i++) {
        struct sluice_view *kept = &keeper->kept[i];

        cr_assert(pattern_matches(kept->data, 0, offset, kept->len));
        offset += kept->len;
        sluice_buffer_drop(kept->buffer);
    }
    cr_assert_eq(offset, source.send_bytes);
    end_close(meeting.end);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&source);
    meeting_stop(&meeting);
    free(keeper);
}

Test(buffers, peers_that_do_not_read_their_echo_stop_nobody)
{
    struct sluice_engine_options options = few_buffers(16);
    struct server server;
    int deaf[32];
    struct end reader;
    struct net net;

    net_open(&net, &options);
    server_open(&server, &net, PEER_UNIX, &end_echo);
    for (int i = 0; i < 32; i++)
        deaf[i] = peer_connect(server.address);
    net_until(&net, server.accepted == 32);
    /* As much as they get rid of: it waits in our queues, and in the kernel. */
    for (int quiet = 0; quiet < 20; quiet++) {
        for (int i = 0; i < 32; i++) {
            uint8_t data[4096];

            /* The lane of each is the number of its turn; nobody compares. */
            pattern_fill(data, 0, 0, sizeof data);
            if (send(deaf[i], data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                quiet = 0;
        }
        for (struct end *end = server.ends; end; end = end->next)
            end->is_unpatterned = true;
        net_turns(&net, 1);
    }
    end_connect(&reader, &net, server.address, &end_silent);
    end_pour(&reader, 100 * KIB, KIB, END_FINISH);
    net_until(&net, reader.closes);
    cr_assert_eq(reader.received, 100 * KIB);
    for (int i = 0; i < 32; i++)
        close(deaf[i]);
    for (struct end *end = server.ends; end; end = end->next)
        if (end->stream)
            end_abort(end, 0);
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

Test(buffers, idle_connections_hold_none)
{
    struct end *clients = calloc(IDLE, sizeof *clients);
    struct server server;
    struct net net;
    uint64_t echoed = 0;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_echo);
    for (int i = 0; i < IDLE; i++) {
        end_connect(&clients[i], &net, server.address, &end_polite);
        cr_assert_geq(end_send(&clients[i], 100), 0);
    }
    net_start_waiting(&net);
    while (echoed < IDLE * 100) {
        net_wait_turn(&net, __FILE__, __LINE__, "everything is echoed");
        echoed = 0;
        for (int i = 0; i < IDLE; i++)
            echoed += clients[i].received;
    }
    net_turns(&net, 1);
    cr_assert_eq(net_stats(&net).streams, 2 * IDLE);
    cr_assert_eq(net_stats(&net).receive_buffers_lent, 0);
    for (int i = 0; i < IDLE; i++)
        end_close(&clients[i]);
    net_until(&net, net_stats(&net).streams == 0);
    server_close(&server);
    net_close(&net);
    free(clients);
}
