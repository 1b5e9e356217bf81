/*
 * Short lives: how many connections an `echo` peer serves when each is made for one message, and how long a life takes.
 *
 *     load_churn [OPTIONS] ADDRESS
 *
 * Options of all loads: --connections N (lives at a time), --size BYTES, --duration TIME, --warmup TIME,
 * --server-pid PID.
 *
 * A life is: connect, send --size bytes, await the same bytes, close; then the next one begins. Every byte is compared.
 * Latency is that of a life, without its close. We close first, so that it is us who keep the remains of closed
 * connections. Over TCP a connection costs the kernel more on this side than on the peer's: look at load_cpu_ns before
 * calling the rate the peer's, and rather at the CPU time that a life costs the peer. It does not measure long lives.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "perf/load/load.h"
#include "tools/clock.h"

enum {
    EVENTS = 256,
    READ_MAX = 64 << 10,
};

struct life {
    int fd; /* -1 while a Unix socket's backlog has no room for us */
    size_t sent;
    size_t answered;
    uint64_t began_ns;
};

struct churn {
    struct load_options options;
    int epoll;
    uint64_t begun; /* lives */
    struct life *lives;
    uint64_t waiting; /* lives that could not begin */
    unsigned char *message;
    unsigned char *read;
    struct load_window window;
};

static bool is_sent(const struct churn *churn, const struct life *life)
{
    return life->sent == churn->options.size;
}

/* On loopback the connection mostly stands already; where it does not, the event that it does is to come. */
static void send_rest(struct churn *churn, struct life *life)
{
    ssize_t sent;

    if (is_sent(churn, life))
        return;
    sent = send(life->fd, churn->message + life->sent, churn->options.size - life->sent, 0);
    if (sent < 0 && errno != EAGAIN)
        load_die("sending");
    if (sent > 0)
        life->sent += (size_t)sent;
}

static void begin(struct churn *churn, struct life *life)
{
    *life = (struct life){.began_ns = clock_now_ns()};
    life->fd = load_start_connecting(&churn->options.address, churn->begun);
    if (life->fd < 0) {
        churn->waiting++;
        return;
    }
    churn->begun++;
    send_rest(churn, life);
    load_watch(churn->epoll, life->fd, EPOLLET | EPOLLIN | (is_sent(churn, life) ? 0 : EPOLLOUT), life);
}

static void begin_waiting(struct churn *churn)
{
    if (churn->waiting == 0)
        return;
    churn->waiting = 0;
    for (uint64_t i = 0; i < churn->options.connections; i++)
        if (churn->lives[i].fd < 0)
            begin(churn, &churn->lives[i]);
}

/* The answer is here as a whole. */
static void end(struct churn *churn, struct life *life)
{
    histogram_record(&churn->window.latency, clock_now_ns() - life->began_ns);
    churn->window.messages++;
    churn->window.bytes += churn->options.size;
    close(life->fd);
    begin(churn, life);
}

/* Returns as recv(). */
static ssize_t read_answer(struct churn *churn, struct life *life)
{
    ssize_t got = recv(life->fd, churn->read, READ_MAX, 0);

    if (got < 0 && errno != EAGAIN)
        load_die("receiving");
    if (got == 0)
        load_fail("%s: the peer has ended a connection before it answered", churn->options.address.text);
    if (got > 0 && ((size_t)got > life->sent - life->answered ||
                    memcmp(churn->read, churn->message + life->answered, (size_t)got) != 0))
        load_fail("%s: the answer is not what was sent", churn->options.address.text);
    if (got > 0)
        life->answered += (size_t)got;
    return got;
}

static void handle(struct churn *churn, struct life *life, uint32_t events)
{
    ssize_t got = 0;

    if (events & EPOLLOUT)
        send_rest(churn, life);
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;
    do
        got = read_answer(churn, life);
    while (got > 0 && life->answered < churn->options.size);
    if (life->answered == churn->options.size)
        end(churn, life);
}

static void turn(struct churn *churn)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(churn->epoll, events, EVENTS, LOAD_SLEEP_MS);

    for (int i = 0; i < count; i++)
        handle(churn, events[i].data.ptr, events[i].events);
    begin_waiting(churn);
}

int main(int argc, char **argv)
{
    static struct churn churn = {
        .options = {.connections = 64, .size = 64, .duration_ns = 2000000000, .warmup_ns = 300000000},
    };

    load_read_arguments(argc, argv, &churn.options, NULL, NULL);
    churn.epoll = load_watch_create();
    churn.lives = calloc(churn.options.connections, sizeof *churn.lives);
    churn.message = malloc(churn.options.size);
    churn.read = malloc(READ_MAX);
    if (churn.lives == NULL || churn.message == NULL || churn.read == NULL)
        load_die("memory");
    for (size_t i = 0; i < churn.options.size; i++)
        churn.message[i] = (unsigned char)(i * 31 + i / 251);
    load_window_start(&churn.window, &churn.options);
    for (uint64_t i = 0; i < churn.options.connections; i++)
        begin(&churn, &churn.lives[i]);
    do
        turn(&churn);
    while (!load_window_is_over(&churn.window, clock_now_ns()));
    load_window_report(&churn.window, true);
    return 0;
}
