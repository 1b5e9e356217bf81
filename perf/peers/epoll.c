/*
 * The peer on epoll alone, edge-triggered: what an expert writes who wants no library.
 *
 * It reads until there is no more (a short read says so, too, unless the end is near), writes at once, and keeps what
 * the socket does not take in a buffer of the connection, which is written when EPOLLOUT tells of room. A TCP socket is
 * registered once, with everything: it tells of room only behind a write that was cut short. A Unix socket does so each
 * time its other side has read; there EPOLLOUT is asked for only while the buffer is not empty. What comes for a
 * connection that does not take it is not read. Each message is answered by a call of its own, which appends to that
 * buffer; all answers to what was read at once leave in one write. Without descriptors it dies.
 */
#include "perf/peers/peer.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 256,
    ACCEPTS_MAX = 64,   /* at a time; the listener is level-triggered */
    TRANSFERS_MAX = 16, /* reads or writes of one connection before the others have their turn */
    READ_SIZE = 256 << 10,
    WRITE_SIZE = 512 << 10, /* a source writes about so much at once */
    KEPT_MAX = 65536,       /* an empty buffer larger than that is freed */
    EVENTS_READ = EPOLLIN | EPOLLRDHUP,
    EVENTS_ALL = EVENTS_READ | EPOLLOUT,
    EVENTS_OVER = EPOLLRDHUP | EPOLLHUP | EPOLLERR,
};

/* What waits to be written, or is gathered to be. */
struct buffer {
    uint8_t *data;
    size_t start;
    size_t end;
    size_t capacity;
};

struct connection {
    int fd;
    unsigned place;             /* in `open` */
    struct connection *partner; /* where our bytes go and whose come to us: ourselves, unless forwarding */
    struct connection *next;    /* in `ready` or, if it is dead and not in there, in `dead` */
    struct buffer buffer;
    uint8_t *partial; /* of a message that has begun to arrive; allocated once, for a whole one */
    size_t partial_len;
    size_t source_offset; /* what of the current write of a source was taken */
    bool is_tcp;
    bool is_connecting;
    bool is_ready;  /* in `ready`: something may be read or written, without an event that says so */
    bool is_held;   /* there may be something to read, when the partner takes it */
    bool has_ended; /* the other side sends nothing more */
    bool has_shut;  /* it was told that we do not, either */
    bool is_dead;   /* closed; freed when nobody points at it any more */
};

/* Whole messages that were received: the one that had begun before, and those that came. */
struct messages {
    struct iovec pieces[2];
    int piece_count;
    size_t len;
};

static struct peer_options options;
static int epoll;
static int listener;
static struct connection *ready;
static struct connection *dead;
static struct connection **open_connections; /* those of fan-out need each other */
static unsigned open_count;
static unsigned open_capacity;
static uint8_t received[READ_SIZE];
static uint8_t constant[PEER_SIZE_MAX + WRITE_SIZE];
static size_t source_len;

static void *resize(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (!memory)
        peer_die("memory", ENOMEM);
    return memory;
}

/* -- The buffer of what was not taken ------------------------------------------------------------------------ */

static size_t buffer_len(const struct buffer *buffer)
{
    return buffer->end - buffer->start;
}

/* Makes room for `len` bytes more. */
static void buffer_reserve(struct buffer *buffer, size_t len)
{
    size_t kept = buffer_len(buffer);

    if (buffer->end + len <= buffer->capacity)
        return;
    if (buffer->start > 0) {
        memmove(buffer->data, buffer->data + buffer->start, kept);
        buffer->start = 0;
        buffer->end = kept;
    }
    if (buffer->end + len <= buffer->capacity)
        return;
    buffer->capacity = 2 * buffer->end + len;
    buffer->data = resize(buffer->data, buffer->capacity);
}

static void buffer_append(struct buffer *buffer, const void *data, size_t len)
{
    buffer_reserve(buffer, len);
    memcpy(buffer->data + buffer->end, data, len);
    buffer->end += len;
}

static void buffer_drop(struct buffer *buffer, size_t len)
{
    buffer->start += len;
    if (buffer->start < buffer->end)
        return;
    buffer->start = 0;
    buffer->end = 0;
    if (buffer->capacity > KEPT_MAX) {
        free(buffer->data);
        *buffer = (struct buffer){0};
    }
}

/* -- Connections --------------------------------------------------------------------------------------------- */

static void watch(struct connection *connection, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.ptr = connection};

    if (epoll_ctl(epoll, operation, connection->fd, &event))
        peer_die("epoll_ctl", errno);
}

static void make_ready(struct connection *connection)
{
    if (connection->is_ready)
        return;
    connection->is_ready = true;
    connection->next = ready;
    ready = connection;
}

