/*
 * A simulated ring: executes the requests that the engine really submits, over the simulated network.
 *
 * It knows each request and flag that uring/ring.h prepares and aborts the run on any other, so that nothing is
 * silently left out. What a kernel may do in more than one way, the randomness of the run decides.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "engine/transport.h"
#include "tests/sim/network.h"
#include "tests/sim/sim.h"
#include "uring/buffers.h"
#include "uring/ring.h"

enum {
    ENTRIES_MAX = 256,
    COMPLETIONS_MAX = 16384,
    REQUESTS_MAX = 8192,
    PIECES_MAX = PIECES,
    CALLS_WITHOUT_TIME = 400000, /* turns at one moment: more is a spin */
};

struct request {
    bool is_used;
    bool is_multishot;
    bool is_inline; /* is answered when it is submitted */
    bool is_quiet;  /* answers unless all was taken */
    bool is_zero_copy;
    bool is_notice; /* was answered: only the notification is left */
    uint8_t opcode;
    int fd;
    uint64_t user_data;
    uint64_t not_before_ns;
    uint16_t port; /* of a connect */
    uint32_t len;
    uint32_t piece_count;
    struct iovec pieces[PIECES_MAX];
    uint32_t checksum; /* of what a zero-copy send took */
    size_t taken;
};

struct sim_ring {
    struct ring ring;
    struct sim *sim;
    struct sluice_engine *engine;
    struct io_uring_sqe entries[ENTRIES_MAX];
    uint32_t entry_count;
    bool entry_was_barred[ENTRIES_MAX]; /* the stream of the entry was closed when it was asked for, by descriptor */
    struct io_uring_cqe *completions;   /* a queue of ring.completion_entries */
    uint32_t first;
    uint32_t count;
    struct io_uring_cqe *overflow;
    uint32_t overflow_count;
    struct request *requests;
    uint32_t top; /* no request at or behind it is in use */
    uint32_t in_flight;
    bool is_woken;
    struct buffers *buffers;
    uint16_t buffers_head;
    uint64_t calls; /* of now() at one moment */
    uint64_t called_ns;
    bool barred[DESCRIPTORS]; /* streams that were closed for writing when the last entry was asked for */
};

static struct sim_ring *of(struct ring *ring)
{
    return container_of(ring, struct sim_ring, ring);
}

/* -- Completions --------------------------------------------------------------------------------------------- */

static void post(struct sim_ring *self, uint64_t user_data, int32_t result, uint32_t flags)
{
    struct io_uring_cqe completion = {.user_data = user_data, .res = result, .flags = flags};

    self->sim->operations++;
    if (self->count < self->ring.completion_entries && self->overflow_count == 0) {
        memcpy(&self->completions[(self->first + self->count++) % self->ring.completion_entries], &completion,
               sizeof completion);
        return;
    }
    assert(self->overflow_count < COMPLETIONS_MAX);
    memcpy(&self->overflow[self->overflow_count++], &completion, sizeof completion);
    self->ring.overflows++;
}

static void flush_overflow(struct sim_ring *self)
{
    uint32_t moved = 0;

    while (moved < self->overflow_count && self->count < self->ring.completion_entries)
        memcpy(&self->completions[(self->first + self->count++) % self->ring.completion_entries],
               &self->overflow[moved++], sizeof self->overflow[0]);
    memmove(self->overflow, self->overflow + moved, (self->overflow_count - moved) * sizeof self->overflow[0]);
    self->overflow_count -= moved;
}

static void count_request(struct sim_ring *self, const struct request *request, int change)
{
    struct descriptor *descriptor = network_get(self->sim->network, request->fd);
    bool is_send = request->opcode == IORING_OP_SEND || request->opcode == IORING_OP_SENDMSG ||
                   request->opcode == IORING_OP_SEND_ZC || request->opcode == IORING_OP_WRITEV;

    descriptor->requests += (uint32_t)change;
    if (is_send)
        descriptor->sends += (uint32_t)change;
    if (request->opcode == IORING_OP_RECV || request->opcode == IORING_OP_READ)
        descriptor->receives += (uint32_t)change;
    if (descriptor->sends > 1)
        sim_violated(self->sim, "two sends are in flight on descriptor %d", request->fd);
    if (descriptor->receives > 1)
        sim_violated(self->sim, "two receives are in flight on descriptor %d", request->fd);
}

