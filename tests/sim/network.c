/* The simulated network: see network.h. */
#include "tests/sim/network.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "tests/sim/memory.h"

/* -- Channels ------------------------------------------------------------------------------------------------ */

static struct channel *create_channel(const struct network *network)
{
    struct channel *channel = memory_get(sizeof *channel);

    channel->capacity = network->capacity;
    channel->memory = memory_get(channel->capacity);
    channel->delay_ns = network->delay_ns;
    channel->ns_per_byte = network->ns_per_byte;
    channel->holders = 2;
    return channel;
}

static void drop_channel(struct channel *channel)
{
    if (!channel || --channel->holders > 0)
        return;
    memory_put(channel->memory);
    memory_put(channel);
}

static uint64_t arrived(const struct channel *channel, uint64_t now_ns)
{
    uint64_t upto = channel->taken;

    if (channel->is_lost)
        return upto;
    for (uint32_t i = 0; i < channel->count; i++) {
        const struct arrival *arrival = &channel->arrivals[(channel->first + i) % ARRIVALS];

        if (arrival->at_ns > now_ns)
            break;
        upto = arrival->upto;
    }
    return upto;
}

static size_t room(const struct channel *channel)
{
    /* One write may add an arrival for each of its pieces, and FIN needs one, too. */
    return channel->count + PIECES + 1 > ARRIVALS ? 0 : channel->capacity - (size_t)(channel->written - channel->taken);
}

static void add_arrival(struct channel *channel, uint64_t now_ns, size_t len)
{
    uint64_t start = channel->last_ns > now_ns + channel->delay_ns ? channel->last_ns : now_ns + channel->delay_ns;

    channel->last_ns = start + len * channel->ns_per_byte;
    if (channel->count > 0) {
        struct arrival *last = &channel->arrivals[(channel->first + channel->count - 1) % ARRIVALS];

        if (last->at_ns == channel->last_ns) {
            last->upto = channel->written;
            return;
        }
    }
    channel->arrivals[(channel->first + channel->count++) % ARRIVALS] =
        (struct arrival){.upto = channel->written, .at_ns = channel->last_ns};
}

static void take(struct channel *channel, uint8_t *data, size_t len)
{
    size_t at = (size_t)(channel->taken % channel->capacity);
    size_t part = channel->capacity - at < len ? channel->capacity - at : len;

    memcpy(data, channel->memory + at, part);
    memcpy(data + part, channel->memory, len - part);
    channel->taken += len;
    while (channel->count > 0 && channel->arrivals[channel->first].upto <= channel->taken) {
        channel->first = (channel->first + 1) % ARRIVALS;
        channel->count--;
    }
}

/* What is under way is lost; what has arrived can still be read. */
static void reset_channel(struct channel *channel, uint64_t now_ns)
{
    if (channel->is_reset)
        return;
    channel->written = arrived(channel, now_ns);
    while (channel->count > 0 &&
           channel->arrivals[(channel->first + channel->count - 1) % ARRIVALS].upto > channel->written)
        channel->count--;
    channel->last_ns = now_ns;
    channel->is_reset = true;
}

/* -- Descriptors --------------------------------------------------------------------------------------------- */

struct descriptor *network_get(struct network *network, int fd)
{
    assert(fd >= 0 && fd < DESCRIPTORS);
    if (network->descriptors[fd].kind == DESCRIPTOR_FREE)
        sim_violated(network->sim, "descriptor %d is used and not open", fd);
    return &network->descriptors[fd];
}

static int open_descriptor(struct network *network, enum descriptor_kind kind)
{
    /* The lowest free one, as the kernel does: a number comes back at once after it was closed. */
    for (int fd = 3; fd < DESCRIPTORS; fd++) {
        if (network->descriptors[fd].kind == DESCRIPTOR_FREE) {
            network->descriptors[fd] = (struct descriptor){.kind = kind, .peer = -1};
            network->open++;
            if (fd >= network->top)
                network->top = fd + 1;
            return fd;
        }
    }
    return -EMFILE;
}

