/*
 * Engines in a loop that is not theirs. The loop here is strict: it waits for as long as the engine says and no
 * shorter, and gives a turn only to an engine whose descriptor is readable or whose time has come. A wake-up that is
 * lost leaves it waiting until its patience ends, which is a failure.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/net_end.h"
#include "tests/support/peer.h"
#include "tests/support/random.h"

TestSuite(embed, .timeout = 100);

enum {
    ENGINES_MAX = 3,
    ROUNDS = 2000,
    TIMERS = 200,
    SPIN_MAX = 3000, /* of another thread, so that it comes at any moment of ours */
    KIB = 1024,
};

#define PATIENCE_NS UINT64_C(20000000000)
#define US          UINT64_C(1000)

static uint64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* -- The foreign loop ---------------------------------------------------------------------------------------- */

enum way {
    BY_POLL,
    BY_EPOLL,
    WAYS,
};

struct loop {
    enum way way;
    struct net nets[ENGINES_MAX];
    uint64_t due[ENGINES_MAX]; /* on our clock */
    bool is_ready[ENGINES_MAX];
    int count;
    int epoll;
    uint64_t waits; /* that were longer than nothing */
};

static void loop_open(struct loop *loop, int engines, enum way way)
{
    *loop = (struct loop){.way = way, .count = engines, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    cr_assert_geq(loop->epoll, 0);
    for (int i = 0; i < engines; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};

        net_open(&loop->nets[i], NULL);
        cr_assert_eq(epoll_ctl(loop->epoll, EPOLL_CTL_ADD, sluice_engine_fd(loop->nets[i].engine), &event), 0);
    }
}

/* The last engine first: each counts the descriptors that were open before it. */
static void loop_close(struct loop *loop)
{
    for (int i = loop->count; i-- > 0;)
        net_close(&loop->nets[i]);
    close(loop->epoll);
}

static int wait_in_poll(struct loop *loop, const struct timespec *timeout)
{
    struct pollfd watches[ENGINES_MAX];
    int result;

    for (int i = 0; i < loop->count; i++)
        watches[i] = (struct pollfd){.fd = sluice_engine_fd(loop->nets[i].engine), .events = POLLIN};
    result = ppoll(watches, (nfds_t)loop->count, timeout, NULL);
    for (int i = 0; i < loop->count; i++)
        loop->is_ready[i] = result > 0 && watches[i].revents;
    return result;
}

static int wait_in_epoll(struct loop *loop, const struct timespec *timeout)
{
    struct epoll_event events[ENGINES_MAX];
    /* Rounded up: a loop with coarser time comes later, not earlier. */
    int timeout_ms = (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000);
    int result = epoll_wait(loop->epoll, events, ENGINES_MAX, timeout_ms);

    memset(loop->is_ready, 0, sizeof loop->is_ready);
    for (int i = 0; i < result; i++)
        loop->is_ready[events[i].data.u32] = true;
    return result;
}

static void loop_once(struct loop *loop)
{
    uint64_t now = clock_now();
    uint64_t wait_ns = PATIENCE_NS;
    struct timespec timeout;
    int result;

    for (int i = 0; i < loop->count; i++) {
        uint64_t wait = sluice_engine_wait_ns(loop->nets[i].engine);

        loop->due[i] = wait > UINT64_MAX - now ? UINT64_MAX : now + wait;
        wait_ns = wait < wait_ns ? wait : wait_ns;
    }
    timeout = (struct timespec){
        .tv_sec = (time_t)(wait_ns / 1000000000),
        .tv_nsec = (long)(wait_ns % 1000000000),
    };
    loop->waits += wait_ns > 0;
    result = loop->way == BY_POLL ? wait_in_poll(loop, &timeout) : wait_in_epoll(loop, &timeout);
    cr_assert(result != 0 || wait_ns < PATIENCE_NS, "nothing woke the loop");
    cr_assert(result >= 0 || errno == EINTR);
    now = clock_now();
    for (int i = 0; i < loop->count; i++)
        if (loop->is_ready[i] || loop->due[i] <= now)
            cr_assert_eq(sluice_engine_turn(loop->nets[i].engine), 0);
}

