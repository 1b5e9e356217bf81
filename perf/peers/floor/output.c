/* What goes out: see output.h. */
#include "perf/peers/floor/output.h"

#include "perf/peers/floor/connection.h"

#include <errno.h>
#include <stdlib.h>

enum {
    SOURCE_BYTES = 512 << 10, /* a source sends so much at once: with where it goes, a cache holds it */
};

static uint8_t constant[PEER_SIZE_MAX];
static struct batch source;

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

void output_flush(void)
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
    connection_release(slot);
    if (!connection->is_open || connection->is_dying)
        return;
    if (connection->queue.head)
        mark_dirty(slot);
    if (server.connections[partner(slot)].is_paused && connection->queue.len <= PEER_FORWARD_MAX / 4)
        resume(partner(slot));
    connection_end_if_drained(slot);
}

void output_settle(void)
{
    for (unsigned i = 0; i < server.quiet_count; i++)
        if (server.connections[server.quiet[i]].sending == SENDING_QUIETLY)
            sent_all(server.quiet[i]);
    server.quiet_count = 0;
    if (server.spread)
        batch_give_back(server.spread);
    server.spread = NULL;
}

void take_quiet(unsigned slot, int result)
{
    struct connection *connection = &server.connections[slot];

    if (result < 0 && result != -EAGAIN) {
        connection_end(slot);
        return;
    }
    if (connection->is_dying)
        return;
    batch_drop(connection->sent, result > 0 ? (size_t)result : 0);
    send_waiting(slot);
}

void take_spread(unsigned slot, int result)
{
    struct connection *connection = &server.connections[slot];

    if (!connection->is_open || connection->is_dying)
        return;
    if (result < 0 && result != -EAGAIN) {
        connection_end(slot);
        return;
    }
    connection->sent = batch_take(slot);
    batch_add_block(connection->sent, batch_copy(server.spread, result > 0 ? (size_t)result : 0));
    send_waiting(slot);
}

void take_waiting(unsigned slot, int result)
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
        connection_end(slot);
    sent_all(slot);
}

/* -- A source ------------------------------------------------------------------------------------------------ */

void source_fill(void)
{
    source.message.msg_iov = source.pieces;
    while (source.len < SOURCE_BYTES && source.message.msg_iovlen < PIECE_COUNT) {
        size_t room = SOURCE_BYTES - source.len;

        batch_add(&source, constant, options.size < room ? options.size : room);
    }
}

void source_more(unsigned slot, enum kind kind)
{
    server.connections[slot].requests = 1;
    request_send(slot, &source, kind);
}

void source_sent(unsigned slot, int result)
{
    server.connections[slot].requests = 0;
    if (result < 0 && result != -EAGAIN)
        connection_end(slot);
    else
        source_more(slot, result >= 0 && (size_t)result == source.len ? KIND_SOURCE : KIND_WAITING);
}
