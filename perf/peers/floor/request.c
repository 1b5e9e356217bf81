/* The requests to the ring: see request.h. */
#include "perf/peers/floor/request.h"

#include <errno.h>
#include <sys/socket.h>

/* Linux 6.10: liburing 2.3 does not name them yet. */
#ifndef IORING_RECVSEND_BUNDLE
#define IORING_RECVSEND_BUNDLE (1U << 4)
#endif
#ifndef IORING_FEAT_RECVSEND_BUNDLE
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14)
#endif

static uint64_t identity(enum kind kind, unsigned slot)
{
    return (uint64_t)kind << 32 | slot;
}

void submit_requests(void)
{
    int result;

    do
        result = io_uring_submit(&server.ring);
    while (result == -EINTR);
    if (result < 0)
        peer_die("submission", result);
}

static struct io_uring_sqe *get_entry(void)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&server.ring);

    if (!entry) {
        submit_requests();
        entry = io_uring_get_sqe(&server.ring);
    }
    return entry;
}

static void set_request(struct io_uring_sqe *entry, enum kind kind, unsigned slot)
{
    entry->flags |= IOSQE_FIXED_FILE;
    entry->user_data = identity(kind, slot);
}

void arm_accept(void)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_multishot_accept_direct(entry, server.listener, NULL, NULL, 0);
    entry->user_data = identity(KIND_ACCEPT, 0);
}

void arm_receive(unsigned slot)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_recv_multishot(entry, (int)slot, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = 0;
    if (options.role == PEER_FORWARD && server.ring.features & IORING_FEAT_RECVSEND_BUNDLE)
        entry->ioprio |= IORING_RECVSEND_BUNDLE;
    set_request(entry, KIND_RECEIVE, slot);
    server.connections[slot].is_receiving = true;
    server.connections[slot].lacks_buffers = false;
}

void request_cancel(enum kind kind, unsigned slot)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_cancel64(entry, identity(kind, slot), 0);
    entry->user_data = identity(KIND_IGNORED, slot);
}

void request_send(unsigned slot, const struct batch *batch, enum kind kind)
{
    struct io_uring_sqe *entry = get_entry();
    int flags = MSG_NOSIGNAL | (kind == KIND_WAITING ? 0 : MSG_DONTWAIT | MSG_WAITALL);

    if (batch->message.msg_iovlen == 1)
        io_uring_prep_send(entry, (int)slot, batch->message.msg_iov->iov_base, batch->message.msg_iov->iov_len, flags);
    else
        io_uring_prep_sendmsg(entry, (int)slot, &batch->message, (unsigned)flags);
    if (kind == KIND_WAITING)
        entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
    else if (kind != KIND_SOURCE)
        entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    set_request(entry, kind, slot);
}

void request_close(unsigned slot)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_close_direct(entry, slot);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    entry->user_data = identity(KIND_IGNORED, slot);
}

void request_shutdown(unsigned slot)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_shutdown(entry, (int)slot, SHUT_WR);
    set_request(entry, KIND_SHUTDOWN, slot);
    server.connections[slot].requests++;
    server.connections[slot].has_shut = true;
}

void request_connect(unsigned slot)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_connect(entry, (int)slot, &options.upstream.any, options.upstream.len);
    set_request(entry, KIND_CONNECT, slot);
    server.connections[slot].requests++;
}