static void watch_first(struct connection *connection)
{
    bool writes_first = connection->is_tcp || options.role == PEER_SOURCE;

    watch(connection, EPOLL_CTL_ADD, writes_first ? EVENTS_ALL : EVENTS_READ);
}

/* Behind every write that left something, and when nothing is left any more. */
static void watch_room(struct connection *connection, bool is_wanted)
{
    if (!connection->is_tcp)
        watch(connection, EPOLL_CTL_MOD, is_wanted ? EVENTS_ALL : EVENTS_READ);
}

static struct connection *connection_create(int fd, sa_family_t family)
{
    struct connection *connection = resize(NULL, sizeof *connection);

    *connection = (struct connection){
        .fd = fd,
        .place = open_count,
        .partner = connection,
        .is_tcp = family == AF_INET,
    };
    if (open_count == open_capacity) {
        open_capacity = 2 * open_capacity + 64;
        open_connections = resize(open_connections, open_capacity * sizeof(void *));
    }
    open_connections[open_count++] = connection;
    return connection;
}

/* Events and the list of the ready may still name it in this turn. */
static void connection_close(struct connection *connection)
{
    if (connection->is_dead)
        return;
    connection->is_dead = true;
    close(connection->fd);
    open_connections[connection->place] = open_connections[--open_count];
    open_connections[connection->place]->place = connection->place;
    if (!connection->is_ready) {
        connection->next = dead;
        dead = connection;
    }
    connection_close(connection->partner);
}

/* It broke: with a partner, both sides shall hear of a reset, not of an end. (To Unix sockets it means nothing.) */
static void connection_break(struct connection *connection)
{
    const struct linger reset = {.l_onoff = 1};
    struct connection *partner = connection->partner;

    if (partner != connection && !connection->is_dead) {
        setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        setsockopt(partner->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    connection_close(connection);
}

static void bury(void)
{
    while (dead) {
        struct connection *connection = dead;

        dead = connection->next;
        free(connection->buffer.data);
        free(connection->partial);
        free(connection);
    }
}

/* Nothing more goes out here: the partner has ended, and all of it was taken. */
static void finish(struct connection *connection)
{
    struct connection *partner = connection->partner;

    if (partner == connection || (connection->has_ended && partner->has_shut)) {
        connection_close(connection);
        return;
    }
    connection->has_shut = true;
    shutdown(connection->fd, SHUT_WR);
}

/* -- Writing ------------------------------------------------------------------------------------------------- */

/* Returns what was taken: 0 also if the connection failed and is closed. */
static size_t write_some(struct connection *connection, const struct iovec *pieces, int piece_count)
{
    struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)piece_count};
    ssize_t result;

    do
        result = piece_count == 1 ? send(connection->fd, pieces->iov_base, pieces->iov_len, MSG_NOSIGNAL)
                                  : sendmsg(connection->fd, &message, MSG_NOSIGNAL);
    while (result < 0 && errno == EINTR);
    if (result < 0 && errno != EAGAIN)
        connection_break(connection);
    return result < 0 ? 0 : (size_t)result;
}

/* Keeps the pieces but for the first `skip` bytes. */
static void keep(struct connection *connection, const struct iovec *pieces, int piece_count, size_t skip)
{
    for (int i = 0; i < piece_count; i++) {
        size_t skipped = skip < pieces[i].iov_len ? skip : pieces[i].iov_len;

        skip -= skipped;
        if (skipped < pieces[i].iov_len)
            buffer_append(&connection->buffer, (uint8_t *)pieces[i].iov_base + skipped, pieces[i].iov_len - skipped);
    }
}

/* Writes at once what can be, and keeps the rest. */
static void write_pieces(struct connection *connection, const struct iovec *pieces, int piece_count, size_t len)
{
    size_t written;

    if (buffer_len(&connection->buffer) > 0) {
        keep(connection, pieces, piece_count, 0);
        return;
    }
    written = write_some(connection, pieces, piece_count);
    if (connection->is_dead || written == len)
        return;
    keep(connection, pieces, piece_count, written);
    watch_room(connection, true);
}

/* Writes what the buffer holds, as far as the socket takes it. */
static void write_buffer(struct connection *connection)
{
    struct buffer *buffer = &connection->buffer;
    size_t written = 1;

    while (buffer_len(buffer) > 0 && written > 0) {
        struct iovec piece = {.iov_base = buffer->data + buffer->start, .iov_len = buffer_len(buffer)};

        written = write_some(connection, &piece, 1);
        if (connection->is_dead)
            return;
        buffer_drop(buffer, written);
    }
}

