/*
 * What the requests of a simulated ring do, over the simulated network.
 *
 * It knows each request and flag that uring/ring.h prepares and aborts the run on any other, so that nothing is
 * silently left out. What a kernel may do in more than one way, the randomness of the run decides.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "tests/sim/kernel.h"
#include "tests/sim/memory.h"
#include "uring/buffers.h"

enum {
    SHOTS = 32, /* of a multishot receive at a time */
    LATE_NS = 2000000,
    NOTICE_NS = 40000000,
    NOTICES_LATE = 500, /* requests in flight above which notifications come at once */
};

static void try_request(struct sim_ring *ring, struct request *request);

/* -- In flight ----------------------------------------------------------------------------------------------- */

static void count_request(struct sim_ring *ring, const struct request *request, int change)
{
    struct descriptor *descriptor = network_get(ring->sim->network, request->fd);

    descriptor->requests += (uint32_t)change;
    if (opcode_is_send(request->opcode))
        descriptor->sends += (uint32_t)change;
    if (request->opcode == IORING_OP_RECV || request->opcode == IORING_OP_READ)
        descriptor->receives += (uint32_t)change;
    if (descriptor->sends > 1)
        sim_violated(ring->sim, "two sends are in flight on descriptor %d", request->fd);
    if (descriptor->receives > 1)
        sim_violated(ring->sim, "two receives are in flight on descriptor %d", request->fd);
}

static void end_request(struct sim_ring *ring, struct request *request)
{
    request->is_used = false;
    ring->in_flight--;
    while (ring->top > 0 && !ring->requests[ring->top - 1].is_used)
        ring->top--;
}

static void complete(struct sim_ring *ring, struct request *request, int32_t result, uint32_t flags)
{
    sim_trace(ring->sim, "  completes %016llx op %u fd %d: %d %s", (unsigned long long)request->user_data,
              request->opcode, request->fd, result, flags & IORING_CQE_F_MORE ? "more" : "");
    /* Not told: a success; and less than everything is one unless the request said otherwise. */
    if (request->is_quiet && result >= 0 && (!request->is_whole || (uint32_t)result == request->len))
        cover(COVER_QUIET_SEND);
    else
        ring_post(ring, request->user_data, result, flags);
    if (flags & IORING_CQE_F_MORE)
        return;
    count_request(ring, request, -1);
    end_request(ring, request);
}

/* -- Buffers ------------------------------------------------------------------------------------------------- */

/* The next buffer of the ring, or NULL if there is none. */
static const struct io_uring_buf *take_buffer(struct sim_ring *ring)
{
    struct io_uring_buf_ring *buffers = ring->buffers->ring;

    if ((uint16_t)(buffers->tail - ring->buffers_head) == 0) {
        cover(COVER_RING_WITHOUT_BUFFERS);
        return NULL;
    }
    if (sim_chance(ring->sim, FAULT_NO_BUFFER))
        return NULL;
    return &buffers->bufs[ring->buffers_head++ & (ring->buffers->count - 1)];
}

/* -- Sending ------------------------------------------------------------------------------------------------- */

static uint32_t add_to_checksum(uint32_t sum, const uint8_t *data, size_t len)
{
    uint64_t word;

    for (; len >= sizeof word; len -= sizeof word, data += sizeof word) {
        memcpy(&word, data, sizeof word);
        word *= UINT64_C(0x9e3779b97f4a7c15);
        sum = sum * 31 + (uint32_t)(word >> 32);
    }
    while (len-- > 0)
        sum = sum * 31 + *data++;
    return sum;
}

static uint32_t checksum(const struct request *request, size_t len)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < request->piece_count && len > 0; i++) {
        size_t part = request->pieces[i].iov_len < len ? request->pieces[i].iov_len : len;

        sum = add_to_checksum(sum, request->pieces[i].iov_base, part);
        len -= part;
    }
    return sum;
}

