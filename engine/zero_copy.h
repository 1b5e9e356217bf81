/*
 * Sends without the kernel's copy (IORING_OP_SEND_ZC, 6.0).
 *
 * Such a send completes twice: first with its count, when the next send may go, and later with a notification, when the
 * memory is free again, which may be after the peer's acknowledgement, out of order, or after the socket is closed. So
 * each has an operation of its own, which holds the buffer and the stream until then.
 */
#ifndef ENGINE_ZERO_COPY_H
#define ENGINE_ZERO_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/transport.h"

/* The slice is large enough, and the kernel can, for this kind of socket. */
static inline bool zero_copy_pays(const struct transport *transport, const struct slice *slice)
{
    const struct sluice_engine *engine = transport->stream.engine;
    uint64_t minimum = engine->options.zero_copy_minimum;

    return minimum && slice->len >= minimum && engine_uses(engine, RING_ZERO_COPY) && !transport->must_copy;
}

/* Submits the slice, as the transport's send. Returns false if there is no memory to keep track of it. */
bool zero_copy_send(struct transport *transport, const struct slice *slice, uint32_t flags);

/* Frees what is kept for later sends; none is in flight. */
void zero_copy_finish(struct sluice_engine *engine);

#endif
