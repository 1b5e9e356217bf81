/*
 * The floor: raw liburing by hand, in every role, with every kernel feature that pays for streams on loopback. It is
 * what Sluice is measured against: nothing here is general, and nothing is done that no role needs.
 *
 * One ring (single issuer, deferred task work, registered descriptor), direct descriptors, multishot accept and receive
 * into one ring of shared buffers, and one system call a turn. What a turn received for a connection goes out in one
 * send from the buffers it arrived in, which is tried inside the submitting call and is not answered if it takes
 * everything ("quiet"). Where it does not, the rest waits in the kernel for room and then goes as far as there is any
 * (to have the kernel wait until all is taken moves it in small pieces: a third of the rate of a stream). Its source is
 * not read beyond a limit (and beyond what a multishot receive still brings until it is cancelled).
 *
 * In role messages that is a trick which no rival may use, as answers that differ from the questions cannot: no call
 * and no copy is made for a message. Whole messages that lie side by side go back as they lie.
 *
 * What it leaves out: whatever a library is for. No callbacks, timers or statistics, no other thread, no other way if
 * the kernel lacks one, no limit of all memory; what it cannot have or handle (no descriptors left), it dies of. It
 * forwards a reset as an end. Nor does it splice, which the ring does on helper threads, or send without a copy, which
 * loopback makes anyway.
 */
#include "perf/peers/peer.h"

#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Linux 6.10: liburing 2.3 does not name them yet. */
#ifndef IORING_RECVSEND_BUNDLE
#define IORING_RECVSEND_BUNDLE (1U << 4)
#endif
#ifndef IORING_FEAT_RECVSEND_BUNDLE
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14)
#endif

enum {
    RING_ENTRIES = 256,
    COMPLETION_ENTRIES = 4096,
    REAP_MAX = 128,
    BUFFERS_MAX = 256,
    PIECE_COUNT = 64,
    COPY_SIZE = 65536,
    SOURCE_BYTES = 512 << 10, /* a source sends so much at once: with where it goes, a cache holds it */
    SLOT_COUNT = 65536,
};

enum kind {
    KIND_ACCEPT,
    KIND_RECEIVE,
    KIND_QUIET,   /* a send that is heard of only if it did not take everything */
    KIND_SPREAD,  /* the same, of what is said to everybody */
    KIND_WAITING, /* a send that waits for room, and takes what there is */
    KIND_SOURCE,  /* a source's: it takes what there is room for, now */
    KIND_CONNECT,
    KIND_SHUTDOWN,
    KIND_IGNORED,
};

/* Bytes of a batch's own. */
struct block {
    struct block *next;
    size_t len;
    size_t capacity;
    uint8_t bytes[];
};

/* What goes out in one send. */
struct batch {
    struct batch *next;
    struct block *blocks;
    size_t len;
    unsigned origin; /* whose words these are */
    unsigned buffer_count;
    uint16_t buffers[PIECE_COUNT]; /* shared ones, to be given back after the send */
    struct msghdr message;         /* of pieces, which lie in buffers and blocks */
    struct iovec pieces[PIECE_COUNT];
};

struct queue {
    struct batch *head;
    struct batch *tail;
    size_t len;
};

enum sending {
    SENDING_NOTHING,
    SENDING_QUIETLY, /* tried by the next submission, heard of only if it does not take everything */
    SENDING_WAITING, /* for room */
};

struct connection {
    struct queue queue; /* to be sent */
    struct batch *sent; /* in the kernel, unless we send nothing */
    enum sending sending;
    struct block *partial; /* of a message that has begun to arrive */
    unsigned requests;     /* connect and shutdown in the kernel */
    unsigned place;        /* in server.open, if this is fan-out */
    bool is_open;
    bool is_dying;      /* closed as soon as nothing of it is in the kernel */
    bool is_receiving;  /* true exactly when the kernel holds its multishot receive */
    bool is_paused;     /* not to be read: the one to whom its bytes go does not take them */
    bool is_dirty;      /* in server.dirty */
    bool is_starved;    /* in server.starved */
    bool lacks_buffers; /* why it is not receiving */
    bool has_ended;     /* the other side sends nothing more */
    bool has_shut;      /* it was told that we do not, either */
};

