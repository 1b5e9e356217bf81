/*
 * A simulated ring: the seam of uring/ring.h over a simulated machine. What its requests do stands in request.c.
 */
#include "tests/sim/kernel.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "engine/transport.h"
#include "tests/sim/memory.h"
#include "uring/buffers.h"

enum {
    FIRST_REQUESTS = 64,
    FIRST_OVERFLOW = 64,
};

#define TOO_LATE_NS    UINT64_C(120000000000) /* twice the time in which everything must have ended */
#define QUIET_SLEEP_NS UINT64_C(1000000)      /* the longest that a buffer may be kept for nothing */

static struct sim_ring *of(struct ring *ring)
{
    return container_of(ring, struct sim_ring, ring);
}

/* -- Completions --------------------------------------------------------------------------------------------- */

void ring_post(struct sim_ring *self, uint64_t user_data, int32_t result, uint32_t flags)
{
    struct io_uring_cqe completion = {.user_data = user_data, .res = result, .flags = flags};

    self->sim->operations++;
    if (self->count < self->ring.completion_entries && self->overflow_count == 0) {
        memcpy(&self->completions[(self->first + self->count++) % self->ring.completion_entries], &completion,
               sizeof completion);
        return;
    }
    cover(COVER_OVERFLOW);
    if (self->overflow_count == self->overflow_capacity) {
        self->overflow = memory_resize(self->overflow, self->overflow_capacity * sizeof self->overflow[0],
                                       2 * self->overflow_capacity * sizeof self->overflow[0]);
        self->overflow_capacity *= 2;
    }
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

/* -- Submission ---------------------------------------------------------------------------------------------- */

/* Was the stream on this descriptor closed for writing when the entry was asked for? Then it must not be a send. */
static void note_barred(struct sim_ring *self)
{
    if (self->barred_count > 0)
        memset(self->barred, 0, sizeof self->barred);
    self->barred_count = 0;
    if (!self->engine)
        return;
    for (struct link *link = self->engine->streams.next; link != &self->engine->streams; link = link->next) {
        struct sluice_stream *stream = container_of(link, struct sluice_stream, link);
        const struct transport *transport;

        if (stream_write_status(stream) != SLUICE_WRITE_CLOSED || !check_is_transport(stream))
            continue;
        transport = transport_of(stream);
        if (transport->write_fd >= 0) {
            self->barred[transport->write_fd] = true;
            self->barred_count++;
        }
    }
}

static void check_last_entry(struct sim_ring *self)
{
    const struct io_uring_sqe *entry;

    if (self->entry_count == 0)
        return;
    entry = &self->entries[self->entry_count - 1];
    if (opcode_is_send(entry->opcode) && self->barred[entry->fd])
        sim_violated(self->sim, "a send is submitted for a stream whose write status is closed (descriptor %d)",
                     entry->fd);
}

static struct io_uring_sqe *get_entry(struct ring *ring)
{
    struct sim_ring *self = of(ring);

    check_last_entry(self);
    if (self->entry_count == ring->entries) {
        cover(COVER_QUEUE_FULL);
        return NULL;
    }
    note_barred(self);
    /* The entry is asked for: whoever aborts from here on comes too late for it, and in time for the next. */
    story_other_threads(self->sim->story);
    return memset(&self->entries[self->entry_count++], 0, sizeof self->entries[0]);
}

static void submit(struct sim_ring *self)
{
    check_last_entry(self);
    for (uint32_t i = 0; i < self->entry_count; i++)
        request_take(self, &self->entries[i]);
    self->entry_count = 0;
}

/* -- Entering ------------------------------------------------------------------------------------------------ */

/* Nothing more comes from it: what was in its hands is gone. */
static int break_ring(struct sim_ring *self, int error)
{
    for (uint32_t i = 0; i < self->top; i++) {
        struct request *request = &self->requests[i];

        if (request->is_used && !request->is_notice) {
            struct descriptor *descriptor = network_get(self->sim->network, request->fd);

            descriptor->requests--;
            descriptor->sends -= opcode_is_send(request->opcode);
            descriptor->receives -= request->opcode == IORING_OP_RECV || request->opcode == IORING_OP_READ;
        }
        request->is_used = false;
    }
    self->top = 0;
    self->in_flight = 0;
    self->count = 0;
    self->overflow_count = 0;
    self->error = error;
    return error;
}

static void take_wake(struct sim_ring *self)
{
    if (!self->is_woken)
        return;
    self->is_woken = false;
    cover(COVER_WOKEN);
    ring_post(self, RING_WAKE, 1, IORING_CQE_F_MORE);
}

/* It has a quiet send out, and something to do once that has succeeded. */
static bool waits_for_quiet_send(const struct sluice_stream *stream)
{
    const struct transport *transport = transport_of(stream);
    enum sluice_write_status status = stream_write_status(stream);

    if (!transport->sending || !transport->sending->is_quiet)
        return false;
    return transport->is_leaving || status == SLUICE_WRITE_CLOSING ||
           (status == SLUICE_WRITABLE && (stream->owes_drain || stream->unsent.len > transport->sending_len));
}

/* It has a quiet send out that keeps a buffer which others wait to have back. */
static bool keeps_buffer_quietly(const struct sluice_stream *stream)
{
    const struct transport *transport = transport_of(stream);
    const struct slice *slice = stream->unsent.first;

    if (!transport->sending || !transport->sending->is_quiet)
        return false;
    while (slice && block_of(slice->buffer))
        slice = slice->next;
    return slice;
}

static void check_quiet_sends(const struct sim_ring *self, uint64_t deadline_ns)
{
    bool is_long = deadline_ns > self->sim->now_ns + QUIET_SLEEP_NS;

    for (const struct link *link = self->engine->streams.next; link != &self->engine->streams; link = link->next) {
        const struct sluice_stream *stream = container_of(link, struct sluice_stream, link);

        if (check_is_transport(stream) && waits_for_quiet_send(stream))
            sim_violated(self->sim, "an engine sleeps over a quiet send that somebody waits for");
        if (is_long && check_is_transport(stream) && keeps_buffer_quietly(stream))
            sim_violated(self->sim, "an engine sleeps for long over a buffer that a quiet send has done with");
    }
}

static void check_may_sleep(struct sim_ring *self, uint64_t deadline_ns)
{
    if (self->sim->now_ns > TOO_LATE_NS)
        sim_violated(self->sim, "an engine does not come to its end");
    if (!self->engine)
        return;
    if (!run_queue_is_empty(&self->engine->tasks))
        sim_violated(self->sim, "an engine goes to sleep with tasks queued");
    if (!mailbox_is_empty(self->engine->mailbox))
        sim_violated(self->sim, "an engine goes to sleep with posts in its mailbox");
    check_quiet_sends(self, deadline_ns);
}

/* Until enough is there, the time is over, or a signal comes. */
static void wait_for(struct sim_ring *self, uint32_t completions, uint64_t deadline_ns)
{
    struct sim *sim = self->sim;

    if (deadline_ns > sim->now_ns && self->count < completions)
        check_may_sleep(self, deadline_ns);
    while (deadline_ns > sim->now_ns && self->count < completions) {
        uint64_t next_ns;

        if (sim_chance(sim, FAULT_INTERRUPT)) {
            cover(COVER_INTERRUPT);
            return;
        }
        next_ns = sim_next_event(sim);
        if (next_ns >= deadline_ns) {
            cover(COVER_WAIT_TIMED_OUT);
            next_ns = deadline_ns;
        }
        if (next_ns == UINT64_MAX)
            sim_violated(sim, "an engine sleeps for ever");
        sim_advance(sim, next_ns);
        story_other_threads(sim->story);
        resolver_answer(self, false);
        take_wake(self);
        request_progress(self);
    }
}

static int enter(struct ring *ring, uint32_t completions, uint64_t deadline_ns)
{
    struct sim_ring *self = of(ring);
    uint32_t variant = sim_torture(self->sim, "an enter", 2);

    ring->enters++;
    if (self->error)
        return self->error;
    if (variant == 2)
        return break_ring(self, -ENOMEM);
    if (completions > ring->completion_entries)
        completions = ring->completion_entries;
    submit(self);
    flush_overflow(self);
    resolver_answer(self, false);
    take_wake(self);
    if (variant == 1)
        return 0;
    request_progress(self);
    wait_for(self, completions, deadline_ns);
    return 0;
}

/* -- The rest of the seam ------------------------------------------------------------------------------------ */

static uint32_t peek(struct ring *ring, struct io_uring_cqe **completions, uint32_t max)
{
    struct sim_ring *self = of(ring);
    uint32_t count = self->count < max ? self->count : max;

    if (self->engine && !self->error)
        check_engine(self->sim, self->engine, &self->watch);
    self->is_dispatching = count > 0;
    for (uint32_t i = 0; i < count; i++)
        completions[i] = &self->completions[(self->first + i) % ring->completion_entries];
    return count;
}

static void seen(struct ring *ring, uint32_t count)
{
    struct sim_ring *self = of(ring);

    assert(count <= self->count);
    self->is_dispatching = false;
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
    if (sim_torture(of(ring)->sim, "a buffer group", 1))
        return -ENOMEM;
    of(ring)->buffers = buffers;
    of(ring)->buffers_head = 0;
    return 0;
}

static void remove_buffers(struct ring *ring, struct buffers *buffers)
{
    struct sim_ring *self = of(ring);

    if (!self->error && (uint16_t)(buffers->ring->tail - self->buffers_head) != buffers->offered)
        sim_violated(self->sim, "%u receive buffers are on offer, and %u should be",
                     (unsigned)(uint16_t)(buffers->ring->tail - self->buffers_head), buffers->offered);
    self->buffers = NULL;
}

static uint64_t now(struct ring *ring)
{
    story_other_threads(of(ring)->sim->story);
    return of(ring)->sim->now_ns;
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
    struct sim *sim = of(ring)->sim;
    uint32_t variant = sim_torture(sim, "a socket", 2);

    assert(family == AF_INET || family == AF_INET6);
    sim->operations++;
    if (variant || sim_chance(sim, FAULT_NO_DESCRIPTOR)) {
        cover(COVER_NO_DESCRIPTOR);
        return variant == 2 ? -ENFILE : -EMFILE;
    }
    return network_socket(sim->network);
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
    uint32_t variant = sim_torture(of(ring)->sim, "a listening socket", 2);
    int fd;

    (void)reuse_port;
    if (variant)
        return variant == 1 ? -EADDRINUSE : -EMFILE;
    fd = network_listen(of(ring)->sim->network, &port, backlog);
    if (fd >= 0)
        write_port(address, port);
    return fd;
}

static int share(struct ring *ring, int fd)
{
    network_get(of(ring)->sim->network, fd);
    return 0;
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
    if (sim_torture(of(ring)->sim, "a half-close", 1)) {
        network_break(of(ring)->sim->network, fd);
        return -ENOTCONN;
    }
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

    if (sim_torture(of(ring)->sim, "a question for what is unacknowledged", 1))
        return -EINVAL;
    return out ? (int)(out->written - out->taken) : 0;
}

static int address_of(struct ring *ring, int fd, struct ring_address *address)
{
    write_port(address, network_get(of(ring)->sim->network, fd)->port);
    return 0;
}

static int classify(struct ring *ring, int fd)
{
    if (sim_torture(of(ring)->sim, "a look at what a descriptor is", 1))
        return -EBADF;
    if (network_get(of(ring)->sim->network, fd)->kind != DESCRIPTOR_PIPE)
        return RING_FD_SOCKET;
    return of(ring)->sim->network->has_devices ? RING_FD_DEVICE : RING_FD_OTHER;
}

static void count_pipes(struct ring *ring, int change)
{
    (void)ring;
    (void)change;
}

static int lookup(struct ring *ring, struct ring_lookup *lookup)
{
    return resolver_start(of(ring), lookup);
}

static void destroy(struct ring *ring)
{
    struct sim_ring *self = of(ring);

    /* Late answers find nobody. */
    resolver_answer(self, true);
    if (self->in_flight > 0)
        sim_violated(self->sim, "a ring is destroyed with %u requests in flight", self->in_flight);
    memory_put(self->completions);
    memory_put(self->overflow);
    memory_put(self->requests);
    memory_put(self);
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
    .share = share,
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
    struct sim_ring *self = memory_get(sizeof *self);

    assert(entries <= ENTRIES_MAX && completion_entries <= COMPLETIONS_MAX);
    self->ring = (struct ring){
        .ops = &sim_ops,
        .features = RING_MULTISHOT_ACCEPT | RING_MULTISHOT_RECEIVE | RING_ZERO_COPY | RING_INLINE_SEND |
                    RING_QUIET_SEND | RING_RECEIVE_BUNDLE,
        .entries = entries,
        .completion_entries = completion_entries,
    };
    self->ring.kernel_features = self->ring.features;
    self->sim = sim;
    self->completions = memory_get(completion_entries * sizeof *self->completions);
    self->overflow_capacity = FIRST_OVERFLOW;
    self->overflow = memory_get(self->overflow_capacity * sizeof *self->overflow);
    self->capacity = FIRST_REQUESTS;
    self->requests = memory_get(self->capacity * sizeof *self->requests);
    return &self->ring;
}

uint32_t sim_ring_in_flight(const struct ring *ring)
{
    return container_of(ring, struct sim_ring, ring)->in_flight;
}

bool sim_ring_is_dispatching(struct ring *ring)
{
    return of(ring)->is_dispatching;
}

bool sim_ring_is_ready(struct ring *ring)
{
    return of(ring)->count > 0 || of(ring)->overflow_count > 0 || of(ring)->is_woken;
}

uint64_t sim_ring_next_event(const struct ring *ring)
{
    const struct sim_ring *self = container_of(ring, struct sim_ring, ring);
    uint64_t next_ns = resolver_next_event(self);

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