/* Writes `len` bytes of the pieces, behind the first `skip`. */
static void write_pieces(struct sim_ring *ring, const struct request *request, size_t skip, size_t len)
{
    for (uint32_t i = 0; i < request->piece_count && len > 0; i++) {
        const struct iovec *piece = &request->pieces[i];
        size_t skipped = piece->iov_len < skip ? piece->iov_len : skip;
        size_t part = piece->iov_len - skipped < len ? piece->iov_len - skipped : len;

        skip -= skipped;
        if (part == 0)
            continue;
        network_write(ring->sim->network, request->fd, (const uint8_t *)piece->iov_base + skipped, part);
        len -= part;
    }
}

/* The memory of a send is the kernel's until its last completion. */
static void check_unchanged(struct sim_ring *ring, const struct request *request)
{
    if (checksum(request, request->len) != request->whole_checksum)
        sim_violated(ring->sim, "bytes of a send changed while it was in flight");
}

static void sent(struct sim_ring *ring, struct request *request, size_t len)
{
    struct sim *sim = ring->sim;

    write_pieces(ring, request, request->taken, len);
    if (request->is_patient) {
        request->taken += len;
        cover(COVER_PATIENT_SEND);
        if (request->taken == request->len)
            complete(ring, request, (int32_t)request->taken, 0);
        return;
    }
    if (!request->is_zero_copy) {
        complete(ring, request, (int32_t)len, 0);
        return;
    }
    /* The count now, the notification when the peer has the bytes, or any time later. */
    cover(COVER_ZERO_COPY);
    request->checksum = checksum(request, len);
    request->taken = len;
    complete(ring, request, (int32_t)len, IORING_CQE_F_MORE);
    count_request(ring, request, -1);
    request->is_notice = true;
    request->not_before_ns = sim->now_ns;
    if (ring->in_flight < NOTICES_LATE && (request->torture || sim_chance(sim, FAULT_LATE_NOTICE))) {
        cover(COVER_ZERO_COPY_LATE);
        request->not_before_ns += NOTICE_NS / 2 + sim_below(sim, NOTICE_NS);
    }
}

static void fail_send(struct sim_ring *ring, struct request *request, int error)
{
    struct sim *sim = ring->sim;

    cover(error == -ECONNRESET ? COVER_SEND_RESET : error == -EPIPE ? COVER_SEND_PIPE : COVER_SEND_TIMED_OUT);
    /* It takes the news from the socket: a receive that waits is not woken for it, a later one may see a plain end. */
    if (error == -ECONNRESET) {
        for (uint32_t i = 0; i < ring->top; i++) {
            struct request *other = &ring->requests[i];

            if (other->is_used && other->opcode == IORING_OP_RECV && other->fd == request->fd) {
                other->is_deaf = true;
                cover(COVER_RECEIVE_DEAF);
            }
        }
        network_get(sim->network, request->fd)->was_told_reset = sim_below(sim, 2) == 0;
    }
    if (request->is_zero_copy)
        cover(COVER_ZERO_COPY_REFUSED);
    /* What was taken before is told, and the error next time. */
    complete(ring, request, request->taken ? (int32_t)request->taken : error, 0);
}

/* Errors that a send can be made to have, and whether the connection breaks with it. */
static const int send_errors[] = {-ECONNRESET, -EPIPE, -ETIMEDOUT, -ENOBUFS, -ENOMEM};

enum {
    SEND_VARIANTS = 3 + sizeof send_errors / sizeof send_errors[0],
};

/* Returns true if that was the end of it. */
static bool torture_send(struct sim_ring *ring, struct request *request, uint32_t variant)
{
    if (variant <= 3)
        return false;
    network_break(ring->sim->network, request->fd);
    fail_send(ring, request, send_errors[variant - 4]);
    return true;
}