struct server {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    uint8_t *memory;
    unsigned buffer_count;
    unsigned buffer_size;
    unsigned lent_max; /* beyond that, what waits for slow readers is copied out */
    unsigned returned; /* buffers given back in this turn, not yet shown to the kernel */
    unsigned lent;     /* buffers that are not the kernel's */
    int listener;
    unsigned upstream; /* a bit: the slot of a connection's upstream, when forwarding, is its own with it */
    bool is_hurried;   /* there is work left: do not wait */
    struct batch *free_batches;
    struct queue said;    /* to everybody */
    struct batch *spread; /* the same, in the kernel */
    unsigned dirty_count;
    unsigned quiet_count;
    unsigned open_count;
    unsigned starved_head;
    unsigned starved_count;
    uint16_t places[BUFFERS_MAX]; /* where in the ring of buffers each was offered */
    unsigned dirty[SLOT_COUNT];   /* connections with something to send */
    unsigned quiet[SLOT_COUNT];   /* connections whose quiet send is in this submission */
    unsigned open[SLOT_COUNT];
    unsigned starved[SLOT_COUNT]; /* a ring: connections that are read when there are buffers again */
    struct connection connections[SLOT_COUNT];
};

static struct peer_options options;
static struct server server;
static uint8_t constant[PEER_SIZE_MAX];
static struct batch source;

/* -- Memory -------------------------------------------------------------------------------------------------- */

static void *allocate(size_t size)
{
    void *memory = malloc(size);

    if (!memory)
        peer_die("memory", ENOMEM);
    return memory;
}

static uint8_t *buffer_memory(unsigned buffer)
{
    return server.memory + (size_t)buffer * server.buffer_size;
}

static void give_back(unsigned buffer)
{
    server.places[buffer] = (uint16_t)(server.buffers->tail + server.returned);
    io_uring_buf_ring_add(server.buffers, buffer_memory(buffer), server.buffer_size, (unsigned short)buffer,
                          (int)server.buffer_count - 1, (int)server.returned++);
    server.lent--;
}

static struct block *block_create(size_t capacity)
{
    struct block *block = allocate(sizeof *block + capacity);

    block->next = NULL;
    block->len = 0;
    block->capacity = capacity;
    return block;
}

static void block_append(struct block *block, const uint8_t *data, size_t len)
{
    memcpy(block->bytes + block->len, data, len);
    block->len += len;
}

static struct batch *batch_take(unsigned origin)
{
    struct batch *batch = server.free_batches;

    if (batch)
        server.free_batches = batch->next;
    else
        batch = allocate(sizeof *batch);
    batch->next = NULL;
    batch->blocks = NULL;
    batch->len = 0;
    batch->origin = origin;
    batch->buffer_count = 0;
    batch->message = (struct msghdr){.msg_iov = batch->pieces};
    return batch;
}

/* Frees what the pieces lie in, but not the batch. */
static void batch_empty(struct batch *batch)
{
    for (unsigned i = 0; i < batch->buffer_count; i++)
        give_back(batch->buffers[i]);
    batch->buffer_count = 0;
    while (batch->blocks) {
        struct block *block = batch->blocks;

        batch->blocks = block->next;
        free(block);
    }
}

static void batch_give_back(struct batch *batch)
{
    batch_empty(batch);
    batch->next = server.free_batches;
    server.free_batches = batch;
}

static void batch_add(struct batch *batch, const void *data, size_t len)
{
    batch->pieces[batch->message.msg_iovlen++] = (struct iovec){.iov_base = (void *)data, .iov_len = len};
    batch->len += len;
}

static void batch_add_block(struct batch *batch, struct block *block)
{
    block->next = batch->blocks;
    batch->blocks = block;
    batch_add(batch, block->bytes, block->len);
}

/* Copies what is left of a batch from `skip` on. */
static struct block *batch_copy(const struct batch *batch, size_t skip)
{
    struct block *block = block_create(batch->len - skip);

    for (size_t i = 0; i < batch->message.msg_iovlen; i++) {
        const struct iovec *piece = &batch->message.msg_iov[i];
        size_t skipped = skip < piece->iov_len ? skip : piece->iov_len;

        block_append(block, (uint8_t *)piece->iov_base + skipped, piece->iov_len - skipped);
        skip -= skipped;
    }
    return block;
}

