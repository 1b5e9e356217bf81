/* Connecting to an address or a name. */
#ifndef SLUICE_CONNECT_H
#define SLUICE_CONNECT_H

#include <sluice/address.h>
#include <sluice/engine.h>
#include <sluice/stream.h>

SLUICE_BEGIN

/*
 * Starts to connect. The stream can be used at once: sends are queued until on_open. `address` is copied; `events` may
 * be NULL until sluice_stream_set_events().
 *
 * A name is resolved without blocking the engine; its addresses are then tried by RFC 8305 (families alternating,
 * the next attempt 250 ms after the last or as soon as that failed; the first that connects wins). TCP_NODELAY is set.
 *
 * If it cannot be done, on_close tells the cause of the last attempt:
 *   -ECONNREFUSED, -ENETUNREACH, -EHOSTUNREACH (also for a name that does not resolve)
 *   -EAGAIN                     the name service does not answer now
 *   -ETIMEDOUT                  the engine's connect timeout, which includes the look-up, or the network's own
 *   -ENOENT, -ENOTDIR, -EACCES  no such Unix path, or no permission
 *   -EAFNOSUPPORT               this machine has no IPv6, say
 *   -EMFILE, -ENFILE, -ENOMEM   no descriptor or no memory left
 * or what else connect(2) fails with. sluice_stream_abort() cancels, and so does sluice_stream_close() if nothing is
 * queued.
 *
 * Returns 0, -EINVAL (not an address: sluice_address_check() says why), -ENOMEM, or -ESHUTDOWN
 * (the engine is being destroyed).
 */
SLUICE_API int sluice_connect(struct sluice_engine *engine, const char *address,
                              const struct sluice_stream_events *events, void *user, struct sluice_stream **stream);

SLUICE_END

#endif