static void end_request(struct sim_ring *self, struct request *request)
{
    request->is_used = false;
    self->in_flight--;
    while (self->top > 0 && !self->requests[self->top - 1].is_used)
        self->top--;
}

static void complete(struct sim_ring *self, struct request *request, int32_t result, uint32_t flags)
{
    sim_trace(self->sim, "  completes %016llx op %u fd %d: %d %s", (unsigned long long)request->user_data,
              request->opcode, request->fd, result, flags & IORING_CQE_F_MORE ? "more" : "");
    if (!request->is_quiet || result != (int32_t)request->len)
        post(self, request->user_data, result, flags);
    if (flags & IORING_CQE_F_MORE)
        return;
    count_request(self, request, -1);
    end_request(self, request);
}

/* -- Buffers ------------------------------------------------------------------------------------------------- */

/* The next buffer of the ring, or NULL if there is none. */
static const struct io_uring_buf *take_buffer(struct sim_ring *self)
{
    struct io_uring_buf_ring *ring = self->buffers->ring;

    if ((uint16_t)(ring->tail - self->buffers_head) == 0 || sim_chance(self->sim, FAULT_NO_BUFFER))
        return NULL;
    return &ring->bufs[self->buffers_head++ & (self->buffers->count - 1)];
}

/* -- Requests that move bytes -------------------------------------------------------------------------------- */

static uint32_t add_to_checksum(uint32_t sum, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + data[i];
    return sum;
}

static uint32_t walk_pieces(struct sim_ring *self, const struct request *request, size_t len, bool is_written)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < request->piece_count && len > 0; i++) {
        size_t part = request->pieces[i].iov_len < len ? request->pieces[i].iov_len : len;

        if (is_written)
            network_write(self->sim->network, request->fd, request->pieces[i].iov_base, part);
        sum = add_to_checksum(sum, request->pieces[i].iov_base, part);
        len -= part;
    }
    return sum;
}

static void sent(struct sim_ring *self, struct request *request, size_t len)
{
    uint32_t sum = walk_pieces(self, request, len, true);

    if (!request->is_zero_copy) {
        complete(self, request, (int32_t)len, 0);
        return;
    }
    /* The count now, the notification when the peer has the bytes, or any time later. */
    request->checksum = sum;
    request->taken = len;
    complete(self, request, (int32_t)len, IORING_CQE_F_MORE);
    count_request(self, request, -1);
    request->is_notice = true;
    request->not_before_ns = self->sim->now_ns + (self->in_flight < 500 ? sim_below(self->sim, 40000000) : 0);
}

static void try_send(struct sim_ring *self, struct request *request)
{
    int64_t room = network_writable(self->sim->network, request->fd);
    size_t len = request->len;

    if (room >= 0 && sim_chance(self->sim, FAULT_SEND_ERROR)) {
        network_break(self->sim->network, request->fd);
        room = -ECONNRESET;
    }
    if (room < 0) {
        complete(self, request, (int32_t)room, 0);
        return;
    }
    if (room == 0 || (request->is_inline && sim_chance(self->sim, FAULT_NO_ROOM))) {
        if (request->is_inline)
            complete(self, request, -EAGAIN, 0);
        return;
    }
    if (len > (size_t)room)
        len = (size_t)room;
    if (sim_chance(self->sim, FAULT_SHORT_SEND))
        len = 1 + sim_below(self->sim, len);
    sent(self, request, len);
}

static void try_notice(struct sim_ring *self, struct request *request)
{
    if (walk_pieces(self, request, request->taken, false) != request->checksum)
        sim_violated(self->sim, "bytes of a zero-copy send changed before its notification");
    post(self, request->user_data, (int32_t)(sim_below(self->sim, 2) ? 1U << 31 : 0), IORING_CQE_F_NOTIF);
    end_request(self, request);
}

