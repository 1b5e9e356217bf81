/* Accepting connections. */
#ifndef SLUICE_LISTENER_H
#define SLUICE_LISTENER_H

#include <stdint.h>

#include <sluice/address.h>
#include <sluice/engine.h>
#include <sluice/stream.h>

SLUICE_BEGIN

/* Yours to name until its on_close returns. */
struct sluice_listener;

/* What a listener tells its user, from the engine's turn. The table must stay valid until on_close returns. */
struct sluice_listener_events {
    /*
     * A connection. Say who hears it with sluice_stream_set_events(); until then its bytes are held. It is open:
     * send, close and abort work at once. Never NULL.
     */
    void (*on_accept)(struct sluice_listener *listener, struct sluice_stream *stream, void *user);
    /*
     * Accepting pauses: -EMFILE, -ENFILE, -ENOBUFS or -ENOMEM. Connections wait in the kernel's backlog, and accepting
     * goes on when a descriptor is free again. Told once for each time. May be NULL.
     */
    void (*on_error)(struct sluice_listener *listener, int error, void *user);
    /* The listener and its descriptor are closed, its memory is about to go: the last callback. May be NULL. */
    void (*on_close)(struct sluice_listener *listener, void *user);
};

/* Start from zeroes. */
struct sluice_listener_options {
    uint32_t backlog;          /* 0: the engine's setting */
    uint32_t connection_limit; /* connections open at a time; more wait in the backlog. 0: no limit */
    int reuse_port;            /* 1: SO_REUSEPORT, so that several engines listen on one TCP address */
};

/*
 * Listens on an address. A name is looked up while the call waits, which stops the engine: give an address where that
 * matters. SO_REUSEADDR is set. A Unix path that a dead process left behind is taken over; one where somebody listens
 * is not. The path is removed when the listener closes, unless it names something else by then.
 *
 * `address` and `options` are copied; `options` may be NULL. Returns 0, -EINVAL (not an address: sluice_address_check()
 * says why), -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EHOSTUNREACH (the name does not resolve), -EAGAIN (the name service
 * does not answer now), -EMFILE, -ENOMEM, -ESHUTDOWN (the engine is being destroyed)…
 */
SLUICE_API int sluice_listen(struct sluice_engine *engine, const char *address,
                             const struct sluice_listener_options *options, const struct sluice_listener_events *events,
                             void *user, struct sluice_listener **listener);

/*
 * The address in text, with the port that was given for port 0. SLUICE_ADDRESS_MAX bytes are always enough.
 * Returns 0, or -ENOSPC.
 */
SLUICE_API int sluice_listener_address(const struct sluice_listener *listener, char *text, size_t text_size);

/*
 * Stops accepting; streams it accepted live on. Connections that were accepted before and are not told yet may still
 * be. on_close follows, from a turn. Calling it again until then does nothing.
 */
SLUICE_API void sluice_listener_close(struct sluice_listener *listener);

SLUICE_END

#endif
