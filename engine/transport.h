/*
 * A transport: a stream over descriptors, with at most one receive and one send in the kernel's hands.
 *
 * What sockets and other descriptors have in common: arming, pausing, starving and ending of receives, the accounting
 * of sends, and leaving, which closes the descriptors only after the last completion.
 */
#ifndef ENGINE_TRANSPORT_H
#define ENGINE_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/lease.h"
#include "engine/operation.h"
#include "engine/stream.h"

struct transport;

/* What one over a kind of descriptors can do. */
struct transport_ops {
    struct stream_ops stream;
    /* Fills the entry of a receive. */
    void (*prepare_receive)(struct transport *transport, struct io_uring_sqe *entry);
    /* Closes the descriptors; nothing is in flight on them. */
    void (*close)(struct transport *transport);
};

struct transport {
    struct sluice_stream stream;
    struct operation send;
    struct operation *sending; /* the send in flight, `send` or another; NULL: none */
    uint32_t sending_len;      /* what it was asked to take */
    bool must_wait : 1;        /* the last send found no room: the next waits for it */
    bool must_copy : 1;        /* the socket is of a kind that refuses zero-copy sends */
    bool may_block : 1;        /* a write may block whoever does it */
    bool fills_buffers : 1;    /* a receive may fill several: there is more than fits one, and it pays */
    bool is_leaving : 1;       /* closes as soon as nothing is in flight */
    bool is_gone : 1;          /* …and has */
    bool is_unix : 1;          /* a socket that is not of the internet */
    uint64_t sent;             /* bytes that the kernel took, ever */
    int write_fd;              /* -1: none */
    int read_fd;               /* -1: none; may be the same */
    struct operation receive;
    struct link starving; /* where it waits for buffers, while it does */
};

static inline struct transport *transport_of(const struct sluice_stream *stream)
{
    return container_of(stream, struct transport, stream);
}

static inline struct ring *ring_of(const struct sluice_stream *stream)
{
    return stream->engine->ring;
}

/*
 * Over descriptors that become the transport's, in zeroed memory that starts with it. 0, or -ENOMEM: nothing changed.
 */
int transport_init(struct transport *transport, const struct transport_ops *ops, struct sluice_engine *engine,
                   enum sluice_state state, const struct sluice_stream_events *events, void *user);

/*
 * Submits the entry as this stream's send of `len` bytes, as `operation`: its own, or one that calls transport_sent().
 */
void transport_arm_send(struct transport *transport, struct operation *operation, struct io_uring_sqe *entry,
                        size_t len);
/* The answer to a send, however it was submitted: a count or -errno. */
void transport_sent(struct transport *transport, int32_t result);
/* Ends what is in flight, then closes. */
void transport_leave(struct transport *transport);

/* Buffers are back for the transport whose `starving` it is: what leases call. */
void transport_feed(struct link *starving);

/* Members of stream_ops that are the same for every transport. */
bool transport_is_blocked(const struct sluice_stream *stream);
void transport_update_receive(struct sluice_stream *stream);
void transport_destroy(struct sluice_stream *stream);

#endif