/* One shot. Returns false if there was nothing to do. */
static bool try_receive_once(struct sim_ring *self, struct request *request)
{
    struct sim *sim = self->sim;
    bool has_ended;
    int64_t len = network_readable(sim->network, request->fd, &has_ended);
    const struct io_uring_buf *buffer;
    uint32_t flags;

    if (len > 0 && sim_chance(sim, FAULT_RECEIVE_ERROR)) {
        network_break(sim->network, request->fd);
        len = -ECONNRESET;
    }
    if (len < 0 || (len == 0 && has_ended)) {
        complete(self, request, (int32_t)len, 0);
        return true;
    }
    if (len == 0)
        return false;
    buffer = take_buffer(self);
    if (!buffer) {
        complete(self, request, -ENOBUFS, 0);
        return true;
    }
    if (len > buffer->len)
        len = buffer->len;
    if (request->len && len > request->len)
        len = request->len;
    if (sim_chance(sim, FAULT_SHORT_RECEIVE))
        len = 1 + (int64_t)sim_below(sim, (uint64_t)len);
    network_read(sim->network, request->fd, (void *)(uintptr_t)buffer->addr, (size_t)len);
    flags = IORING_CQE_F_BUFFER | (uint32_t)buffer->bid << IORING_CQE_BUFFER_SHIFT;
    /* A full queue ends it as well. */
    if (request->is_multishot && !sim_chance(sim, FAULT_MULTISHOT_ENDS) && self->count < self->ring.completion_entries)
        flags |= IORING_CQE_F_MORE;
    complete(self, request, (int32_t)len, flags);
    return true;
}

static void try_receive(struct sim_ring *self, struct request *request)
{
    uint64_t shots = 1 + sim_below(self->sim, 32);

    while (shots-- > 0 && request->is_used && try_receive_once(self, request))
        continue;
}

/* -- Other requests ------------------------------------------------------------------------------------------ */

static void try_accept(struct sim_ring *self, struct request *request)
{
    static const int errors[] = {-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM, -ECONNABORTED, -EINTR};
    struct sim *sim = self->sim;

    while (request->is_used && network_get(sim->network, request->fd)->waiting_count > 0) {
        int fd;

        if (sim_chance(sim, FAULT_ACCEPT_ERROR)) {
            complete(self, request, errors[sim_below(sim, sizeof errors / sizeof errors[0])], 0);
            return;
        }
        fd = network_accept(sim->network, request->fd);
        complete(self, request, fd,
                 request->is_multishot && !sim_chance(sim, FAULT_MULTISHOT_ENDS) ? IORING_CQE_F_MORE : 0);
    }
}

static void try_connect(struct sim_ring *self, struct request *request)
{
    static const int errors[] = {-ECONNREFUSED, -ENETUNREACH, -ETIMEDOUT, -EADDRNOTAVAIL};
    struct sim *sim = self->sim;
    int result;

    if (sim_chance(sim, FAULT_CONNECT_ERROR)) {
        complete(self, request, errors[sim_below(sim, sizeof errors / sizeof errors[0])], 0);
        return;
    }
    result = network_connect(sim->network, request->fd, request->port);
    if (result != -EAGAIN)
        complete(self, request, result, 0);
    else
        request->not_before_ns = sim->now_ns + 1000000;
}

static void try_request(struct sim_ring *self, struct request *request)
{
    if (request->is_notice) {
        try_notice(self, request);
        return;
    }
    switch (request->opcode) {
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
    case IORING_OP_SEND_ZC:
    case IORING_OP_WRITEV:
        try_send(self, request);
        break;
    case IORING_OP_RECV:
    case IORING_OP_READ:
        try_receive(self, request);
        break;
    case IORING_OP_ACCEPT:
        try_accept(self, request);
        break;
    case IORING_OP_CONNECT:
        try_connect(self, request);
        break;
    default:
        assert(!"take_entry() lets no other pass");
    }
}

/* Requests that can, complete: in any order, and some later. */
static void progress(struct sim_ring *self)
{
    struct sim *sim = self->sim;
    uint32_t count = self->top;
    uint32_t start = (uint32_t)sim_below(sim, count);

    for (uint32_t i = 0; i < count; i++) {
        struct request *request = &self->requests[(start + i) % count];

        if (!request->is_used)
            continue;
        if (request->not_before_ns > sim->now_ns)
            continue;
        if (sim_chance(sim, FAULT_LATE_COMPLETION))
            request->not_before_ns = sim->now_ns + 1 + sim_below(sim, 2000000);
        else
            try_request(self, request);
    }
}

