/*
 * The peer on libevent, with its bufferevents. Bytes move from buffer to buffer without a copy wherever the library can
 * do so. What is to be sent is written at once (evbuffer_write), and the rest left to the bufferevent, which otherwise
 * would ask the kernel twice whether the socket is ready before it writes for the first time.
 *
 * What cannot be helped: a bufferevent reads 4 KiB at a time, and asks before each read how much there is (FIONREAD).
 */
#include "perf/peers/peer.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LIBRARY_READ_MAX = 4096,      /* libevent 2.1 reads no more at a time, whatever it is told */
    READ_MAX = (256 << 10) - 256, /* what we read at a time: with its header it fits into 256 KiB */
    READS_MAX = 16,               /* before other connections have their turn */
    WRITE_MAX = 1 << 20,
    SOURCE_QUEUE = 512 << 10, /* a source queues new chunks when less is left */
};

struct connection {
    struct bufferevent *bufferevent;
    struct connection *next; /* of all that are open: a ring through `everyone` */
    struct connection *previous;
    struct connection *partner; /* forward: the other side. Both are freed together. */
    bool is_paused;             /* its reader waits until what it made us queue is written */
    bool has_ended;             /* the other end sends no more */
    bool is_ending;             /* nothing will be written behind what is queued */
    bool is_finished;           /* …and it was written, and our end told */
};

/* Bytes that several connections are sent: freed with the last reference. */
struct block {
    unsigned references;
    char bytes[];
};

struct role {
    void (*open)(struct connection *connection); /* NULL: to read is all there is to do */
    void (*take)(struct connection *connection, struct evbuffer *bytes);
    void (*refill)(struct connection *connection); /* what is queued fell to the low mark; may be NULL */
    void (*end)(struct connection *connection);
};

static struct {
    struct peer_options options;
    const struct role *role;
    struct event_base *base;
    struct connection everyone;
    struct evbuffer *arrived; /* both empty between callbacks: what was read by hand, */
    struct evbuffer *answers; /* and what is sent next */
    char *chunk;              /* what a source sends, again and again */
} server;

static void *allocate(size_t size)
{
    void *memory = malloc(size);

    if (!memory)
        peer_die("memory", ENOMEM);
    return memory;
}

/* -- Connections --------------------------------------------------------------------------------------------- */

static struct evbuffer *output_of(const struct connection *connection)
{
    return bufferevent_get_output(connection->bufferevent);
}

static size_t queued(const struct connection *connection)
{
    return evbuffer_get_length(output_of(connection));
}

static void free_one(struct connection *connection)
{
    connection->previous->next = connection->next;
    connection->next->previous = connection->previous;
    bufferevent_free(connection->bufferevent);
    free(connection);
}

static void connection_free(struct connection *connection)
{
    struct connection *partner = connection->partner;

    free_one(connection);
    if (partner)
        free_one(partner);
}