/* The socket takes more: said also to who has nothing to write. */
static void write_kept(struct connection *connection)
{
    if (buffer_len(&connection->buffer) == 0)
        return;
    write_buffer(connection);
    if (connection->is_dead || buffer_len(&connection->buffer) > 0)
        return;
    watch_room(connection, false);
    if (connection->partner->is_held)
        make_ready(connection->partner);
    if (connection->partner->has_ended)
        finish(connection);
}

static void write_source(struct connection *connection)
{
    for (unsigned i = 0; i < TRANSFERS_MAX; i++) {
        struct iovec piece = {.iov_base = constant, .iov_len = source_len - connection->source_offset};
        size_t written = write_some(connection, &piece, 1);

        if (connection->is_dead)
            return;
        connection->source_offset = (connection->source_offset + written) % source_len;
        if (written < piece.iov_len)
            return;
    }
    make_ready(connection);
}

/* -- Messages ------------------------------------------------------------------------------------------------ */

static void messages_add(struct messages *messages, void *data, size_t len)
{
    messages->pieces[messages->piece_count++] = (struct iovec){.iov_base = data, .iov_len = len};
    messages->len += len;
}

/* Which messages are whole now. They are named until the next bytes of the connection come; the rest is copied. */
static struct messages cut_messages(struct connection *connection, uint8_t *data, size_t len)
{
    struct messages messages = {0};
    size_t rest;

    if (connection->partial_len > 0) {
        size_t missing = options.size - connection->partial_len;
        size_t part = len < missing ? len : missing;

        memcpy(connection->partial + connection->partial_len, data, part);
        connection->partial_len += part;
        data += part;
        len -= part;
        if (part < missing)
            return messages;
        messages_add(&messages, connection->partial, options.size);
    }
    rest = len % options.size;
    if (len > rest)
        messages_add(&messages, data, len - rest);
    connection->partial_len = 0;
    return messages;
}

/* Keeps the beginning of the message that is not whole yet: after those before it were written, or copied. */
static void keep_partial(struct connection *connection, const uint8_t *data, size_t len)
{
    if (len == 0)
        return;
    if (!connection->partial)
        connection->partial = resize(NULL, options.size);
    memcpy(connection->partial, data, len);
    connection->partial_len = len;
}

static void spread(const struct connection *origin, const struct messages *messages)
{
    for (unsigned i = open_count; i-- > 0;) { /* backwards: who is closed makes room for one that had its turn */
        struct connection *connection = open_connections[i];
        size_t kept = buffer_len(&connection->buffer);

        if (connection != origin && (kept == 0 || kept + messages->len <= PEER_QUEUE_MAX))
            write_pieces(connection, messages->pieces, messages->piece_count, messages->len);
    }
}

/* What somebody calls who has an answer: it is copied, and leaves when all that was read is answered. */
static void send_message(struct connection *connection, const void *data, size_t len)
{
    buffer_append(&connection->buffer, data, len);
}

/* Its buffer is empty, or nothing would have been read. */
static void answer(struct connection *connection, const struct messages *messages)
{
    buffer_reserve(&connection->buffer, messages->len);
    for (int i = 0; i < messages->piece_count; i++) {
        const uint8_t *data = messages->pieces[i].iov_base;

        for (size_t done = 0; done < messages->pieces[i].iov_len; done += options.size)
            send_message(connection, data + done, options.size);
    }
    write_buffer(connection);
    if (!connection->is_dead && buffer_len(&connection->buffer) > 0)
        watch_room(connection, true);
}

static void take_messages(struct connection *connection, uint8_t *data, size_t len)
{
    size_t before = connection->partial_len;
    struct messages messages = cut_messages(connection, data, len);
    size_t rest = before + len - messages.len;

    if (messages.len == 0 && before > 0)
        return;
    if (messages.len > 0 && options.role == PEER_FANOUT)
        spread(connection, &messages);
    else if (messages.len > 0)
        answer(connection, &messages);
    if (!connection->is_dead)
        keep_partial(connection, data + len - rest, rest);
}

/* -- Reading ------------------------------------------------------------------------------------------------- */

static void take_bytes(struct connection *connection, size_t len)
{
    struct iovec piece = {.iov_base = received, .iov_len = len};

    if (options.role == PEER_MESSAGES || options.role == PEER_FANOUT)
        take_messages(connection, received, len);
    else if (options.role != PEER_SINK)
        write_pieces(connection->partner, &piece, 1, len);
}

static void take_end(struct connection *connection)
{
    connection->has_ended = true;
    if (buffer_len(&connection->partner->buffer) == 0 || options.role == PEER_FANOUT)
        finish(connection->partner);
}

/* Whether what comes can go on: nothing waits before it. */
static bool is_taken(const struct connection *connection)
{
    return options.role == PEER_FANOUT || buffer_len(&connection->partner->buffer) == 0;
}

