/*
 * Bytes in one direction, as many as the peer can move: how fast, and at what CPU time of the peer's.
 *
 *     load_stream [OPTIONS] drain ADDRESS                      reads from a `source` peer
 *     load_stream [OPTIONS] fill ADDRESS                       writes to a `sink` peer, --size bytes at a time
 *     load_stream [OPTIONS] through --upstream ADDRESS ...     fills a `forward` peer, and drains what comes out of it
 *
 * Options of all loads: --connections N, --size BYTES, --duration TIME, --warmup TIME, --server-pid PID.
 *
 * So that the load is not what limits, what TCP received is dropped unread (MSG_TRUNC); a Unix socket copies. Hence it
 * is no picture of what the other side of a real connection spends, and it does not measure latency. `through`
 * compares a sample of what comes out with what went in, and at the end their counts; of `drain` and `fill` it knows
 * the count on its own side alone.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "perf/load/load.h"
#include "tools/clock.h"

enum {
    EVENTS = 256,
    /* Each stream is this many bytes, over and over: a piece that is lost or doubled shows in a sample. */
    PERIOD = 1 << 20,
    SAMPLE = 4 << 10,
    SAMPLE_EVERY = 4 << 20,
    READ_MAX = 4 << 20,
    /* Writes to one connection before others have their turn. */
    WRITES_MAX = 16,
};

enum mode {
    DRAIN,
    FILL,
    THROUGH,
};

enum end_kind {
    END_FILLED,
    END_DRAINED,
    END_LISTENING,
};

/* A socket of ours. */
struct end {
    enum end_kind kind;
    int fd;
    uint64_t bytes;       /* since it was opened */
    uint64_t next_sample; /* from so many bytes on, what comes is looked at again */
};

struct stream {
    struct load_options options;
    struct load_address upstream;
    enum mode mode;
    int epoll;
    unsigned char *bytes;   /* what is written: a period, and as much again as one write or sample reaches beyond */
    unsigned char *scratch; /* READ_MAX bytes, never touched where TCP drops what it received */
    struct end listener;
    struct end *filled;
    struct end *drained;
    uint64_t drained_count;
    uint64_t ended_count; /* drained ones whose end has come */
    bool is_ending;       /* True exactly when nothing more is written. */
    struct load_window window;
};

/* -- Writing ------------------------------------------------------------------------------------------------- */

static void create_bytes(struct stream *stream)
{
    size_t len = PERIOD + (stream->options.size > SAMPLE ? stream->options.size : SAMPLE);
    uint64_t word = 1;

    stream->bytes = malloc(len);
    if (stream->bytes == NULL)
        load_die("memory");
    for (size_t at = 0; at < PERIOD; at++) {
        word = word * UINT64_C(6364136223846793005) + 1;
        stream->bytes[at] = (unsigned char)(word >> 56);
    }
    memcpy(stream->bytes + PERIOD, stream->bytes, len - PERIOD);
}

/*
 * A plain send(), as most programs have it: sendfile() from a file in memory spared us a copy, and made receiving over
 * TCP dearer for the peer (0.4 to 0.7 ns a byte, not 0.2 to 0.4), with little to show for it on our side (0.12 ns for
 * 0.15, on a busy machine).
 * Returns how much went: less than a piece when there is no more room.
 */
static size_t write_piece(struct stream *stream, struct end *end)
{
    ssize_t sent = send(end->fd, stream->bytes + end->bytes % PERIOD, stream->options.size, 0);

    if (sent < 0 && errno != EAGAIN)
        load_die("writing");
    return sent > 0 ? (size_t)sent : 0;
}

static void fill(struct stream *stream, struct end *end)
{
    size_t sent = stream->options.size;

    for (int i = 0; i < WRITES_MAX && sent == stream->options.size; i++) {
        sent = write_piece(stream, end);
        end->bytes += sent;
        if (stream->mode == FILL)
            stream->window.bytes += sent;
    }
}

/* -- Reading ------------------------------------------------------------------------------------------------- */

static void note_end(struct stream *stream)
{
    if (!stream->is_ending)
        load_fail("%s: the peer has ended a connection", stream->options.address.text);
    stream->ended_count++;
}

