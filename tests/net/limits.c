/*
 * Limits that are reached: descriptors, connections, backlogs, budgets. Each is told, costs nobody a byte, and passes.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "engine/list.h"
#include "engine/listener.h"
#include "tests/support/net_end.h"
#include "tests/support/net_pattern.h"

#define MILLISECOND UINT64_C(1000000)

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
    PEERS = 12,
    FREE_FDS = 4,
    WATCHED_MS = 300,
    RETRY_MS = 50, /* the engine's */
    LIMIT = 3,
    SHARDS = 3,
    SPREAD = 150,
    SENDS = 1000000,
    FLOOD_LIMIT = 16 * MIB,
    FLOOD_MESSAGES = FLOOD_LIMIT / KIB,
    SLICE_COST = 4 * MIB, /* of all of them: what is queued is ours, the rest is bookkeeping */
};

TestSuite(limits, .timeout = 60);

static void connect_peers(int *peers, int count, const char *address)
{
    for (int i = 0; i < count; i++)
        peers[i] = peer_connect(address);
}

/* One byte there and back on each: none of the connections was lost on the way. */
static void expect_echo(struct net *net, struct server *server, const int *peers, int count)
{
    int received = 0;

    for (int i = 0; i < count; i++)
        cr_assert_eq(peer_send(peers[i], 0, 0, 1), 1);
    for (int i = 0; i < count; i++) {
        struct peer_received answer = {0};

        net_until(net, (answer = peer_receive_now(peers[i], 0, 0, 1)).error != -EAGAIN);
        cr_assert_eq(answer.bytes, 1);
    }
    for (struct end *end = server->ends; end; end = end->next)
        received += end->received == 1;
    cr_assert_eq(received, count);
}

/* -- Descriptors --------------------------------------------------------------------------------------------- */

static struct rlimit usual_fds;

/* Leaves the process so many descriptors that it can open. */
static void leave_fds(int count)
{
    struct rlimit limit;
    int spare[FREE_FDS + 1];

    cr_assert_leq(count, FREE_FDS);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &usual_fds), 0);
    for (int i = 0; i <= count; i++)
        cr_assert_geq(spare[i] = dup(STDERR_FILENO), 0);
    for (int i = 0; i <= count; i++)
        close(spare[i]);
    limit = usual_fds;
    limit.rlim_cur = (rlim_t)spare[count];
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void leave_all_fds(void)
{
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &usual_fds), 0);
}

/* An engine that runs by itself for a while. */
struct watch {
    struct sluice_timer timer;
    struct sluice_engine *engine;
};

static void stop_engine(struct sluice_timer *timer)
{
    sluice_engine_stop(container_of(timer, struct watch, timer)->engine);
}

/* With nothing to do but to try again now and then, an engine sleeps. However long this takes, it turns rarely. */
static void expect_sleep(struct net *net)
{
    struct watch watch = {.timer.fire = stop_engine, .engine = net->engine};
    uint64_t turns = net_stats(net).turns;
    uint64_t start = sluice_engine_now(net->engine);
    uint64_t allowed;

    sluice_timer_start(net->engine, &watch.timer, WATCHED_MS * MILLISECOND);
    cr_assert_eq(sluice_engine_run(net->engine), 0);
    allowed = 4 * (2 + (sluice_engine_now(net->engine) - start) / (RETRY_MS * MILLISECOND));
    turns = net_stats(net).turns - turns;
    cr_assert_leq(turns, allowed, "%llu turns", (unsigned long long)turns);
}

