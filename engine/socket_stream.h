/* Streams over connected sockets, TCP and Unix. */
#ifndef ENGINE_SOCKET_STREAM_H
#define ENGINE_SOCKET_STREAM_H

#include "engine/stream.h"

struct connector;

/*
 * Over a connected socket, which becomes the stream's. Open from the start. 0, or -ENOMEM: the socket is the caller's.
 */
int socket_stream_adopt(struct sluice_engine *engine, int fd, int family, const struct sluice_stream_events *events,
                        void *user, struct sluice_stream **stream);

/* Without a socket yet: connecting. `connector`, which it owns, is told when the stream gives up. 0 or -ENOMEM. */
int socket_stream_create(struct sluice_engine *engine, struct connector *connector,
                         const struct sluice_stream_events *events, void *user, struct sluice_stream **stream);

/* The socket for a connecting stream, connected. It becomes the stream's. */
void socket_stream_connected(struct sluice_stream *stream, int fd, int family);

/* The connector has given up, or was told to, and is no more: the stream closes. */
void socket_stream_unconnected(struct sluice_stream *stream);

/* Who hears that sockets are closed; outlives them. */
struct socket_watcher {
    void (*on_gone)(struct socket_watcher *watcher); /* called once for each socket that it watches */
};

/* The socket of an adopted stream is watched from now on. */
void socket_stream_watch(struct sluice_stream *stream, struct socket_watcher *watcher);

#endif