/* Now and then what came is looked at. Returns as recv(). */
static ssize_t read_sample(struct stream *stream, struct end *end)
{
    ssize_t got = recv(end->fd, stream->scratch, SAMPLE, 0);

    end->next_sample = end->bytes + SAMPLE_EVERY;
    if (got > 0 && memcmp(stream->scratch, stream->bytes + end->bytes % PERIOD, (size_t)got) != 0)
        load_fail("what came out is not what went in, behind byte %llu", (unsigned long long)end->bytes);
    return got;
}

static ssize_t read_once(struct stream *stream, struct end *end)
{
    int flags = stream->options.address.any.sa_family == AF_INET ? MSG_TRUNC : 0;

    return recv(end->fd, stream->scratch, READ_MAX, flags);
}

static void drain(struct stream *stream, struct end *end)
{
    bool samples = stream->mode == THROUGH && end->bytes >= end->next_sample;
    ssize_t got = samples ? read_sample(stream, end) : read_once(stream, end);

    if (got < 0 && errno == EAGAIN)
        return;
    if (got < 0)
        load_die("reading");
    if (got == 0) {
        note_end(stream);
        epoll_ctl(stream->epoll, EPOLL_CTL_DEL, end->fd, NULL);
        return;
    }
    end->bytes += (uint64_t)got;
    stream->window.bytes += (uint64_t)got;
}

/* What comes back on a connection that is filled is its end, or nothing. */
static void look_back(struct stream *stream, struct end *end)
{
    ssize_t got = recv(end->fd, stream->scratch, 1, 0);

    if (got < 0 && errno == EAGAIN)
        return;
    if (got < 0)
        load_die("reading");
    if (got > 0)
        load_fail("%s: bytes come back from where none should", stream->options.address.text);
    if (!stream->is_ending)
        load_fail("%s: the peer has ended a connection", stream->options.address.text);
    epoll_ctl(stream->epoll, EPOLL_CTL_DEL, end->fd, NULL);
}

/* -- Opening ------------------------------------------------------------------------------------------------- */

static void open_filled(struct stream *stream)
{
    for (uint64_t i = 0; i < stream->options.connections; i++) {
        struct end *end = &stream->filled[i];

        *end = (struct end){.kind = END_FILLED, .fd = load_connect(&stream->options.address, i)};
        load_watch(stream->epoll, end->fd, EPOLLIN, end);
    }
}

/* From now on, looks for these events on the connections that are filled. */
static void watch_filled(struct stream *stream, uint32_t events)
{
    for (uint64_t i = 0; i < stream->options.connections; i++) {
        struct epoll_event event = {.events = events, .data.ptr = &stream->filled[i]};

        if (epoll_ctl(stream->epoll, EPOLL_CTL_MOD, stream->filled[i].fd, &event) < 0)
            load_die("epoll_ctl");
    }
}

static void add_drained(struct stream *stream, int fd)
{
    struct end *end;

    assert(stream->drained != NULL);
    assert(stream->drained_count < stream->options.connections);
    end = &stream->drained[stream->drained_count++];
    *end = (struct end){.kind = END_DRAINED, .fd = fd};
    load_watch(stream->epoll, fd, EPOLLIN, end);
}

static void take_upstream(struct stream *stream)
{
    // cppcheck-suppress nullPointer
    int fd = accept4(stream->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0 && errno == EAGAIN)
        return;
    if (fd < 0)
        load_die("accept4");
    if (stream->drained_count == stream->options.connections)
        load_fail("%s: more connections came out than went in", stream->upstream.text);
    add_drained(stream, fd);
}

/* -- Turns --------------------------------------------------------------------------------------------------- */

static void handle(struct stream *stream, struct end *end, uint32_t events)
{
    if (end->kind == END_LISTENING) {
        take_upstream(stream);
    } else if (end->kind == END_DRAINED) {
        drain(stream, end);
    } else {
        if (events & ~(uint32_t)EPOLLOUT)
            look_back(stream, end);
        if ((events & EPOLLOUT) && !stream->is_ending)
            fill(stream, end);
    }
}

static void turn(struct stream *stream)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(stream->epoll, events, EVENTS, LOAD_SLEEP_MS);

    for (int i = 0; i < count; i++)
        handle(stream, events[i].data.ptr, events[i].events);
}