/* -- Submission ---------------------------------------------------------------------------------------------- */

static struct request *add_request(struct sim_ring *self, const struct io_uring_sqe *entry)
{
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct request *request = &self->requests[i];

        if (!request->is_used) {
            *request = (struct request){
                .is_used = true, .opcode = entry->opcode, .fd = entry->fd, .user_data = entry->user_data};
            self->in_flight++;
            if (i >= self->top)
                self->top = i + 1;
            return request;
        }
    }
    sim_violated(self->sim, "more than %d requests are in flight", REQUESTS_MAX);
}

static void cancel(struct sim_ring *self, uint64_t user_data, uint64_t own_user_data)
{
    for (uint32_t i = 0; i < self->top; i++) {
        struct request *request = &self->requests[i];

        if (!request->is_used || request->user_data != user_data || request->is_notice)
            continue;
        /* It may not find a request that is between two of its shots. */
        if (sim_chance(self->sim, FAULT_CANCEL_MISSES)) {
            post(self, own_user_data, -ENOENT, 0);
            return;
        }
        post(self, own_user_data, 0, 0);
        if (sim_chance(self->sim, FAULT_CANCEL_LOSES))
            try_request(self, request);
        if (request->is_used && request->user_data == user_data && !request->is_notice)
            complete(self, request, -ECANCELED, 0);
        return;
    }
    post(self, own_user_data, -ENOENT, 0);
}

static void take_pieces(struct request *request, const struct io_uring_sqe *entry)
{
    const struct iovec *pieces = (const struct iovec *)(uintptr_t)entry->addr;
    uint32_t count = entry->len;

    if (entry->opcode == IORING_OP_SENDMSG) {
        const struct msghdr *message = (const struct msghdr *)(uintptr_t)entry->addr;

        pieces = message->msg_iov;
        count = (uint32_t)message->msg_iovlen;
    }
    assert(count <= PIECES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        request->pieces[i] = pieces[i];
        request->len += (uint32_t)pieces[i].iov_len;
    }
    request->piece_count = count;
}

static void check_known(struct sim_ring *self, const struct io_uring_sqe *entry)
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
        prio |= IORING_RECV_MULTISHOT;
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
    case IORING_OP_CONNECT:
    case IORING_OP_ASYNC_CANCEL:
        msg_flags = 0;
        prio = 0;
        break;
    default:
        sim_violated(self->sim, "request %u is not known to the simulator", entry->opcode);
    }
    if ((entry->ioprio & ~prio) || (entry->flags & ~flags) || ((uint32_t)entry->msg_flags & ~msg_flags))
        sim_violated(self->sim, "request %u has flags that the simulator does not know", entry->opcode);
}

static void take_entry(struct sim_ring *self, const struct io_uring_sqe *entry)
{
    struct request *request;

    check_known(self, entry);
    self->sim->operations++;
    sim_trace(self->sim, "  submits %016llx op %u fd %d", (unsigned long long)entry->user_data, entry->opcode,
              entry->fd);
    if (entry->opcode == IORING_OP_ASYNC_CANCEL) {
        cancel(self, entry->addr, entry->user_data);
        return;
    }
    request = add_request(self, entry);
    count_request(self, request, 1);
    switch (entry->opcode) {
    case IORING_OP_SENDMSG:
    case IORING_OP_WRITEV:
        take_pieces(request, entry);
        break;
    case IORING_OP_SEND:
    case IORING_OP_SEND_ZC:
        request->pieces[0] = (struct iovec){.iov_base = (void *)(uintptr_t)entry->addr, .iov_len = entry->len};
        request->piece_count = 1;
        request->len = entry->len;
        request->is_zero_copy = entry->opcode == IORING_OP_SEND_ZC;
        break;
    case IORING_OP_CONNECT:
        request->port = ntohs(((const struct sockaddr_in *)(uintptr_t)entry->addr)->sin_port);
        request->not_before_ns = self->sim->now_ns + sim_below(self->sim, 3000000);
        break;
    default:
        request->len = entry->len;
    }
    request->is_multishot = entry->opcode == IORING_OP_RECV     ? entry->ioprio & IORING_RECV_MULTISHOT
                            : entry->opcode == IORING_OP_ACCEPT ? entry->ioprio & IORING_ACCEPT_MULTISHOT
                                                                : false;
    request->is_inline =
        entry->opcode != IORING_OP_WRITEV && entry->opcode != IORING_OP_RECV && (entry->msg_flags & MSG_DONTWAIT);
    request->is_quiet = entry->flags & IOSQE_CQE_SKIP_SUCCESS;
    if (request->is_inline)
        try_request(self, request);
}