static void try_send(struct sim_ring *ring, struct request *request)
{
    struct sim *sim = ring->sim;
    int64_t room = network_writable(sim->network, request->fd);
    uint32_t variant = request->torture;
    size_t len = request->len - request->taken;

    if (room == 0 && !request->is_inline) {
        cover(COVER_SEND_WAITS);
        return;
    }
    check_unchanged(ring, request);
    request->torture = 0;
    if (room >= 0 && sim_chance(sim, FAULT_SEND_ERROR)) {
        network_break(sim->network, request->fd);
        room = -ECONNRESET;
    }
    if (room >= 0 && torture_send(ring, request, variant))
        return;
    if (room < 0) {
        fail_send(ring, request, (int)room);
        return;
    }
    if (request->taken == 0 && (variant == 1 || sim_chance(sim, FAULT_SEND_AGAIN))) {
        cover(COVER_SEND_INTERRUPTED);
        complete(ring, request, request->is_inline ? -EAGAIN : -EINTR, 0);
        return;
    }
    if (room == 0 || (request->is_inline && sim_chance(sim, FAULT_NO_ROOM))) {
        cover(COVER_SEND_FULL);
        complete(ring, request, -EAGAIN, 0);
        return;
    }
    if (len > (size_t)room)
        len = (size_t)room;
    if (variant == 2)
        len = 1;
    else if (sim_chance(sim, FAULT_SHORT_SEND))
        len = 1 + sim_below(sim, len);
    if (len < request->len && !request->is_patient)
        cover(COVER_SHORT_SEND);
    request->torture = variant == 3;
    sent(ring, request, len);
}

static void try_notice(struct sim_ring *ring, struct request *request)
{
    bool was_copied = sim_below(ring->sim, 2) != 0;

    if (checksum(request, request->taken) != request->checksum)
        sim_violated(ring->sim, "bytes of a zero-copy send changed before its notification");
    if (was_copied)
        cover(COVER_ZERO_COPY_COPIED);
    ring_post(ring, request->user_data, (int32_t)(was_copied ? 1U << 31 : 0), IORING_CQE_F_NOTIF);
    end_request(ring, request);
}

/* -- Receiving ----------------------------------------------------------------------------------------------- */

static const int receive_errors[] = {-ECONNRESET, -ETIMEDOUT, -ENOMEM};

enum {
    RECEIVE_VARIANTS = 4 + sizeof receive_errors / sizeof receive_errors[0],
};

static void end_receive(struct sim_ring *ring, struct request *request, int result)
{
    if (result == 0)
        cover(COVER_RECEIVE_END);
    else
        cover(result == -ETIMEDOUT ? COVER_RECEIVE_TIMED_OUT : COVER_RECEIVE_RESET);
    complete(ring, request, result, 0);
}

static int64_t receivable(struct sim_ring *ring, const struct request *request, uint32_t variant, bool *has_ended)
{
    struct network *network = ring->sim->network;
    int64_t len = network_readable(network, request->fd, has_ended);

    if (len > 0 && sim_chance(ring->sim, FAULT_RECEIVE_ERROR)) {
        network_break(network, request->fd);
        return -ECONNRESET;
    }
    if (len > 0 && variant > 4) {
        network_break(network, request->fd);
        return receive_errors[variant - 5];
    }
    return len;
}

/* A bundle goes on into the buffers on offer behind the first, which is full; may stop early. Returns how much more. */
static size_t receive_more(struct sim_ring *ring, const struct request *request, size_t len)
{
    struct io_uring_buf_ring *buffers = ring->buffers->ring;
    size_t more = 0;

    while (more < len && buffers->tail != ring->buffers_head && !sim_chance(ring->sim, FAULT_SHORT_RECEIVE)) {
        const struct io_uring_buf *buffer = &buffers->bufs[ring->buffers_head++ & (ring->buffers->count - 1)];
        size_t part = len - more < buffer->len ? len - more : buffer->len;

        network_read(ring->sim->network, request->fd, (void *)(uintptr_t)buffer->addr, part);
        more += part;
        cover(COVER_BUNDLED_RECEIVE);
    }
    return more;
}

