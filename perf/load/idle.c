/*
 * Connections that do nothing: holds them, so that others can look at what they cost a peer. It measures nothing.
 *
 *     load_idle [--connections N] [--size BYTES] ADDRESS
 *
 * Opens N connections, prints "ready", and holds them until its standard input ends or it is killed; then it says,
 * with status 1, how many the peer has ended meanwhile, if it has. With --size each connection first has a message of
 * so many bytes answered by an `echo` peer: so each is known to have been taken, and has been in use. Without it the
 * peer may still be taking the last of them when "ready" is printed. The other options of all loads are taken, and say
 * nothing.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "perf/load/load.h"
#include "tools/units.h"

enum {
    EVENTS = 256,
    /* Connections are opened, and used, so many at a time: no backlog overflows. */
    BATCH = 512,
};

struct idle {
    struct load_options options;
    int epoll;
    int *fds;
    unsigned char *message;
    unsigned char *answer;
    uint64_t lost;
};

/* Waits until `events` are there. */
static void await(const struct idle *idle, int fd, short events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int count = poll(&poll_fd, 1, (int)(LOAD_PATIENCE_NS / UNITS_NS_PER_MS));

    if (count < 0)
        load_die("poll");
    if (count == 0)
        load_fail("%s: no answer came", idle->options.address.text);
}

static void exchange(const struct idle *idle, int fd)
{
    size_t sent = 0;
    size_t answered = 0;

    while (answered < idle->options.size) {
        ssize_t went = sent < idle->options.size ? send(fd, idle->message + sent, idle->options.size - sent, 0) : 0;
        ssize_t came = recv(fd, idle->answer + answered, idle->options.size - answered, 0);

        if ((went < 0 || came < 0) && errno != EAGAIN)
            load_die("a first message");
        if (came == 0)
            load_fail("%s: the peer has ended a connection", idle->options.address.text);
        sent += went > 0 ? (size_t)went : 0;
        answered += came > 0 ? (size_t)came : 0;
        if (answered < idle->options.size)
            await(idle, fd, sent < idle->options.size ? POLLIN | POLLOUT : POLLIN);
    }
    if (memcmp(idle->message, idle->answer, idle->options.size) != 0)
        load_fail("%s: the answer is not what was sent", idle->options.address.text);
}

static void open_all(struct idle *idle)
{
    for (uint64_t first = 0; first < idle->options.connections; first += BATCH) {
        uint64_t end = first + BATCH < idle->options.connections ? first + BATCH : idle->options.connections;

        for (uint64_t i = first; i < end; i++) {
            idle->fds[i] = load_connect(&idle->options.address, i);
            load_watch(idle->epoll, idle->fds[i], EPOLLRDHUP, &idle->fds[i]);
        }
        for (uint64_t i = first; i < end && idle->options.size > 0; i++)
            exchange(idle, idle->fds[i]);
    }
}

static void note_lost(struct idle *idle)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(idle->epoll, events, EVENTS, 0);

    for (int i = 0; i < count; i++) {
        int *fd = events[i].data.ptr;

        close(*fd);
        idle->lost++;
    }
}

/* Sleeps until standard input ends; whatever comes on it is dropped. */
static void hold(struct idle *idle)
{
    struct pollfd poll_fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = idle->epoll, .events = POLLIN}};
    char dropped[256];

    while (poll(poll_fds, 2, -1) > 0) {
        if (poll_fds[1].revents != 0)
            note_lost(idle);
        if (poll_fds[0].revents != 0 && read(STDIN_FILENO, dropped, sizeof dropped) <= 0)
            return;
    }
}

int main(int argc, char **argv)
{
    static struct idle idle = {.options = {.connections = 10000}};

    load_read_arguments(argc, argv, &idle.options, NULL, NULL);
    idle.epoll = load_watch_create();
    idle.fds = calloc(idle.options.connections, sizeof *idle.fds);
    idle.message = calloc(1, idle.options.size + 1);
    idle.answer = malloc(idle.options.size + 1);
    if (idle.fds == NULL || idle.message == NULL || idle.answer == NULL)
        load_die("memory");
    memset(idle.message, 'i', idle.options.size);
    open_all(&idle);
    puts("ready");
    fflush(stdout);
    hold(&idle);
    note_lost(&idle);
    if (idle.lost > 0)
        load_fail("%s: the peer has ended %llu connections", idle.options.address.text, (unsigned long long)idle.lost);
    return 0;
}