/* Returns whether there may be more. */
static bool read_some(struct connection *connection, bool is_ending)
{
    ssize_t result;

    if (!is_taken(connection)) {
        connection->is_held = true;
        return false;
    }
    connection->is_held = false;
    result = recv(connection->fd, received, sizeof received, 0);
    if (result > 0) {
        take_bytes(connection, (size_t)result);
        return (is_ending || result == sizeof received) && !connection->is_dead;
    }
    if (result == 0)
        take_end(connection);
    else if (errno == EINTR)
        return true;
    else if (errno != EAGAIN)
        connection_break(connection);
    return false;
}

static void read_all(struct connection *connection, bool is_ending)
{
    if (connection->has_ended || connection->is_connecting)
        return;
    for (unsigned i = 0; i < TRANSFERS_MAX; i++)
        if (!read_some(connection, is_ending))
            return;
    make_ready(connection);
}

/* -- Accepting and connecting -------------------------------------------------------------------------------- */

/* Nothing is read or written before both are there. */
static void connected(struct connection *upstream)
{
    upstream->is_connecting = false;
    upstream->partner->is_connecting = false;
    watch_first(upstream->partner);
}

/* A Unix socket is connected at once, or told to come again; a TCP socket says by EPOLLOUT how it went. */
static void try_connect(struct connection *upstream)
{
    const struct peer_address *address = &options.upstream;

    if (connect(upstream->fd, &address->any, address->len) == 0) {
        connected(upstream);
        watch_first(upstream);
    } else if (errno == EINPROGRESS) {
        watch_first(upstream);
    } else if (errno == EAGAIN) {
        make_ready(upstream);
    } else {
        connection_break(upstream);
    }
}

static void take_connected(struct connection *upstream)
{
    int error = 0;
    socklen_t len = sizeof error;

    getsockopt(upstream->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error)
        connection_break(upstream);
    else
        connected(upstream);
}

static void connect_upstream(struct connection *connection)
{
    sa_family_t family = options.upstream.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct connection *upstream;
    int one = 1;

    if (fd < 0)
        peer_die("socket", errno);
    if (family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    upstream = connection_create(fd, family);
    upstream->partner = connection;
    upstream->is_connecting = true;
    connection->partner = upstream;
    connection->is_connecting = true;
    try_connect(upstream);
}

/* The listener's TCP_NODELAY is inherited. */
static void accept_some(void)
{
    for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
        // cppcheck-suppress nullPointer
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct connection *connection;

        if (fd < 0 && (errno == EMFILE || errno == ENFILE))
            peer_die("accept", errno);
        if (fd < 0)
            return;
        connection = connection_create(fd, options.listen.any.sa_family);
        if (options.role == PEER_FORWARD)
            connect_upstream(connection);
        else
            watch_first(connection);
    }
}

/* -- The turn ------------------------------------------------------------------------------------------------ */

static void take_source(struct connection *connection, uint32_t events)
{
    if (events & EVENTS_OVER)
        connection_close(connection);
    else
        write_source(connection);
}

static void take(struct connection *connection, uint32_t events)
{
    if (connection->is_dead)
        return;
    if (options.role == PEER_SOURCE) {
        take_source(connection, events);
        return;
    }
    if (connection->is_connecting && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
        take_connected(connection);
    else if (events & EPOLLOUT)
        write_kept(connection);
    if (connection->is_dead)
        return;
    if ((events & EPOLLERR) && (connection->has_ended || !is_taken(connection))) /* nobody would be told */
        connection_break(connection);
    else if (events & (EVENTS_READ | EVENTS_OVER))
        read_all(connection, events & EVENTS_OVER);
}

static void take_ready(struct connection *connection)
{
    connection->is_ready = false;
    if (connection->is_dead) {
        connection->next = dead;
        dead = connection;
    } else if (options.role == PEER_SOURCE) {
        write_source(connection);
    } else if (connection->is_connecting) {
        try_connect(connection);
    } else {
        read_all(connection, true);
    }
}

/* Who is ready has its turn after all who have events. */
static void turn(void)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(epoll, events, EVENTS_MAX, options.busy_polls || ready ? 0 : -1);
    struct connection *list;

    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr)
            take(events[i].data.ptr, events[i].events);
        else
            accept_some();
    }
    list = ready;
    ready = NULL;
    while (list) {
        struct connection *next = list->next;

        take_ready(list);
        list = next;
    }
    bury();
}

int main(int argc, char **argv)
{
    struct epoll_event event = {.events = EPOLLIN};

    peer_read_arguments(argc, argv, &options);
    source_len = options.size * (WRITE_SIZE > options.size ? WRITE_SIZE / options.size : 1);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = peer_listen(&options);
    peer_set_nodelay(&options, listener);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        peer_die("epoll", errno);
    peer_announce(&options);
    for (;;)
        turn();
}