/* Drops the first bytes, which were sent. */
static void batch_drop(struct batch *batch, size_t len)
{
    batch->len -= len;
    while (len > 0) {
        struct iovec *piece = batch->message.msg_iov;
        size_t part = len < piece->iov_len ? len : piece->iov_len;

        piece->iov_base = (uint8_t *)piece->iov_base + part;
        piece->iov_len -= part;
        len -= part;
        if (piece->iov_len == 0) {
            batch->message.msg_iov++;
            batch->message.msg_iovlen--;
        }
    }
}

/* Who reads slowly cannot take the shared buffers from others: moves what is left to memory of its own. */
static void batch_own(struct batch *batch)
{
    struct block *block = batch_copy(batch, 0);

    batch_empty(batch);
    batch->len = 0;
    batch->message = (struct msghdr){.msg_iov = batch->pieces};
    batch_add_block(batch, block);
}

/* The batch at the tail, if one more piece of the same origin fits into it, or a new one. */
static struct batch *queue_tail(struct queue *queue, unsigned origin)
{
    struct batch *batch = queue->tail;

    if (batch && batch->origin == origin &&
        batch->pieces + PIECE_COUNT > batch->message.msg_iov + batch->message.msg_iovlen)
        return batch;
    batch = batch_take(origin);
    if (queue->tail)
        queue->tail->next = batch;
    else
        queue->head = batch;
    queue->tail = batch;
    return batch;
}

static void queue_buffer(struct queue *queue, unsigned origin, unsigned buffer, const uint8_t *data, size_t len)
{
    struct batch *batch = queue_tail(queue, origin);

    batch->buffers[batch->buffer_count++] = (uint16_t)buffer;
    batch_add(batch, data, len);
    queue->len += len;
}

static void queue_block(struct queue *queue, unsigned origin, struct block *block)
{
    batch_add_block(queue_tail(queue, origin), block);
    queue->len += block->len;
}

/* Small copies share a block, which is the last piece of the last batch. */
static void queue_copy(struct queue *queue, unsigned origin, const uint8_t *data, size_t len)
{
    struct block *block = queue->tail ? queue->tail->blocks : NULL;
    struct iovec *last = block ? queue->tail->message.msg_iov + queue->tail->message.msg_iovlen - 1 : NULL;

    if (block && block->capacity - block->len >= len && last->iov_base == block->bytes) {
        block_append(block, data, len);
        last->iov_len += len;
        queue->tail->len += len;
        queue->len += len;
        return;
    }
    block = block_create(len > COPY_SIZE ? len : COPY_SIZE);
    block_append(block, data, len);
    queue_block(queue, origin, block);
}

static struct batch *queue_pop(struct queue *queue)
{
    struct batch *batch = queue->head;

    queue->head = batch->next;
    if (!queue->head)
        queue->tail = NULL;
    queue->len -= batch->len;
    return batch;
}

/* -- Requests ------------------------------------------------------------------------------------------------ */

static uint64_t identity(enum kind kind, unsigned slot)
{
    return (uint64_t)kind << 32 | slot;
}

static void submit(void)
{
    int result;

    do
        result = io_uring_submit(&server.ring);
    while (result == -EINTR);
    if (result < 0)
        peer_die("submission", result);
}

static struct io_uring_sqe *get_entry(void)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&server.ring);

    if (!entry) {
        submit();
        entry = io_uring_get_sqe(&server.ring);
    }
    return entry;
}

static void set_request(struct io_uring_sqe *entry, enum kind kind, unsigned slot)
{
    entry->flags |= IOSQE_FIXED_FILE;
    entry->user_data = identity(kind, slot);
}

static void arm_accept(void)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_multishot_accept_direct(entry, server.listener, NULL, NULL, 0);
    entry->user_data = identity(KIND_ACCEPT, 0);
}

static void arm_receive(unsigned slot)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_recv_multishot(entry, (int)slot, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = 0;
    if (options.role == PEER_FORWARD && server.ring.features & IORING_FEAT_RECVSEND_BUNDLE)
        entry->ioprio |= IORING_RECVSEND_BUNDLE;
    set_request(entry, KIND_RECEIVE, slot);
    server.connections[slot].is_receiving = true;
    server.connections[slot].lacks_buffers = false;
}

static void request_cancel(enum kind kind, unsigned slot)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_cancel64(entry, identity(kind, slot), 0);
    entry->user_data = identity(KIND_IGNORED, slot);
}

