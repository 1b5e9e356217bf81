/* What a server can do with its connections. Each service is the events of a listener. */
#ifndef TOOLS_SERVICES_H
#define TOOLS_SERVICES_H

#include <stdint.h>

#include <sluice/listener.h>

/* Sends back what it receives, without copying it. `user` is not used. */
extern const struct sluice_listener_events echo_service;

/* Receives, and forgets it. `user` is not used. */
extern const struct sluice_listener_events sink_service;

/* Sends a pattern for as long as the peer reads; what the peer sends is ignored. `user` is a struct pattern. */
extern const struct sluice_listener_events source_service;

/* Sends what one connection says to all others. `user` is a struct chat, of one engine. */
extern const struct sluice_listener_events chat_service;

/* A room full of connections. Start from zeroes. */
struct chat {
    struct chat_member *members;
    uint64_t dropped; /* members thrown out because they did not read as fast as the others wrote */
};

#endif