/* The library has no way to say so. Unix sockets know no reset. */
static void close_next_by_reset(struct connection *connection)
{
    const struct linger reset = {.l_onoff = 1};

    setsockopt(bufferevent_getfd(connection->bufferevent), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

/* It broke: with a partner, both sides shall hear of a reset, not of an end. */
static void connection_break(struct connection *connection)
{
    if (connection->partner) {
        close_next_by_reset(connection);
        close_next_by_reset(connection->partner);
    }
    connection_free(connection);
}

/*
 * Our end is told behind what is queued. When the other end has told its own, the connection is over, and closing it
 * tells ours. May free it.
 */
static void go_on_ending(struct connection *connection)
{
    struct connection *partner = connection->partner;

    if (!connection->is_ending || queued(connection) > 0)
        return;
    if (connection->has_ended && (!partner || partner->is_finished)) {
        connection_free(connection);
        return;
    }
    if (!connection->is_finished)
        shutdown(bufferevent_getfd(connection->bufferevent), SHUT_WR);
    connection->is_finished = true;
}

static void connection_end(struct connection *connection)
{
    connection->is_ending = true;
    bufferevent_setwatermark(connection->bufferevent, EV_WRITE, 0, 0);
    go_on_ending(connection);
}

/* Reads no more from `reader` while too much is queued to `writer`: the two are one, except in forwarding. */
static void pause_behind(struct connection *reader, struct connection *writer)
{
    if (reader->is_paused || queued(writer) < PEER_FORWARD_MAX)
        return;
    reader->is_paused = true;
    bufferevent_disable(reader->bufferevent, EV_READ);
}

static void resume_behind(struct connection *reader, struct connection *writer)
{
    if (!reader->is_paused || queued(writer) > PEER_FORWARD_MAX / 2)
        return;
    reader->is_paused = false;
    bufferevent_enable(reader->bufferevent, EV_READ);
}

/* Sends what is in `bytes`, which is empty then. An error that the first write meets, the bufferevent meets again. */
static void send_buffer(struct connection *connection, struct evbuffer *bytes)
{
    if (queued(connection) == 0)
        evbuffer_write(bytes, bufferevent_getfd(connection->bufferevent));
    if (evbuffer_get_length(bytes) > 0)
        bufferevent_write_buffer(connection->bufferevent, bytes);
}

/* -- What bufferevents tell ---------------------------------------------------------------------------------- */

/* Reads on by hand, behind what the library has read. True if there may be more. An end is left to the library. */
static bool read_on(struct connection *connection)
{
    struct evbuffer_iovec space;
    ssize_t count;

    if (evbuffer_reserve_space(server.arrived, READ_MAX, &space, 1) < 1)
        return false;
    count = read(bufferevent_getfd(connection->bufferevent), space.iov_base, space.iov_len);
    if (count <= 0)
        return false;
    space.iov_len = (size_t)count;
    evbuffer_commit_space(server.arrived, &space, 1);
    return count >= READ_MAX;
}

static void on_read(struct bufferevent *bufferevent, void *user)
{
    struct connection *connection = user;
    struct evbuffer *input = bufferevent_get_input(bufferevent);
    bool is_more = true;

    if (evbuffer_get_length(input) < LIBRARY_READ_MAX) {
        server.role->take(connection, input);
        return;
    }
    evbuffer_add_buffer(server.arrived, input);
    for (unsigned i = 0; i < READS_MAX && is_more && !connection->is_paused; i++) {
        is_more = read_on(connection);
        server.role->take(connection, server.arrived);
    }
    evbuffer_prepend_buffer(input, server.arrived); /* a message that is not whole yet */
}

/* What is queued has fallen to the low mark. */
static void on_write(struct bufferevent *bufferevent, void *user)
{
    struct connection *connection = user;

    (void)bufferevent;
    if (connection->is_ending) {
        go_on_ending(connection);
        return;
    }
    if (server.role->refill)
        server.role->refill(connection);
    resume_behind(connection->partner ? connection->partner : connection, connection);
}

static void on_event(struct bufferevent *bufferevent, short what, void *user)
{
    struct connection *connection = user;
    int one = 1;

    (void)bufferevent;
    if (what & BEV_EVENT_CONNECTED) {
        if (server.options.upstream.any.sa_family == AF_INET)
            setsockopt(bufferevent_getfd(bufferevent), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        bufferevent_enable(connection->partner->bufferevent, EV_READ);
    } else if (what & BEV_EVENT_EOF) {
        connection->has_ended = true;
        server.role->end(connection);
    } else {
        connection_break(connection);
    }
}

/* `fd` is -1 for one that is yet to be connected. */
static struct connection *connection_create(int fd)
{
    struct connection *connection = allocate(sizeof *connection);

    *connection = (struct connection){
        .bufferevent = bufferevent_socket_new(server.base, fd, BEV_OPT_CLOSE_ON_FREE),
        .next = &server.everyone,
        .previous = server.everyone.previous,
    };
    if (!connection->bufferevent)
        peer_die("bufferevent_socket_new", ENOMEM);
    connection->previous->next = connection;
    server.everyone.previous = connection;
    bufferevent_setcb(connection->bufferevent, on_read, on_write, on_event, connection);
    bufferevent_setwatermark(connection->bufferevent, EV_WRITE, PEER_FORWARD_MAX / 2, 0);
    bufferevent_set_max_single_read(connection->bufferevent, READ_MAX);
    bufferevent_set_max_single_write(connection->bufferevent, WRITE_MAX);
    return connection;
}

/* -- Echo ---------------------------------------------------------------------------------------------------- */

static void echo_take(struct connection *connection, struct evbuffer *bytes)
{
    send_buffer(connection, bytes);
    pause_behind(connection, connection);
}

static const struct role echo = {.take = echo_take, .end = connection_end};

/* -- Messages ------------------------------------------------------------------------------------------------ */

/* Message by message; what came together is gathered and leaves together. */
static void messages_take(struct connection *connection, struct evbuffer *bytes)
{
    while (evbuffer_get_length(bytes) >= server.options.size)
        evbuffer_remove_buffer(bytes, server.answers, server.options.size);
    send_buffer(connection, server.answers);
    pause_behind(connection, connection);
}

static const struct role messages = {.take = messages_take, .end = connection_end};

/* -- Fan-out ------------------------------------------------------------------------------------------------- */

static void block_drop(struct block *block)
{
    if (--block->references == 0)
        free(block);
}

static void on_sent(const void *bytes, size_t len, void *user)
{
    (void)bytes;
    (void)len;
    block_drop(user);
}

static void publish_to(struct connection *receiver, struct block *block, size_t len)
{
    if (receiver->is_ending || queued(receiver) + len > PEER_QUEUE_MAX)
        return;
    if (evbuffer_add_reference(server.answers, block->bytes, len, on_sent, block) < 0)
        return;
    block->references++;
    send_buffer(receiver, server.answers);
}

/* Messages that came together leave together. */
static void fanout_take(struct connection *connection, struct evbuffer *bytes)
{
    size_t len = evbuffer_get_length(bytes) / server.options.size * server.options.size;
    struct block *block;

    if (len == 0)
        return;
    block = allocate(sizeof *block + len);
    block->references = 1;
    evbuffer_remove(bytes, block->bytes, len);
    for (struct connection *receiver = server.everyone.next; receiver != &server.everyone; receiver = receiver->next)
        if (receiver != connection)
            publish_to(receiver, block, len);
    block_drop(block);
}

static const struct role fanout = {.take = fanout_take, .end = connection_end};

/* -- Source and sink ----------------------------------------------------------------------------------------- */

static void source_fill(struct connection *connection)
{
    size_t size = server.options.size;

    for (size_t len = queued(connection); len < SOURCE_QUEUE + size; len += size)
        evbuffer_add_reference(output_of(connection), server.chunk, size, NULL, NULL);
}

static void source_open(struct connection *connection)
{
    bufferevent_setwatermark(connection->bufferevent, EV_WRITE, SOURCE_QUEUE, 0);
    bufferevent_enable(connection->bufferevent, EV_READ); /* to hear of its end */
    source_fill(connection);
}

static void forget(struct connection *connection, struct evbuffer *bytes)
{
    (void)connection;
    evbuffer_drain(bytes, evbuffer_get_length(bytes));
}

static const struct role source = {
    .open = source_open,
    .take = forget,
    .refill = source_fill,
    .end = connection_free,
};
static const struct role sink = {.take = forget, .end = connection_end};

/* -- Forward ------------------------------------------------------------------------------------------------- */

static void forward_open(struct connection *connection)
{
    const struct peer_address *address = &server.options.upstream;
    struct connection *upstream = connection_create(-1);

    upstream->partner = connection;
    connection->partner = upstream;
    bufferevent_enable(upstream->bufferevent, EV_READ);
    if (bufferevent_socket_connect(upstream->bufferevent, &address->any, (int)address->len) < 0)
        connection_break(connection);
}

static void forward_take(struct connection *connection, struct evbuffer *bytes)
{
    send_buffer(connection->partner, bytes);
    pause_behind(connection, connection->partner);
}

static void forward_end(struct connection *connection)
{
    connection_end(connection->partner);
}

static const struct role forward = {.open = forward_open, .take = forward_take, .end = forward_end};

/* -- The server ---------------------------------------------------------------------------------------------- */

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int len,
                      void *user)
{
    struct connection *connection = connection_create(fd);

    (void)listener;
    (void)address;
    (void)len;
    (void)user;
    if (server.role->open)
        server.role->open(connection);
    else
        bufferevent_enable(connection->bufferevent, EV_READ);
}

static void choose_role(void)
{
    static const struct role *const roles[] = {
        [PEER_ECHO] = &echo,     [PEER_MESSAGES] = &messages, [PEER_FANOUT] = &fanout,
        [PEER_SOURCE] = &source, [PEER_SINK] = &sink,         [PEER_FORWARD] = &forward,
    };

    server.role = roles[server.options.role];
    if (server.options.role == PEER_SOURCE)
        server.chunk = memset(allocate(server.options.size), 's', server.options.size);
}

/* One thread needs no locks and, without timers, no clock; interests that change twice before a wait cost nothing. */
static void create_base(void)
{
    struct event_config *config = event_config_new();

    if (!config)
        peer_die("event_config_new", ENOMEM);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME);
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    server.base = event_base_new_with_config(config);
    event_config_free(config);
    server.arrived = evbuffer_new();
    server.answers = evbuffer_new();
    if (!server.base || !server.arrived || !server.answers)
        peer_die("event_base_new_with_config", ENOMEM);
}

int main(int argc, char **argv)
{
    struct evconnlistener *listener;
    int fd;

    peer_read_arguments(argc, argv, &server.options);
    choose_role();
    server.everyone.next = &server.everyone;
    server.everyone.previous = &server.everyone;
    create_base();
    fd = peer_listen(&server.options);
    peer_set_nodelay(&server.options, fd); /* who is accepted inherits it */
    listener = evconnlistener_new(server.base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
                                  PEER_BACKLOG, fd);
    if (!listener)
        peer_die("evconnlistener_new", errno);
    peer_announce(&server.options);
    while (event_base_loop(server.base, server.options.busy_polls ? EVLOOP_NONBLOCK : 0) == 0)
        ;
    return 1;
}