static void request_send(unsigned slot, const struct batch *batch, enum kind kind)
{
    struct io_uring_sqe *entry = get_entry();
    int flags = MSG_NOSIGNAL | (kind == KIND_WAITING ? 0 : MSG_DONTWAIT | MSG_WAITALL);

    if (batch->message.msg_iovlen == 1)
        io_uring_prep_send(entry, (int)slot, batch->message.msg_iov->iov_base, batch->message.msg_iov->iov_len, flags);
    else
        io_uring_prep_sendmsg(entry, (int)slot, &batch->message, (unsigned)flags);
    if (kind == KIND_WAITING)
        entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
    else if (kind != KIND_SOURCE)
        entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    set_request(entry, kind, slot);
}

static void request_close(unsigned slot)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_close_direct(entry, slot);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    entry->user_data = identity(KIND_IGNORED, slot);
}

static void request_shutdown(unsigned slot)
{
    struct io_uring_sqe *entry = get_entry();

    io_uring_prep_shutdown(entry, (int)slot, SHUT_WR);
    set_request(entry, KIND_SHUTDOWN, slot);
    server.connections[slot].requests++;
    server.connections[slot].has_shut = true;
}

/* -- Connections --------------------------------------------------------------------------------------------- */

/* Where the bytes go that arrive here; and where those come from that go out here. */
static unsigned partner(unsigned slot)
{
    return options.role == PEER_FORWARD ? slot ^ server.upstream : slot;
}

static void mark_dirty(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    if (!connection->is_dirty)
        server.dirty[server.dirty_count++] = slot;
    connection->is_dirty = true;
}

static void mark_starved(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    if (!connection->is_starved)
        server.starved[(server.starved_head + server.starved_count++) % SLOT_COUNT] = slot;
    connection->is_starved = true;
    connection->lacks_buffers = true;
}

static void connection_open(unsigned slot)
{
    struct connection *connection = &server.connections[slot];
    bool is_dirty = connection->is_dirty; /* its predecessor was: the lists still have it */
    bool is_starved = connection->is_starved;

    *connection = (struct connection){
        .is_open = true,
        .is_dirty = is_dirty,
        .is_starved = is_starved,
        .place = server.open_count,
    };
    server.open[server.open_count++] = slot;
}

static bool is_busy(const struct connection *connection)
{
    return connection->is_receiving || connection->sending || connection->requests > 0;
}

static void connection_close(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    while (connection->queue.head)
        batch_give_back(queue_pop(&connection->queue));
    free(connection->partial);
    connection->partial = NULL;
    connection->is_open = false;
    server.open[connection->place] = server.open[--server.open_count];
    server.connections[server.open[connection->place]].place = connection->place;
    request_close(slot);
}

/* Closes a dying connection, and its partner, once the kernel has nothing of either: the upstream slot first. */
static void release(unsigned slot)
{
    unsigned other = partner(slot);

    if (!server.connections[slot].is_dying || !server.connections[slot].is_open)
        return;
    if (is_busy(&server.connections[slot]) || is_busy(&server.connections[other]))
        return;
    if (other != slot)
        connection_close(slot | server.upstream);
    connection_close(slot & ~server.upstream);
}

static void stop(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    connection->is_dying = true;
    if (connection->is_receiving)
        request_cancel(KIND_RECEIVE, slot);
    if (connection->sending == SENDING_WAITING)
        request_cancel(KIND_WAITING, slot);
}

static void end(unsigned slot)
{
    if (!server.connections[slot].is_open || server.connections[slot].is_dying)
        return;
    stop(slot);
    if (partner(slot) != slot)
        stop(partner(slot));
    release(slot);
}

/* If everything that came from the partner went out here, and nothing more comes, this direction is over. */
static void end_if_drained(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    if (connection->is_dying || !server.connections[partner(slot)].has_ended)
        return;
    if (connection->queue.head || connection->sending || connection->has_shut)
        return;
    if (partner(slot) == slot)
        end(slot);
    else
        request_shutdown(slot);
}

/* -- Sending ------------------------------------------------------------------------------------------------- */

static void send_waiting(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    if (server.lent > server.lent_max) {
        batch_own(connection->sent);
        for (struct batch *batch = connection->queue.head; batch; batch = batch->next)
            batch_own(batch);
    }
    connection->sending = SENDING_WAITING;
    request_send(slot, connection->sent, KIND_WAITING);
}

