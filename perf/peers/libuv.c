/*
 * The peer on libuv. Reads go to one slab that all connections share, for what a callback reads is dealt with before it
 * returns. Writes are tried at once (uv_try_write); only what the kernel does not take is copied into a pooled request.
 */
#include "perf/peers/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

enum {
    SLAB_SIZE = 256 << 10,   /* four times what libuv suggests: streams cost a third less so */
    SOURCE_SIZE = 512 << 10, /* a source writes about so much at once, */
    CHUNK_SIZE = 64 << 10,   /* all of it from the same memory, which stays in the cache */
    PIECES_MAX = SOURCE_SIZE / (CHUNK_SIZE / 2) + 1,
    BURST = 16, /* writes of a source before other connections have their turn */
};

struct connection {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    struct connection *next; /* of all that are open: a ring through `everyone` */
    struct connection *previous;
    struct connection *partner; /* forward: the other side. Both are closed together. */
    char *partial;              /* a message of which the rest is yet to come, or NULL if none was cut so far */
    size_t partial_len;
    bool is_paused;   /* its reader waits until what it made us queue is written */
    bool has_ended;   /* the other end sends no more */
    bool is_ending;   /* uv_shutdown was called: nothing may be written any more */
    bool is_finished; /* …and is done */
};

/* Bytes that several connections are sent: freed with the last reference. */
struct block {
    unsigned references;
    char bytes[];
};

struct request {
    uv_write_t write;
    struct request *next; /* while it is in the pool */
    struct block *block;  /* fan-out: what it sends; otherwise NULL */
    char bytes[];         /* of server.request_size */
};

typedef void take_function(struct connection *connection, const char *bytes, size_t len);

struct role {
    void (*open)(struct connection *connection); /* NULL: to read is all there is to do */
    take_function *take;
    void (*end)(struct connection *connection);
};

static struct {
    struct peer_options options;
    const struct role *role;
    uv_loop_t loop;
    struct connection listener;
    struct connection everyone;
    struct request *pool;
    size_t request_size;
    char *chunk; /* what a source sends, again and again */
    size_t chunk_size;
    size_t source_size; /* of each of its writes: one chunk or several */
    char slab[SLAB_SIZE];
} server;

static void die_if(int error, const char *what)
{
    if (error < 0)
        peer_die(what, error);
}

static void *allocate(size_t size)
{
    void *memory = malloc(size);

    if (!memory)
        peer_die("memory", ENOMEM);
    return memory;
}

/* -- Connections --------------------------------------------------------------------------------------------- */

/* `family`: the listener's for one that is accepted, the upstream's for one that connects there. */
static struct connection *connection_create(sa_family_t family)
{
    struct connection *connection = allocate(sizeof *connection);

    *connection = (struct connection){0};
    if (family == AF_INET)
        uv_tcp_init(&server.loop, &connection->tcp);
    else
        uv_pipe_init(&server.loop, &connection->pipe, 0);
    connection->handle.data = connection;
    connection->next = &server.everyone;
    connection->previous = server.everyone.previous;
    connection->previous->next = connection;
    server.everyone.previous = connection;
    return connection;
}

static void on_close(uv_handle_t *handle)
{
    struct connection *connection = handle->data;

    free(connection->partial);
    free(connection);
}

static void close_one(struct connection *connection)
{
    if (uv_is_closing(&connection->handle))
        return;
    connection->previous->next = connection->next;
    connection->next->previous = connection->previous;
    uv_close(&connection->handle, on_close);
}

static void connection_close(struct connection *connection)
{
    struct connection *partner = connection->partner;

    close_one(connection);
    if (partner)
        close_one(partner);
}