void network_init(struct network *network, struct sim *sim)
{
    /* What lies behind `top` was never used, or was closed. */
    for (int fd = 0; fd < network->top; fd++)
        network->descriptors[fd] = (struct descriptor){.kind = DESCRIPTOR_FREE};
    network->sim = sim;
    network->next_port = 1000;
    network->top = 0;
    network->open = 0;
    network->capacity = (size_t)1 << (6 + sim_below(sim, 11));
    network->delay_ns = sim_below(sim, 2) ? sim_below(sim, 5000000) : 0;
    network->has_devices = sim_below(sim, 4) == 0;
    network->ns_per_byte = sim_below(sim, 4) ? 0 : sim_below(sim, 2000);
}

void network_finish(struct network *network)
{
    for (int fd = 0; fd < network->top; fd++)
        if (network->descriptors[fd].kind != DESCRIPTOR_FREE)
            network_close(network, fd, true);
}

int network_socket(struct network *network)
{
    return open_descriptor(network, DESCRIPTOR_SOCKET);
}

int network_listen(struct network *network, uint16_t *port, uint32_t backlog)
{
    int fd = open_descriptor(network, DESCRIPTOR_LISTENER);

    if (fd < 0)
        return fd;
    if (*port == 0)
        *port = network->next_port++;
    network->descriptors[fd].port = *port;
    network->descriptors[fd].backlog = backlog < BACKLOG ? backlog : BACKLOG;
    return fd;
}

static int find_listener(const struct network *network, uint16_t port)
{
    for (int fd = 0; fd < network->top; fd++)
        if (network->descriptors[fd].kind == DESCRIPTOR_LISTENER && network->descriptors[fd].port == port)
            return fd;
    return -1;
}

static void join(struct network *network, int first, int second)
{
    struct descriptor *one = &network->descriptors[first];
    struct descriptor *other = &network->descriptors[second];

    one->in = other->out = create_channel(network);
    one->out = other->in = create_channel(network);
    one->peer = second;
    other->peer = first;
}

int network_connect(struct network *network, int fd, uint16_t port)
{
    int listener = find_listener(network, port);
    struct descriptor *waiting;
    int accepted;

    if (listener < 0)
        return -ECONNREFUSED;
    waiting = &network->descriptors[listener];
    if (waiting->waiting_count == waiting->backlog)
        return -EAGAIN;
    accepted = open_descriptor(network, DESCRIPTOR_SOCKET);
    if (accepted < 0)
        return -ECONNREFUSED;
    join(network, fd, accepted);
    waiting->waiting[waiting->waiting_count++] = accepted;
    return 0;
}

int network_accept(struct network *network, int listener)
{
    struct descriptor *descriptor = network_get(network, listener);
    int fd;

    if (descriptor->waiting_count == 0)
        return -EAGAIN;
    fd = descriptor->waiting[0];
    memmove(descriptor->waiting, descriptor->waiting + 1, sizeof(int) * --descriptor->waiting_count);
    return fd;
}

int network_pipe(struct network *network, int *write_fd)
{
    int read_fd = open_descriptor(network, DESCRIPTOR_PIPE);

    *write_fd = open_descriptor(network, DESCRIPTOR_PIPE);
    assert(read_fd >= 0 && *write_fd >= 0);
    network->descriptors[read_fd].in = network->descriptors[*write_fd].out = create_channel(network);
    network->descriptors[read_fd].peer = *write_fd;
    network->descriptors[*write_fd].peer = read_fd;
    return read_fd;
}

void network_shutdown_write(struct network *network, int fd)
{
    struct channel *out = network_get(network, fd)->out;

    if (out->has_ended)
        return;
    out->has_ended = true;
    /* FIN travels like a byte. */
    if (out->count < ARRIVALS)
        add_arrival(out, network->sim->now_ns, 0);
}

void network_close(struct network *network, int fd, bool reset)
{
    struct descriptor *descriptor = network_get(network, fd);
    uint64_t now_ns = network->sim->now_ns;

    if (descriptor->requests > 0)
        sim_violated(network->sim, "descriptor %d is closed with %u requests in flight", fd, descriptor->requests);
    for (uint32_t i = 0; i < descriptor->waiting_count; i++)
        network_close(network, descriptor->waiting[i], true);
    if (descriptor->peer >= 0)
        network->descriptors[descriptor->peer].peer = -1;
    if (descriptor->in) {
        /* Bytes that nobody read are answered by a reset, as by Linux. */
        if (descriptor->in->written > descriptor->in->taken && descriptor->out && !descriptor->in->is_reset)
            reset = true;
        descriptor->in->is_refused = true;
        drop_channel(descriptor->in);
    }
    if (descriptor->out) {
        if (reset)
            reset_channel(descriptor->out, now_ns);
        else
            network_shutdown_write(network, fd);
        drop_channel(descriptor->out);
    }
    *descriptor = (struct descriptor){.kind = DESCRIPTOR_FREE, .peer = -1};
    network->open--;
}