static void run_out_of_fds(const struct sluice_engine_options *engine_options, uint32_t connection_limit)
{
    struct sluice_listener_options options = {.connection_limit = connection_limit};
    struct server server;
    struct net net;
    int peers[PEERS];

    net_open(&net, engine_options);
    server_open_at(&server, &net, "127.0.0.1:0", &options, &end_echo);
    connect_peers(peers, PEERS, server.address);
    leave_fds(FREE_FDS);
    net_until(&net, server.errors);
    net_turns(&net, 20);
    cr_assert_eq(server.accepted, FREE_FDS);
    cr_assert_eq(server.last_error, -EMFILE, "%d", server.last_error);
    expect_sleep(&net);
    cr_assert_eq(server.errors, 1, "told %d times", server.errors);
    cr_assert_eq(server.accepted, FREE_FDS);

    /* One of ours closes, which frees a descriptor of which the engine knows. */
    end_close(server.ends);
    for (int i = 0; i < FREE_FDS; i++)
        cr_assert_eq(peer_send(peers[i], 0, 0, 1), 1);
    net_until(&net, peer_receive_now(peers[FREE_FDS - 1], 0, 0, 1).has_ended);
    peer_finish(peers[FREE_FDS - 1]);
    net_until(&net, server.accepted == FREE_FDS + 1);
    net_until(&net, server.errors == 2);

    /* Others are freed elsewhere. */
    leave_all_fds();
    net_until(&net, server.accepted == PEERS);
    for (int i = FREE_FDS; i < PEERS; i++)
        cr_assert_eq(peer_send(peers[i], 0, 0, 1), 1);
    for (int i = 0; i < PEERS; i++) {
        struct peer_received answer = {.error = i == FREE_FDS - 1 ? 0 : -EAGAIN};

        net_until(&net, answer.error != -EAGAIN || (answer = peer_receive_now(peers[i], 0, 0, 1)).error != -EAGAIN);
        cr_assert_eq(answer.bytes, i == FREE_FDS - 1 ? 0 : 1);
        close(peers[i]);
    }
    cr_assert_eq(net_stats(&net).accepts, PEERS);
    server_close(&server);
    net_close(&net);
}

Test(limits, no_descriptor_for_a_connection_delays_it_and_loses_none)
{
    run_out_of_fds(NULL, 0);
}

Test(limits, no_descriptor_is_the_same_when_connections_are_accepted_one_by_one)
{
    struct sluice_engine_options options = net_options();

    options.disable = SLUICE_FEATURE_MULTISHOT_ACCEPT;
    run_out_of_fds(&options, 0);
    run_out_of_fds(NULL, PEERS);
}

Test(limits, no_descriptor_to_connect_with_is_told_as_the_cause)
{
    struct server server;
    struct end client;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_polite);
    leave_fds(0);
    end_connect(&client, &net, server.address, &end_silent);
    net_until(&net, client.closes);
    cr_assert_eq(client.why.error, -EMFILE, "%d", client.why.error);
    cr_assert_eq(client.why.side, SLUICE_LOCAL);
    cr_assert_eq(client.opens, 0);
    leave_all_fds();
    end_connect(&client, &net, server.address, &end_silent);
    net_until(&net, client.opens && server.accepted == 1);
    end_close(&client);
    net_until(&net, client.closes);
    server_close(&server);
    net_close(&net);
}

/* -- Connections --------------------------------------------------------------------------------------------- */

static int count_open(const struct server *server)
{
    int count = 0;

    for (const struct end *end = server->ends; end; end = end->next)
        count += end->closes == 0;
    return count;
}

static struct end *oldest_open(const struct server *server)
{
    struct end *oldest = NULL;

    for (struct end *end = server->ends; end; end = end->next)
        if (end->closes == 0 && !end->is_silenced)
            oldest = end;
    return oldest;
}