/* What arrived, into a buffer, or several. */
static void receive_bytes(struct sim_ring *ring, struct request *request, size_t len, uint32_t variant)
{
    struct sim *sim = ring->sim;
    const struct io_uring_buf *buffer = variant == 1 ? NULL : take_buffer(ring);
    uint32_t flags;
    size_t all = len;

    if (!buffer) {
        cover(COVER_NO_BUFFER);
        complete(ring, request, -ENOBUFS, 0);
        return;
    }
    if (len > buffer->len)
        len = buffer->len;
    if (request->len && len > request->len)
        len = request->len;
    if (variant == 2)
        len = 1;
    else if (sim_chance(sim, FAULT_SHORT_RECEIVE))
        len = 1 + sim_below(sim, len);
    network_read(sim->network, request->fd, (void *)(uintptr_t)buffer->addr, len);
    if (request->is_bundled && len == buffer->len)
        len += receive_more(ring, request, all - len);
    if (len < all)
        cover(COVER_SHORT_RECEIVE);
    flags = IORING_CQE_F_BUFFER | (uint32_t)buffer->bid << IORING_CQE_BUFFER_SHIFT;
    /* A full queue ends it as well. */
    if (request->is_multishot && variant != 3 && !sim_chance(sim, FAULT_MULTISHOT_ENDS) &&
        ring->count < ring->ring.completion_entries)
        flags |= IORING_CQE_F_MORE;
    else if (request->is_multishot)
        cover(COVER_MULTISHOT_ENDED);
    complete(ring, request, (int32_t)len, flags);
}

/* One shot. Returns false if there was nothing to do. */
static bool try_receive_once(struct sim_ring *ring, struct request *request)
{
    uint32_t variant = request->torture;
    bool has_ended;
    int64_t len = receivable(ring, request, variant, &has_ended);

    if (request->is_deaf && len <= 0)
        return false;
    if (len == 0 && !has_ended)
        return false;
    request->torture = 0;
    if (variant == 4)
        complete(ring, request, -EINTR, 0);
    else if (len <= 0)
        end_receive(ring, request, (int)len);
    else
        receive_bytes(ring, request, (size_t)len, variant);
    return true;
}

static void try_receive(struct sim_ring *ring, struct request *request)
{
    uint64_t shots = 1 + sim_below(ring->sim, SHOTS);

    while (shots-- > 0 && request->is_used && try_receive_once(ring, request))
        continue;
}

/* -- Other requests ------------------------------------------------------------------------------------------ */

static const int accept_errors[] = {-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM, -ECONNABORTED, -EINTR};
static const int connect_errors[] = {-ECONNREFUSED, -ENETUNREACH, -ETIMEDOUT, -EADDRNOTAVAIL};

enum {
    ACCEPT_ERRORS = sizeof accept_errors / sizeof accept_errors[0],
    ACCEPT_VARIANTS = ACCEPT_ERRORS + 1,
    CONNECT_ERRORS = sizeof connect_errors / sizeof connect_errors[0],
    CONNECT_VARIANTS = CONNECT_ERRORS,
};

static void try_accept(struct sim_ring *ring, struct request *request)
{
    struct sim *sim = ring->sim;

    while (request->is_used && network_get(sim->network, request->fd)->waiting_count > 0) {
        uint32_t variant = request->torture;
        bool has_more;

        request->torture = 0;
        if ((variant >= 1 && variant <= ACCEPT_ERRORS) || sim_chance(sim, FAULT_ACCEPT_ERROR)) {
            uint64_t which = variant ? variant - 1 : sim_below(sim, ACCEPT_ERRORS);

            cover(COVER_ACCEPT_ERROR);
            complete(ring, request, accept_errors[which], 0);
            return;
        }
        has_more = request->is_multishot && !variant && !sim_chance(sim, FAULT_MULTISHOT_ENDS);
        if (request->is_multishot && !has_more)
            cover(COVER_MULTISHOT_ENDED);
        complete(ring, request, network_accept(sim->network, request->fd), has_more ? IORING_CQE_F_MORE : 0);
    }
}

