/* What a round trip costs in system calls, and that nothing of an answer waits for the peer's acknowledgement. */
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <liburing.h>

#include "engine/transport.h"
#include "tests/support/net_end.h"

enum {
    KIB = 1024,
    MESSAGE = 64,
    CROWD_MAX = 200,
    WARM_ROUNDS = 100,
    BATCHES = 20,
    PERCENT = 100,
    ANSWERS = 20,
};

TestSuite(round_trips, .timeout = 60);

/* -- Counting system calls ----------------------------------------------------------------------------------- */

/* True exactly in the thread of the engine that is measured. */
static _Thread_local bool is_counted;

static atomic_ullong entered;
static atomic_ullong others; /* every other system call that the library could make on the way of bytes */

int __real_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *argument,
                           size_t size);
int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *argument,
                           size_t size);
ssize_t __real_read(int fd, void *data, size_t len);
ssize_t __wrap_read(int fd, void *data, size_t len);
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __real_recv(int fd, void *data, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __real_getsockname(int fd, struct sockaddr *name, socklen_t *len);
int __wrap_getsockname(int fd, struct sockaddr *name, socklen_t *len);

int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *argument, size_t size)
{
    atomic_fetch_add(&entered, is_counted);
    return __real_io_uring_enter2(fd, submit, wait, flags, argument, size);
}

ssize_t __wrap_read(int fd, void *data, size_t len)
{
    atomic_fetch_add(&others, is_counted);
    return __real_read(fd, data, len);
}

ssize_t __wrap_write(int fd, const void *data, size_t len)
{
    atomic_fetch_add(&others, is_counted);
    return __real_write(fd, data, len);
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
    atomic_fetch_add(&others, is_counted);
    return __real_send(fd, data, len, flags);
}

ssize_t __wrap_recv(int fd, void *data, size_t len, int flags)
{
    atomic_fetch_add(&others, is_counted);
    return __real_recv(fd, data, len, flags);
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    atomic_fetch_add(&others, is_counted);
    return __real_setsockopt(fd, level, name, value, len);
}

int __wrap_getsockname(int fd, struct sockaddr *name, socklen_t *len)
{
    atomic_fetch_add(&others, is_counted);
    return __real_getsockname(fd, name, len);
}

/* -- A server on a thread of its own ------------------------------------------------------------------------- */

static struct {
    pthread_t thread;
    enum peer_family family;
    struct sluice_engine *engine;
    char address[SLUICE_ADDRESS_MAX];
    sem_t is_ready;
    struct sluice_post gate;
    sem_t is_shut;   /* the engine waits at the gate */
    sem_t is_opened; /* …and may go on */
    atomic_int failures;
} echo;

static void echo_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)user;
    if (sluice_stream_send_view(stream, view) != SLUICE_ROOM)
        atomic_fetch_add(&echo.failures, 1);
}

static void echo_end(struct sluice_stream *stream, void *user)
{
    (void)user;
    sluice_stream_close(stream);
}

static const struct sluice_stream_events echo_events = {.on_data = echo_data, .on_end = echo_end};

static void echo_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    sluice_stream_set_events(stream, &echo_events, NULL);
}

static const struct sluice_listener_events echo_accepting = {.on_accept = echo_accept};

static void *run_echo(void *argument)
{
    struct sluice_engine_options options = net_options();
    struct sluice_listener *listener;
    char address[SLUICE_ADDRESS_MAX];

    (void)argument;
    peer_make_address(echo.family, address);
    if (sluice_engine_create(&options, &echo.engine) < 0)
        abort();
    if (sluice_listen(echo.engine, address, NULL, &echo_accepting, NULL, &listener) < 0)
        abort();
    if (sluice_listener_address(listener, echo.address, sizeof echo.address) < 0)
        abort();
    sem_post(&echo.is_ready);
    is_counted = true;
    if (sluice_engine_run(echo.engine) < 0)
        abort();
    is_counted = false;
    sluice_engine_destroy(echo.engine);
    return NULL;
}

static void wait_at_gate(struct sluice_post *post)
{
    (void)post;
    sem_post(&echo.is_shut);
    while (sem_wait(&echo.is_opened) < 0)
        continue;
}

static void start_echo(enum peer_family family)
{
    echo.family = family;
    echo.gate.run = wait_at_gate;
    sem_init(&echo.is_ready, 0, 0);
    sem_init(&echo.is_shut, 0, 0);
    sem_init(&echo.is_opened, 0, 0);
    cr_assert_eq(pthread_create(&echo.thread, NULL, run_echo, NULL), 0);
    while (sem_wait(&echo.is_ready) < 0)
        continue;
}

static void stop_echo(void)
{
    sluice_engine_stop(echo.engine);
    cr_assert_eq(pthread_join(echo.thread, NULL), 0);
    cr_assert_eq(echo.failures, 0);
    peer_remove_folders();
}

/* -- Round trips --------------------------------------------------------------------------------------------- */

struct crowd {
    int count;
    bool is_gated; /* the server goes on when every request has been sent: so it sees them all at once */
    int peers[CROWD_MAX];
    uint64_t rounds;
};