/* Waits until each connection that we opened has come out at the upstream. */
static void await_upstream(struct stream *stream)
{
    uint64_t limit_ns = clock_now_ns() + LOAD_PATIENCE_NS;

    while (stream->drained_count < stream->options.connections) {
        turn(stream);
        if (clock_now_ns() > limit_ns)
            load_fail("%s: only %llu of %llu connections came out", stream->upstream.text,
                      (unsigned long long)stream->drained_count, (unsigned long long)stream->options.connections);
    }
}

static uint64_t sum(const struct end *ends, uint64_t count)
{
    uint64_t bytes = 0;

    for (uint64_t i = 0; i < count; i++)
        bytes += ends[i].bytes;
    return bytes;
}

/* Everything that went in comes out, and then the ends. */
static void finish_through(struct stream *stream)
{
    uint64_t limit_ns = clock_now_ns() + LOAD_PATIENCE_NS;

    stream->is_ending = true;
    watch_filled(stream, EPOLLIN);
    for (uint64_t i = 0; i < stream->options.connections; i++)
        if (shutdown(stream->filled[i].fd, SHUT_WR) < 0)
            load_die("shutdown");
    while (stream->ended_count < stream->options.connections) {
        turn(stream);
        if (clock_now_ns() > limit_ns)
            load_fail("%s: the ends of %llu connections did not come out", stream->upstream.text,
                      (unsigned long long)(stream->options.connections - stream->ended_count));
    }
    if (sum(stream->filled, stream->options.connections) != sum(stream->drained, stream->drained_count))
        load_fail("%s: %llu bytes went in, and %llu came out", stream->options.address.text,
                  (unsigned long long)sum(stream->filled, stream->options.connections),
                  (unsigned long long)sum(stream->drained, stream->drained_count));
}

/* -- From start to end --------------------------------------------------------------------------------------- */

static void allocate(struct stream *stream)
{
    stream->epoll = load_watch_create();
    stream->scratch = malloc(READ_MAX);
    stream->filled = calloc(stream->options.connections, sizeof *stream->filled);
    stream->drained = calloc(stream->options.connections, sizeof *stream->drained);
    if (stream->scratch == NULL || stream->filled == NULL || stream->drained == NULL)
        load_die("memory");
    create_bytes(stream);
}

static void open_drained(struct stream *stream)
{
    for (uint64_t i = 0; i < stream->options.connections; i++)
        add_drained(stream, load_connect(&stream->options.address, i));
}

static void open_through(struct stream *stream)
{
    stream->listener = (struct end){.kind = END_LISTENING, .fd = load_listen(&stream->upstream)};
    load_watch(stream->epoll, stream->listener.fd, EPOLLIN, &stream->listener);
    open_filled(stream);
    await_upstream(stream);
    if (stream->upstream.any.sa_family == AF_UNIX)
        unlink(stream->upstream.local.sun_path); /* nobody else is to come */
}

static void open_all(struct stream *stream)
{
    if (stream->mode == DRAIN)
        open_drained(stream);
    else if (stream->mode == FILL)
        open_filled(stream);
    else
        open_through(stream);
    if (stream->mode != DRAIN)
        watch_filled(stream, EPOLLIN | EPOLLOUT);
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {[DRAIN] = "drain", [FILL] = "fill", [THROUGH] = "through", NULL};
    static struct stream stream = {
        .options = {.connections = 1, .size = 64 << 10, .duration_ns = 2000000000, .warmup_ns = 300000000},
    };
    const struct load_argument own[] = {
        {.name = "upstream", .kind = LOAD_ADDRESS, .address = &stream.upstream},
        {.name = NULL},
    };

    stream.mode = (enum mode)load_read_arguments(argc, argv, &stream.options, own, modes);
    if ((stream.mode == THROUGH) != (stream.upstream.len > 0))
        load_refuse("--upstream with mode", modes[stream.mode], "through, which needs it, and no other");
    allocate(&stream);
    open_all(&stream);
    load_window_start(&stream.window, &stream.options);
    do
        turn(&stream);
    while (!load_window_is_over(&stream.window, clock_now_ns()));
    if (stream.mode == THROUGH)
        finish_through(&stream);
    load_window_report(&stream.window, false);
    return 0;
}