/* uv_tcp_close_reset() would refuse one whose own direction has ended. Unix sockets know no reset. */
static void close_next_by_reset(struct connection *connection)
{
    const struct linger reset = {.l_onoff = 1};
    uv_os_fd_t fd;

    if (uv_fileno(&connection->handle, &fd) == 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

/* It broke: with a partner, both sides shall hear of a reset, not of an end. */
static void connection_break(struct connection *connection)
{
    if (connection->partner && !uv_is_closing(&connection->handle)) {
        close_next_by_reset(connection);
        close_next_by_reset(connection->partner);
    }
    connection_close(connection);
}

/* What is sent next would be its end, and that is all that is missing. */
static bool is_over(const struct connection *connection)
{
    const struct connection *partner = connection->partner;

    return connection->has_ended && (!partner || partner->is_finished);
}

static void on_shutdown(uv_shutdown_t *shutdown, int status)
{
    struct connection *connection = shutdown->handle->data;

    free(shutdown);
    if (uv_is_closing(&connection->handle))
        return;
    connection->is_finished = true;
    if (status < 0)
        connection_break(connection);
    else if (is_over(connection))
        connection_close(connection);
}

/*
 * Ends our direction behind what is queued. When the other end has ended its own, the connection is over: with nothing
 * queued that is now, and closing it tells the end.
 */
static void connection_end(struct connection *connection)
{
    uv_shutdown_t *shutdown;

    if (connection->is_ending)
        return;
    if (is_over(connection) && uv_stream_get_write_queue_size(&connection->stream) == 0) {
        connection_close(connection);
        return;
    }
    connection->is_ending = true;
    shutdown = allocate(sizeof *shutdown);
    if (uv_shutdown(shutdown, &connection->stream, on_shutdown) < 0) {
        free(shutdown);
        connection_break(connection);
    }
}

/* -- Reading ------------------------------------------------------------------------------------------------- */

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    buffer->base = server.slab;
    buffer->len = sizeof server.slab;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;

    if (count > 0) {
        server.role->take(connection, buffer->base, (size_t)count);
    } else if (count == UV_EOF) {
        connection->has_ended = true;
        server.role->end(connection);
    } else if (count < 0) {
        connection_break(connection);
    }
}

static void connection_read(struct connection *connection)
{
    if (uv_read_start(&connection->stream, on_allocate, on_read) < 0)
        connection_break(connection);
}

/* Reads no more from `reader` while too much is queued to `writer`: the two are one, except in forwarding. */
static void pause_behind(struct connection *reader, struct connection *writer)
{
    if (reader->is_paused || uv_stream_get_write_queue_size(&writer->stream) < PEER_FORWARD_MAX)
        return;
    reader->is_paused = true;
    uv_read_stop(&reader->stream);
}

static void resume_behind(struct connection *reader, struct connection *writer)
{
    if (!reader->is_paused || uv_stream_get_write_queue_size(&writer->stream) > PEER_FORWARD_MAX / 2)
        return;
    reader->is_paused = false;
    connection_read(reader);
}

/* -- Writing ------------------------------------------------------------------------------------------------- */

static void block_drop(struct block *block)
{
    if (block && --block->references == 0)
        free(block);
}

static struct request *request_take(void)
{
    struct request *request = server.pool;

    if (request)
        server.pool = request->next;
    else
        request = allocate(sizeof *request + server.request_size);
    request->block = NULL;
    return request;
}

static void request_give_back(struct request *request)
{
    block_drop(request->block);
    request->next = server.pool;
    server.pool = request;
}

static void on_write(uv_write_t *write, int status)
{
    struct connection *connection = write->handle->data;

    request_give_back((struct request *)write);
    if (uv_is_closing(&connection->handle))
        return;
    if (status < 0)
        connection_break(connection);
    else
        resume_behind(connection->partner ? connection->partner : connection, connection);
}

static uv_buf_t piece_of(const char *bytes, size_t len)
{
    return uv_buf_init((char *)bytes, (unsigned)len);
}

/* Takes over the request. The bytes, but not `pieces`, stay until `done` is called. */
static void write_request(struct connection *connection, struct request *request, const uv_buf_t *pieces,
                          unsigned count, uv_write_cb done)
{
    if (uv_write(&request->write, &connection->stream, pieces, count, done) == 0)
        return;
    request_give_back(request);
    connection_break(connection);
}

/* How many bytes the kernel took at once: 0 also if there is a queue, or the connection has just broken. */
static size_t try_write(struct connection *connection, const uv_buf_t *pieces, unsigned count)
{
    int sent = uv_try_write(&connection->stream, pieces, count);

    if (sent < 0 && sent != UV_EAGAIN)
        connection_break(connection);
    return sent > 0 ? (size_t)sent : 0;
}

/* Sends the bytes, which need not stay: what the kernel does not take is copied. At most server.request_size. */
static void send_bytes(struct connection *connection, const char *bytes, size_t len)
{
    uv_buf_t piece = piece_of(bytes, len);
    size_t sent = try_write(connection, &piece, 1);
    struct request *request;

    if (sent == len || uv_is_closing(&connection->handle))
        return;
    request = request_take();
    memcpy(request->bytes, bytes + sent, len - sent);
    piece = piece_of(request->bytes, len - sent);
    write_request(connection, request, &piece, 1, on_write);
}

/* -- Echo ---------------------------------------------------------------------------------------------------- */

static void echo_take(struct connection *connection, const char *bytes, size_t len)
{
    send_bytes(connection, bytes, len);
    if (!uv_is_closing(&connection->handle))
        pause_behind(connection, connection);
}

static const struct role echo = {.take = echo_take, .end = connection_end};

/* -- Messages ------------------------------------------------------------------------------------------------ */

/* Cuts what arrives into messages: `take` gets whole ones, one or several in a row. */
static void cut(struct connection *connection, const char *bytes, size_t len, take_function *take)
{
    size_t size = server.options.size;
    size_t part = connection->partial_len;

    if (part > 0) {
        size_t missing = len < size - part ? len : size - part;

        memcpy(connection->partial + part, bytes, missing);
        connection->partial_len = part + missing;
        if (connection->partial_len < size)
            return;
        connection->partial_len = 0;
        take(connection, connection->partial, size);
        bytes += missing;
        len -= missing;
    }
    part = len % size;
    if (len > part)
        take(connection, bytes, len - part);
    if (part == 0)
        return;
    if (!connection->partial)
        connection->partial = allocate(size);
    memcpy(connection->partial, bytes + len - part, part);
    connection->partial_len = part;
}

/* A write a message, as users of libuv write it: it gathers nothing by itself. */
static void answer(struct connection *connection, const char *bytes, size_t len)
{
    size_t size = server.options.size;

    for (; len > 0 && !uv_is_closing(&connection->handle); bytes += size, len -= size) {
        struct request *request = request_take();
        uv_buf_t piece = piece_of(request->bytes, size);

        memcpy(request->bytes, bytes, size);
        write_request(connection, request, &piece, 1, on_write);
    }
}

static void messages_take(struct connection *connection, const char *bytes, size_t len)
{
    cut(connection, bytes, len, answer);
    if (!uv_is_closing(&connection->handle))
        pause_behind(connection, connection);
}

static const struct role messages = {.take = messages_take, .end = connection_end};

/* -- Fan-out ------------------------------------------------------------------------------------------------- */

/* What the kernel does not take at once is queued by reference; `block` is made when the first needs it. */
static void publish_to(struct connection *receiver, const char *bytes, size_t len, struct block **block)
{
    uv_buf_t piece = piece_of(bytes, len);
    struct request *request;
    size_t sent;

    if (receiver->is_ending || uv_stream_get_write_queue_size(&receiver->stream) + len > PEER_QUEUE_MAX)
        return;
    sent = try_write(receiver, &piece, 1);
    if (sent == len || uv_is_closing(&receiver->handle))
        return;
    if (!*block) {
        *block = allocate(sizeof **block + len);
        (*block)->references = 1;
        memcpy((*block)->bytes, bytes, len);
    }
    request = request_take();
    request->block = *block;
    request->block->references++;
    piece = piece_of(request->block->bytes + sent, len - sent);
    write_request(receiver, request, &piece, 1, on_write);
}

/* Messages that came together leave together: one write a receiver. */
static void publish(struct connection *connection, const char *bytes, size_t len)
{
    struct block *block = NULL;
    struct connection *next;

    for (struct connection *receiver = server.everyone.next; receiver != &server.everyone; receiver = next) {
        next = receiver->next;
        if (receiver != connection)
            publish_to(receiver, bytes, len, &block);
    }
    block_drop(block);
}

static void fanout_take(struct connection *connection, const char *bytes, size_t len)
{
    cut(connection, bytes, len, publish);
}

static const struct role fanout = {.take = fanout_take, .end = connection_end};

/* -- Source and sink ----------------------------------------------------------------------------------------- */

static void source_fill(struct connection *connection);

static void on_source_write(uv_write_t *write, int status)
{
    struct connection *connection = write->handle->data;

    request_give_back((struct request *)write);
    if (uv_is_closing(&connection->handle))
        return;
    if (status < 0)
        connection_close(connection);
    else
        source_fill(connection);
}

/* The last `len` bytes of a source's write. */
static unsigned source_pieces(uv_buf_t *pieces, size_t len)
{
    size_t part = len % server.chunk_size;
    unsigned count = 0;

    if (part > 0)
        pieces[count++] = piece_of(server.chunk + server.chunk_size - part, part);
    for (len -= part; len > 0; len -= server.chunk_size)
        pieces[count++] = piece_of(server.chunk, server.chunk_size);
    return count;
}

/* The last write of a burst is a request, whose end comes when the others had their turn and the kernel has room. */
static void source_fill(struct connection *connection)
{
    uv_buf_t pieces[PIECES_MAX];
    unsigned count = source_pieces(pieces, server.source_size);
    size_t sent = server.source_size;

    for (unsigned i = 1; i < BURST && sent == server.source_size; i++) {
        sent = try_write(connection, pieces, count);
        if (uv_is_closing(&connection->handle))
            return;
    }
    if (sent < server.source_size)
        count = source_pieces(pieces, server.source_size - sent);
    write_request(connection, request_take(), pieces, count, on_source_write);
}

static void source_open(struct connection *connection)
{
    connection_read(connection); /* to hear of its end */
    if (!uv_is_closing(&connection->handle))
        source_fill(connection);
}

static void forget(struct connection *connection, const char *bytes, size_t len)
{
    (void)connection;
    (void)bytes;
    (void)len;
}

static const struct role source = {.open = source_open, .take = forget, .end = connection_close};
static const struct role sink = {.take = forget, .end = connection_end};

/* -- Forward ------------------------------------------------------------------------------------------------- */

static void on_connect(uv_connect_t *connect, int status)
{
    struct connection *upstream = connect->handle->data;

    free(connect);
    if (uv_is_closing(&upstream->handle))
        return;
    if (status < 0) {
        connection_break(upstream);
        return;
    }
    if (server.options.upstream.any.sa_family == AF_INET)
        uv_tcp_nodelay(&upstream->tcp, 1);
    connection_read(upstream);
    if (!uv_is_closing(&upstream->handle))
        connection_read(upstream->partner);
}

static void forward_open(struct connection *connection)
{
    const struct peer_address *address = &server.options.upstream;
    struct connection *upstream = connection_create(address->any.sa_family);
    uv_connect_t *connect = allocate(sizeof *connect);

    upstream->partner = connection;
    connection->partner = upstream;
    if (address->any.sa_family != AF_INET) {
        uv_pipe_connect(connect, &upstream->pipe, address->local.sun_path, on_connect);
    } else if (uv_tcp_connect(connect, &upstream->tcp, &address->any, on_connect) < 0) {
        free(connect);
        connection_break(connection);
    }
}

static void forward_take(struct connection *connection, const char *bytes, size_t len)
{
    send_bytes(connection->partner, bytes, len);
    if (!uv_is_closing(&connection->handle))
        pause_behind(connection, connection->partner);
}

/* libuv tells an end also of one that was reset, if bytes were still to be read. */
static bool was_reset(const struct connection *connection)
{
    uv_os_fd_t fd;
    int error = 0;
    socklen_t len = sizeof error;

    return uv_fileno(&connection->handle, &fd) == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error;
}

static void forward_end(struct connection *connection)
{
    if (was_reset(connection))
        connection_break(connection);
    else
        connection_end(connection->partner);
}

static const struct role forward = {.open = forward_open, .take = forward_take, .end = forward_end};

/* -- The server ---------------------------------------------------------------------------------------------- */

static void on_connection(uv_stream_t *listener, int status)
{
    struct connection *connection;

    if (status < 0)
        return;
    connection = connection_create(server.options.listen.any.sa_family);
    if (uv_accept(listener, &connection->stream) < 0) {
        connection_close(connection);
        return;
    }
    if (server.role->open)
        server.role->open(connection);
    else
        connection_read(connection);
}

/* An idle handle keeps the loop from sleeping. */
static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

/* Whole writes of `size` make a chunk, and whole chunks what a source writes at once. */
static void make_chunk(size_t size)
{
    server.chunk_size = size < CHUNK_SIZE ? CHUNK_SIZE / size * size : size;
    server.source_size = size < SOURCE_SIZE ? SOURCE_SIZE / server.chunk_size * server.chunk_size : size;
    server.chunk = memset(allocate(server.chunk_size), 's', server.chunk_size);
}

static void choose_role(void)
{
    static const struct role *const roles[] = {
        [PEER_ECHO] = &echo,     [PEER_MESSAGES] = &messages, [PEER_FANOUT] = &fanout,
        [PEER_SOURCE] = &source, [PEER_SINK] = &sink,         [PEER_FORWARD] = &forward,
    };

    server.role = roles[server.options.role];
    if (server.options.role == PEER_ECHO || server.options.role == PEER_FORWARD)
        server.request_size = SLAB_SIZE;
    else if (server.options.role == PEER_MESSAGES)
        server.request_size = server.options.size;
    if (server.options.role == PEER_SOURCE)
        make_chunk(server.options.size);
}

static void start_listening(void)
{
    int fd = peer_listen(&server.options);

    peer_set_nodelay(&server.options, fd); /* who is accepted inherits it */
    if (server.options.listen.any.sa_family == AF_INET) {
        uv_tcp_init(&server.loop, &server.listener.tcp);
        die_if(uv_tcp_open(&server.listener.tcp, fd), "uv_tcp_open");
    } else {
        uv_pipe_init(&server.loop, &server.listener.pipe, 0);
        die_if(uv_pipe_open(&server.listener.pipe, fd), "uv_pipe_open");
    }
    die_if(uv_listen(&server.listener.stream, PEER_BACKLOG, on_connection), "uv_listen");
    peer_announce(&server.options);
}

int main(int argc, char **argv)
{
    uv_idle_t idle;

    peer_read_arguments(argc, argv, &server.options);
    choose_role();
    server.everyone.next = &server.everyone;
    server.everyone.previous = &server.everyone;
    die_if(uv_loop_init(&server.loop), "uv_loop_init");
    if (server.options.busy_polls) {
        uv_idle_init(&server.loop, &idle);
        uv_idle_start(&idle, on_idle);
    }
    start_listening();
    return uv_run(&server.loop, UV_RUN_DEFAULT);
}
