/*
 * The seam: all that the engine may ask of a kernel.
 *
 * Real submission entries go in and real completions come out. The kernel stands behind it in uring/linux.c; a
 * simulator can, too. Time, sockets' few plain system calls and name look-up are part of it, so that a run depends on
 * nothing else. The requests in use are exactly the ring_prep_ functions below: keep that list short.
 *
 * All verbs belong to the thread that opened the ring, unless they say [any thread].
 */
#ifndef URING_RING_H
#define URING_RING_H

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <liburing.h>

#include "uring/compat.h"

/* What a kernel offers, or an engine uses. The engine shows these bits to users under the same values. */
enum ring_feature {
    RING_DEFER_TASKRUN = 1 << 0,
    RING_SINGLE_ISSUER = 1 << 1,
    RING_REGISTERED_RING = 1 << 2,
    RING_MULTISHOT_ACCEPT = 1 << 3,
    RING_MULTISHOT_RECEIVE = 1 << 4,
    RING_ZERO_COPY = 1 << 5,
    RING_INLINE_SEND = 1 << 6, /* always offered: it is our way of sending, with a switch */
    RING_NO_IOWAIT = 1 << 7,
    RING_QUIET_SEND = 1 << 8,
    RING_RECEIVE_BUNDLE = 1 << 9, /* one completion for as many buffers as there were bytes for */
};

struct ring;
struct buffers;

struct ring_config {
    uint32_t entries;
    uint32_t completion_entries;
    uint64_t napi_ns;
    uint32_t disabled; /* enum ring_feature bits not to use */
    bool wants_sqpoll;
    int sqpoll_cpu; /* -1: any */
};

/* What a descriptor is, as far as streams care. */
enum ring_fd_kind {
    RING_FD_SOCKET, /* a connected stream socket */
    RING_FD_OTHER,  /* a pipe or file: read and write it */
    RING_FD_DEVICE, /* a terminal or another device: the same, but a write may block whoever does it */
};

/* An address together with its length. */
struct ring_address {
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
    };
    socklen_t len;
    /* Of a listener on a Unix path: the file that it made there, so that unlink() leaves another's alone. Else 0. */
    uint64_t path_device;
    uint64_t path_inode;
};

/*
 * A name being looked up. `done` is called once, on any thread, also before lookup() returns; from then on the rest is
 * the caller's again, `addresses` to be given to freeaddrinfo().
 */
struct ring_lookup {
    void (*done)(struct ring_lookup *lookup);
    const char *host;
    const char *port;
    struct addrinfo *addresses; /* NULL unless error is 0 */
    int error;                  /* 0, -EHOSTUNREACH (no such name), -EAGAIN, -ENOMEM */
};

struct ring_ops {
    /* An entry to fill, all zero; NULL when the queue is full: then enter, and ask again. */
    struct io_uring_sqe *(*get_entry)(struct ring *ring);

    /*
     * Submits every entry. Then waits until `completions` of them are there to peek or the clock reaches `deadline_ns`
     * (UINT64_MAX: no deadline); a deadline of 0 does not wait, only lets the kernel run what it has pending. Returns
     * early for a signal. Enters the kernel at most as often as that needs, and not at all if nothing does.
     * Returns 0, or -errno when the ring is broken for good: -EEXIST on the wrong thread, -EBADR for lost completions,
     * -ENOMEM if the kernel has no memory for a request, even after several attempts.
     */
    int (*enter)(struct ring *ring, uint32_t completions, uint64_t deadline_ns);

    /* Points `completions` at the oldest, at most `max`. They stay until seen(). Never enters the kernel to wait. */
    uint32_t (*peek)(struct ring *ring, struct io_uring_cqe **completions, uint32_t max);
    void (*seen)(struct ring *ring, uint32_t count);
    /* True exactly while the kernel keeps completions back because the queue was full: the next enter() brings them. */
    bool (*holds_back)(struct ring *ring);

    /* Registers buffers->group with buffers->count buffers of buffers->size; see buffers.h. 0 or -errno. */
    int (*add_buffers)(struct ring *ring, struct buffers *buffers);
    void (*remove_buffers)(struct ring *ring, struct buffers *buffers);

    /* Monotonic nanoseconds. */
    uint64_t (*now)(struct ring *ring);