static void send_quiet(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    if (connection->is_dying || connection->sending || !connection->queue.head)
        return;
    connection->sent = queue_pop(&connection->queue);
    connection->sending = SENDING_QUIETLY;
    request_send(slot, connection->sent, KIND_QUIET);
    server.quiet[server.quiet_count++] = slot;
    if (connection->queue.head || server.connections[partner(slot)].has_ended ||
        server.connections[partner(slot)].is_paused)
        server.is_hurried = true; /* somebody waits to hear that it is over */
}

/* To everybody but who said it. Who waits already gets a copy, or, if that is too much, misses it. */
static void spread(void)
{
    struct batch *batch = queue_pop(&server.said);
    struct block *copy = NULL;

    for (unsigned i = 0; i < server.open_count; i++) {
        struct connection *connection = &server.connections[server.open[i]];

        if (server.open[i] == batch->origin || connection->is_dying)
            continue;
        if (!connection->sending) {
            request_send(server.open[i], batch, KIND_SPREAD);
            continue;
        }
        if (connection->queue.len + batch->len > PEER_QUEUE_MAX)
            continue;
        copy = copy ? copy : batch_copy(batch, 0);
        queue_copy(&connection->queue, server.open[i], copy->bytes, copy->len);
    }
    free(copy);
    server.spread = batch;
    if (server.said.head)
        server.is_hurried = true;
}

/* What this turn has to say. */
static void flush(void)
{
    for (unsigned i = 0; i < server.dirty_count; i++) {
        server.connections[server.dirty[i]].is_dirty = false;
        if (server.connections[server.dirty[i]].is_open)
            send_quiet(server.dirty[i]);
    }
    server.dirty_count = 0;
    if (server.said.head)
        spread();
}

static void resume(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    connection->is_paused = false;
    if (!connection->is_receiving && !connection->has_ended)
        arm_receive(slot); /* or the end of the one that was cancelled will */
}

/* What was sent was taken, or will not be: what comes next, and who waited for it. */
static void sent_all(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    batch_give_back(connection->sent);
    connection->sending = SENDING_NOTHING;
    release(slot);
    if (!connection->is_open || connection->is_dying)
        return;
    if (connection->queue.head)
        mark_dirty(slot);
    if (server.connections[partner(slot)].is_paused && connection->queue.len <= PEER_FORWARD_MAX / 4)
        resume(partner(slot));
    end_if_drained(slot);
}

/* Those quiet sends of which nothing was heard took everything. */
static void settle(void)
{
    for (unsigned i = 0; i < server.quiet_count; i++)
        if (server.connections[server.quiet[i]].sending == SENDING_QUIETLY)
            sent_all(server.quiet[i]);
    server.quiet_count = 0;
    if (server.spread)
        batch_give_back(server.spread);
    server.spread = NULL;
}

/* A quiet send did not take everything: the rest waits. */
static void take_quiet(unsigned slot, int result)
{
    struct connection *connection = &server.connections[slot];

    if (result < 0 && result != -EAGAIN) {
        end(slot);
        return;
    }
    if (connection->is_dying)
        return;
    batch_drop(connection->sent, result > 0 ? (size_t)result : 0);
    send_waiting(slot);
}

static void take_spread(unsigned slot, int result)
{
    struct connection *connection = &server.connections[slot];

    if (!connection->is_open || connection->is_dying)
        return;
    if (result < 0 && result != -EAGAIN) {
        end(slot);
        return;
    }
    connection->sent = batch_take(slot);
    batch_add_block(connection->sent, batch_copy(server.spread, result > 0 ? (size_t)result : 0));
    send_waiting(slot);
}

static void take_waiting(unsigned slot, int result)
{
    struct connection *connection = &server.connections[slot];
    bool has_failed = result < 0 && result != -EAGAIN;

    if (!has_failed && !connection->is_dying) {
        batch_drop(connection->sent, result > 0 ? (size_t)result : 0);
        if (connection->sent->len > 0) {
            send_waiting(slot);
            return;
        }
    }
    if (has_failed)
        end(slot);
    sent_all(slot);
}

/* -- A source ------------------------------------------------------------------------------------------------ */

/* Writes side by side, or as much of a large one: its bytes are all the same. */
static void fill_source(void)
{
    source.message.msg_iov = source.pieces;
    while (source.len < SOURCE_BYTES && source.message.msg_iovlen < PIECE_COUNT) {
        size_t room = SOURCE_BYTES - source.len;

        batch_add(&source, constant, options.size < room ? options.size : room);
    }
}

