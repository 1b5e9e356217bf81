/*
 * Streams over pipes, terminals and files; sockets that came from elsewhere go to socket_stream.c. See <sluice/fd.h>.
 */
#include <sluice/fd.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "engine/socket_stream.h"
#include "engine/transport.h"

/* -- Moving bytes -------------------------------------------------------------------------------------------- */

static void prepare_receive(struct transport *transport, struct io_uring_sqe *entry)
{
    const struct buffers *buffers = &transport->stream.engine->leases.buffers;

    ring_prep_read(entry, transport->read_fd, buffers->group, buffers->size);
}

static void fd_flush(struct sluice_stream *stream)
{
    struct transport *transport = transport_of(stream);
    struct io_uring_sqe *entry;
    struct gather *gather = engine_get_gather(stream->engine, &entry);
    size_t len;
    uint32_t count = bytes_gather(&stream->unsent, gather->pieces, GATHER_PIECES, GATHER_BYTES, &len);

    ring_prep_write(entry, transport->write_fd, gather->pieces, count);
    if (transport->may_block)
        ring_leave_to_worker(entry);
    transport_arm_send(transport, &transport->send, entry, len);
}

/* -- Ending -------------------------------------------------------------------------------------------------- */

static void close_write_fd(struct transport *transport)
{
    struct ring *ring = ring_of(&transport->stream);

    if (transport->write_fd < 0)
        return;
    ring->ops->count_pipes(ring, -1);
    if (transport->write_fd != transport->read_fd)
        ring->ops->close(ring, transport->write_fd, false);
    transport->write_fd = -1;
}

static void close_fds(struct transport *transport)
{
    struct ring *ring = ring_of(&transport->stream);

    close_write_fd(transport);
    if (transport->read_fd >= 0)
        ring->ops->close(ring, transport->read_fd, false);
    transport->read_fd = -1;
}

static void fd_finish(struct sluice_stream *stream)
{
    close_write_fd(transport_of(stream));
}

static void fd_leave(struct sluice_stream *stream)
{
    transport_leave(transport_of(stream));
}

static int fd_address(const struct sluice_stream *stream, bool wants_peer, struct ring_address *address)
{
    (void)stream;
    (void)wants_peer;
    (void)address;
    return -EOPNOTSUPP;
}

static const char *fd_kind(const struct sluice_stream *stream)
{
    (void)stream;
    return "fd";
}

static const struct transport_ops fd_ops = {
    .stream.kind = fd_kind,
    .stream.is_blocked = transport_is_blocked,
    .stream.flush = fd_flush,
    .stream.finish = fd_finish,
    .stream.close = fd_leave,
    .stream.abort = fd_leave,
    .stream.update_receive = transport_update_receive,
    .stream.linger_over = stream_never_lingers,
    .stream.prefix = stream_no_prefix,
    .stream.last_active = stream_own_last_active,
    .stream.address = fd_address,
    .stream.destroy = transport_destroy,
    .prepare_receive = prepare_receive,
    .close = close_fds,
};

/* -- Making -------------------------------------------------------------------------------------------------- */

/* The kind of both descriptors together: only as both is a socket one. Of others, what is written to decides. */
static int classify(struct sluice_engine *engine, int read_fd, int write_fd)
{
    struct ring *ring = engine->ring;
    int first = ring->ops->classify(ring, read_fd >= 0 ? read_fd : write_fd);
    int second = read_fd == write_fd || read_fd < 0 || write_fd < 0 ? first : ring->ops->classify(ring, write_fd);

    if (first < 0 || second < 0)
        return first < 0 ? first : second;
    if (first == RING_FD_SOCKET && read_fd == write_fd)
        return RING_FD_SOCKET;
    return second == RING_FD_DEVICE ? RING_FD_DEVICE : RING_FD_OTHER;
}

/* A direction that has no descriptor has ended from the start. */
static void end_missing(struct transport *transport)
{
    struct sluice_stream *stream = &transport->stream;

    if (transport->write_fd < 0) {
        atomic_store(&stream->write_status, SLUICE_WRITE_CLOSED);
        stream->is_finished = true;
    }
    if (transport->read_fd < 0)
        stream_end(stream);
}

int sluice_fd_stream(struct sluice_engine *engine, int read_fd, int write_fd, const struct sluice_stream_events *events,
                     void *user, struct sluice_stream **stream)
{
    struct transport *transport;
    int kind;
    int error;

    assert(engine_is_mine(engine));
    if (read_fd < 0 && write_fd < 0)
        return -EINVAL;
    if (engine->is_destroying)
        return -ESHUTDOWN;
    kind = classify(engine, read_fd, write_fd);
    if (kind < 0)
        return kind;
    if (kind == RING_FD_SOCKET) {
        int family = engine->ring->ops->adopt_socket(engine->ring, read_fd);

        return socket_stream_adopt(engine, read_fd, family, events, user, stream);
    }
    transport = calloc(1, sizeof *transport);
    if (!transport)
        return -ENOMEM;
    error = transport_init(transport, &fd_ops, engine, SLUICE_OPEN, events, user);
    if (error) {
        free(transport);
        return error;
    }
    transport->read_fd = read_fd;
    transport->write_fd = write_fd;
    transport->may_block = kind == RING_FD_DEVICE;
    if (write_fd >= 0)
        engine->ring->ops->count_pipes(engine->ring, 1);
    *stream = &transport->stream;
    end_missing(transport);
    transport_update_receive(*stream);
    return 0;
}
