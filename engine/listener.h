/* Listeners: accepting connections, and coming back when that fails for want of descriptors. */
#ifndef ENGINE_LISTENER_H
#define ENGINE_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/listener.h>

#include "engine/engine.h"
#include "engine/socket_stream.h"
#include "engine/stream.h"

struct sluice_listener {
    struct sluice_engine *engine;
    const struct sluice_listener_events *events;
    void *user;
    struct socket_watcher watcher; /* of its connections */
    struct link link;              /* in engine->listeners, until on_close was told */
    int fd;
    struct ring_address address;
    uint32_t connection_limit; /* 0: none */
    uint32_t open;             /* connections that were accepted and are not closed; each holds the memory */
    struct operation accept;
    struct sluice_timer retry;
    struct task work;               /* tells the user */
    struct sluice_stream *accepted; /* not yet told, oldest first; each guarded, the next one in place of its user */
    struct sluice_stream *accepted_last; /* counts if there is a first */
    int error;                           /* of accepting, to be told; 0: none */
    bool owns_path;                      /* removes the Unix path at the end */
    bool is_paused;                      /* accepting has failed, and no connection came since */
    bool is_closing;
    bool is_closed; /* on_close was told: the memory goes with the last connection */
};

/* Listens on a socket that listens already, and becomes the listener's. Returns 0 or -ENOMEM. */
int listener_adopt(struct sluice_engine *engine, int fd, const struct ring_address *address, bool owns_path,
                   const struct sluice_listener_options *options, const struct sluice_listener_events *events,
                   void *user, struct sluice_listener **result);

#endif