static void source_more(unsigned slot, enum kind kind)
{
    server.connections[slot].requests = 1;
    request_send(slot, &source, kind);
}

static void source_sent(unsigned slot, int result)
{
    server.connections[slot].requests = 0;
    if (result < 0 && result != -EAGAIN)
        end(slot);
    else
        source_more(slot, result >= 0 && (size_t)result == source.len ? KIND_SOURCE : KIND_WAITING);
}

/* -- Receiving ----------------------------------------------------------------------------------------------- */

/* Of a slow reader's, no more than so many buffers are kept: the others need them. */
static void queue_bytes(unsigned slot, unsigned buffer, const uint8_t *data, size_t len, struct queue *queue)
{
    bool is_slow = server.connections[partner(slot)].sending == SENDING_WAITING;

    if (len > 0 && (!is_slow || server.lent <= server.lent_max)) {
        queue_buffer(queue, slot, buffer, data, len);
        return;
    }
    if (len > 0)
        queue_copy(queue, slot, data, len);
    give_back(buffer);
}

/* Queues the messages that are whole now, those side by side in a buffer as one piece; keeps the start of the next. */
static void cut_messages(unsigned slot, unsigned buffer, const uint8_t *data, size_t len, struct queue *queue)
{
    struct connection *connection = &server.connections[slot];
    size_t whole;

    if (connection->partial) {
        size_t missing = options.size - connection->partial->len;
        size_t part = len < missing ? len : missing;

        block_append(connection->partial, data, part);
        data += part;
        len -= part;
        if (part == missing) {
            queue_block(queue, slot, connection->partial);
            connection->partial = NULL;
        }
    }
    whole = len - len % options.size;
    if (whole < len) {
        connection->partial = block_create(options.size);
        block_append(connection->partial, data + whole, len - whole);
    }
    queue_bytes(slot, buffer, data, whole, queue);
}

/* Queues what arrived to where it goes; and stops reading for somebody who does not take it. */
static void pass_on(unsigned slot, unsigned buffer, const uint8_t *data, size_t len)
{
    struct connection *target = &server.connections[partner(slot)];

    if (options.role == PEER_MESSAGES)
        cut_messages(slot, buffer, data, len, &target->queue);
    else
        queue_bytes(slot, buffer, data, len, &target->queue);
    mark_dirty(partner(slot));
    if (target->sending == SENDING_WAITING && target->queue.len >= PEER_FORWARD_MAX &&
        !server.connections[slot].is_paused) {
        server.connections[slot].is_paused = true;
        request_cancel(KIND_RECEIVE, slot);
    }
}

static void take_bytes(unsigned slot, unsigned buffer, size_t len)
{
    const uint8_t *data = buffer_memory(buffer);

    server.lent++;
    if (server.connections[slot].is_dying || options.role == PEER_SINK)
        give_back(buffer);
    else if (options.role == PEER_FANOUT)
        cut_messages(slot, buffer, data, len, &server.said);
    else
        pass_on(slot, buffer, data, len);
}

/*
 * Receives again for as many as there are buffers, and for the rest in a later turn. To ask for all at once would be to
 * be refused by most, again and again.
 */
static void feed_starved(void)
{
    unsigned available = server.buffer_count - server.lent;

    for (; server.starved_count > 0 && available > 0; server.starved_count--, server.starved_head++) {
        unsigned slot = server.starved[server.starved_head % SLOT_COUNT];
        struct connection *connection = &server.connections[slot];

        connection->is_starved = false;
        if (!connection->is_open || connection->is_dying || !connection->lacks_buffers || connection->is_paused)
            continue;
        arm_receive(slot);
        available--;
    }
    if (server.starved_count > 0)
        server.is_hurried = true;
}

/* The kernel's receive is over. */
static void take_receive_end(unsigned slot, int result)
{
    struct connection *connection = &server.connections[slot];
    bool is_interrupted = result > 0 || result == -ENOBUFS || result == -ECANCELED;

    connection->is_receiving = false;
    connection->has_ended = result == 0;
    if (connection->is_dying)
        release(slot);
    else if (result == -ENOBUFS)
        mark_starved(slot);
    else if (is_interrupted && !connection->is_paused)
        arm_receive(slot);
    else if (result == 0 && options.role != PEER_FANOUT)
        end_if_drained(partner(slot));
    else if (!is_interrupted)
        end(slot);
}

