/*
 * Our end of connections: small engines, streams that record what they hear and hold Sluice to its word, and servers
 * that accept them. All on the thread of the test.
 *
 * Every callback asserts what stream.h promises of it: on_open first, on_data in order and intact, on_end after the
 * last byte, on_drain only after SLUICE_FULL, on_close last and once, none inside another.
 */
#ifndef SUPPORT_NET_END_H
#define SUPPORT_NET_END_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/sluice.h>

#include "tests/support/peer.h"

/* -- Engines ------------------------------------------------------------------------------------------------- */

struct net {
    struct sluice_engine *engine;
    int fds_before;    /* descriptors that were open before the engine */
    uint64_t deadline; /* of the present wait, CLOCK_MONOTONIC; 0: none */
    bool is_unsettled; /* net_close() does not ask for an engine at rest */
};

/* Small: tests run side by side under one RLIMIT_MEMLOCK. */
struct sluice_engine_options net_options(void);

/* `options` may be NULL: net_options(). */
void net_open(struct net *net, const struct sluice_engine_options *options);

/* Asserts that nothing is left over (streams, queued bytes, lent buffers), destroys the engine, counts descriptors. */
void net_close(struct net *net);

struct sluice_stats net_stats(const struct net *net);

/* Takes turns until the condition holds. */
#define net_until(net, condition)                                                                                      \
    do {                                                                                                               \
        net_start_waiting(net);                                                                                        \
        while (!(condition))                                                                                           \
            net_wait_turn(net, __FILE__, __LINE__, #condition);                                                        \
    } while (0)

void net_start_waiting(struct net *net);
/* One turn; then waits a moment for the engine to have more to do. Fails when patience is lost. */
void net_wait_turn(struct net *net, const char *file, int line, const char *condition);
/* Some turns, for what must not happen. */
void net_turns(struct net *net, int count);

/* Open descriptors of this process. */
int net_count_fds(void);

/* Bytes that malloc has given out and not got back, in this process. */
size_t net_heap_in_use(void);

/* -- Ends ---------------------------------------------------------------------------------------------------- */

struct end;

/* What an end does when it hears something; any may be NULL. Called after it was recorded. */
struct end_plan {
    void (*on_open)(struct end *end);
    void (*on_data)(struct end *end, const struct sluice_view *view);
    void (*on_drain)(struct end *end);
    void (*on_end)(struct end *end);
    void (*on_close)(struct end *end);
};

/* Says and does nothing. */
extern const struct end_plan end_silent;
/* Sends back what comes, pausing while the queue is full; finishes when the peer does. */
extern const struct end_plan end_echo;
/* Closes when the peer has finished. */
extern const struct end_plan end_polite;

enum end_then {
    END_STAY,
    END_FINISH,
    END_CLOSE,
};

struct end {
    struct net *net;
    struct sluice_stream *stream; /* NULL once closed */
    const struct end_plan *plan;
    void *user;
    uint32_t lane_in; /* the patterns that are received and sent */
    uint32_t lane_out;
    bool is_unpatterned; /* what arrives is not looked at */

    uint64_t accepted; /* bytes that sends took */
    uint64_t received;
    uint64_t pour_bytes; /* end_pour(): how many in all, in which pieces, and then */
    size_t pour_piece;
    enum end_then pour_then;
    bool pours;

    bool is_full;     /* SLUICE_FULL was answered, on_drain not told since */
    bool is_inside;   /* a callback */
    bool is_silenced; /* close, abort were called: nothing but on_close may come */
    int opens;
    int drains;
    int fulls;
    int ends;
    int closes;
    struct sluice_close why;
    struct end *next; /* in a server's list */
};

void end_init(struct end *end, struct net *net, const struct end_plan *plan);
/* Hears the stream from now on. */
void end_take(struct end *end, struct sluice_stream *stream);
void end_connect(struct end *end, struct net *net, const char *address, const struct end_plan *plan);
/* Of one of the two ends of a socket pair or pipe. */
void end_open_fd(struct end *end, struct net *net, int read_fd, int write_fd, const struct end_plan *plan);

/* Sends the next `len` bytes of lane_out. Returns what sluice_stream_send() did. */
int end_send(struct end *end, size_t len);
/* Sends `bytes` more, in pieces, waiting for drain as it must; then does what is said. */
void end_pour(struct end *end, uint64_t bytes, size_t piece, enum end_then then);
void end_finish(struct end *end);
void end_close(struct end *end);
void end_abort(struct end *end, int error);

/* -- Servers ------------------------------------------------------------------------------------------------- */

struct server {
    struct net *net;
    struct sluice_listener *listener; /* NULL once closed */
    const struct end_plan *plan;
    void (*on_accept)(struct server *server, struct end *end); /* may be NULL */
    void *user;
    char address[SLUICE_ADDRESS_MAX];
    struct end *ends; /* the newest first */
    int accepted;
    int closed;
    int errors;
    int last_error;
    int listener_closes;
};

void server_open(struct server *server, struct net *net, enum peer_family family, const struct end_plan *plan);
void server_open_at(struct server *server, struct net *net, const char *address,
                    const struct sluice_listener_options *options, const struct end_plan *plan);
/* Stops listening, waits until all its ends are closed, and forgets them. */
void server_close(struct server *server);
/* Forgets the ends: after the engine was destroyed. */
void server_free_ends(struct server *server);

/* An engine, a server on it, and one accepted connection with a plain peer: what most stories start from. */
struct meeting {
    struct net net;
    struct server server;
    struct end *end;
    int peer;
};

void meeting_start(struct meeting *meeting, const struct sluice_engine_options *options, enum peer_family family,
                   int peer_receive_size, const struct end_plan *plan);
/* The peer's socket is closed by then, or is -1. */
void meeting_stop(struct meeting *meeting);

#endif
