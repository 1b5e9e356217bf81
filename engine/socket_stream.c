/* Streams over sockets: half-close, linger, reset. See socket_stream.h. */
#include "engine/socket_stream.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "engine/connect.h"
#include "engine/transport.h"
#include "engine/zero_copy.h"

enum {
    QUIET_MAX = 64 * 1024, /* bytes of a send that is expected to be taken whole */
};

struct socket_stream {
    struct transport transport;
    union {
        struct connector *connector;    /* until it is ready; NULL once there is none */
        struct socket_watcher *watcher; /* since it is; NULL: none */
    };
    int64_t taken; /* bytes that the peer had taken when we last asked; 0 before */
};

static struct socket_stream *socket_of(const struct sluice_stream *stream)
{
    return container_of(transport_of(stream), struct socket_stream, transport);
}

/* -- Moving bytes -------------------------------------------------------------------------------------------- */

static void prepare_receive(struct transport *transport, struct io_uring_sqe *entry)
{
    struct sluice_engine *engine = transport->stream.engine;
    bool is_unix = transport->is_unix;
    uint32_t flags = 0;

    /*
     * Since Linux 6.17 a Unix socket tells how much more there is, and an end does not count: a multishot receive that
     * finds bytes and the end behind them in one event takes the bytes, and waits for ever. One at a time looks each
     * time. Later kernels mend it (6.18.44 has), but streams take 1.04 of the CPU time by multishot.
     */
    if (engine_uses(engine, RING_MULTISHOT_RECEIVE) && !is_unix)
        flags |= RING_RECEIVE_AGAIN;
    /* Streams gain by a bundle; small messages lose some 3 % by it. */
    if (engine_uses(engine, RING_RECEIVE_BUNDLE) && transport->fills_buffers)
        flags |= RING_RECEIVE_BUNDLED;
    ring_prep_receive(entry, transport->read_fd, engine->leases.buffers.group, flags);
}

static uint32_t send_flags(const struct transport *transport)
{
    if (transport->must_wait)
        return RING_SEND_WAITING;
    return engine_uses(transport->stream.engine, RING_INLINE_SEND) ? RING_SEND_INLINE : 0;
}

/* The same flags, and quiet: if once the kernel has taken these `len` bytes there is nothing left to do. */
static uint32_t quieted(const struct sluice_stream *stream, size_t len, uint32_t flags)
{
    const struct sluice_engine *engine = stream->engine;
    bool is_last = len == stream->unsent.len && !stream->owes_drain && stream_write_status(stream) == SLUICE_WRITABLE;

    if (!is_last || len > QUIET_MAX || !(flags & RING_SEND_INLINE) || !engine_uses(engine, RING_QUIET_SEND) ||
        !quiet_has_room(&engine->quiet))
        return flags;
    return flags | RING_SEND_QUIET;
}

static void send_one(struct transport *transport, const struct slice *slice, uint32_t flags)
{
    struct io_uring_sqe *entry = engine_get_entry(transport->stream.engine);
    size_t len = smaller(slice->len, GATHER_BYTES);

    ring_prep_send(entry, transport->write_fd, slice->data, len, quieted(&transport->stream, len, flags));
    transport_arm_send(transport, &transport->send, entry, len);
}

static void send_many(struct transport *transport, uint32_t flags)
{
    struct sluice_engine *engine = transport->stream.engine;
    struct io_uring_sqe *entry;
    struct gather *gather = engine_get_gather(engine, &entry);
    size_t len;

    gather->message = (struct msghdr){.msg_iov = gather->pieces};
    gather->message.msg_iovlen =
        bytes_gather(&transport->stream.unsent, gather->pieces, GATHER_PIECES, GATHER_BYTES, &len);
    ring_prep_send_vector(entry, transport->write_fd, &gather->message, quieted(&transport->stream, len, flags));
    transport_arm_send(transport, &transport->send, entry, len);
}

static void socket_flush(struct sluice_stream *stream)
{
    struct transport *transport = transport_of(stream);
    const struct slice *first = stream->unsent.first;
    uint32_t flags = send_flags(transport);

    if (zero_copy_pays(transport, first) && zero_copy_send(transport, first, flags))
        return;
    if (first->next)
        send_many(transport, flags);
    else
        send_one(transport, first, flags);
}

/* -- Ending -------------------------------------------------------------------------------------------------- */

static void close_socket(struct transport *transport)
{
    struct socket_stream *socket = container_of(transport, struct socket_stream, transport);
    struct ring *ring = ring_of(&transport->stream);

    if (transport->read_fd >= 0)
        ring->ops->close(ring, transport->read_fd, transport->stream.is_aborted);
    transport->read_fd = -1;
    transport->write_fd = -1;
    if (socket->watcher)
        socket->watcher->on_gone(socket->watcher);
}

static void socket_finish(struct sluice_stream *stream)
{
    int error = ring_of(stream)->ops->shutdown_write(ring_of(stream), transport_of(stream)->write_fd);

    /* Not connected any more: the peer reset us, and the receive will say so. */
    if (error && error != -ENOTCONN)
        stream_fail_after_data(stream, error, SLUICE_REMOTE);
}

/* After our FIN we stay until the peer's: closing earlier would answer its bytes with a reset, which destroys ours. */
static void socket_close(struct sluice_stream *stream)
{
    if (stream->has_ended) {
        transport_leave(transport_of(stream));
        return;
    }
    stream_start_linger(stream);
    transport_update_receive(stream);
}

