/*
 * What the peers that are compared have in common: the roles they play, their command line, and the socket on which
 * they listen. Each peer plays every role it can in the best idiom of its library; perf/README.md says what each role
 * is a picture of.
 *
 * A peer is a server on one thread that runs until it is killed. It measures nothing: the load does.
 */
#ifndef PERF_PEER_H
#define PERF_PEER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#ifdef __cplusplus
extern "C" {
#endif

enum peer_role {
    PEER_ECHO,     /* what arrives goes back as soon as it is there */
    PEER_MESSAGES, /* what arrives is cut into messages of `size` bytes, each sent back by a send of its own */
    PEER_FANOUT,   /* each message of `size` bytes that arrives goes to every other connection */
    PEER_SOURCE,   /* `size` bytes after `size` bytes to each connection, without end, as fast as it takes them */
    PEER_SINK,     /* what arrives is read and forgotten */
    PEER_FORWARD,  /* each connection is joined with one to `upstream`: bytes, and ends, both ways */
};

enum {
    PEER_SIZE_MAX = 1 << 20,
    PEER_BACKLOG = 4096,
    /* In fan-out, a receiver to which so much is queued misses messages: nobody's memory grows without end. */
    PEER_QUEUE_MAX = 1 << 20,
    /* Forwarding reads no more from one side while so much is queued to the other. */
    PEER_FORWARD_MAX = 256 << 10,
};

struct peer_address {
    union {
        struct sockaddr any;
        struct sockaddr_in tcp;
        struct sockaddr_un local; /* not "unix": gcc takes that for a number */
    };
    socklen_t len;
    char text[128]; /* the same, as it was given: 127.0.0.1:PORT or unix:/PATH */
};

struct peer_options {
    enum peer_role role;
    size_t size;
    struct peer_address listen;
    struct peer_address upstream; /* PEER_FORWARD only */
    bool busy_polls;              /* never sleeps: for the peers that have a way to do so */
};

/* Reads the command line; on what is wrong with it, says so in a line and exits with status 2. */
void peer_read_arguments(int argc, char **argv, struct peer_options *options);

/* A listening socket, nonblocking and close-on-exec, at options->listen. Exits with a line if it cannot be had. */
int peer_listen(const struct peer_options *options);

/* Prints the line for which the load waits: from now on connections are taken. Called once, by who listens. */
void peer_announce(const struct peer_options *options);

/* Switches off Nagle's algorithm; of a Unix socket it is not on. */
void peer_set_nodelay(const struct peer_options *options, int fd);

/* Says what failed, with errno's text for `error` (positive or negative), and exits with status 1. */
void peer_die(const char *what, int error) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif

#endif