static bool is_transport(const struct sluice_stream *stream)
{
    const char *kind = stream->ops->kind(stream);

    return strcmp(kind, "tcp") == 0 || strcmp(kind, "fd") == 0 || strcmp(kind, "socket") == 0;
}

/* Was the stream on this descriptor closed for writing when the entry was asked for? Then it must not be a send. */
static void note_barred(struct sim_ring *self)
{
    memset(self->barred, 0, sizeof self->barred);
    if (!self->engine)
        return;
    for (struct link *link = self->engine->streams.next; link != &self->engine->streams; link = link->next) {
        struct sluice_stream *stream = container_of(link, struct sluice_stream, link);
        const struct transport *transport;

        if (!is_transport(stream))
            continue;
        transport = transport_of(stream);
        if (transport->write_fd >= 0 && stream_write_status(stream) == SLUICE_WRITE_CLOSED)
            self->barred[transport->write_fd] = true;
    }
}

static void check_last_entry(struct sim_ring *self)
{
    const struct io_uring_sqe *entry;

    if (self->entry_count == 0)
        return;
    entry = &self->entries[self->entry_count - 1];
    if (entry->opcode == IORING_OP_SEND || entry->opcode == IORING_OP_SENDMSG || entry->opcode == IORING_OP_SEND_ZC ||
        entry->opcode == IORING_OP_WRITEV)
        if (self->barred[entry->fd])
            sim_violated(self->sim, "a send is submitted for a stream whose write status is closed (descriptor %d)",
                         entry->fd);
}

static struct io_uring_sqe *get_entry(struct ring *ring)
{
    struct sim_ring *self = of(ring);

    check_last_entry(self);
    if (self->entry_count == ring->entries)
        return NULL;
    note_barred(self);
    return memset(&self->entries[self->entry_count++], 0, sizeof self->entries[0]);
}

static void submit(struct sim_ring *self)
{
    check_last_entry(self);
    for (uint32_t i = 0; i < self->entry_count; i++)
        take_entry(self, &self->entries[i]);
    self->entry_count = 0;
}

/* It has a quiet send out, and something to do once that has succeeded. */
static bool waits_for_quiet_send(const struct transport *transport)
{
    const struct sluice_stream *stream = &transport->stream;
    enum sluice_write_status status = stream_write_status(stream);

    if (!transport->sending || !transport->sending->is_quiet)
        return false;
    return transport->is_leaving || status == SLUICE_WRITE_CLOSING ||
           (status == SLUICE_WRITABLE && (stream->owes_drain || stream->unsent.len > transport->sending_len));
}

static void check_sleep(struct sim_ring *self)
{
    if (!self->engine)
        return;
    for (struct link *link = self->engine->streams.next; link != &self->engine->streams; link = link->next) {
        struct sluice_stream *stream = container_of(link, struct sluice_stream, link);

        if (is_transport(stream) && waits_for_quiet_send(transport_of(stream)))
            sim_violated(self->sim, "an engine sleeps over a quiet send that somebody waits for");
    }
}