/* What came in one receive: in a buffer, and, if that is full, in those that were offered behind it. */
static void take_all(unsigned slot, unsigned buffer, size_t len)
{
    while (len > server.buffer_size) {
        unsigned next = (server.places[buffer] + 1U) & (server.buffer_count - 1);

        next = server.buffers->bufs[next].bid; /* before this one is given back, which may take its place */
        take_bytes(slot, buffer, server.buffer_size);
        len -= server.buffer_size;
        buffer = next;
    }
    take_bytes(slot, buffer, len);
}

static void take_receive(unsigned slot, const struct io_uring_cqe *completion)
{
    if (completion->res > 0)
        take_all(slot, completion->flags >> IORING_CQE_BUFFER_SHIFT, (size_t)completion->res);
    if (!(completion->flags & IORING_CQE_F_MORE))
        take_receive_end(slot, completion->res);
}

/* -- Accepting and connecting -------------------------------------------------------------------------------- */

static void connect_upstream(unsigned slot)
{
    const struct peer_address *address = &options.upstream;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct io_uring_sqe *entry;
    int one = 1;
    int result;

    if (fd < 0)
        peer_die("socket", errno);
    if (address->any.sa_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    result = io_uring_register_files_update(&server.ring, slot, &fd, 1);
    if (result < 0)
        peer_die("direct descriptor", result);
    close(fd);
    connection_open(slot);
    entry = get_entry();
    io_uring_prep_connect(entry, (int)slot, &address->any, address->len);
    set_request(entry, KIND_CONNECT, slot);
    server.connections[slot].requests++;
}

static void take_connect(unsigned slot, int result)
{
    server.connections[slot].requests--;
    if (result < 0) {
        end(slot);
        return;
    }
    arm_receive(slot);
    arm_receive(partner(slot));
}

static void take_shutdown(unsigned slot)
{
    server.connections[slot].requests--;
    if (server.connections[slot].has_ended && server.connections[partner(slot)].has_shut)
        end(slot);
    release(slot);
}

/* The listener's TCP_NODELAY is inherited. */
static void take_accept(const struct io_uring_cqe *completion)
{
    if (completion->res == -ENFILE || completion->res == -EMFILE)
        peer_die("accept", completion->res);
    if (!(completion->flags & IORING_CQE_F_MORE))
        arm_accept();
    if (completion->res < 0)
        return;
    connection_open((unsigned)completion->res);
    if (options.role == PEER_SOURCE)
        source_more((unsigned)completion->res, KIND_SOURCE);
    else if (options.role == PEER_FORWARD)
        connect_upstream((unsigned)completion->res | server.upstream);
    else
        arm_receive((unsigned)completion->res);
}

/* -- The turn ------------------------------------------------------------------------------------------------ */

static void take(const struct io_uring_cqe *completion)
{
    unsigned slot = (unsigned)completion->user_data;

    switch ((enum kind)(completion->user_data >> 32)) {
    case KIND_ACCEPT:
        take_accept(completion);
        break;
    case KIND_RECEIVE:
        take_receive(slot, completion);
        break;
    case KIND_QUIET:
        take_quiet(slot, completion->res);
        break;
    case KIND_SPREAD:
        take_spread(slot, completion->res);
        break;
    case KIND_WAITING:
        if (options.role == PEER_SOURCE)
            source_sent(slot, completion->res);
        else
            take_waiting(slot, completion->res);
        break;
    case KIND_SOURCE:
        source_sent(slot, completion->res);
        break;
    case KIND_CONNECT:
        take_connect(slot, completion->res);
        break;
    case KIND_SHUTDOWN:
        take_shutdown(slot);
        break;
    case KIND_IGNORED: /* a cancellation: what was cancelled says how it went */
        break;
    }
}

static void reap(void)
{
    struct io_uring_cqe *completions[REAP_MAX];
    unsigned count;

    while (io_uring_cq_ready(&server.ring) > 0) {
        count = io_uring_peek_batch_cqe(&server.ring, completions, REAP_MAX);
        for (unsigned i = 0; i < count; i++)
            take(completions[i]);
        io_uring_cq_advance(&server.ring, count);
    }
}

static bool kernel_says(unsigned flags)
{
    return IO_URING_READ_ONCE(*server.ring.sq.kflags) & flags;
}

/* Submits, and waits for a completion unless there is work left; by watching memory if it never sleeps. */
static void enter(void)
{
    bool submits = io_uring_sq_ready(&server.ring) > 0;
    int result = 0;

    io_uring_buf_ring_advance(server.buffers, (int)server.returned);
    server.returned = 0;
    if (!options.busy_polls && !server.is_hurried)
        result = io_uring_submit_and_wait(&server.ring, 1);
    else if (submits || server.is_hurried || kernel_says(IORING_SQ_TASKRUN))
        result = io_uring_submit_and_get_events(&server.ring);
    server.is_hurried = false;
    if (result < 0 && result != -EINTR)
        peer_die("the ring", result);
    if (io_uring_sq_ready(&server.ring) > 0)
        submit();
}

/* All that quiet sends have to say is heard before the next are made: a connection's bytes stay in order. */
static void turn(void)
{
    enter();
    reap();
    if (kernel_says(IORING_SQ_TASKRUN) && !options.busy_polls) /* a wait for one returns with few */
        io_uring_get_events(&server.ring);
    reap();
    while (kernel_says(IORING_SQ_CQ_OVERFLOW)) {
        io_uring_get_events(&server.ring);
        reap();
    }
    settle();
    flush();
    feed_starved();
}

/* -- The program --------------------------------------------------------------------------------------------- */

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);

    if (memory == MAP_FAILED)
        peer_die("memory", errno);
    return memory;
}

