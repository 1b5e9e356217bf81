/* Zero-copy sends: see zero_copy.h. */
#include "engine/zero_copy.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct zero_copy {
    struct operation operation;
    struct zero_copy *next_free;
    struct transport *transport;
    struct sluice_buffer *buffer; /* in the kernel's hands */
};

/* Sockets that are not of the internet have no zero-copy: then nothing was sent, and the next send copies. */
static int32_t take_result(struct transport *transport, int32_t result)
{
    if (result != -EOPNOTSUPP)
        return result;
    transport->must_copy = true;
    return -EINTR;
}

static void complete(struct operation *operation, const struct io_uring_cqe *completion)
{
    struct zero_copy *send = container_of(operation, struct zero_copy, operation);
    struct sluice_stream *stream = &send->transport->stream;

    if (completion->flags & IORING_CQE_F_NOTIF) {
        if ((uint32_t)completion->res & IORING_NOTIF_USAGE_ZC_COPIED)
            counter_add(&stream->engine->counters.zero_copy_copied, 1);
    } else if (send->transport->sending == operation) { /* not if a broken ring keeps the notification */
        counter_add(&stream->engine->counters.zero_copy_sends, 1);
        operation->is_cancelling = false; /* there is nothing to end any more */
        transport_sent(send->transport, take_result(send->transport, completion->res));
    }
    /* Without F_MORE there is no notification to come, also after an error. */
    if (operation->is_armed)
        return;
    send->next_free = stream->engine->zero_copies;
    stream->engine->zero_copies = send;
    sluice_buffer_drop(send->buffer);
    stream_unguard(stream);
}

/* One that is not in use, with an operation. NULL if there is no memory. */
static struct zero_copy *take(struct sluice_engine *engine)
{
    struct zero_copy *send = engine->zero_copies;

    if (send) {
        engine->zero_copies = send->next_free;
        return send;
    }
    send = malloc(sizeof *send);
    if (send && operation_init(&send->operation, &engine->operations, complete) < 0) {
        free(send);
        return NULL;
    }
    return send;
}

bool zero_copy_send(struct transport *transport, const struct slice *slice, uint32_t flags)
{
    struct sluice_engine *engine = transport->stream.engine;
    size_t len = slice->len < GATHER_BYTES ? slice->len : GATHER_BYTES;
    struct zero_copy *send = take(engine);
    struct io_uring_sqe *entry;

    if (!send)
        return false;
    send->transport = transport;
    send->buffer = slice->buffer;
    sluice_buffer_hold(send->buffer);
    entry = engine_get_entry(engine);
    ring_prep_send(entry, transport->write_fd, slice->data, len, flags | RING_SEND_ZERO_COPY);
    transport_arm_send(transport, &send->operation, entry, len);
    return true;
}

void zero_copy_finish(struct sluice_engine *engine)
{
    while (engine->zero_copies) {
        struct zero_copy *next = engine->zero_copies->next_free;

        operation_finish(&engine->zero_copies->operation, &engine->operations);
        free(engine->zero_copies);
        engine->zero_copies = next;
    }
}