static int enter(struct ring *ring, uint32_t completions, uint64_t deadline_ns)
{
    struct sim_ring *self = of(ring);
    struct sim *sim = self->sim;

    ring->enters++;
    if (completions > ring->completion_entries)
        completions = ring->completion_entries;
    submit(self);
    flush_overflow(self);
    if (self->is_woken) {
        self->is_woken = false;
        post(self, RING_WAKE, 1, IORING_CQE_F_MORE);
    }
    progress(self);
    if (deadline_ns > sim->now_ns && self->count < completions)
        check_sleep(self);
    while (deadline_ns > sim->now_ns && self->count < completions && !sim_chance(sim, FAULT_INTERRUPT)) {
        uint64_t next_ns = sim_next_event(sim);

        if (next_ns > deadline_ns)
            next_ns = deadline_ns;
        if (next_ns == UINT64_MAX)
            sim_violated(sim, "an engine sleeps for ever");
        sim_advance(sim, next_ns);
        if (self->is_woken) {
            self->is_woken = false;
            post(self, RING_WAKE, 1, IORING_CQE_F_MORE);
        }
        progress(self);
    }
    return 0;
}

/* -- The rest of the seam ------------------------------------------------------------------------------------ */

static uint32_t peek(struct ring *ring, struct io_uring_cqe **completions, uint32_t max)
{
    struct sim_ring *self = of(ring);
    uint32_t count = self->count < max ? self->count : max;

    for (uint32_t i = 0; i < count; i++)
        completions[i] = &self->completions[(self->first + i) % ring->completion_entries];
    return count;
}

static void seen(struct ring *ring, uint32_t count)
{
    struct sim_ring *self = of(ring);

    assert(count <= self->count);
    self->first = (self->first + count) % ring->completion_entries;
    self->count -= count;
}

static int watch(struct ring *ring)
{
    (void)ring;
    return -ENOSYS;
}

static bool holds_back(struct ring *ring)
{
    return of(ring)->overflow_count > 0;
}

static int add_buffers(struct ring *ring, struct buffers *buffers)
{
    of(ring)->buffers = buffers;
    of(ring)->buffers_head = 0;
    return 0;
}

static void remove_buffers(struct ring *ring, struct buffers *buffers)
{
    struct sim_ring *self = of(ring);

    if ((uint16_t)(buffers->ring->tail - self->buffers_head) != buffers->count)
        sim_violated(self->sim, "%u of %u receive buffers came back",
                     (unsigned)(uint16_t)(buffers->ring->tail - self->buffers_head), buffers->count);
    self->buffers = NULL;
}

static uint64_t now(struct ring *ring)
{
    struct sim_ring *self = of(ring);

    if (self->called_ns != self->sim->now_ns) {
        self->called_ns = self->sim->now_ns;
        self->calls = 0;
    }
    if (++self->calls > CALLS_WITHOUT_TIME)
        sim_violated(self->sim, "an engine spins without progress");
    story_other_threads(self->sim->story);
    return self->sim->now_ns;
}

static void wake(struct ring *ring)
{
    of(ring)->is_woken = true;
}

static void woken(struct ring *ring, const struct io_uring_cqe *completion)
{
    (void)ring;
    (void)completion;
}

static int open_socket(struct ring *ring, int family)
{
    assert(family == AF_INET);
    of(ring)->sim->operations++;
    return network_socket(of(ring)->sim->network);
}

static void write_port(struct ring_address *address, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&address->storage, &in, sizeof in);
    address->len = sizeof in;
}

static int listen_on(struct ring *ring, struct ring_address *address, uint32_t backlog, bool reuse_port)
{
    uint16_t port = ntohs(((struct sockaddr_in *)&address->storage)->sin_port);
    int fd = network_listen(of(ring)->sim->network, &port, backlog);

    (void)reuse_port;
    if (fd >= 0)
        write_port(address, port);
    return fd;
}

static int duplicate(struct ring *ring, int fd)
{
    (void)ring;
    (void)fd;
    return -EMFILE;
}

static int adopt_socket(struct ring *ring, int fd)
{
    (void)ring;
    (void)fd;
    return AF_INET;
}

static int shutdown_write(struct ring *ring, int fd)
{
    of(ring)->sim->operations++;
    sim_trace(of(ring)->sim, "  FIN on %d", fd);
    network_shutdown_write(of(ring)->sim->network, fd);
    return 0;
}

