/* Listeners: see listener.h and <sluice/listener.h>. */
#include "engine/listener.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "engine/address.h"
#include "engine/socket_stream.h"

/* How long accepting pauses for want of descriptors or memory, unless a connection closes before. */
#define RETRY_NS UINT64_C(50000000)

/* -- Accepting ----------------------------------------------------------------------------------------------- */

static bool is_full(const struct sluice_listener *listener)
{
    return listener->connection_limit && listener->open >= listener->connection_limit;
}

static void update_accept(struct sluice_listener *listener)
{
    struct sluice_engine *engine = listener->engine;
    struct io_uring_sqe *entry;

    if (listener->accept.is_armed || listener->is_closing || is_full(listener) || timer_is_armed(&listener->retry))
        return;
    entry = engine_get_entry(engine);
    /* With a limit, one by one: a multishot accept would take more before it could be stopped. */
    ring_prep_accept(entry, listener->fd, engine_uses(engine, RING_MULTISHOT_ACCEPT) && !listener->connection_limit);
    engine_arm(engine, &listener->accept, entry);
}

static void run_retry(struct sluice_timer *timer)
{
    update_accept(container_of(timer, struct sluice_listener, retry));
}

static void free_if_unused(struct sluice_listener *listener)
{
    if (listener->is_closed && listener->open == 0)
        free(listener);
}

/* One of its connections is closed: a descriptor is free, and a place under the limit. */
static void connection_gone(struct socket_watcher *watcher)
{
    struct sluice_listener *listener = container_of(watcher, struct sluice_listener, watcher);

    listener->open--;
    if (listener->is_closed) {
        free_if_unused(listener);
        return;
    }
    timers_stop(&listener->engine->timers, &listener->retry);
    if (!listener->is_closing)
        update_accept(listener);
}

static void pause_accepting(struct sluice_listener *listener, int error)
{
    struct sluice_engine *engine = listener->engine;

    counter_add(&engine->counters.accept_errors, 1);
    sluice_timer_start(engine, &listener->retry, RETRY_NS);
    if (listener->is_paused)
        return;
    listener->is_paused = true;
    listener->error = error;
    lane_push(&engine->tasks.work, &listener->work);
}

static void take_connection(struct sluice_listener *listener, int fd)
{
    struct sluice_engine *engine = listener->engine;
    struct sluice_stream *stream;
    int error = socket_stream_adopt(engine, fd, listener->address.any.sa_family, NULL, NULL, &stream);

    if (error) {
        engine->ring->ops->close(engine->ring, fd, true);
        pause_accepting(listener, error);
        return;
    }
    counter_add(&engine->counters.accepts, 1);
    listener->is_paused = false;
    listener->open++;
    socket_stream_watch(stream, &listener->watcher);
    stream_guard(stream);
    if (listener->accepted)
        listener->accepted_last->user = stream;
    else
        listener->accepted = stream;
    listener->accepted_last = stream;
    lane_push(&engine->tasks.work, &listener->work);
}

static void close_socket(struct sluice_listener *listener)
{
    struct ring *ring = listener->engine->ring;

    assert(!listener->accept.is_armed);
    if (listener->owns_path)
        ring->ops->unlink(ring, &listener->address);
    ring->ops->close(ring, listener->fd, false);
    listener->fd = -1;
    lane_push(&listener->engine->tasks.work, &listener->work);
}

/* Nothing is wrong with us: accept again at once. */
static bool is_passing_error(int error)
{
    return error == -ECANCELED || error == -ECONNABORTED || error == -EINTR;
}

static void complete_accept(struct operation *operation, const struct io_uring_cqe *completion)
{
    struct sluice_listener *listener = container_of(operation, struct sluice_listener, accept);
    struct ring *ring = listener->engine->ring;

    if (completion->res >= 0 && !listener->engine->is_destroying && !listener->is_closing)
        take_connection(listener, completion->res);
    else if (completion->res >= 0)
        ring->ops->close(ring, completion->res, true);
    else if (!listener->is_closing && !is_passing_error(completion->res))
        pause_accepting(listener, completion->res);
    if (operation->is_armed)
        return;
    if (listener->is_closing)
        close_socket(listener);
    else
        update_accept(listener);
}

/* -- Telling the user ---------------------------------------------------------------------------------------- */

static void tell_accepted(struct sluice_listener *listener)
{
    struct sluice_stream *stream = listener->accepted;

    listener->accepted = NULL;
    while (stream) {
        struct sluice_stream *next = stream->user;

        stream->user = NULL;
        if (stream->state != SLUICE_CLOSED)
            listener->events->on_accept(listener, stream, listener->user);
        stream_unguard(stream);
        stream = next;
    }
}