/*
 * The peer has taken bytes of ours since we last asked. While our own queue stands still that is the only sign of a
 * slow peer, because a socket becomes writable again by the third of its buffer. The first time we ask, what it has
 * ever taken counts: then it is given the benefit of the doubt. (Of Unix sockets the kernel tells more than our bytes:
 * what it tells is only compared.)
 */
static bool peer_is_taking(struct socket_stream *socket)
{
    const struct transport *transport = &socket->transport;
    struct ring *ring = ring_of(&transport->stream);
    int unacknowledged = transport->write_fd < 0 ? 0 : ring->ops->unacknowledged(ring, transport->write_fd);
    int64_t before = socket->taken;

    socket->taken = (int64_t)transport->sent - unacknowledged;
    return socket->taken != before;
}

/* Also when it had taken everything by the time we asked, and only now we wait in vain. */
static bool has_unacknowledged(const struct socket_stream *socket)
{
    return socket->taken != (int64_t)socket->transport.sent;
}

static uint64_t socket_last_active(struct sluice_stream *stream)
{
    if (peer_is_taking(socket_of(stream)))
        stream->active_at = stream->engine->now;
    return stream->active_at;
}

static void socket_linger_over(struct sluice_stream *stream)
{
    struct socket_stream *socket = socket_of(stream);

    if (peer_is_taking(socket) && has_unacknowledged(socket))
        stream_start_linger(stream);
    else
        transport_leave(transport_of(stream));
}

static void socket_abort(struct sluice_stream *stream)
{
    struct socket_stream *socket = socket_of(stream);

    if (!stream->is_ready && socket->connector)
        connector_cancel(socket->connector);
    else
        transport_leave(&socket->transport);
}

/* -- Asking -------------------------------------------------------------------------------------------------- */

static int socket_address(const struct sluice_stream *stream, bool wants_peer, struct ring_address *address)
{
    struct ring *ring = ring_of(stream);
    int fd = transport_of(stream)->read_fd;

    if (fd < 0)
        return -ENOTCONN;
    return wants_peer ? ring->ops->peer_address(ring, fd, address) : ring->ops->local_address(ring, fd, address);
}

static const char *socket_kind(const struct sluice_stream *stream)
{
    if (transport_of(stream)->read_fd < 0)
        return "socket";
    return transport_of(stream)->is_unix ? "unix" : "tcp";
}

static const struct transport_ops socket_ops = {
    .stream.kind = socket_kind,
    .stream.is_blocked = transport_is_blocked,
    .stream.flush = socket_flush,
    .stream.finish = socket_finish,
    .stream.close = socket_close,
    .stream.abort = socket_abort,
    .stream.update_receive = transport_update_receive,
    .stream.linger_over = socket_linger_over,
    .stream.prefix = stream_no_prefix,
    .stream.last_active = socket_last_active,
    .stream.address = socket_address,
    .stream.destroy = transport_destroy,
    .prepare_receive = prepare_receive,
    .close = close_socket,
};

/* -- Making -------------------------------------------------------------------------------------------------- */

static int create(struct sluice_engine *engine, enum sluice_state state, const struct sluice_stream_events *events,
                  void *user, struct socket_stream **result)
{
    struct socket_stream *socket = calloc(1, sizeof *socket);
    int error;

    if (!socket)
        return -ENOMEM;
    error = transport_init(&socket->transport, &socket_ops, engine, state, events, user);
    if (error) {
        free(socket);
        return error;
    }
    *result = socket;
    return 0;
}

static void take_socket(struct socket_stream *socket, int fd, int family)
{
    socket->transport.read_fd = fd;
    socket->transport.write_fd = fd;
    socket->transport.is_unix = family == AF_UNIX;
}

int socket_stream_adopt(struct sluice_engine *engine, int fd, int family, const struct sluice_stream_events *events,
                        void *user, struct sluice_stream **stream)
{
    struct socket_stream *socket;
    int error = create(engine, SLUICE_OPEN, events, user, &socket);

    if (error)
        return error;
    take_socket(socket, fd, family);
    *stream = &socket->transport.stream;
    transport_update_receive(*stream);
    return 0;
}

int socket_stream_create(struct sluice_engine *engine, struct connector *connector,
                         const struct sluice_stream_events *events, void *user, struct sluice_stream **stream)
{
    struct socket_stream *socket;
    int error = create(engine, SLUICE_CONNECTING, events, user, &socket);

    if (error)
        return error;
    socket->connector = connector;
    *stream = &socket->transport.stream;
    return 0;
}

void socket_stream_connected(struct sluice_stream *stream, int fd, int family)
{
    struct socket_stream *socket = socket_of(stream);

    assert(socket->connector);
    socket->connector = NULL;
    take_socket(socket, fd, family);
    stream_opened(stream);
}

void socket_stream_unconnected(struct sluice_stream *stream)
{
    struct socket_stream *socket = socket_of(stream);

    assert(socket->connector);
    assert(stream->is_aborted);
    socket->connector = NULL;
    transport_leave(&socket->transport);
}

void socket_stream_watch(struct sluice_stream *stream, struct socket_watcher *watcher)
{
    assert(stream->is_ready);
    socket_of(stream)->watcher = watcher;
}