#define loop_until(loop, condition)                                                                                    \
    do {                                                                                                               \
        uint64_t deadline_ = clock_now() + PATIENCE_NS;                                                                \
        while (!(condition)) {                                                                                         \
            loop_once(loop);                                                                                           \
            cr_assert_lt(clock_now(), deadline_, "never: %s", #condition);                                             \
        }                                                                                                              \
    } while (0)

/* -- Streams ------------------------------------------------------------------------------------------------- */

/* The same engine at both ends, or another one at each. */
static void echo_in(enum way way, int engines, enum peer_family family, uint64_t bytes, size_t piece)
{
    struct server server;
    struct end client;
    struct loop loop;

    loop_open(&loop, engines, way);
    server_open(&server, &loop.nets[0], family, &end_echo);
    end_connect(&client, &loop.nets[engines - 1], server.address, &end_silent);
    end_pour(&client, bytes, piece, END_FINISH);
    loop_until(&loop, client.closes && server.accepted && server.ends->closes);
    cr_assert_eq(client.why.error, 0);
    cr_assert_eq(client.received, bytes);
    sluice_listener_close(server.listener);
    loop_until(&loop, server.listener_closes);
    server_close(&server);
    loop_close(&loop);
    peer_remove_folders();
}

Test(embed, echoes)
{
    for (enum way way = 0; way < WAYS; way++) {
        echo_in(way, 1, PEER_TCP4, 5, 5);
        echo_in(way, 1, PEER_TCP4, 2000 * KIB, 10000);
        echo_in(way, 1, PEER_UNIX, 2000 * KIB, 10000);
    }
}

Test(embed, two_engines_in_one_loop_talk_to_each_other)
{
    for (enum way way = 0; way < WAYS; way++) {
        echo_in(way, 2, PEER_TCP4, 5, 5);
        echo_in(way, 2, PEER_TCP4, 2000 * KIB, 10000);
        echo_in(way, 2, PEER_UNIX, 2000 * KIB, 10000);
    }
}

/* One byte there and one back, again and again: each needs its own wake-up, at both ends. */
static void echo_one_byte(struct end *end, const struct sluice_view *view)
{
    cr_assert_eq(view->len, 1);
    if (end->received == ROUNDS)
        end_close(end);
    else
        cr_assert_eq(end_send(end, 1), SLUICE_ROOM);
}

static void play_ping_pong(enum way way, int engines)
{
    static const struct end_plan plan = {.on_data = echo_one_byte};
    struct server server;
    struct end client;
    struct loop loop;

    loop_open(&loop, engines, way);
    server_open(&server, &loop.nets[0], PEER_TCP4, &end_echo);
    end_connect(&client, &loop.nets[engines - 1], server.address, &plan);
    cr_assert_eq(end_send(&client, 1), SLUICE_ROOM);
    loop_until(&loop, client.closes && server.ends->closes);
    cr_assert_eq(client.received, ROUNDS);
    server_close(&server);
    loop_close(&loop);
}

Test(embed, loses_no_wake_up_between_two_ends)
{
    for (enum way way = 0; way < WAYS; way++) {
        play_ping_pong(way, 1);
        play_ping_pong(way, 2);
    }
}

/* The peer's own descriptor would be in the same loop; here it is a thread that works at its own pace. */
Test(embed, loses_no_wake_up_from_a_plain_peer)
{
    struct peer_thread peer = {.send_bytes = 3000 * KIB, .piece = 1000};
    struct server server;
    struct loop loop;

    loop_open(&loop, 1, BY_POLL);
    server_open(&server, &loop.nets[0], PEER_TCP4, &end_silent);
    peer.fd = peer_connect(server.address);
    peer_thread_start(&peer, peer_run_source);
    loop_until(&loop, server.accepted && server.ends->ends);
    end_pour(server.ends, 1000 * KIB, 5000, END_CLOSE);
    loop_until(&loop, server.ends->closes);
    peer_thread_join(&peer);
    cr_assert_eq(server.ends->received, 3000 * KIB);
    cr_assert_eq(peer.received.bytes, 1000 * KIB);
    cr_assert(peer.received.is_intact);
    server_close(&server);
    loop_close(&loop);
}

/* -- What the loop is told ----------------------------------------------------------------------------------- */

static bool is_readable(const struct net *net)
{
    struct pollfd watch = {.fd = sluice_engine_fd(net->engine), .events = POLLIN};

    return poll(&watch, 1, 0) > 0;
}

static bool is_quiet(const struct net *net)
{
    return sluice_engine_wait_ns(net->engine) == UINT64_MAX && !is_readable(net);
}

/* Whatever is called between two turns is work for the next. */
Test(embed, says_at_once_that_there_is_something_to_do)
{
    struct server server;
    struct server other;
    struct end client;
    struct loop loop;
    struct net *net = &loop.nets[0];

    loop_open(&loop, 1, BY_POLL);
    loop_until(&loop, is_quiet(net));
    server_open(&server, net, PEER_TCP4, &end_echo);
    cr_assert_eq(sluice_engine_wait_ns(net->engine), 0, "a listener");
    loop_until(&loop, is_quiet(net));
    end_connect(&client, net, server.address, &end_silent);
    cr_assert_eq(sluice_engine_wait_ns(net->engine), 0, "a connection");
    loop_until(&loop, client.opens && server.accepted && is_quiet(net));
    cr_assert_eq(end_send(&client, 100), SLUICE_ROOM);
    cr_assert_eq(sluice_engine_wait_ns(net->engine), 0, "a send");
    loop_until(&loop, client.received == 100 && is_quiet(net));
    cr_assert_eq(sluice_stream_pause(client.stream), 0);
    cr_assert_eq(sluice_engine_wait_ns(net->engine), 0, "a pause");
    loop_until(&loop, is_quiet(net));
    cr_assert_eq(sluice_stream_resume(client.stream), 0);
    cr_assert_eq(sluice_engine_wait_ns(net->engine), 0, "a resume");
    loop_until(&loop, is_quiet(net));
    end_finish(&client);
    cr_assert_eq(sluice_engine_wait_ns(net->engine), 0, "a finish");
    loop_until(&loop, client.closes && is_quiet(net));
    server_open(&other, net, PEER_TCP4, &end_echo);
    loop_until(&loop, is_quiet(net));
    sluice_listener_close(other.listener);
    cr_assert_eq(sluice_engine_wait_ns(net->engine), 0, "the end of a listener");
    loop_until(&loop, is_quiet(net));
    server_close(&server);
    loop_close(&loop);
}

/* Open and idle, it asks for no turn: a loop that sleeps is left asleep. */
Test(embed, is_quiet_while_nothing_happens)
{
    struct server server;
    struct end clients[10];
    struct loop loop;
    struct net *net = &loop.nets[0];

    loop_open(&loop, 1, BY_POLL);
    server_open(&server, net, PEER_TCP4, &end_echo);
    for (int i = 0; i < 10; i++)
        end_connect(&clients[i], net, server.address, &end_silent);
    loop_until(&loop, server.accepted == 10);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(end_send(&clients[i], 10), SLUICE_ROOM);
    loop_until(&loop, clients[9].received == 10 && is_quiet(net));
    for (int i = 0; i < 1000; i++)
        cr_assert(is_quiet(net));
    for (int i = 0; i < 10; i++)
        end_close(&clients[i]);
    loop_until(&loop, clients[9].closes && is_quiet(net));
    server_close(&server);
    loop_close(&loop);
}

/* -- Timers -------------------------------------------------------------------------------------------------- */

struct alarm_clock {
    struct sluice_timer timer;
    struct sluice_engine *engine;
    uint64_t set_for;
    int *rung;
};

static void ring_bell(struct sluice_timer *timer)
{
    struct alarm_clock *clock = (struct alarm_clock *)timer;

    cr_assert_geq(sluice_engine_now(clock->engine), clock->set_for, "early");
    ++*clock->rung;
}

static void ring_in(enum way way)
{
    struct alarm_clock clocks[TIMERS] = {0};
    uint64_t random = 7;
    struct loop loop;
    int rung = 0;

    loop_open(&loop, 2, way);
    for (int i = 0; i < TIMERS; i++) {
        uint64_t delay = random_below(&random, 50000 * US);

        clocks[i].timer.fire = ring_bell;
        clocks[i].engine = loop.nets[i % 2].engine;
        clocks[i].set_for = sluice_engine_now(clocks[i].engine) + delay;
        clocks[i].rung = &rung;
        sluice_timer_start(clocks[i].engine, &clocks[i].timer, delay);
        cr_assert_leq(sluice_engine_wait_ns(clocks[i].engine), delay + 17 * US, "longer than the timer");
    }
    loop_until(&loop, rung == TIMERS);
    cr_assert_gt(loop.waits, 0, "it never slept");
    cr_assert_eq(sluice_engine_wait_ns(loop.nets[0].engine), UINT64_MAX);
    loop_close(&loop);
}

/* Nothing but the time that the engine tells brings the loop back. */
Test(embed, wakes_for_timers)
{
    for (enum way way = 0; way < WAYS; way++)
        ring_in(way);
}

/* -- Posts --------------------------------------------------------------------------------------------------- */

/* Posts one, waits until it has run, and posts the next at some other moment of the loop. */
struct poster {
    struct sluice_post post;
    pthread_t thread;
    struct sluice_engine *engine;
    uint64_t random;
    sem_t has_run;
    int *runs; /* the loop's */
};

static void run_post(struct sluice_post *post)
{
    struct poster *poster = (struct poster *)post;

    ++*poster->runs;
    sem_post(&poster->has_run);
}

static void *post_again_and_again(void *argument)
{
    struct poster *poster = argument;

    for (int i = 0; i < ROUNDS; i++) {
        for (volatile uint64_t spin = random_below(&poster->random, SPIN_MAX); spin > 0; spin--)
            continue;
        sluice_engine_post(poster->engine, &poster->post);
        while (sem_wait(&poster->has_run) < 0)
            continue;
    }
    return NULL;
}

static void wake_by_posts(enum way way, int engines, int threads)
{
    struct poster posters[4];
    struct loop loop;
    int runs = 0;

    loop_open(&loop, engines, way);
    for (int i = 0; i < threads; i++) {
        posters[i] = (struct poster){.post.run = run_post, .random = (uint64_t)i + 1, .runs = &runs};
        posters[i].engine = loop.nets[i % engines].engine;
        cr_assert_eq(sem_init(&posters[i].has_run, 0, 0), 0);
        cr_assert_eq(pthread_create(&posters[i].thread, NULL, post_again_and_again, &posters[i]), 0);
    }
    loop_until(&loop, runs == threads * ROUNDS);
    for (int i = 0; i < threads; i++)
        cr_assert_eq(pthread_join(posters[i].thread, NULL), 0);
    loop_close(&loop);
}

Test(embed, wakes_for_each_post_of_another_thread)
{
    for (enum way way = 0; way < WAYS; way++) {
        wake_by_posts(way, 1, 1);
        wake_by_posts(way, 1, 4);
        wake_by_posts(way, 2, 2);
    }
}

/* A post that leaves another for the next turn. */
struct successor {
    struct sluice_post first;
    struct sluice_post second;
    struct sluice_engine *engine;
};

static void run_second(struct sluice_post *post)
{
    (void)post;
}

static void run_first(struct sluice_post *post)
{
    struct successor *successor = (struct successor *)post; /* its first member */

    sluice_engine_post(successor->engine, &successor->second);
}

/* Its loop should ask how long it may sleep. If it does not, the next post wakes it all the same. */
Test(embed, is_woken_by_a_post_behind_one_that_waits)
{
    struct successor successor = {.first.run = run_first, .second.run = run_second};
    struct sluice_post late = {.run = run_second};
    struct net net;
    struct pollfd sleeper = {.events = POLLIN};

    net_open(&net, NULL);
    successor.engine = net.engine;
    sleeper.fd = sluice_engine_fd(net.engine);
    while (poll(&sleeper, 1, 0) > 0)
        cr_assert_eq(sluice_engine_turn(net.engine), 0);
    sluice_engine_post(net.engine, &successor.first);
    cr_assert_eq(sluice_engine_turn(net.engine), 0);
    while (poll(&sleeper, 1, 0) > 0) { /* the first one's wake, without a turn */
        uint64_t count;

        cr_assert_eq(read(sleeper.fd, &count, sizeof count), sizeof count);
    }
    sluice_engine_post(net.engine, &late);
    cr_assert_eq(poll(&sleeper, 1, 0), 1);
    net_until(&net, sluice_engine_wait_ns(net.engine) > 0);
    net_close(&net);
}

/* A post from the loop's own thread, between two turns. */
Test(embed, runs_what_its_own_thread_posts)
{
    struct poster poster = {.post.run = run_post};
    struct loop loop;
    int runs = 0;

    loop_open(&loop, 1, BY_POLL);
    poster.runs = &runs;
    cr_assert_eq(sem_init(&poster.has_run, 0, 0), 0);
    loop_until(&loop, is_quiet(&loop.nets[0]));
    sluice_engine_post(loop.nets[0].engine, &poster.post);
    cr_assert_eq(sluice_engine_wait_ns(loop.nets[0].engine), 0);
    loop_until(&loop, runs == 1);
    loop_until(&loop, is_quiet(&loop.nets[0]));
    loop_close(&loop);
}

/* All at once: streams, timers and posts, on two engines, from a third thread. */
Test(embed, does_all_of_it_at_the_same_time)
{
    struct alarm_clock clocks[TIMERS] = {0};
    struct poster poster = {.post.run = run_post, .random = 3};
    struct server server;
    struct end client;
    struct loop loop;
    int rung = 0;
    int runs = 0;

    loop_open(&loop, 2, BY_EPOLL);
    server_open(&server, &loop.nets[0], PEER_TCP4, &end_echo);
    end_connect(&client, &loop.nets[1], server.address, &end_silent);
    end_pour(&client, 5000 * KIB, 10000, END_FINISH);
    for (int i = 0; i < TIMERS; i++) {
        clocks[i].timer.fire = ring_bell;
        clocks[i].engine = loop.nets[i % 2].engine;
        clocks[i].rung = &rung;
        sluice_timer_start(clocks[i].engine, &clocks[i].timer, (uint64_t)i * 100 * US);
    }
    poster.engine = loop.nets[0].engine;
    poster.runs = &runs;
    cr_assert_eq(sem_init(&poster.has_run, 0, 0), 0);
    cr_assert_eq(pthread_create(&poster.thread, NULL, post_again_and_again, &poster), 0);
    loop_until(&loop, client.closes && rung == TIMERS && runs == ROUNDS);
    cr_assert_eq(pthread_join(poster.thread, NULL), 0);
    cr_assert_eq(client.received, 5000 * KIB);
    loop_until(&loop, server.ends->closes);
    server_close(&server);
    loop_close(&loop);
}