static void stay_below_limit(enum peer_family family)
{
    struct sluice_listener_options options = {.connection_limit = LIMIT};
    char address[SLUICE_ADDRESS_MAX];
    struct server server;
    struct net net;
    int peers[PEERS];

    peer_make_address(family, address);
    net_open(&net, NULL);
    server_open_at(&server, &net, address, &options, &end_echo);
    connect_peers(peers, PEERS, server.address);
    for (int served = 0; served < PEERS; served++) {
        int expected = served + LIMIT < PEERS ? served + LIMIT : PEERS;

        net_until(&net, server.accepted == expected);
        net_turns(&net, 20);
        cr_assert_eq(server.accepted, expected);
        cr_assert_eq(count_open(&server), expected - served);
        /* The kernel hands them out in the order they came. */
        cr_assert_eq(peer_send(peers[served], 0, 0, 1), 1);
        net_until(&net, peer_receive_now(peers[served], 0, 0, 1).bytes == 1);
        cr_assert_eq(oldest_open(&server)->received, 1);
        close(peers[served]);
        net_until(&net, count_open(&server) < expected - served || server.accepted > expected);
    }
    cr_assert_eq(server.errors, 0);
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

Test(limits, of_a_listener_keep_further_connections_waiting_in_order)
{
    stay_below_limit(PEER_TCP4);
    stay_below_limit(PEER_UNIX);
}

/* -- Backlogs ------------------------------------------------------------------------------------------------ */

/* What the kernel calls the most connections that wait. */
static uint32_t backlog_of(const struct server *server)
{
    struct tcp_info info;
    socklen_t len = sizeof info;

    cr_assert_eq(getsockopt(server->listener->fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    return info.tcpi_sacked;
}

static void expect_backlog(uint32_t of_engine, uint32_t of_listener, uint32_t expected)
{
    struct sluice_engine_options engine_options = net_options();
    struct sluice_listener_options options = {.backlog = of_listener};
    struct server server;
    struct net net;

    engine_options.backlog = of_engine;
    net_open(&net, &engine_options);
    server_open_at(&server, &net, "127.0.0.1:0", &options, &end_silent);
    cr_assert_eq(backlog_of(&server), expected, "%u", backlog_of(&server));
    server_close(&server);
    net_close(&net);
}

Test(limits, of_a_backlog_are_the_listeners_or_else_the_engines)
{
    expect_backlog(7, 0, 7);
    expect_backlog(7, 9, 9);
    expect_backlog(7, 1, 1);
}

/* Returns the descriptor, or -EAGAIN if the backlog is full. */
static int connect_at_once(const char *address)
{
    const char *path = address + strlen("unix:");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    cr_assert_lt(strlen(path), sizeof name.sun_path);
    memcpy(name.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&name, sizeof name) == 0)
        return fd;
    error = -errno;
    close(fd);
    return error;
}

Test(limits, of_a_backlog_turn_away_only_who_comes_while_it_is_full)
{
    struct sluice_listener_options options = {.backlog = 2};
    char address[SLUICE_ADDRESS_MAX];
    struct server server;
    struct net net;
    int peers[PEERS];
    int count = 0;

    peer_make_address(PEER_UNIX, address);
    net_open(&net, NULL);
    server_open_at(&server, &net, address, &options, &end_echo);
    while (count < PEERS && (peers[count] = connect_at_once(address)) >= 0)
        count++;
    cr_assert_eq(count, 3, "the kernel adds one: %d", count);
    cr_assert_eq(peers[count], -EAGAIN);
    while (count < PEERS) {
        net_until(&net, server.accepted == count);
        cr_assert_geq(peers[count] = connect_at_once(address), 0);
        count++;
    }
    net_until(&net, server.accepted == PEERS);
    expect_echo(&net, &server, peers, PEERS);
    for (int i = 0; i < PEERS; i++)
        close(peers[i]);
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

/* -- Sharing an address -------------------------------------------------------------------------------------- */

/* What the threads of a group heard. */
struct shards {
    struct sluice_group *group;
    atomic_int accepted[SHARDS];
    atomic_int closed;
    sem_t heard; /* once for each of these */
};

static void shard_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)user;
    sluice_stream_send(stream, view->data, view->len);
}

static void shard_end(struct sluice_stream *stream, void *user)
{
    (void)user;
    sluice_stream_close(stream);
}

static void shard_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct shards *shards = user;

    (void)stream;
    (void)why;
    atomic_fetch_add(&shards->closed, 1);
    sem_post(&shards->heard);
}