    /* [any thread, signal handlers] Ends a wait in enter(), now or the next one, with a completion for RING_WAKE. */
    void (*wake)(struct ring *ring);
    /*
     * A descriptor that polls readable once enter() has something to bring, for a thread that sleeps elsewhere; opened
     * by the first call. From then on every enter() brings everything that was announced before. Returns it, or -errno.
     */
    int (*watch)(struct ring *ring);
    /* Called for each RING_WAKE completion, so that the next wake is heard as well. */
    void (*woken)(struct ring *ring, const struct io_uring_cqe *completion);

    /* A stream socket for connecting, close-on-exec, TCP_NODELAY on TCP. Returns it, or -errno. */
    int (*open_socket)(struct ring *ring, int family);
    /* A listening socket on `address`, rewritten to what was bound. Returns it, or -errno. */
    int (*listen)(struct ring *ring, struct ring_address *address, uint32_t backlog, bool reuse_port);
    /*
     * Lets others of this user listen on the address of a TCP listener from now on, if they share it too. 0 or -errno.
     */
    int (*share)(struct ring *ring, int fd);
    /* Another descriptor for the same socket. Returns it, or -errno. */
    int (*duplicate)(struct ring *ring, int fd);
    /*
     * Sets what our sockets have set (TCP_NODELAY); accepted ones inherit it from their listener. Returns its family.
     */
    int (*adopt_socket)(struct ring *ring, int fd);
    /* Sends FIN after what was sent. 0 or -errno. */
    int (*shutdown_write)(struct ring *ring, int fd);
    /* The one place where descriptors are closed. No request may be in flight on it. `reset`: RST instead of FIN. */
    void (*close)(struct ring *ring, int fd, bool reset);
    /*
     * Removes the path of a Unix listener, if it still names the file that listen() made; abstract names need none.
     * Call it before the last close(): until then no other file can have the same number.
     */
    void (*unlink)(struct ring *ring, const struct ring_address *address);
    /* Bytes that were sent and the peer has not acknowledged (TCP) or read (Unix). 0 or more, or -errno. */
    int (*unacknowledged)(struct ring *ring, int fd);
    /* 0, or -errno. */
    int (*local_address)(struct ring *ring, int fd, struct ring_address *address);
    int (*peer_address)(struct ring *ring, int fd, struct ring_address *address);
    /* Returns an enum ring_fd_kind, or -EBADF, or -EINVAL for what cannot be a stream. */
    int (*classify)(struct ring *ring, int fd);
    /* While one or more of these are open, SIGPIPE of our writes is suppressed: +1 for opened, -1 for closed. */
    void (*count_pipes)(struct ring *ring, int change);

    /* Starts to look up a name. Returns 0 (done will be called), or -errno (it will not). */
    int (*lookup)(struct ring *ring, struct ring_lookup *lookup);

    void (*destroy)(struct ring *ring);
};

struct ring {
    const struct ring_ops *ops;
    uint32_t features; /* enum ring_feature bits in use */
    uint32_t kernel_features;
    uint32_t entries; /* as granted */
    uint32_t completion_entries;
    uint64_t enters;    /* times the kernel was entered */
    uint64_t overflows; /* times the completion queue was seen to overflow */
};

/* Opens a ring on the real kernel for this thread. Returns 0, or -errno; probe_explain() knows what it means. */
int ring_open_linux(const struct ring_config *config, struct ring **ring);

/* -- Identities ---------------------------------------------------------------------------------------------- */

/* In the user_data of a cancel, beside that of the request which it is to end. */
#define RING_CANCEL (UINT64_C(1) << 63)
/* user_data of completions that only wake us. */
#define RING_WAKE UINT64_MAX

/* -- The requests in use ------------------------------------------------------------------------------------- */

static inline void ring_prep(struct io_uring_sqe *sqe, uint8_t opcode, int fd, const void *address, uint32_t len)
{
    sqe->opcode = opcode;
    sqe->fd = fd;
    sqe->addr = (uint64_t)(uintptr_t)address;
    sqe->len = len;
}

/* Flags of ring_prep_send() and ring_prep_send_vector(). */
enum ring_send_flag {
    RING_SEND_INLINE = 1 << 0,  /* answer -EAGAIN, or with what fitted, rather than wait for room */
    RING_SEND_WAITING = 1 << 1, /* there was no room a moment ago: wait for it first */
    RING_SEND_QUIET = 1 << 2,   /* only with RING_SEND_INLINE: no completion if everything was taken */
    RING_SEND_ZERO_COPY =
        1 << 3, /* two completions, unless the first lacks F_MORE; the memory is busy until the last */
};

