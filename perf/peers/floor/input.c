/* What arrives: see input.h. */
#include "perf/peers/floor/input.h"

#include "perf/peers/floor/buffers.h"
#include "perf/peers/floor/connection.h"
#include "perf/peers/floor/request.h"

#include <errno.h>

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
    buffer_give_back(buffer);
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
        buffer_give_back(buffer);
    else if (options.role == PEER_FANOUT)
        cut_messages(slot, buffer, data, len, &server.said);
    else
        pass_on(slot, buffer, data, len);
}

static void mark_starved(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    if (!connection->is_starved)
        server.starved[(server.starved_head + server.starved_count++) % SLOT_COUNT] = slot;
    connection->is_starved = true;
    connection->lacks_buffers = true;
}

void feed_starved(void)
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
        connection_release(slot);
    else if (result == -ENOBUFS)
        mark_starved(slot);
    else if (is_interrupted && !connection->is_paused)
        arm_receive(slot);
    else if (result == 0 && options.role != PEER_FANOUT)
        connection_end_if_drained(partner(slot));
    else if (!is_interrupted)
        connection_end(slot);
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

void take_receive(unsigned slot, const struct io_uring_cqe *completion)
{
    if (completion->res > 0)
        take_all(slot, completion->flags >> IORING_CQE_BUFFER_SHIFT, (size_t)completion->res);
    if (!(completion->flags & IORING_CQE_F_MORE))
        take_receive_end(slot, completion->res);
}