static const struct sluice_stream_events shard_events = {
    .on_data = shard_data,
    .on_end = shard_end,
    .on_close = shard_close,
};

static void shard_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    struct shards *shards = user;

    (void)listener;
    for (size_t i = 0; i < SHARDS; i++)
        if (sluice_group_engine(shards->group, i) == sluice_stream_engine(stream))
            atomic_fetch_add(&shards->accepted[i], 1);
    sluice_stream_set_events(stream, &shard_events, shards);
    sem_post(&shards->heard);
}

static const struct sluice_listener_events shard_accepting = {.on_accept = shard_accept};

static void await_shards(struct shards *shards, int count)
{
    struct timespec deadline;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += PEER_PATIENCE_MS / 1000;
    for (int i = 0; i < count; i++)
        cr_assert_eq(sem_timedwait(&shards->heard, &deadline), 0, "%d of %d", i, count);
}

static int accepted_by_all(const struct shards *shards)
{
    int count = 0;

    for (int i = 0; i < SHARDS; i++)
        count += shards->accepted[i];
    return count;
}

static void shards_open(struct shards *shards, enum peer_family family, const struct sluice_listener_options *options,
                        char address[SLUICE_ADDRESS_MAX])
{
    struct sluice_engine_options engine_options = net_options();
    char given[SLUICE_ADDRESS_MAX];
    int error;

    *shards = (struct shards){0};
    sem_init(&shards->heard, 0, 0);
    peer_make_address(family, given);
    error = sluice_group_create(&engine_options, SHARDS, &shards->group);
    cr_assert_eq(error, 0, "%s", strerror(-error));
    cr_assert_eq(sluice_group_size(shards->group), SHARDS);
    error = sluice_group_listen(shards->group, given, options, &shard_accepting, shards, address, SLUICE_ADDRESS_MAX);
    cr_assert_eq(error, 0, "%s", strerror(-error));
}

static void shards_close(struct shards *shards)
{
    sluice_group_destroy(shards->group);
    sem_destroy(&shards->heard);
    peer_remove_folders();
}

static void spread(enum peer_family family)
{
    char address[SLUICE_ADDRESS_MAX];
    int fds = net_count_fds();
    struct shards shards;
    int peers[SPREAD];

    shards_open(&shards, family, NULL, address);
    connect_peers(peers, SPREAD, address);
    await_shards(&shards, SPREAD);
    cr_assert_eq(accepted_by_all(&shards), SPREAD);
    for (int i = 0; i < SPREAD; i++)
        cr_assert_eq(peer_send(peers[i], 0, 0, 1), 1);
    for (int i = 0; i < SPREAD; i++) {
        cr_assert_eq(peer_receive(peers[i], 0, 0, 1, 1).bytes, 1);
        close(peers[i]);
    }
    await_shards(&shards, SPREAD);
    cr_assert_eq(shards.closed, SPREAD);
    /* By chance alone, one in three thousand million million million million runs would leave one without. */
    for (int i = 0; family == PEER_TCP4 && i < SHARDS; i++)
        cr_assert_gt(shards.accepted[i], 0, "number %d had none", i);
    shards_close(&shards);
    cr_assert_eq(net_count_fds(), fds);
}

Test(limits, of_one_thread_are_passed_by_a_group_that_shares_an_address)
{
    spread(PEER_TCP4);
    spread(PEER_UNIX);
}

