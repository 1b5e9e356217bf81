/*
 * One who speaks and many who listen: how many messages a `fanout` peer delivers, and how long after they were sent.
 *
 *     load_fanout [OPTIONS] ADDRESS
 *
 * Options of all loads: --connections N (receivers), --size BYTES (at least 8), --duration TIME, --warmup TIME,
 * --server-pid PID. Its own: --window W, messages that the publisher keeps out (the next one leaves when all receivers
 * have one), and --slow M, more receivers that read 1 KiB every 10 ms, with as small a buffer as they may have, and do
 * not count.
 *
 * A message counts once for each receiver. The first word of each is its number, and each receiver must get all of
 * them, whole and in order; other bytes are not compared. Latency counts from before the publisher's write to after
 * the receiver's read, of every 8th receipt. It is that of the last of many receipts too, which wait for our reading
 * of those before them: with 1,000 receivers it is the peer's and the load's together. It does not measure many
 * publishers.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "perf/load/load.h"
#include "tools/clock.h"
#include "tools/units.h"

enum {
    EVENTS = 1024,
    READ_MAX = 64 << 10,
    WINDOW_MAX = 4096,
    /* More bytes than these out at a time, and a peer may let receivers miss messages. */
    OUT_MAX = 512 << 10,
    SAMPLE_EVERY = 8,
    SLOW_MAX = 10000,
    SLOW_BYTES = 1 << 10,
    /* How long a message may take to reach all who are there, before another one is sent to those who were not. */
    SETTLE_MS = 100,
};

#define SLOW_EVERY_NS (10 * UNITS_NS_PER_MS)
#define NEVER         UINT64_MAX

/* What each message begins with. */
typedef uint64_t message_number;

struct receiver {
    int fd;
    uint64_t next;  /* the number of the message that comes, NEVER before the first one */
    size_t partial; /* bytes of it that are here */
    unsigned char head[sizeof(message_number)];
};

struct fanout {
    struct load_options options;
    uint64_t window_size;
    uint64_t slow_count;
    int epoll;
    struct receiver *receivers;
    int *slow; /* -1 for those that the peer has dropped */
    uint64_t slow_due_ns;
    struct receiver publisher;
    unsigned char *written; /* room for a window of messages */
    size_t pending_from;    /* what of it still has to be sent */
    size_t pending_until;
    uint64_t published;
    uint64_t completed;                 /* messages that every receiver has got */
    uint64_t published_ns[WINDOW_MAX];  /* by their number modulo the window */
    uint64_t missing_count[WINDOW_MAX]; /* receivers that have not got it yet */
    uint64_t receipts;
    bool is_settled; /* True exactly when every receiver has got the last message: from there on none may be missed. */
    unsigned char *read;
    struct load_window window;
};

/* -- Publishing ---------------------------------------------------------------------------------------------- */

static void send_pending(struct fanout *fanout)
{
    ssize_t sent = send(fanout->publisher.fd, fanout->written + fanout->pending_from,
                        fanout->pending_until - fanout->pending_from, 0);

    if (sent < 0 && errno != EAGAIN)
        load_die("publishing");
    if (sent > 0)
        fanout->pending_from += (size_t)sent;
}

static void write_messages(struct fanout *fanout, uint64_t count)
{
    uint64_t now = clock_now_ns();

    fanout->pending_from = 0;
    fanout->pending_until = count * fanout->options.size;
    for (uint64_t i = 0; i < count; i++) {
        message_number number = fanout->published++;

        memcpy(fanout->written + i * fanout->options.size, &number, sizeof number);
        fanout->published_ns[number % fanout->window_size] = now;
        fanout->missing_count[number % fanout->window_size] = fanout->options.connections;
    }
}

/* Sends what the window has room for: all in one write, as who has that much to say would. */
static void publish(struct fanout *fanout)
{
    uint64_t room = fanout->window_size - (fanout->published - fanout->completed);

    if (fanout->pending_from == fanout->pending_until && room > 0)
        write_messages(fanout, room);
    if (fanout->pending_from < fanout->pending_until)
        send_pending(fanout);
}

/* -- Receiving ----------------------------------------------------------------------------------------------- */

