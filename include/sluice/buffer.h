/*
 * Counted buffers and views of them: how bytes travel without being copied.
 *
 * What arrives is shown to on_data as a view: bytes in a buffer that the engine lent. The view is good until
 * the callback returns. Keep it to have it longer, send it on to forward it without a copy, drop it when done.
 *
 * Your own memory can travel the same way: embed a struct sluice_buffer in what owns the bytes, and send views
 * of it to as many streams as you like. `release` is called once, when the last reference is dropped; for bytes
 * that were sent, that is after the kernel's last use of them, also when the stream was aborted.
 *
 * Drop every view of received bytes that was kept before its engine is destroyed: the memory is the engine's.
 *
 * All calls here belong to the engine's thread, and `release` is called on it. References do not cross threads.
 *
 * `release` may come from a turn or from inside a call of yours, as sluice_buffer_drop() or sluice_stream_abort(), in
 * the middle of the library's work. It may free the memory, start a timer or post, but must not call a stream.
 */
#ifndef SLUICE_BUFFER_H
#define SLUICE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/export.h>

SLUICE_BEGIN

struct sluice_buffer {
    void (*release)(struct sluice_buffer *buffer); /* the last reference is gone */
    uint32_t references;
};

struct sluice_view {
    const uint8_t *data;
    size_t len;
    struct sluice_buffer *buffer; /* what owns the bytes: a view is any part of them, and your copy may be narrowed */
};

/* A buffer with one reference, yours. */
static inline void sluice_buffer_init(struct sluice_buffer *buffer, void (*release)(struct sluice_buffer *buffer))
{
    buffer->release = release;
    buffer->references = 1;
}

static inline void sluice_buffer_hold(struct sluice_buffer *buffer)
{
    buffer->references++;
}

static inline void sluice_buffer_drop(struct sluice_buffer *buffer)
{
    if (--buffer->references == 0)
        buffer->release(buffer);
}

SLUICE_END

#endif