static void shut_gate(void)
{
    sluice_engine_post(echo.engine, &echo.gate);
    while (sem_wait(&echo.is_shut) < 0)
        continue;
}

static void make_round(struct crowd *crowd)
{
    uint64_t offset = crowd->rounds++ * MESSAGE;

    if (crowd->is_gated)
        shut_gate();
    for (int i = 0; i < crowd->count; i++)
        cr_assert_eq(peer_send(crowd->peers[i], 0, offset, MESSAGE), MESSAGE);
    if (crowd->is_gated)
        sem_post(&echo.is_opened);
    for (int i = 0; i < crowd->count; i++) {
        struct peer_received answer = peer_receive(crowd->peers[i], 0, offset, MESSAGE, MESSAGE);

        cr_assert_eq(answer.bytes, MESSAGE);
        cr_assert(answer.is_intact);
    }
}

/*
 * The system calls for a hundred echoes, gates included: the least of some batches, because a peer that is kept from
 * running for long makes the server look around for more.
 */
static uint64_t measure(struct crowd *crowd, int rounds)
{
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < WARM_ROUNDS; i++)
        make_round(crowd);
    for (int batch = 0; batch < BATCHES; batch++) {
        unsigned long long before = entered + others;
        unsigned long long calls;

        for (int i = 0; i < rounds; i++)
            make_round(crowd);
        calls = PERCENT * (entered + others - before) / (unsigned)(rounds * crowd->count);
        least = calls < least ? calls : least;
    }
    return least;
}

static uint64_t system_calls(enum peer_family family, int count, int rounds)
{
    struct crowd crowd = {.count = count, .is_gated = count > 1};
    uint64_t calls;

    start_echo(family);
    for (int i = 0; i < count; i++)
        crowd.peers[i] = peer_connect(echo.address);
    calls = measure(&crowd, rounds);
    fprintf(stderr, "%d connections: %llu system calls for a hundred echoes\n", count, (unsigned long long)calls);
    for (int i = 0; i < count; i++)
        close(crowd.peers[i]);
    stop_echo();
    return calls;
}

Test(round_trips, one_connection_costs_one_system_call_an_echo)
{
    cr_assert_leq(system_calls(PEER_TCP4, 1, 200), 105);
}

Test(round_trips, one_unix_connection_costs_one_system_call_an_echo)
{
    cr_assert_leq(system_calls(PEER_UNIX, 1, 200), 105);
}

Test(round_trips, fifty_connections_share_their_system_calls)
{
    cr_assert_leq(system_calls(PEER_TCP4, 50, 20), 15);
}

Test(round_trips, two_hundred_connections_share_their_system_calls)
{
    cr_assert_leq(system_calls(PEER_TCP4, 200, 10), 15);
}

/* What the engine has counted of its own enters, and what the wrapper has. */
struct counts {
    struct sluice_stats stats;
    uint64_t entered;
};

/* At the gate it can do neither. */
static struct counts count_at_gate(void)
{
    struct counts counts;

    shut_gate();
    sluice_engine_stats(echo.engine, &counts.stats);
    counts.entered = entered;
    sem_post(&echo.is_opened);
    return counts;
}

Test(round_trips, are_counted_as_they_are)
{
    struct crowd crowd = {.count = 10};
    struct counts before;
    struct counts after;

    start_echo(PEER_TCP4);
    for (int i = 0; i < crowd.count; i++)
        crowd.peers[i] = peer_connect(echo.address);
    for (int i = 0; i < WARM_ROUNDS; i++)
        make_round(&crowd);
    before = count_at_gate();
    for (int i = 0; i < WARM_ROUNDS; i++)
        make_round(&crowd);
    after = count_at_gate();
    cr_assert_gt(after.stats.enters, before.stats.enters);
    cr_assert_eq(after.stats.enters - before.stats.enters, after.entered - before.entered);
    cr_assert_eq(after.stats.bytes_received - before.stats.bytes_received, WARM_ROUNDS * MESSAGE * 10);
    for (int i = 0; i < crowd.count; i++)
        close(crowd.peers[i]);
    stop_echo();
}

Test(round_trips, other_calls_of_the_library_are_seen)
{
    struct server server;
    struct net net;

    is_counted = true;
    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_silent);
    is_counted = false;
    cr_assert_gt(entered, 0);
    cr_assert_gt(others, 0);
    server_close(&server);
    net_close(&net);
}

/* -- Nothing waits for an acknowledgement -------------------------------------------------------------------- */