static void try_connect(struct sim_ring *ring, struct request *request)
{
    struct sim *sim = ring->sim;
    uint32_t variant = request->torture;
    int result;

    request->torture = 0;
    if (variant || sim_chance(sim, FAULT_CONNECT_ERROR)) {
        cover(COVER_CONNECT_ERROR);
        complete(ring, request, connect_errors[variant ? variant - 1 : sim_below(sim, CONNECT_ERRORS)], 0);
        return;
    }
    result = sim_chance(sim, FAULT_BACKLOG_FULL) ? -EAGAIN : network_connect(sim->network, request->fd, request->port);
    if (result == -EAGAIN) {
        cover(COVER_CONNECT_WAITS);
        request->not_before_ns = sim->now_ns + 1000000;
        return;
    }
    if (result == -ECONNREFUSED)
        cover(COVER_CONNECT_REFUSED);
    complete(ring, request, result, 0);
}

static void try_request(struct sim_ring *ring, struct request *request)
{
    if (request->is_notice) {
        try_notice(ring, request);
        return;
    }
    switch (request->opcode) {
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
    case IORING_OP_SEND_ZC:
    case IORING_OP_WRITEV:
        try_send(ring, request);
        break;
    case IORING_OP_RECV:
    case IORING_OP_READ:
        try_receive(ring, request);
        break;
    case IORING_OP_ACCEPT:
        try_accept(ring, request);
        break;
    case IORING_OP_CONNECT:
        try_connect(ring, request);
        break;
    default:
        assert(!"request_take() lets no other pass");
    }
}

void request_progress(struct sim_ring *ring)
{
    struct sim *sim = ring->sim;
    uint32_t count = ring->top;
    uint32_t start = (uint32_t)sim_below(sim, count);
    bool is_backward = sim_below(sim, 2) != 0;

    for (uint32_t i = 0; i < count; i++) {
        struct request *request = &ring->requests[(start + (is_backward ? count - i : i)) % count];

        if (!request->is_used || request->not_before_ns > sim->now_ns)
            continue;
        /* Never twice in a row: with bad luck that would look like starvation. */
        request->is_late = !request->is_late && sim_chance(sim, FAULT_LATE_COMPLETION);
        if (request->is_late) {
            cover(COVER_LATE);
            request->not_before_ns = sim->now_ns + 1 + sim_below(sim, LATE_NS);
        } else {
            try_request(ring, request);
        }
    }
}

/* -- Submission ---------------------------------------------------------------------------------------------- */

static struct request *find_free(struct sim_ring *ring)
{
    for (uint32_t i = 0; i < ring->capacity; i++)
        if (!ring->requests[i].is_used)
            return &ring->requests[i];
    if (ring->capacity == REQUESTS_MAX)
        sim_violated(ring->sim, "more than %d requests are in flight", REQUESTS_MAX);
    ring->requests = memory_resize(ring->requests, ring->capacity * sizeof *ring->requests,
                                   2 * ring->capacity * sizeof *ring->requests);
    ring->capacity *= 2;
    return &ring->requests[ring->capacity / 2];
}

static struct request *add_request(struct sim_ring *ring, const struct io_uring_sqe *entry)
{
    struct request *request = find_free(ring);
    uint32_t index = (uint32_t)(request - ring->requests);

    memset(request, 0, offsetof(struct request, pieces));
    request->is_used = true;
    request->opcode = entry->opcode;
    request->fd = entry->fd;
    request->user_data = entry->user_data;
    ring->in_flight++;
    if (index >= ring->top)
        ring->top = index + 1;
    return request;
}

