/* The seam on the real kernel, through liburing. */
#include "uring/linux.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "uring/buffers.h"
#include "uring/enter.h"
#include "uring/lookup.h"
#include "uring/probe.h"
#include "uring/setup.h"
#include "uring/socket.h"

enum {
    CANCEL_ATTEMPTS = 16,
    CANCEL_TIMEOUT_MS = 100,
};

static struct linux_ring *linux_ring(struct ring *ring)
{
    return (struct linux_ring *)ring;
}

static struct io_uring_sqe *linux_get_entry(struct ring *ring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&linux_ring(ring)->uring);

    if (entry)
        memset(entry, 0, sizeof *entry); /* liburing leaves the last request in it */
    return entry;
}

/* -- Waking -------------------------------------------------------------------------------------------------- */

/* Queues the poll of wake_fd if it is not out. A wake from before is heard at once: the counter stays above zero. */
static int hear_wakes(struct linux_ring *self)
{
    struct io_uring_sqe *entry;

    if (self->hears_wakes)
        return 0;
    entry = linux_get_entry(&self->ring);
    if (!entry) {
        int result = enter_submit(self);

        if (result < 0)
            return result;
        entry = linux_get_entry(&self->ring);
    }
    assert(entry); /* enter_submit() took all that were in the way */
    io_uring_prep_poll_multishot(entry, self->wake_fd, POLLIN);
    entry->user_data = RING_WAKE;
    self->hears_wakes = true;
    return 0;
}

static void add_one(int event_fd)
{
    const uint64_t one = 1;
    ssize_t written = write(event_fd, &one, sizeof one);

    (void)written; /* it fails only when the counter is full, after 2^64 wakes */
}

static void linux_wake(struct ring *ring)
{
    struct linux_ring *self = linux_ring(ring);
    int watch_fd = atomic_load(&self->watch_fd);
    int error = errno; /* we may be in a signal handler */

    add_one(self->wake_fd);
    /* The kernel does not tell one event descriptor of what another has set off. */
    if (watch_fd >= 0)
        add_one(watch_fd);
    errno = error;
}

/*
 * The ring's own descriptor would not do: with DEFER_TASKRUN, completions wait for us to come and run them, and who
 * sleeps on it is not woken for that. An event descriptor is told when the first of them begins to wait.
 */
static int linux_watch(struct ring *ring)
{
    struct linux_ring *self = linux_ring(ring);
    int fd = atomic_load(&self->watch_fd);
    int result;

    if (fd >= 0)
        return fd;
    fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK); /* something may wait already */
    if (fd < 0)
        return -errno;
    result = io_uring_register_eventfd(&self->uring, fd);
    if (result < 0) {
        close(fd);
        return result;
    }
    atomic_store(&self->watch_fd, fd);
    return fd;
}

/* After entering: what was announced until now is taken. What comes between the two calls is not announced again. */
static int take_announced(struct linux_ring *self)
{
    int fd = atomic_load(&self->watch_fd);
    uint64_t count;

    if (fd < 0 || read(fd, &count, sizeof count) < 0)
        return 0;
    return enter_collect(self);
}

static void linux_woken(struct ring *ring, const struct io_uring_cqe *completion)
{
    assert(completion->user_data == RING_WAKE);
    if (!(completion->flags & IORING_CQE_F_MORE))
        linux_ring(ring)->hears_wakes = false;
}

/* -- The verbs ----------------------------------------------------------------------------------------------- */

static int linux_enter(struct ring *ring, uint32_t completions, uint64_t deadline_ns)
{
    struct linux_ring *self = linux_ring(ring);
    int result = hear_wakes(self);

    if (result < 0)
        return result;
    if (completions > ring->completion_entries)
        completions = ring->completion_entries; /* more can never be there at once */
    if (deadline_ns == 0 || io_uring_cq_ready(&self->uring) >= completions)
        result = enter_submit(self);
    else
        result = enter_wait(self, completions, deadline_ns);
    return result < 0 ? result : take_announced(self);
}

static uint32_t linux_peek(struct ring *ring, struct io_uring_cqe **completions, uint32_t max)
{
    struct io_uring *uring = &linux_ring(ring)->uring;
    uint32_t ready = io_uring_cq_ready(uring);
    uint32_t head = *uring->cq.khead; /* only we move it */
    uint32_t count = ready < max ? ready : max;

    for (uint32_t i = 0; i < count; i++)
        completions[i] = &uring->cq.cqes[(head + i) & uring->cq.ring_mask];
    return count;
}

static void linux_seen(struct ring *ring, uint32_t count)
{
    io_uring_cq_advance(&linux_ring(ring)->uring, count);
}

static bool linux_holds_back(struct ring *ring)
{
    return IO_URING_READ_ONCE(*linux_ring(ring)->uring.sq.kflags) & IORING_SQ_CQ_OVERFLOW;
}

static int linux_add_buffers(struct ring *ring, struct buffers *buffers)
{
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)buffers->ring,
        .ring_entries = buffers->count,
        .bgid = buffers->group,
    };

    return io_uring_register_buf_ring(&linux_ring(ring)->uring, &registration, 0);
}

static void linux_remove_buffers(struct ring *ring, struct buffers *buffers)
{
    io_uring_unregister_buf_ring(&linux_ring(ring)->uring, buffers->group);
}