/* What a group shares among its engines is not for the group of another program. */
Test(limits, a_group_does_not_join_another_on_its_port)
{
    struct sluice_listener_options sharing = {.reuse_port = 1};
    struct sluice_engine_options engine_options = net_options();
    char address[SLUICE_ADDRESS_MAX];
    struct sluice_group *other;
    struct shards shards;
    int peers[PEERS];

    cr_assert_eq(sluice_group_create(&engine_options, SHARDS, &other), 0);
    shards_open(&shards, PEER_TCP4, NULL, address);
    cr_assert_eq(sluice_group_listen(other, address, NULL, &shard_accepting, &shards, NULL, 0), -EADDRINUSE);
    /* Nobody of the other group has stayed: every connection comes to the first. */
    connect_peers(peers, PEERS, address);
    await_shards(&shards, PEERS);
    cr_assert_eq(accepted_by_all(&shards), PEERS);
    for (int i = 0; i < PEERS; i++)
        close(peers[i]);
    await_shards(&shards, PEERS);
    cr_assert_eq(sluice_group_listen(other, address, &sharing, &shard_accepting, &shards, NULL, 0), 0);
    sluice_group_destroy(other);
    shards_close(&shards);
}

Test(limits, of_the_room_for_its_address_leave_a_group_listening_nowhere)
{
    struct sluice_engine_options engine_options = net_options();
    char given[SLUICE_ADDRESS_MAX];
    char text[3];
    struct sluice_group *group;
    int result;

    peer_make_address(PEER_UNIX, given);
    cr_assert_eq(sluice_group_create(&engine_options, SHARDS, &group), 0);
    cr_assert_eq(sluice_group_listen(group, given, NULL, &shard_accepting, NULL, text, sizeof text), -ENOSPC);
    while ((result = peer_try_connect(given, 0)) >= 0)
        close(result); /* the listener ends in its engine's time */
    cr_assert(result == -ENOENT || result == -ECONNREFUSED);
    sluice_group_destroy(group);
    peer_remove_folders();
}

Test(limits, of_connections_hold_for_each_engine_of_a_group)
{
    struct sluice_listener_options options = {.connection_limit = 2};
    char address[SLUICE_ADDRESS_MAX];
    struct shards shards;
    int peers[PEERS];
    int served = 0;

    /* On a Unix socket all accept from one queue, so that none of them is short of connections. */
    shards_open(&shards, PEER_UNIX, &options, address);
    connect_peers(peers, PEERS, address);
    await_shards(&shards, 2 * SHARDS);
    while (served < PEERS) {
        int accepted = 0;

        for (int i = 0; i < SHARDS; i++)
            accepted += shards.accepted[i];
        cr_assert_leq(accepted - shards.closed, 2 * SHARDS);
        close(peers[served++]);
        /* Its close, and the place it leaves to another. */
        await_shards(&shards, served + 2 * SHARDS <= PEERS ? 2 : 1);
    }
    cr_assert_eq(accepted_by_all(&shards), PEERS);
    cr_assert_eq(shards.closed, PEERS);
    shards_close(&shards);
}

Test(limits, an_address_is_shared_only_if_both_say_so)
{
    struct sluice_listener_options shared = {.reuse_port = 1};
    struct sluice_listener *refused;
    struct server first;
    struct server second;
    struct net net;

    net_open(&net, NULL);
    server_open_at(&first, &net, "127.0.0.1:0", &shared, &end_silent);
    server_open_at(&second, &net, first.address, &shared, &end_silent);
    cr_assert_str_eq(first.address, second.address);
    cr_assert_eq(sluice_listen(net.engine, first.address, NULL, &shard_accepting, NULL, &refused), -EADDRINUSE);
    server_close(&second);
    server_close(&first);
    server_open(&first, &net, PEER_TCP4, &end_silent);
    cr_assert_eq(sluice_listen(net.engine, first.address, &shared, &shard_accepting, NULL, &refused), -EADDRINUSE);
    server_close(&first);
    net_close(&net);
}

Test(limits, of_the_processors_hold_for_the_first_thread_of_a_group)
{
    struct sluice_engine_options options = net_options();
    struct sluice_group *group;

    options.thread_cpu = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN) + 1;
    cr_assert_eq(sluice_group_create(&options, 1, &group), -EINVAL);
}