static struct request *find_request(struct sim_ring *ring, uint64_t user_data)
{
    for (uint32_t i = 0; i < ring->top; i++) {
        struct request *request = &ring->requests[i];

        if (request->is_used && request->user_data == user_data && !request->is_notice)
            return request;
    }
    return NULL;
}

static void cancel(struct sim_ring *ring, uint64_t user_data, uint64_t own_user_data)
{
    struct sim *sim = ring->sim;
    uint32_t variant = sim_torture(sim, "a cancel", 3);
    struct request *request = find_request(ring, user_data);

    if (!request) {
        cover(COVER_CANCEL_TOO_LATE);
        ring_post(ring, own_user_data, -ENOENT, 0);
        return;
    }
    /* It may not find a request that is between two of its shots. */
    if (variant == 1 || sim_chance(sim, FAULT_CANCEL_MISSES)) {
        cover(COVER_CANCEL_MISSED);
        ring_post(ring, own_user_data, -ENOENT, 0);
        return;
    }
    /* A worker is interrupted, and ends when it notices. */
    ring_post(ring, own_user_data, variant == 3 || request->is_patient ? -EALREADY : 0, 0);
    if (variant == 2 || sim_chance(sim, FAULT_CANCEL_LOSES))
        try_request(ring, request);
    request = find_request(ring, user_data);
    cover(request ? COVER_CANCEL_WON : COVER_CANCEL_LOST);
    if (!request)
        return;
    if (opcode_is_send(request->opcode))
        check_unchanged(ring, request);
    if (request->is_patient)
        complete(ring, request, request->taken ? (int32_t)request->taken : -EINTR, 0);
    else
        complete(ring, request, -ECANCELED, 0);
}

static void take_pieces(struct sim_ring *ring, struct request *request, const struct io_uring_sqe *entry)
{
    const struct iovec *pieces = (const struct iovec *)(uintptr_t)entry->addr;
    uint32_t count = entry->len;

    if (entry->opcode == IORING_OP_SENDMSG) {
        const struct msghdr *message = (const struct msghdr *)(uintptr_t)entry->addr;

        pieces = message->msg_iov;
        count = (uint32_t)message->msg_iovlen;
    }
    if (count == 0 || count > PIECES)
        sim_violated(ring->sim, "a send has %u pieces", count);
    for (uint32_t i = 0; i < count; i++) {
        request->pieces[i] = pieces[i];
        request->len += (uint32_t)pieces[i].iov_len;
    }
    request->piece_count = count;
}

static void check_known(struct sim_ring *ring, const struct io_uring_sqe *entry)
{
    uint32_t msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL;
    uint32_t prio = IORING_RECVSEND_POLL_FIRST;
    uint32_t flags = 0;

    switch (entry->opcode) {
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
        /* Without MSG_WAITALL a short send is a success, and nobody would hear of it. */
        if ((entry->msg_flags & (MSG_DONTWAIT | MSG_WAITALL)) == (MSG_DONTWAIT | MSG_WAITALL))
            flags = IOSQE_CQE_SKIP_SUCCESS;
        break;
    case IORING_OP_SEND_ZC:
        prio |= IORING_SEND_ZC_REPORT_USAGE;
        break;
    case IORING_OP_RECV:
        msg_flags = 0;
        prio |= IORING_RECV_MULTISHOT | IORING_RECVSEND_BUNDLE;
        flags = IOSQE_BUFFER_SELECT;
        break;
    case IORING_OP_READ:
        msg_flags = 0;
        prio = 0;
        flags = IOSQE_BUFFER_SELECT;
        break;
    case IORING_OP_ACCEPT:
        msg_flags = SOCK_CLOEXEC;
        prio = IORING_ACCEPT_MULTISHOT;
        break;
    case IORING_OP_WRITEV:
        msg_flags = 0;
        prio = 0;
        flags = IOSQE_ASYNC;
        break;
    case IORING_OP_CONNECT:
    case IORING_OP_ASYNC_CANCEL:
        msg_flags = 0;
        prio = 0;
        break;
    default:
        sim_violated(ring->sim, "request %u is not known to the simulator", entry->opcode);
    }
    if ((entry->ioprio & ~prio) || (entry->flags & ~flags) || ((uint32_t)entry->msg_flags & ~msg_flags))
        sim_violated(ring->sim, "request %u has flags that the simulator does not know", entry->opcode);
}

