/* Connecting to an address or a name. */
#ifndef SLUICE_CONNECT_H
#define SLUICE_CONNECT_H

#include <sluice/address.h>
#include <sluice/engine.h>
#include <sluice/stream.h>

SLUICE_BEGIN

/*
 * Starts to connect. The stream can be used at once: sends are queued until on_open.
 *
 * A name is resolved without blocking the engine; its addresses are then tried by RFC 8305 (families alternating,
 * the next attempt 250 ms after the last or as soon as that failed; the first that connects wins). TCP_NODELAY is set.
 *
 * If it cannot be done, on_close tells the cause of the last attempt: -ECONNREFUSED, -ENETUNREACH, -ENOENT (no such
 * Unix path), -EMFILE…, -ETIMEDOUT after the engine's connect timeout, or -EHOSTUNREACH for a name that does not resolve.
 * sluice_stream_close() and sluice_stream_abort() cancel.
 *
 * Returns 0, -EINVAL (not an address: sluice_address_check() says why), -ENOMEM, or -ESHUTDOWN
 * (the engine is being destroyed).
 */
SLUICE_API int sluice_connect(struct sluice_engine *engine, const char *address,
                              const struct sluice_stream_events *events, void *user, struct sluice_stream **stream);

SLUICE_END

#endif