/*
 * Few enough to stay in the cache, as they are used in turn. Streams are received in large pieces; elsewhere there are
 * more buffers, for a turn's connections and those of the turn before.
 */
static void choose_buffers(void)
{
    switch (options.role) {
    case PEER_SINK:
        server.buffer_count = 16;
        server.buffer_size = 65536;
        break;
    case PEER_FORWARD:
        server.buffer_count = 32;
        server.buffer_size = 65536;
        break;
    default:
        server.buffer_count = BUFFERS_MAX;
        server.buffer_size = 16384;
    }
    server.lent_max = server.buffer_count / 4 * 3;
}

static void set_up_buffers(void)
{
    struct io_uring_buf_reg registration = {0};
    int error;

    choose_buffers();
    server.buffers = map(server.buffer_count * sizeof(struct io_uring_buf));
    server.memory = map((size_t)server.buffer_count * server.buffer_size);
    registration.ring_addr = (uint64_t)(uintptr_t)server.buffers;
    registration.ring_entries = server.buffer_count;
    error = io_uring_register_buf_ring(&server.ring, &registration, 0);
    if (error)
        peer_die("shared buffers", error);
    io_uring_buf_ring_init(server.buffers);
    server.lent = server.buffer_count;
    for (unsigned i = 0; i < server.buffer_count; i++)
        give_back(i);
}

/* As many slots as we may have descriptors; when forwarding, the upper half of them is not for who is accepted. */
static void set_up_slots(void)
{
    struct rlimit limit = {.rlim_cur = SLOT_COUNT};
    unsigned count = SLOT_COUNT;
    int error;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (options.role != PEER_FORWARD && limit.rlim_cur < count)
        count = (unsigned)limit.rlim_cur;
    while (count > limit.rlim_cur)
        count /= 2; /* stays a power of two: half of it is a bit */
    error = io_uring_register_files_sparse(&server.ring, count);
    if (!error && options.role == PEER_FORWARD) {
        server.upstream = count / 2;
        error = io_uring_register_file_alloc_range(&server.ring, 0, server.upstream);
    }
    if (error)
        peer_die("direct descriptors", error);
}

static void set_up_ring(void)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = COMPLETION_ENTRIES,
    };
    int error = io_uring_queue_init_params(RING_ENTRIES, &server.ring, &params);

    if (error)
        peer_die("ring", error);
    io_uring_register_ring_fd(&server.ring);
}

int main(int argc, char **argv)
{
    peer_read_arguments(argc, argv, &options);
    set_up_ring();
    set_up_slots();
    set_up_buffers();
    fill_source();
    server.listener = peer_listen(&options);
    peer_set_nodelay(&options, server.listener);
    arm_accept();
    peer_announce(&options);
    for (;;)
        turn();
}