/* A message begins, with this number. */
static void check_number(struct fanout *fanout, struct receiver *receiver, message_number number)
{
    if (receiver->next == NEVER)
        receiver->next = number;
    if (number != receiver->next || number >= fanout->published)
        load_fail("receiver %td: message %llu came where %llu should", receiver - fanout->receivers,
                  (unsigned long long)number, (unsigned long long)receiver->next);
}

/* A message is here as a whole. */
static void note_receipt(struct fanout *fanout, struct receiver *receiver)
{
    uint64_t slot = receiver->next++ % fanout->window_size;

    if (!fanout->is_settled)
        return;
    fanout->window.messages++;
    if (fanout->receipts++ % SAMPLE_EVERY == 0)
        histogram_record(&fanout->window.latency, clock_now_ns() - fanout->published_ns[slot]);
    if (--fanout->missing_count[slot] == 0)
        fanout->completed++;
}

/* Takes as much of what came as belongs to the same message, or to its first word. Returns how much that is. */
static size_t take(struct fanout *fanout, struct receiver *receiver, const unsigned char *data, size_t len)
{
    size_t part = receiver->partial < sizeof receiver->head ? sizeof receiver->head : fanout->options.size;
    size_t taken = part - receiver->partial < len ? part - receiver->partial : len;
    message_number number;

    if (receiver->partial < sizeof receiver->head)
        memcpy(receiver->head + receiver->partial, data, taken);
    receiver->partial += taken;
    if (receiver->partial == sizeof receiver->head && taken > 0) {
        memcpy(&number, receiver->head, sizeof number);
        check_number(fanout, receiver, number);
    }
    if (receiver->partial == fanout->options.size) {
        note_receipt(fanout, receiver);
        receiver->partial = 0;
    }
    return taken;
}

/* Watched for edges: what does not fill the buffer was all there is. */
static void receive(struct fanout *fanout, struct receiver *receiver)
{
    ssize_t got;

    do {
        got = recv(receiver->fd, fanout->read, READ_MAX, 0);
        if (got < 0 && errno != EAGAIN)
            load_die("receiving");
        if (got == 0)
            load_fail("%s: the peer has ended a receiver's connection", fanout->options.address.text);
        if (got > 0)
            fanout->window.bytes += (uint64_t)got;
        for (ssize_t at = 0; at < got;)
            at += (ssize_t)take(fanout, receiver, fanout->read + at, (size_t)(got - at));
    } while (got == READ_MAX);
}

/* To the publisher nothing comes but an end. */
static void look_at_publisher(struct fanout *fanout)
{
    ssize_t got = recv(fanout->publisher.fd, fanout->read, 1, 0);

    if (got < 0 && errno == EAGAIN)
        return;
    if (got < 0)
        load_die("publishing");
    load_fail("%s: %s", fanout->options.address.text,
              got > 0 ? "the publisher was sent its own message" : "the peer has ended the publisher's connection");
}

/* -- The slow ones ------------------------------------------------------------------------------------------- */

static void read_slowly(struct fanout *fanout, int *fd)
{
    ssize_t got = *fd >= 0 ? recv(*fd, fanout->read, SLOW_BYTES, 0) : 1;

    if (got > 0 || (got < 0 && errno == EAGAIN))
        return;
    close(*fd);
    *fd = -1;
}

static void look_at_slow(struct fanout *fanout, uint64_t now_ns)
{
    if (now_ns < fanout->slow_due_ns)
        return;
    fanout->slow_due_ns = now_ns + SLOW_EVERY_NS;
    for (uint64_t i = 0; i < fanout->slow_count; i++)
        read_slowly(fanout, &fanout->slow[i]);
}

/* -- Turns --------------------------------------------------------------------------------------------------- */

static void turn(struct fanout *fanout)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(fanout->epoll, events, EVENTS, LOAD_SLEEP_MS);

    for (int i = 0; i < count; i++) {
        struct receiver *receiver = events[i].data.ptr;

        if (receiver != &fanout->publisher)
            receive(fanout, receiver);
        else if (events[i].events & ~(uint32_t)EPOLLOUT)
            look_at_publisher(fanout);
    }
    if (fanout->is_settled)
        publish(fanout);
}

