/* A connection from its slot to its end: see connection.h. */
#include "perf/peers/floor/connection.h"

#include "perf/peers/floor/request.h"

#include <stdlib.h>

void connection_open(unsigned slot)
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

void connection_release(unsigned slot)
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

void connection_end(unsigned slot)
{
    if (!server.connections[slot].is_open || server.connections[slot].is_dying)
        return;
    stop(slot);
    if (partner(slot) != slot)
        stop(partner(slot));
    connection_release(slot);
}

void take_shutdown(unsigned slot)
{
    server.connections[slot].requests--;
    if (server.connections[slot].has_ended && server.connections[partner(slot)].has_shut)
        connection_end(slot);
    connection_release(slot);
}