/*
 * MSG_WAITALL only where it cannot hide progress: an inline send is answered at once anyway, a waiting one is answered
 * with what the first room took, so that a slow peer is seen to move (docs/decisions/0003-progress-of-sends.md).
 */
static inline void ring_prep_send_flags(struct io_uring_sqe *sqe, uint32_t flags)
{
    sqe->msg_flags = MSG_NOSIGNAL;
    if (flags & RING_SEND_INLINE)
        sqe->msg_flags |= MSG_DONTWAIT | MSG_WAITALL;
    if (flags & RING_SEND_QUIET)
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS; /* MSG_WAITALL: fewer bytes than asked are no success (Linux 5.19) */
    if (flags & RING_SEND_WAITING)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    if (flags & RING_SEND_ZERO_COPY)
        sqe->ioprio |= IORING_SEND_ZC_REPORT_USAGE;
}

static inline void ring_prep_send(struct io_uring_sqe *sqe, int fd, const void *data, size_t len, uint32_t flags)
{
    assert(len <= INT32_MAX);
    ring_prep(sqe, flags & RING_SEND_ZERO_COPY ? IORING_OP_SEND_ZC : IORING_OP_SEND, fd, data, (uint32_t)len);
    ring_prep_send_flags(sqe, flags);
}

/* `message` and what it points to must stay until the next enter() returns. */
static inline void ring_prep_send_vector(struct io_uring_sqe *sqe, int fd, const struct msghdr *message, uint32_t flags)
{
    assert(!(flags & RING_SEND_ZERO_COPY));
    ring_prep(sqe, IORING_OP_SENDMSG, fd, message, 1);
    ring_prep_send_flags(sqe, flags);
}

/* Flags of ring_prep_receive(). */
enum ring_receive_flag {
    RING_RECEIVE_AGAIN = 1 << 0,   /* again and again */
    RING_RECEIVE_BUNDLED = 1 << 1, /* into several buffers at once: the named one, and those behind it on offer */
};

/*
 * Into buffers of `group`. Not POLL_FIRST: what waits already, say bytes and a reset, is one event to the poll, of
 * which a multishot receive takes the bytes and then waits for another.
 */
static inline void ring_prep_receive(struct io_uring_sqe *sqe, int fd, uint16_t group, uint32_t flags)
{
    ring_prep(sqe, IORING_OP_RECV, fd, NULL, 0);
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
    if (flags & RING_RECEIVE_AGAIN)
        sqe->ioprio |= IORING_RECV_MULTISHOT;
    if (flags & RING_RECEIVE_BUNDLED)
        sqe->ioprio |= IORING_RECVSEND_BUNDLE;
}

static inline void ring_prep_accept(struct io_uring_sqe *sqe, int fd, bool is_multishot)
{
    ring_prep(sqe, IORING_OP_ACCEPT, fd, NULL, 0);
    sqe->accept_flags = SOCK_CLOEXEC;
    if (is_multishot)
        sqe->ioprio |= IORING_ACCEPT_MULTISHOT;
}

/* `address` must stay until the next enter() returns. */
static inline void ring_prep_connect(struct io_uring_sqe *sqe, int fd, const struct ring_address *address)
{
    ring_prep(sqe, IORING_OP_CONNECT, fd, &address->any, 0);
    sqe->off = address->len;
}

/* From the current position of a file, or the next bytes of a pipe, into a buffer of `group`. */
static inline void ring_prep_read(struct io_uring_sqe *sqe, int fd, uint16_t group, uint32_t len)
{
    ring_prep(sqe, IORING_OP_READ, fd, NULL, len);
    sqe->off = UINT64_MAX;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
}

/* At the current position. `pieces` must stay until the next enter() returns. */
static inline void ring_prep_write(struct io_uring_sqe *sqe, int fd, const struct iovec *pieces, uint32_t count)
{
    ring_prep(sqe, IORING_OP_WRITEV, fd, pieces, count);
    sqe->off = UINT64_MAX;
}

/*
 * A worker of the kernel's does what was prepared. A terminal with a little room is ready for a write, takes what fits,
 * and blocks for the rest: that must not be the thread that submits.
 */
static inline void ring_leave_to_worker(struct io_uring_sqe *sqe)
{
    sqe->flags |= IOSQE_ASYNC;
}

/* Asks the request with that user_data to end soon; its own completion says how it ended. */
static inline void ring_prep_cancel(struct io_uring_sqe *sqe, uint64_t user_data)
{
    ring_prep(sqe, IORING_OP_ASYNC_CANCEL, -1, NULL, 0);
    sqe->addr = user_data;
}

#endif