static void run_listener_work(struct task *task)
{
    struct sluice_listener *listener = container_of(task, struct sluice_listener, work);
    int error = listener->error;

    tell_accepted(listener);
    listener->error = 0;
    if (error && listener->events->on_error && !listener->is_closing)
        listener->events->on_error(listener, error, listener->user);
    /* Closed within on_accept or on_error: then this task is queued again, and comes back. */
    if (listener->fd >= 0 || task_is_queued(&listener->work))
        return;
    link_remove(&listener->link);
    operation_finish(&listener->accept, &listener->engine->operations);
    if (listener->events->on_close)
        listener->events->on_close(listener, listener->user);
    listener->is_closed = true;
    free_if_unused(listener);
}

void sluice_listener_close(struct sluice_listener *listener)
{
    struct sluice_engine *engine = listener->engine;

    assert(engine_is_mine(engine));
    if (listener->is_closing)
        return;
    listener->is_closing = true;
    timers_stop(&engine->timers, &listener->retry);
    if (listener->accept.is_armed)
        engine_cancel(engine, &listener->accept);
    else
        close_socket(listener);
}

int sluice_listener_address(const struct sluice_listener *listener, char *text, size_t text_size)
{
    return address_format(&listener->address, text, text_size);
}

/* -- Making -------------------------------------------------------------------------------------------------- */

int listener_adopt(struct sluice_engine *engine, int fd, const struct ring_address *address, bool owns_path,
                   const struct sluice_listener_options *options, const struct sluice_listener_events *events,
                   void *user, struct sluice_listener **result)
{
    struct sluice_listener *listener = calloc(1, sizeof *listener);
    int error;

    assert(events->on_accept);
    assert(!engine->is_destroying);
    if (!listener)
        return -ENOMEM;
    error = operation_init(&listener->accept, &engine->operations, complete_accept);
    if (error) {
        free(listener);
        return error;
    }
    listener->engine = engine;
    listener->events = events;
    listener->user = user;
    listener->fd = fd;
    listener->address = *address;
    listener->connection_limit = options ? options->connection_limit : 0;
    listener->watcher.on_gone = connection_gone;
    listener->retry.fire = run_retry;
    listener->work.run = run_listener_work;
    listener->owns_path = owns_path;
    link_append(&engine->listeners, &listener->link);
    update_accept(listener);
    *result = listener;
    return 0;
}

/* A look-up that a thread waits for. */
struct awaited_lookup {
    struct ring_lookup ring;
    sem_t is_done;
};

static void lookup_done(struct ring_lookup *ring)
{
    sem_post(&container_of(ring, struct awaited_lookup, ring)->is_done);
}

static int look_up(struct sluice_engine *engine, const struct address *address, struct ring_address *socket)
{
    struct awaited_lookup lookup = {.ring = {.done = lookup_done, .host = address->host, .port = address->port}};
    int error;

    sem_init(&lookup.is_done, 0, 0);
    error = engine->ring->ops->lookup(engine->ring, &lookup.ring);
    if (!error) {
        while (sem_wait(&lookup.is_done) < 0)
            continue;
        error = lookup.ring.error;
    }
    sem_destroy(&lookup.is_done);
    if (error)
        return error;
    socket->len = lookup.ring.addresses->ai_addrlen;
    memcpy(&socket->storage, lookup.ring.addresses->ai_addr, socket->len);
    freeaddrinfo(lookup.ring.addresses);
    return 0;
}

/* The socket, or -errno. On a machine without IPv6, every address is every IPv4 address. */
static int open_listening(struct sluice_engine *engine, const struct address *address, struct ring_address *socket,
                          uint32_t backlog, bool reuse_port)
{
    struct ring *ring = engine->ring;
    int fd = ring->ops->listen(ring, socket, backlog, reuse_port);

    if (address->is_any && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) {
        struct sockaddr_in any = {.sin_family = AF_INET};

        any.sin_port = ((const struct sockaddr_in6 *)&address->socket.storage)->sin6_port;
        memcpy(&socket->storage, &any, sizeof any);
        socket->len = sizeof any;
        fd = ring->ops->listen(ring, socket, backlog, reuse_port);
    }
    return fd;
}

int sluice_listen(struct sluice_engine *engine, const char *text, const struct sluice_listener_options *options,
                  const struct sluice_listener_events *events, void *user, struct sluice_listener **listener)
{
    uint32_t backlog = options && options->backlog ? options->backlog : engine->options.backlog;
    struct ring *ring = engine->ring;
    bool owns_path;
    struct address address;
    struct ring_address socket;
    char why[SLUICE_REASON_MAX];
    int error = address_parse(text, &address, why, sizeof why);
    int fd;

    assert(engine_is_mine(engine));
    if (error)
        return error;
    if (engine->is_destroying)
        return -ESHUTDOWN;
    socket = address.socket;
    if (address.kind == ADDRESS_NAME)
        error = look_up(engine, &address, &socket);
    if (error)
        return error;
    fd = open_listening(engine, &address, &socket, backlog, options && options->reuse_port);
    if (fd < 0)
        return fd;
    owns_path = socket.any.sa_family == AF_UNIX;
    error = listener_adopt(engine, fd, &socket, owns_path, options, events, user, listener);
    if (error && owns_path)
        ring->ops->unlink(ring, &socket);
    if (error)
        ring->ops->close(ring, fd, false);
    return error;
}