static void close_fd(struct ring *ring, int fd, bool reset)
{
    of(ring)->sim->operations++;
    sim_trace(of(ring)->sim, "  closes %d%s", fd, reset ? " with a reset" : "");
    network_close(of(ring)->sim->network, fd, reset);
}

static void unlink_path(struct ring *ring, const struct ring_address *address)
{
    (void)ring;
    (void)address;
}

static int unacknowledged(struct ring *ring, int fd)
{
    const struct channel *out = network_get(of(ring)->sim->network, fd)->out;

    return out ? (int)(out->written - out->taken) : 0;
}

static int address_of(struct ring *ring, int fd, struct ring_address *address)
{
    write_port(address, network_get(of(ring)->sim->network, fd)->port);
    return 0;
}

static int classify(struct ring *ring, int fd)
{
    return network_get(of(ring)->sim->network, fd)->kind == DESCRIPTOR_PIPE ? RING_FD_OTHER : RING_FD_SOCKET;
}

static void count_pipes(struct ring *ring, int change)
{
    (void)ring;
    (void)change;
}

static int lookup(struct ring *ring, struct ring_lookup *lookup)
{
    (void)ring;
    (void)lookup;
    return -EAGAIN;
}

static void destroy(struct ring *ring)
{
    struct sim_ring *self = of(ring);

    if (self->in_flight > 0)
        sim_violated(self->sim, "a ring is destroyed with %u requests in flight", self->in_flight);
    free(self->completions);
    free(self->overflow);
    free(self->requests);
    free(self);
}

static const struct ring_ops sim_ops = {
    .get_entry = get_entry,
    .enter = enter,
    .peek = peek,
    .seen = seen,
    .holds_back = holds_back,
    .add_buffers = add_buffers,
    .remove_buffers = remove_buffers,
    .now = now,
    .wake = wake,
    .watch = watch,
    .woken = woken,
    .open_socket = open_socket,
    .listen = listen_on,
    .duplicate = duplicate,
    .adopt_socket = adopt_socket,
    .shutdown_write = shutdown_write,
    .close = close_fd,
    .unlink = unlink_path,
    .unacknowledged = unacknowledged,
    .local_address = address_of,
    .peer_address = address_of,
    .classify = classify,
    .count_pipes = count_pipes,
    .lookup = lookup,
    .destroy = destroy,
};

struct ring *sim_ring_create(struct sim *sim, uint32_t entries, uint32_t completion_entries)
{
    struct sim_ring *self = calloc(1, sizeof *self);

    assert(entries <= ENTRIES_MAX && completion_entries <= COMPLETIONS_MAX);
    self->ring = (struct ring){
        .ops = &sim_ops,
        .features =
            RING_MULTISHOT_ACCEPT | RING_MULTISHOT_RECEIVE | RING_ZERO_COPY | RING_INLINE_SEND | RING_QUIET_SEND,
        .entries = entries,
        .completion_entries = completion_entries,
    };
    self->ring.kernel_features = self->ring.features;
    self->sim = sim;
    self->completions = calloc(completion_entries, sizeof *self->completions);
    self->overflow = calloc(COMPLETIONS_MAX, sizeof *self->overflow);
    self->requests = calloc(REQUESTS_MAX, sizeof *self->requests);
    return &self->ring;
}

uint32_t sim_ring_in_flight(const struct ring *ring)
{
    return container_of(ring, struct sim_ring, ring)->in_flight;
}

bool sim_ring_is_ready(struct ring *ring)
{
    return of(ring)->count > 0 || of(ring)->overflow_count > 0 || of(ring)->is_woken;
}

uint64_t sim_ring_next_event(const struct ring *ring)
{
    const struct sim_ring *self = container_of(ring, struct sim_ring, ring);
    uint64_t next_ns = UINT64_MAX;

    for (uint32_t i = 0; i < self->top; i++)
        if (self->requests[i].is_used && self->requests[i].not_before_ns > self->sim->now_ns &&
            self->requests[i].not_before_ns < next_ns)
            next_ns = self->requests[i].not_before_ns;
    return next_ns;
}

void sim_ring_watch(struct ring *ring, struct sluice_engine *engine)
{
    of(ring)->engine = engine;
}