static bool have_all_got_last(const struct fanout *fanout)
{
    for (uint64_t i = 0; i < fanout->options.connections; i++)
        if (fanout->receivers[i].next != fanout->published)
            return false;
    return true;
}

/* A connection stands for us before the peer has taken it: messages are sent until all have got one, and the last. */
static void settle(struct fanout *fanout)
{
    uint64_t now = clock_now_ns();
    uint64_t limit_ns = now + LOAD_PATIENCE_NS;
    uint64_t next_ns = now;

    while (fanout->published == 0 || !have_all_got_last(fanout)) {
        if (now >= limit_ns)
            load_fail("%s: messages do not reach all receivers", fanout->options.address.text);
        if (now >= next_ns && fanout->pending_from == fanout->pending_until) {
            write_messages(fanout, 1);
            next_ns = now + SETTLE_MS * UNITS_NS_PER_MS;
        }
        if (fanout->pending_from < fanout->pending_until)
            send_pending(fanout);
        turn(fanout);
        now = clock_now_ns();
    }
    fanout->completed = fanout->published;
    fanout->is_settled = true;
}

/* -- From start to end --------------------------------------------------------------------------------------- */

static void open_receiver(struct fanout *fanout, struct receiver *receiver, uint64_t number, uint32_t events)
{
    *receiver = (struct receiver){.fd = load_connect(&fanout->options.address, number), .next = NEVER};
    load_watch(fanout->epoll, receiver->fd, events | EPOLLET, receiver);
}

/* The publisher comes last: most peers take connections in order. */
static void open_all(struct fanout *fanout)
{
    uint64_t count = fanout->options.connections;
    int smallest = 1;

    fanout->epoll = load_watch_create();
    fanout->receivers = calloc(count, sizeof *fanout->receivers);
    fanout->slow = calloc(fanout->slow_count + 1, sizeof *fanout->slow);
    fanout->written = calloc(fanout->window_size, fanout->options.size);
    fanout->read = malloc(READ_MAX);
    if (fanout->receivers == NULL || fanout->slow == NULL || fanout->written == NULL || fanout->read == NULL)
        load_die("memory");
    for (uint64_t i = 0; i < fanout->slow_count; i++) {
        fanout->slow[i] = load_connect(&fanout->options.address, i);
        setsockopt(fanout->slow[i], SOL_SOCKET, SO_RCVBUF, &smallest, sizeof smallest);
    }
    for (uint64_t i = 0; i < count; i++)
        open_receiver(fanout, &fanout->receivers[i], fanout->slow_count + i, EPOLLIN);
    open_receiver(fanout, &fanout->publisher, fanout->slow_count + count, EPOLLIN | EPOLLOUT);
}

static void check_sizes(const struct fanout *fanout)
{
    uint64_t size = fanout->options.size;
    char text[UNITS_TEXT_MAX];

    units_write_size(size, text, sizeof text);
    if (size < sizeof(message_number))
        load_refuse("--size", text, "at least 8 bytes, for the message's number");
    units_write_size(size * fanout->window_size, text, sizeof text);
    if (fanout->window_size > 1 && size * fanout->window_size > OUT_MAX)
        load_refuse("--window times --size", text, "at most 512K");
}

int main(int argc, char **argv)
{
    static struct fanout fanout = {
        .options = {.connections = 1000, .size = 256, .duration_ns = 2000000000, .warmup_ns = 300000000},
        .window_size = 1,
    };
    const struct load_argument own[] = {
        {.name = "window", .min = 1, .max = WINDOW_MAX, .number = &fanout.window_size},
        {.name = "slow", .max = SLOW_MAX, .number = &fanout.slow_count},
        {.name = NULL},
    };
    uint64_t now;

    load_read_arguments(argc, argv, &fanout.options, own, NULL);
    check_sizes(&fanout);
    open_all(&fanout);
    settle(&fanout);
    load_window_start(&fanout.window, &fanout.options);
    do {
        turn(&fanout);
        now = clock_now_ns();
        look_at_slow(&fanout, now);
    } while (!load_window_is_over(&fanout.window, now));
    load_window_report(&fanout.window, true);
    return 0;
}