static bool has_no_delay(const struct sluice_stream *stream)
{
    int value = 0;
    socklen_t len = sizeof value;

    cr_assert_eq(getsockopt(transport_of(stream)->write_fd, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
    return value;
}

static void expect_no_delay(enum peer_family family, const struct sluice_engine_options *options)
{
    struct server server;
    struct end client;
    struct end adopted;
    struct net net;
    int peer;

    net_open(&net, options);
    server_open(&server, &net, family, &end_polite);
    end_connect(&client, &net, server.address, &end_silent);
    net_until(&net, client.opens && server.accepted == 1);
    cr_assert(has_no_delay(client.stream));
    cr_assert(has_no_delay(server.ends->stream));
    peer = peer_connect(server.address);
    net_until(&net, server.accepted == 2);
    end_open_fd(&adopted, &net, peer, peer, &end_silent);
    cr_assert(has_no_delay(adopted.stream));
    end_close(&client);
    end_close(&adopted);
    net_until(&net, client.closes && adopted.closes);
    server_close(&server);
    net_close(&net);
}

Test(round_trips, sockets_do_not_delay_small_segments)
{
    struct sluice_engine_options options = net_options();

    expect_no_delay(PEER_TCP4, &options);
    expect_no_delay(PEER_TCP6, &options);
    options.disable = SLUICE_FEATURE_MULTISHOT_ACCEPT;
    expect_no_delay(PEER_TCP4, &options);
}

/* As a head and a body, or in many small pieces, or with memory of its own: as long as one callback sends it. */
static size_t head_len;

static void answer_in_pieces(struct end *end, const struct sluice_view *view)
{
    size_t piece = head_len;

    (void)view;
    for (size_t sent = 0; sent < 4 * KIB; sent += piece) {
        piece = sent == 0 ? head_len : head_len > 1 * KIB ? 4 * KIB - sent : head_len;
        cr_assert_eq(end_send(end, piece), SLUICE_ROOM);
    }
}

static void expect_one_submission(size_t first)
{
    static const struct end_plan plan = {.on_data = answer_in_pieces};
    struct peer_received answer;
    struct sluice_stats before;
    struct sluice_stats after;
    struct meeting meeting;

    head_len = first;
    meeting_start(&meeting, NULL, PEER_TCP4, 0, &plan);
    before = net_stats(&meeting.net);
    cr_assert_eq(peer_send(meeting.peer, 0, 0, 1), 1);
    net_until(&meeting.net, net_stats(&meeting.net).bytes_sent == 4 * KIB);
    after = net_stats(&meeting.net);
    cr_assert_eq(after.sends - before.sends, 1, "%llu sends", (unsigned long long)(after.sends - before.sends));
    /* One segment, so one read. */
    answer = peer_receive_now(meeting.peer, 0, 0, 64 * KIB);
    cr_assert_eq(answer.bytes, 4 * KIB);
    cr_assert(answer.is_intact);
    close(meeting.peer);
    end_abort(meeting.end, 0);
    meeting_stop(&meeting);
}

Test(round_trips, an_answer_in_two_sends_leaves_in_one_submission)
{
    expect_one_submission(2 * KIB);
}

Test(round_trips, an_answer_in_many_sends_leaves_in_one_submission)
{
    expect_one_submission(16);
    expect_one_submission(512);
}

/* Bytes that wait in the socket, and have not been on the wire. */
static int held_back(const struct sluice_stream *stream)
{
    int value = -1;

    cr_assert_eq(ioctl(transport_of(stream)->write_fd, SIOCOUTQNSD, &value), 0);
    return value;
}

/*
 * The second half goes while the peer has not acknowledged the first: it has just spoken, so it waits for something to
 * say along with that, and it neither speaks nor reads. Without TCP_NODELAY our kernel would wait for it in turn.
 */
static void answer_in_two_turns(struct net *net, struct end *end, int peer)
{
    uint64_t said = net_stats(net).bytes_sent;
    uint64_t heard = end->received;

    cr_assert_eq(peer_send(peer, 0, heard, 1), 1);
    net_until(net, end->received == heard + 1);
    for (unsigned half = 1; half <= 2; half++) {
        cr_assert_eq(end_send(end, 2 * KIB), SLUICE_ROOM);
        net_until(net, net_stats(net).bytes_sent == said + half * 2 * KIB);
        cr_assert_eq(held_back(end->stream), 0, "%d bytes wait for an acknowledgement", held_back(end->stream));
    }
}

/* More often than a kernel acknowledges at once because the connection is young. */
static void answer_often(struct net *net, struct end *end, int peer)
{
    for (int i = 0; i < ANSWERS; i++) {
        uint64_t before = end->accepted;
        struct peer_received answer;

        answer_in_two_turns(net, end, peer);
        answer = peer_receive(peer, 0, before, 4 * KIB, 4 * KIB);
        cr_assert_eq(answer.bytes, 4 * KIB);
        cr_assert(answer.is_intact);
    }
    close(peer);
    end_close(end);
    net_until(net, end->closes);
}

Test(round_trips, an_answer_in_two_turns_waits_for_no_acknowledgement)
{
    struct meeting meeting;
    struct end connected;
    struct end adopted;
    char address[SLUICE_ADDRESS_MAX];
    int listener;
    int socket;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    answer_often(&meeting.net, meeting.end, meeting.peer);
    listener = peer_listen(PEER_TCP4, 2, address);
    end_connect(&connected, &meeting.net, address, &end_silent);
    net_until(&meeting.net, connected.opens);
    answer_often(&meeting.net, &connected, peer_accept(listener));
    socket = peer_connect(address);
    end_open_fd(&adopted, &meeting.net, socket, socket, &end_silent);
    answer_often(&meeting.net, &adopted, peer_accept(listener));
    close(listener);
    meeting_stop(&meeting);
}