static uint64_t linux_now(struct ring *ring)
{
    (void)ring;
    return linux_clock_ns();
}

static void linux_count_pipes(struct ring *ring, int change)
{
    struct linux_ring *self = linux_ring(ring);

    assert(change == 1 || change == -1);
    assert(change == 1 || self->pipes > 0);
    self->pipes += (uint32_t)change;
}

static int linux_lookup(struct ring *ring, struct ring_lookup *lookup)
{
    return lookup_start(linux_ring(ring)->lookups, lookup);
}

/* -- Creation and end ---------------------------------------------------------------------------------------- */

/* Ends what is in the kernel's hands, so that it neither holds sockets open nor reads our memory after us. */
static void cancel_all(struct linux_ring *self)
{
    for (int attempt = 0; attempt < CANCEL_ATTEMPTS; attempt++) {
        struct io_uring_sync_cancel_reg everything = {
            .flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
            .timeout = {.tv_nsec = CANCEL_TIMEOUT_MS * 1000000},
        };
        int result = io_uring_register_sync_cancel(&self->uring, &everything);

        enter_collect(self);
        io_uring_cq_advance(&self->uring, io_uring_cq_ready(&self->uring));
        if (result <= 0)
            return; /* none was left, or the kernel has no such call (before 6.0) */
    }
}

static void linux_destroy(struct ring *ring)
{
    struct linux_ring *self = linux_ring(ring);

    cancel_all(self);
    lookup_pool_destroy(self->lookups);
    io_uring_queue_exit(&self->uring);
    close(self->wake_fd);
    if (atomic_load(&self->watch_fd) >= 0)
        close(atomic_load(&self->watch_fd));
    free(self);
}

static const struct ring_ops linux_ops = {
    .get_entry = linux_get_entry,
    .enter = linux_enter,
    .peek = linux_peek,
    .seen = linux_seen,
    .holds_back = linux_holds_back,
    .add_buffers = linux_add_buffers,
    .remove_buffers = linux_remove_buffers,
    .now = linux_now,
    .wake = linux_wake,
    .watch = linux_watch,
    .woken = linux_woken,
    .open_socket = socket_open,
    .listen = socket_listen,
    .share = socket_share,
    .duplicate = socket_duplicate,
    .adopt_socket = socket_adopt,
    .shutdown_write = socket_shutdown_write,
    .close = socket_close,
    .unlink = socket_unlink,
    .unacknowledged = socket_unacknowledged,
    .local_address = socket_local_address,
    .peer_address = socket_peer_address,
    .classify = socket_classify,
    .count_pipes = linux_count_pipes,
    .lookup = linux_lookup,
    .destroy = linux_destroy,
};

/* Finds out what the kernel can do and switches on what is wanted of it. */
static int find_features(struct linux_ring *self, const struct ring_config *config)
{
    struct ring *ring = &self->ring;
    int64_t probed = probe_run(&self->uring);
    uint32_t requests; /* what makes a difference to requests alone, and so can be used or not */
    uint32_t tuned;

    if (probed < 0)
        return (int)probed;
    tuned = setup_tune(&self->uring, config);
    requests = (uint32_t)probed | setup_bundles(&self->uring) | RING_INLINE_SEND;
    ring->kernel_features = requests | setup_offered(&self->uring);
    ring->features = (requests & ~config->disabled) | setup_granted(&self->uring) | tuned;
    if (self->uring.flags & IORING_SETUP_SQPOLL)
        ring->features &= ~(uint32_t)RING_QUIET_SEND; /* nobody could tell when a send was tried */
    self->enter_flags = IORING_ENTER_GETEVENTS;
    if (tuned & RING_REGISTERED_RING)
        self->enter_flags |= IORING_ENTER_REGISTERED_RING;
    if (tuned & RING_NO_IOWAIT)
        self->enter_flags |= IORING_ENTER_NO_IOWAIT;
    return 0;
}

/* So that the first enter() hears a wake from before it, the poll of wake_fd goes out now. */
static int open_wake(struct linux_ring *self)
{
    int result;

    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->wake_fd < 0)
        return -errno;
    result = hear_wakes(self);
    if (result == 0)
        result = enter_submit(self);
    if (result < 0)
        close(self->wake_fd);
    return result;
}

/* On a ring that is open. Undoes its own part when it fails. */
static int equip(struct linux_ring *self, const struct ring_config *config)
{
    int result;

    self->ring.ops = &linux_ops;
    self->ring.entries = self->uring.sq.ring_entries;
    self->ring.completion_entries = self->uring.cq.ring_entries;
    result = find_features(self, config);
    if (result < 0)
        return result;
    self->lookups = lookup_pool_create();
    if (!self->lookups)
        return -ENOMEM;
    result = open_wake(self);
    if (result < 0)
        lookup_pool_destroy(self->lookups);
    return result;
}

int ring_open_linux(const struct ring_config *config, struct ring **ring)
{
    struct linux_ring *self = calloc(1, sizeof *self);
    int result;

    if (!self)
        return -ENOMEM;
    atomic_init(&self->watch_fd, -1);
    result = setup_open(&self->uring, config);
    if (result < 0)
        goto free_self;
    result = equip(self, config);
    if (result < 0)
        goto exit_queue;
    *ring = &self->ring;
    return 0;

exit_queue:
    io_uring_queue_exit(&self->uring);
free_self:
    free(self);
    return result;
}
