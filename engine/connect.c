/* Connecting: see connect.h and <sluice/connect.h>. */
#include "engine/connect.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/connect.h>

#include "engine/address.h"
#include "engine/socket_stream.h"

enum {
    ADDRESSES_MAX = 16, /* of a name, tried at the most */
};

/* The pause between two attempts: the Connection Attempt Delay of RFC 8305, section 5. */
#define ATTEMPT_DELAY_NS UINT64_C(250000000)

/* One address being tried. */
struct attempt {
    struct connector *connector;
    struct operation operation;
    struct ring_address address;
    int fd;
};

/* A name being looked up. It outlives its connector if that gives up, and the engine if that ends. */
struct lookup {
    struct ring_lookup ring;
    struct sluice_post post;
    struct mailbox *mailbox;
    struct connector *connector; /* NULL once it has given up */
    struct address address;
};

struct connector {
    struct sluice_engine *engine;
    struct sluice_stream *stream;
    struct lookup *lookup; /* NULL unless one is under way */
    struct sluice_timer delay;
    uint32_t count;     /* addresses */
    uint32_t next;      /* the first that was not tried yet */
    uint32_t in_flight; /* attempts in the kernel */
    bool is_over;       /* somebody won, or nobody may any more */
    bool has_won;
    int error; /* of the last attempt that failed */
    struct attempt attempts[ADDRESSES_MAX];
};

/* -- The end of a connector ---------------------------------------------------------------------------------- */

static void free_if_settled(struct connector *connector)
{
    struct sluice_stream *stream = connector->stream;
    bool has_won = connector->has_won;

    if (!connector->is_over || connector->in_flight > 0)
        return;
    for (uint32_t i = 0; i < connector->next; i++)
        operation_finish(&connector->attempts[i].operation, &connector->engine->operations);
    free(connector);
    if (!has_won)
        socket_stream_unconnected(stream);
}

static void end_race(struct connector *connector)
{
    connector->is_over = true;
    timers_stop(&connector->engine->timers, &connector->delay);
    if (connector->lookup)
        connector->lookup->connector = NULL;
    for (uint32_t i = 0; i < connector->next; i++)
        if (connector->attempts[i].operation.is_armed)
            engine_cancel(connector->engine, &connector->attempts[i].operation);
}

void connector_cancel(struct connector *connector)
{
    if (!connector->is_over)
        end_race(connector);
    free_if_settled(connector);
}

/* -- The race ------------------------------------------------------------------------------------------------ */

static void try_next(struct connector *connector);

/* We had no descriptor or memory to try with. */
static bool is_want_of_ours(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS;
}

/* Nobody is left to win. */
static void lose(struct connector *connector)
{
    /* Comes back to connector_cancel(). */
    stream_fail(connector->stream, connector->error, is_want_of_ours(connector->error) ? SLUICE_LOCAL : SLUICE_REMOTE);
}

static void win(struct connector *connector, const struct attempt *attempt)
{
    connector->has_won = true;
    end_race(connector);
    socket_stream_connected(connector->stream, attempt->fd, attempt->address.any.sa_family);
}

static void complete_attempt(struct operation *operation, const struct io_uring_cqe *completion)
{
    struct attempt *attempt = container_of(operation, struct attempt, operation);
    struct connector *connector = attempt->connector;
    struct sluice_stream *stream = connector->stream;
    struct ring *ring = connector->engine->ring;

    connector->in_flight--;
    if (completion->res == 0 && !connector->is_over) {
        win(connector, attempt);
    } else {
        ring->ops->close(ring, attempt->fd, !connector->has_won);
        if (!connector->is_over) {
            connector->error = completion->res ? completion->res : -ECONNABORTED;
            try_next(connector);
            stream_unguard(stream);
            return;
        }
    }
    free_if_settled(connector);
    stream_unguard(stream);
}

/* Returns 0, or -errno if the attempt could not even be made. */
static int start_attempt(struct connector *connector, struct attempt *attempt)
{
    struct sluice_engine *engine = connector->engine;
    struct ring *ring = engine->ring;
    struct io_uring_sqe *entry;

    attempt->connector = connector;
    attempt->fd = ring->ops->open_socket(ring, attempt->address.any.sa_family);
    if (attempt->fd < 0)
        return attempt->fd;
    entry = engine_get_entry(engine);
    ring_prep_connect(entry, attempt->fd, &attempt->address);
    engine_arm(engine, &attempt->operation, entry);
    connector->in_flight++;
    stream_guard(connector->stream);
    return 0;
}