Test(limits, of_descriptors_refuse_an_engine_and_leave_its_thread_where_it_was)
{
    struct sluice_engine_options options = net_options();
    struct sluice_engine *engine;
    cpu_set_t before;
    cpu_set_t after;
    int error;

    cr_assert_eq(sched_getaffinity(0, sizeof before, &before), 0);
    for (options.thread_cpu = 1; !CPU_ISSET(options.thread_cpu - 1, &before); options.thread_cpu++)
        continue;
    leave_fds(0);
    error = sluice_engine_create(&options, &engine);
    leave_all_fds();
    cr_assert_eq(error, -EMFILE);
    cr_assert_eq(sched_getaffinity(0, sizeof after, &after), 0);
    cr_assert(CPU_EQUAL(&before, &after), "of %d CPUs, %d are left", CPU_COUNT(&before), CPU_COUNT(&after));
}

/* The batch of posts that this one is in is the last that its engine takes. */
struct stop {
    struct sluice_post post;
    struct sluice_engine *engine;
    sem_t is_done;
};

static void run_stop(struct sluice_post *post)
{
    struct stop *stop = container_of(post, struct stop, post);

    sluice_engine_stop(stop->engine);
    sem_post(&stop->is_done);
}

Test(limits, of_a_group_whose_engine_has_stopped_are_told)
{
    struct sluice_engine_options options = net_options();
    char address[SLUICE_ADDRESS_MAX];

    for (size_t stopped = 0; stopped < SHARDS; stopped++) {
        struct stop stop = {.post.run = run_stop};
        struct sluice_group *group;

        cr_assert_eq(sluice_group_create(&options, SHARDS, &group), 0);
        sem_init(&stop.is_done, 0, 0);
        stop.engine = sluice_group_engine(group, stopped);
        sluice_engine_post(stop.engine, &stop.post);
        while (sem_wait(&stop.is_done) < 0)
            continue;
        for (int i = 0; i < 2; i++) {
            peer_make_address(i == 0 ? PEER_TCP4 : PEER_UNIX, address);
            cr_assert_eq(sluice_group_listen(group, address, NULL, &shard_accepting, NULL, NULL, 0), -ESHUTDOWN);
        }
        sluice_group_destroy(group);
        sem_destroy(&stop.is_done);
    }
    peer_remove_folders();
}

/* -- Budgets ------------------------------------------------------------------------------------------------- */

/* Sends until the engine refuses, and its kernel takes no more. */
static void use_up(struct net *net, struct end *end, size_t piece)
{
    uint64_t accepted;

    do {
        accepted = end->accepted;
        while (end_send(end, piece) >= 0)
            continue;
        net_turns(net, 10);
    } while (end->accepted > accepted);
}

Test(limits, a_budget_that_is_used_up_comes_back_as_its_user_is_read)
{
    struct sluice_engine_options options = net_options();
    struct server server;
    struct net net;
    struct end *glutton;
    struct end *modest;
    uint64_t received = 0;
    int peers[2];

    options.memory_budget = MIB;
    net_open(&net, &options);
    server_open(&server, &net, PEER_UNIX, &end_silent);
    connect_peers(peers, 2, server.address);
    net_until(&net, server.accepted == 2);
    /* The newest is the first of the list. */
    modest = server.ends;
    glutton = modest->next;
    use_up(&net, glutton, 4 * KIB);
    cr_assert_gt(net_stats(&net).queued_bytes, MIB - 4 * KIB);
    cr_assert_eq(end_send(modest, 4 * KIB), -ENOBUFS);
    cr_assert_eq(sluice_stream_queued(modest->stream), 0);
    cr_assert_eq(sluice_stream_write_status(modest->stream), SLUICE_WRITABLE);
    cr_assert_eq(glutton->drains, 0);

    net_until(&net, (received += peer_receive_now(peers[0], 0, received, 64 * KIB).bytes) && glutton->drains);
    cr_assert_eq(glutton->drains, 1);
    cr_assert_eq(end_send(modest, KIB), SLUICE_ROOM);
    cr_assert_eq(end_send(glutton, KIB), SLUICE_ROOM);
    net_until(&net, (received += peer_receive_now(peers[0], 0, received, 64 * KIB).bytes) == glutton->accepted);
    net_until(&net, net_stats(&net).queued_bytes == 0);
    cr_assert_eq(peer_receive(peers[1], 0, 0, KIB, KIB).bytes, KIB);
    cr_assert_eq(modest->drains, 0);
    cr_assert_eq(modest->closes + glutton->closes, 0);
    peer_finish(peers[0]);
    peer_finish(peers[1]);
    end_close(modest);
    end_close(glutton);
    server_close(&server);
    close(peers[0]);
    close(peers[1]);
    net_close(&net);
    peer_remove_folders();
}