static void fill_send(struct sim_ring *ring, struct request *request, const struct io_uring_sqe *entry)
{
    if (entry->opcode == IORING_OP_SENDMSG || entry->opcode == IORING_OP_WRITEV) {
        take_pieces(ring, request, entry);
    } else {
        request->pieces[0] = (struct iovec){.iov_base = (void *)(uintptr_t)entry->addr, .iov_len = entry->len};
        request->piece_count = 1;
        request->len = entry->len;
    }
    request->is_zero_copy = entry->opcode == IORING_OP_SEND_ZC;
    request->is_inline = entry->opcode != IORING_OP_WRITEV && (entry->msg_flags & MSG_DONTWAIT);
    request->is_patient = entry->flags & IOSQE_ASYNC;
    request->is_quiet = entry->flags & IOSQE_CQE_SKIP_SUCCESS;
    request->is_whole = entry->opcode != IORING_OP_WRITEV && (entry->msg_flags & MSG_WAITALL);
    request->whole_checksum = checksum(request, request->len);
    request->torture = (uint8_t)sim_torture(ring->sim, "a send", SEND_VARIANTS);
    if (request->len == 0)
        sim_violated(ring->sim, "a send of nothing is submitted");
}

static void fill_request(struct sim_ring *ring, struct request *request, const struct io_uring_sqe *entry)
{
    struct sim *sim = ring->sim;

    switch (entry->opcode) {
    case IORING_OP_RECV:
        request->len = entry->len;
        request->is_multishot = entry->ioprio & IORING_RECV_MULTISHOT;
        request->is_bundled = entry->ioprio & IORING_RECVSEND_BUNDLE;
        request->torture = (uint8_t)sim_torture(sim, "a receive", RECEIVE_VARIANTS);
        break;
    case IORING_OP_READ:
        request->len = entry->len;
        request->torture = (uint8_t)sim_torture(sim, "a read", RECEIVE_VARIANTS);
        break;
    case IORING_OP_ACCEPT:
        request->is_multishot = entry->ioprio & IORING_ACCEPT_MULTISHOT;
        request->torture = (uint8_t)sim_torture(sim, "an accept", ACCEPT_VARIANTS);
        break;
    case IORING_OP_CONNECT:
        request->port = ntohs(((const struct sockaddr_in *)(uintptr_t)entry->addr)->sin_port);
        request->not_before_ns = sim->now_ns + sim_below(sim, 3000000);
        request->torture = (uint8_t)sim_torture(sim, "a connect", CONNECT_VARIANTS);
        break;
    default:
        fill_send(ring, request, entry);
    }
}

void request_take(struct sim_ring *ring, const struct io_uring_sqe *entry)
{
    struct io_uring_sqe unknown = *entry;
    struct request *request;

    if (ring->sim->broken == BROKEN_OPCODE)
        unknown.opcode = IORING_OP_NOP;
    if (ring->sim->broken == BROKEN_FLAG)
        unknown.flags |= IOSQE_IO_LINK;
    check_known(ring, &unknown);
    ring->sim->operations++;
    sim_trace(ring->sim, "  submits %016llx op %u fd %d", (unsigned long long)entry->user_data, entry->opcode,
              entry->fd);
    if (entry->opcode == IORING_OP_ASYNC_CANCEL) {
        cancel(ring, entry->addr, entry->user_data);
        return;
    }
    request = add_request(ring, entry);
    count_request(ring, request, 1);
    fill_request(ring, request, entry);
    if (request->is_inline)
        try_request(ring, request);
}
