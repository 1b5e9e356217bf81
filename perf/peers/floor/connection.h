/* A connection from its slot to its end; when forwarding, the two that are joined end as one. */
#ifndef PERF_FLOOR_CONNECTION_H
#define PERF_FLOOR_CONNECTION_H

#include "perf/peers/floor/request.h"
#include "perf/peers/floor/server.h"

/* Where the bytes go that arrive here; and where those come from that go out here. */
static inline unsigned partner(unsigned slot)
{
    return options.role == PEER_FORWARD ? slot ^ server.upstream : slot;
}

/* It has something to send when the turn ends. */
static inline void mark_dirty(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    if (!connection->is_dirty)
        server.dirty[server.dirty_count++] = slot;
    connection->is_dirty = true;
}

void connection_open(unsigned slot);

/* Ends it, and its partner, whatever is still queued. */
void connection_end(unsigned slot);

/* Closes a dying connection, and its partner, once the kernel has nothing of either: the upstream slot first. */
void connection_release(unsigned slot);

/* The completion of a shutdown. */
void take_shutdown(unsigned slot);

/* If everything that came from the partner went out here, and nothing more comes, this direction is over. */
static inline void connection_end_if_drained(unsigned slot)
{
    struct connection *connection = &server.connections[slot];

    if (connection->is_dying || !server.connections[partner(slot)].has_ended)
        return;
    if (connection->queue.head || connection->sending || connection->has_shut)
        return;
    if (partner(slot) == slot)
        connection_end(slot);
    else
        request_shutdown(slot);
}

#endif