/* An abort gives back at once what the queue held. */
Test(limits, a_budget_comes_back_when_its_user_is_aborted)
{
    struct sluice_engine_options options = net_options();
    struct server server;
    struct net net;
    struct end *glutton;
    struct end *modest;
    size_t queued;
    int peers[2];

    options.memory_budget = MIB;
    net_open(&net, &options);
    server_open(&server, &net, PEER_UNIX, &end_silent);
    connect_peers(peers, 2, server.address);
    net_until(&net, server.accepted == 2);
    modest = server.ends;
    glutton = modest->next;
    use_up(&net, glutton, 4 * KIB);
    cr_assert_eq(end_send(modest, 4 * KIB), -ENOBUFS);
    queued = sluice_stream_queued(glutton->stream);
    end_abort(glutton, 0);
    net_until(&net, glutton->closes);
    cr_assert_eq(glutton->why.unsent, queued);
    cr_assert_eq(net_stats(&net).queued_bytes, 0);
    cr_assert_eq(end_send(modest, 64 * KIB), SLUICE_FULL);
    net_until(&net, modest->drains == 1);
    close(peers[0]);
    cr_assert_eq(peer_receive(peers[1], 0, 0, 64 * KIB, 64 * KIB).bytes, 64 * KIB);
    close(peers[1]);
    net_until(&net, modest->ends);
    end_close(modest);
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

/* -- Floods -------------------------------------------------------------------------------------------------- */

/* Memory of the test's own that is sent again and again, and how deep the stack was whenever somebody called us. */
struct shared {
    struct sluice_buffer
        buffers[FLOOD_MESSAGES + 1]; /* one for each message that was taken, though all lie in `data` */
    uintptr_t lowest;
    uintptr_t highest;
    int sends;
    int room;
    int full;
    int refused;
    int released;
    size_t heap_growth;
    uint8_t data[KIB];
};

static struct shared shared;

static void note_depth(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    if (!shared.lowest || here < shared.lowest)
        shared.lowest = here;
    if (here > shared.highest)
        shared.highest = here;
}

static void note_release(struct sluice_buffer *buffer)
{
    (void)buffer;
    shared.released++;
    note_depth();
}

static void note_drain(struct end *end)
{
    (void)end;
    note_depth();
}

static void note_close(struct end *end)
{
    (void)end;
    note_depth();
}

/* Each message is the same; on a layer of messages or without one, the bytes add up to the same. */
static void flood_views(struct end *end, const struct sluice_view *view)
{
    size_t before = net_heap_in_use();

    (void)view;
    note_depth();
    for (int i = 0; i < shared.sends; i++) {
        struct sluice_buffer *buffer = &shared.buffers[shared.room + shared.full];
        struct sluice_view message = {.data = shared.data, .len = sizeof shared.data, .buffer = buffer};
        int answer;

        cr_assert_leq(shared.room + shared.full, FLOOD_MESSAGES);
        sluice_buffer_init(buffer, note_release);
        answer = sluice_stream_send_view(end->stream, &message);
        cr_assert(answer == -ENOBUFS || shared.refused == 0, "%d after a refusal", answer);
        cr_assert(answer != SLUICE_ROOM || shared.full == 0, "room after full");
        cr_assert_eq(buffer->references, answer == -ENOBUFS ? 1 : 2);
        shared.room += answer == SLUICE_ROOM;
        shared.full += answer == SLUICE_FULL;
        shared.refused += answer == -ENOBUFS;
        if (answer >= 0) {
            end->accepted += message.len;
            sluice_buffer_drop(buffer);
        }
    }
    if (shared.full > 0)
        end->is_full = true;
    shared.heap_growth = net_heap_in_use() - before;
}

static const struct end_plan flood_plan = {
    .on_data = flood_views,
    .on_drain = note_drain,
    .on_close = note_close,
};

static void put_frames(struct end *end, int frames)
{
    struct sluice_frame_options options = {.length = SLUICE_FRAME_U32_BE};

    while (frames-- > 0)
        cr_assert_eq(sluice_frame_stream(end->stream, &options, NULL, NULL, &end->stream), 0);
    end_take(end, end->stream);
}

static struct sluice_stream *newest;

static void keep_newest(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    newest = stream;
}

/*
 * The flooder is asked for a flood by one byte of a client that then pauses, until it has been refused. Returns the
 * depth.
 */
static size_t flood(int sends, int frames)
{
    static const struct sluice_listener_events keeping = {.on_accept = keep_newest};
    struct sluice_engine_options options = net_options();
    struct sluice_listener *listener;
    char address[SLUICE_ADDRESS_MAX];
    struct end client;
    struct end server;
    struct net net;

    shared = (struct shared){.sends = sends};
    newest = NULL;
    options.send_limit = FLOOD_LIMIT;
    net_open(&net, &options);
    cr_assert_eq(sluice_listen(net.engine, "127.0.0.1:0", NULL, &keeping, NULL, &listener), 0);
    cr_assert_eq(sluice_listener_address(listener, address, sizeof address), 0);
    end_connect(&client, &net, address, &end_silent);
    client.is_unpatterned = true;
    put_frames(&client, frames);
    net_until(&net, client.opens && newest);
    end_init(&server, &net, &flood_plan);
    server.stream = newest;
    put_frames(&server, frames);
    cr_assert_eq(sluice_stream_pause(client.stream), 0);
    cr_assert_eq(end_send(&client, 1), SLUICE_ROOM);
    net_until(&net, shared.room + shared.full + shared.refused == sends);
    net_turns(&net, 100);
    cr_assert_leq(sluice_stream_queued(server.stream), FLOOD_LIMIT);
    if (shared.refused)
        cr_assert_eq(server.drains, 0);

    cr_assert_eq(sluice_stream_resume(client.stream), 0);
    net_until(&net, client.received == server.accepted);
    net_until(&net, sluice_stream_queued(server.stream) == 0);
    net_turns(&net, 10);
    cr_assert_eq(server.drains, shared.full > 0);
    cr_assert_eq(shared.released, shared.room + shared.full, "each once");
    end_close(&server);
    end_close(&client);
    sluice_listener_close(listener);
    net_until(&net, server.closes && client.closes);
    cr_assert_eq(server.why.error, 0);
    net_close(&net);
    return shared.highest - shared.lowest;
}

static void expect_bounded_flood(int frames)
{
    size_t light = flood(100, frames);
    size_t heavy = flood(SENDS, frames);

    cr_assert_gt(shared.full, 0);
    cr_assert_geq(shared.room + shared.full, FLOOD_MESSAGES - FLOOD_MESSAGES / 100);
    cr_assert_leq(shared.room + shared.full, FLOOD_MESSAGES);
    cr_assert_leq(shared.heap_growth, SLICE_COST, "%zu", shared.heap_growth);
    cr_assert_lt(heavy, 4 * KIB, "%zu", heavy);
    cr_assert_leq(heavy, light + 256, "%zu, %zu", light, heavy);
}

Test(limits, a_million_views_in_one_callback_leave_the_stack_alone_and_are_not_copied)
{
    expect_bounded_flood(0);
}

Test(limits, a_million_messages_in_one_callback_are_bounded_by_a_layer_too)
{
    expect_bounded_flood(1);
    expect_bounded_flood(2);
}
