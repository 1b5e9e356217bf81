/*
 * The guarded send queue of a stream: what was accepted, and the flusher that moves it down.
 *
 * Everything that is ever submitted for a stream passes through send_queue_run(), which consults the write status last.
 */
#ifndef ENGINE_SEND_QUEUE_H
#define ENGINE_SEND_QUEUE_H

#include <stdint.h>

#include "engine/stream.h"

/* The flush task of a stream: moves the queue down, ends our direction behind it, and tells on_drain. */
void send_queue_run(struct task *task);

/* Drops what is queued, and counts it as lost. The kernel uses none of it any more. */
void send_queue_drop(struct sluice_stream *stream);

/* From here on nothing can be posted. Returns the bytes that were posted and have not arrived. */
uint64_t send_queue_close_posts(struct sluice_stream *stream);

#endif