/* Starts the next attempt that can be started, or loses if that was the last one and none is under way. */
static void try_next(struct connector *connector)
{
    while (connector->next < connector->count) {
        struct attempt *attempt = &connector->attempts[connector->next];
        int error = operation_init(&attempt->operation, &connector->engine->operations, complete_attempt);

        if (!error) {
            connector->next++;
            error = start_attempt(connector, attempt);
        }
        if (!error) {
            if (connector->next < connector->count)
                sluice_timer_start(connector->engine, &connector->delay, ATTEMPT_DELAY_NS);
            return;
        }
        connector->error = error;
        if (error == -ENOMEM)
            break;
    }
    if (connector->in_flight == 0)
        lose(connector);
}

static void run_delay(struct sluice_timer *timer)
{
    struct connector *connector = container_of(timer, struct connector, delay);
    struct sluice_stream *stream = connector->stream;

    stream_guard(stream);
    try_next(connector);
    stream_unguard(stream);
}

/* -- Names --------------------------------------------------------------------------------------------------- */

static bool add_address(struct connector *connector, const struct addrinfo *info)
{
    struct ring_address *address;

    if (connector->count == ADDRESSES_MAX || info->ai_addrlen > sizeof address->storage)
        return false;
    address = &connector->attempts[connector->count].address;
    memcpy(&address->storage, info->ai_addr, info->ai_addrlen);
    address->len = info->ai_addrlen;
    connector->count++;
    return true;
}

/* Takes one address of either family in turn, in the order in which the resolver prefers them (RFC 8305, section 4). */
static void add_alternating(struct connector *connector, const struct addrinfo *list)
{
    const struct addrinfo *same = list;
    const struct addrinfo *other = list;
    int first_family = list->ai_family;

    while (same || other) {
        while (same && same->ai_family != first_family)
            same = same->ai_next;
        while (other && other->ai_family == first_family)
            other = other->ai_next;
        if (same) {
            add_address(connector, same);
            same = same->ai_next;
        }
        if (other) {
            add_address(connector, other);
            other = other->ai_next;
        }
    }
}

static void free_lookup(struct lookup *lookup)
{
    if (lookup->ring.addresses)
        freeaddrinfo(lookup->ring.addresses);
    mailbox_drop(lookup->mailbox);
    free(lookup);
}

/* On the engine's thread. */
static void take_lookup(struct sluice_post *post)
{
    struct lookup *lookup = container_of(post, struct lookup, post);
    struct connector *connector = lookup->connector;

    if (connector) {
        struct sluice_stream *stream = connector->stream;

        connector->lookup = NULL;
        connector->error = lookup->ring.error ? lookup->ring.error : -EHOSTUNREACH;
        if (lookup->ring.addresses)
            add_alternating(connector, lookup->ring.addresses);
        stream_guard(stream);
        try_next(connector);
        stream_unguard(stream);
    }
    free_lookup(lookup);
}

/* On any thread. */
static void lookup_done(struct ring_lookup *ring)
{
    struct lookup *lookup = container_of(ring, struct lookup, ring);

    if (!mailbox_post(lookup->mailbox, &lookup->post))
        free_lookup(lookup);
}

static int start_lookup(struct connector *connector, const struct address *address)
{
    struct ring *ring = connector->engine->ring;
    struct lookup *lookup = calloc(1, sizeof *lookup);
    int error;

    if (!lookup)
        return -ENOMEM;
    lookup->address = *address;
    lookup->ring.done = lookup_done;
    lookup->ring.host = lookup->address.host;
    lookup->ring.port = lookup->address.port;
    lookup->post.run = take_lookup;
    lookup->mailbox = connector->engine->mailbox;
    lookup->connector = connector;
    mailbox_hold(lookup->mailbox);
    connector->lookup = lookup;
    error = ring->ops->lookup(ring, &lookup->ring);
    if (error) {
        connector->lookup = NULL;
        free_lookup(lookup);
    }
    return error;
}

/* -- Making -------------------------------------------------------------------------------------------------- */

static void start(struct connector *connector, const struct address *address)
{
    int error = 0;

    if (address->kind == ADDRESS_NAME) {
        error = start_lookup(connector, address);
    } else {
        connector->attempts[0].address = address->socket;
        connector->count = 1;
        try_next(connector);
    }
    if (error) {
        connector->error = error;
        lose(connector);
    }
}

int sluice_connect(struct sluice_engine *engine, const char *text, const struct sluice_stream_events *events,
                   void *user, struct sluice_stream **stream)
{
    struct address address;
    struct connector *connector;
    char why[SLUICE_REASON_MAX];
    int error = address_parse(text, &address, why, sizeof why);

    assert(engine_is_mine(engine));
    if (error)
        return error;
    if (engine->is_destroying)
        return -ESHUTDOWN;
    connector = calloc(1, sizeof *connector);
    if (!connector)
        return -ENOMEM;
    connector->engine = engine;
    connector->delay.fire = run_delay;
    error = socket_stream_create(engine, connector, events, user, &connector->stream);
    if (error) {
        free(connector);
        return error;
    }
    *stream = connector->stream;
    start(connector, &address);
    return 0;
}