void network_break(struct network *network, int fd)
{
    struct descriptor *descriptor = network_get(network, fd);

    if (descriptor->in)
        reset_channel(descriptor->in, network->sim->now_ns);
    if (descriptor->out) {
        reset_channel(descriptor->out, network->sim->now_ns);
        descriptor->out->is_refused = true;
    }
    if (descriptor->in)
        descriptor->in->is_refused = true;
}

void network_lose(struct network *network, int fd)
{
    struct descriptor *descriptor = network_get(network, fd);
    uint64_t timeout_at_ns = network->sim->now_ns + LOST_NS;

    descriptor->in->is_lost = descriptor->out->is_lost = true;
    descriptor->in->timeout_at_ns = descriptor->out->timeout_at_ns = timeout_at_ns;
}

/* -- Bytes --------------------------------------------------------------------------------------------------- */

int64_t network_readable(const struct network *network, int fd, bool *has_ended)
{
    const struct channel *in = network->descriptors[fd].in;
    uint64_t now_ns = network->sim->now_ns;
    int64_t len;

    *has_ended = false;
    if (!in)
        return -ENOTCONN;
    len = (int64_t)(arrived(in, now_ns) - in->taken);
    if (len == 0 && in->is_reset) {
        *has_ended = network->descriptors[fd].was_told_reset;
        return *has_ended ? 0 : -ECONNRESET;
    }
    if (len == 0 && in->is_lost && in->timeout_at_ns <= now_ns)
        return -ETIMEDOUT;
    if (in->is_lost)
        return len;
    *has_ended = in->has_ended && in->taken + (uint64_t)len == in->written && in->last_ns <= now_ns;
    return len;
}

void network_read(struct network *network, int fd, void *data, size_t len)
{
    uint8_t *bytes = data;

    take(network->descriptors[fd].in, data, len);
    if (network->sim->broken == BROKEN_BYTE)
        bytes[0] ^= 1;
    if (network->sim->broken == BROKEN_ORDER && len > 1) {
        bytes[0] ^= bytes[1];
        bytes[1] ^= bytes[0];
        bytes[0] ^= bytes[1];
    }
}

int64_t network_writable(const struct network *network, int fd)
{
    const struct channel *out = network->descriptors[fd].out;

    if (!out || out->has_ended)
        return -EPIPE;
    if (out->is_reset)
        return -ECONNRESET;
    if (out->is_lost && out->timeout_at_ns <= network->sim->now_ns)
        return -ETIMEDOUT;
    if (out->is_refused)
        return -EPIPE;
    return (int64_t)room(out);
}

void network_write(struct network *network, int fd, const void *data, size_t len)
{
    struct channel *out = network->descriptors[fd].out;
    size_t at = (size_t)(out->written % out->capacity);
    size_t part = out->capacity - at < len ? out->capacity - at : len;

    assert(len <= out->capacity - (size_t)(out->written - out->taken));
    assert(out->count < ARRIVALS);
    memcpy(out->memory + at, data, part);
    memcpy(out->memory, (const uint8_t *)data + part, len - part);
    out->written += len;
    add_arrival(out, network->sim->now_ns, len);
}

uint64_t network_next_event(const struct network *network)
{
    uint64_t next = UINT64_MAX;

    for (int fd = 0; fd < network->top; fd++) {
        const struct channel *in = network->descriptors[fd].in;

        if (in && in->is_lost && in->timeout_at_ns > network->sim->now_ns && in->timeout_at_ns < next)
            next = in->timeout_at_ns;
        for (uint32_t i = 0; in && !in->is_lost && i < in->count; i++) {
            uint64_t at_ns = in->arrivals[(in->first + i) % ARRIVALS].at_ns;

            if (at_ns > network->sim->now_ns && at_ns < next)
                next = at_ns;
        }
    }
    return next;
}
