/* Ten thousand connections at a time: none is lost, idle ones cost little, and each still works. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_end.h"

enum {
    MANY = 10000,
    SPARE_FDS = 200,      /* beside the connections */
    MEMORY_MAX = 512,     /* of the library, in bytes, for an idle connection */
    REST_MAX = 100,       /* what tables and pools may keep of that when it is closed */
    CONNECTING_MAX = 256, /* at a time */
    MESSAGE = 64,
};

TestSuite(many, .timeout = 100);

static struct sluice_engine_options many_options(void)
{
    struct sluice_engine_options options = net_options();

    options.completion_entries = 4096;
    return options;
}

/* Descriptors for one side of the connections: the other one is a process of its own. */
static void raise_limit(void)
{
    struct rlimit limit;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < MANY + SPARE_FDS)
        cr_skip_test("RLIMIT_NOFILE is %llu at the most", (unsigned long long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* -- The other side ------------------------------------------------------------------------------------------ */

/*
 * A process of plain sockets, which says 'y' when what it was told to do is done. It asserts nothing: only the test's
 * own process can. The descriptor is ours to talk to it.
 */
struct crowd {
    pid_t process;
    int fd;
};

static void start_crowd(struct crowd *crowd, void (*run)(int fd, int listener), int listener)
{
    int ends[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    crowd->fd = ends[0];
    crowd->process = fork();
    cr_assert_geq(crowd->process, 0);
    if (crowd->process == 0) {
        close(ends[0]);
        run(ends[1], listener);
        _exit(EXIT_SUCCESS);
    }
    close(ends[1]);
}

static bool has_spoken(const struct crowd *crowd)
{
    struct pollfd watch = {.fd = crowd->fd, .events = POLLIN};

    return poll(&watch, 1, 0) == 1;
}

static void expect_yes(const struct crowd *crowd)
{
    char word = 'n';

    cr_assert_eq(read(crowd->fd, &word, 1), 1, "it ended early");
    cr_assert_eq(word, 'y', "%c", word);
}

static void tell(const struct crowd *crowd, const void *data, size_t len)
{
    cr_assert_eq(write(crowd->fd, data, len), (ssize_t)len);
}

static void end_crowd(struct crowd *crowd)
{
    int status;

    close(crowd->fd);
    cr_assert_eq(waitpid(crowd->process, &status, 0), crowd->process);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS, "%d", status);
}

static void say(int fd, bool is_well)
{
    if (write(fd, is_well ? "y" : "n", 1) != 1)
        _exit(EXIT_FAILURE);
}

/* Returns when told to go on. */
static void hear(int fd, void *data, size_t len)
{
    if (read(fd, data, len) != (ssize_t)len)
        _exit(EXIT_FAILURE);
}

static int plain_sockets[MANY];

static bool connect_many(const char *address)
{
    for (int i = 0; i < MANY; i++)
        if ((plain_sockets[i] = peer_try_connect(address, 0)) < 0)
            return false;
    return true;
}

/* A message there and back. */
static bool is_echoed(int fd)
{
    struct peer_received answer;

    if (peer_send(fd, 0, 0, MESSAGE) != MESSAGE)
        return false;
    answer = peer_receive(fd, 0, 0, MESSAGE, MESSAGE);
    return answer.bytes == MESSAGE && answer.is_intact;
}

/* None of the sockets was closed or reset. */
static bool are_all_there(void)
{
    for (int i = 0; i < MANY; i++)
        if (peer_receive_now(plain_sockets[i], 0, 0, 1).error != -EAGAIN)
            return false;
    return true;
}

static void close_many(void)
{
    for (int i = 0; i < MANY; i++)
        close(plain_sockets[i]);
}

static void run_clients(int fd, int listener)
{
    char address[SLUICE_ADDRESS_MAX];

    (void)listener;
    hear(fd, address, sizeof address);
    say(fd, connect_many(address));
    hear(fd, address, 1);
    say(fd, is_echoed(plain_sockets[MANY / 2]) && are_all_there());
    hear(fd, address, 1);
    close_many();
    say(fd, true);
}

static bool accept_many(int listener)
{
    for (int i = 0; i < MANY; i++)
        if (!peer_wait(listener, POLLIN) || (plain_sockets[i] = accept(listener, NULL, NULL)) < 0)
            return false;
    return true;
}

static void run_servers(int fd, int listener)
{
    char word;

    say(fd, accept_many(listener));
    hear(fd, &word, 1);
    /* Whoever sent something is the one who is answered. */
    for (int i = 0; i < MANY; i++)
        if (recv(plain_sockets[i], &word, 1, MSG_DONTWAIT) == 1)
            say(fd, is_echoed(plain_sockets[i]));
    hear(fd, &word, 1);
    close_many();
    say(fd, true);
}

/* -- Our side ------------------------------------------------------------------------------------------------ */

static struct end ends[MANY];
static int accepted;
static int opened;
static int closed;

static void count_open(struct end *end)
{
    (void)end;
    opened++;
}

static void count_close(struct end *end)
{
    cr_assert_eq(end->why.error, 0, "%s", strerror(-end->why.error));
    closed++;
}

static void close_too(struct end *end)
{
    end_close(end);
}

static void echo(struct end *end, const struct sluice_view *view)
{
    cr_assert_eq(sluice_stream_send(end->stream, view->data, view->len), SLUICE_ROOM);
}

static const struct end_plan plan = {
    .on_open = count_open,
    .on_data = echo,
    .on_end = close_too,
    .on_close = count_close,
};

static void take_one(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    cr_assert_lt(accepted, MANY);
    end_init(&ends[accepted], user, &plan);
    end_take(&ends[accepted++], stream);
}

static const struct sluice_listener_events accepting = {.on_accept = take_one};

/* The records of the test are static: what is on the heap is the library's. Tables that grew count in full. */
static void expect_idle(struct net *net, size_t heap_before)
{
    struct sluice_stats stats;
    size_t each;

    net_turns(net, 10);
    stats = net_stats(net);
    each = (net_heap_in_use() - heap_before) / MANY;
    cr_assert_eq(stats.streams, MANY);
    cr_assert_eq(stats.receive_buffers_lent, 0);
    cr_assert_eq(stats.queued_bytes, 0);
    cr_assert_eq(closed, 0);
    cr_assert_lt(each, MEMORY_MAX, "%zu bytes for a connection", each);
}

static void expect_nothing_left(struct net *net, size_t heap_before)
{
    size_t each;

    net_turns(net, 10);
    each = (net_heap_in_use() - heap_before) / MANY;
    cr_assert_eq(net_stats(net).streams, 0);
    cr_assert_lt(each, REST_MAX, "%zu bytes for a closed connection", each);
}

Test(many, ten_thousand_are_accepted_and_idle_for_under_half_a_kibibyte_each)
{
    struct sluice_engine_options options = many_options();
    char address[SLUICE_ADDRESS_MAX];
    struct sluice_listener *listener;
    struct crowd crowd;
    struct net net;
    size_t heap_before;

    raise_limit();
    start_crowd(&crowd, run_clients, -1);
    net_open(&net, &options);
    net.fds_before--; /* the crowd's, which is closed by the end */
    cr_assert_eq(sluice_listen(net.engine, "127.0.0.1:0", NULL, &accepting, &net, &listener), 0);
    cr_assert_eq(sluice_listener_address(listener, address, sizeof address), 0);
    heap_before = net_heap_in_use();
    tell(&crowd, address, sizeof address);
    net_until(&net, accepted == MANY && has_spoken(&crowd));
    expect_yes(&crowd);
    cr_assert_eq(net_stats(&net).accepts, MANY);
    cr_assert_eq(net_stats(&net).accept_errors, 0);
    expect_idle(&net, heap_before);

    tell(&crowd, "e", 1);
    net_until(&net, has_spoken(&crowd));
    expect_yes(&crowd);
    cr_assert_eq(net_stats(&net).bytes_received, MESSAGE);
    expect_idle(&net, heap_before);

    tell(&crowd, "c", 1);
    net_until(&net, closed == MANY && has_spoken(&crowd));
    expect_yes(&crowd);
    end_crowd(&crowd);
    expect_nothing_left(&net, heap_before);
    sluice_listener_close(listener);
    net_close(&net);
}

Test(many, ten_thousand_are_connected_and_idle_for_under_half_a_kibibyte_each)
{
    struct sluice_engine_options options = many_options();
    char address[SLUICE_ADDRESS_MAX];
    struct crowd crowd;
    struct net net;
    size_t heap_before;
    int listener;

    raise_limit();
    listener = peer_listen(PEER_TCP4, 4096, address);
    start_crowd(&crowd, run_servers, listener);
    close(listener);
    net_open(&net, &options);
    net.fds_before--;
    heap_before = net_heap_in_use();
    for (int i = 0; i < MANY; i++) {
        end_connect(&ends[i], &net, address, &plan);
        if (i - opened >= CONNECTING_MAX)
            net_until(&net, i - opened < CONNECTING_MAX / 2);
    }
    net_until(&net, opened == MANY && has_spoken(&crowd));
    expect_yes(&crowd);
    expect_idle(&net, heap_before);

    cr_assert_eq(end_send(&ends[MANY / 2], 1), SLUICE_ROOM);
    net_until(&net, net_stats(&net).bytes_sent == 1);
    tell(&crowd, "e", 1);
    net_until(&net, ends[MANY / 2].received == MESSAGE && has_spoken(&crowd));
    expect_yes(&crowd);
    expect_idle(&net, heap_before);

    tell(&crowd, "c", 1);
    net_until(&net, closed == MANY && has_spoken(&crowd));
    expect_yes(&crowd);
    end_crowd(&crowd);
    expect_nothing_left(&net, heap_before);
    net_close(&net);
}
