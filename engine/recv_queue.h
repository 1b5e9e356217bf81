/* The receive queue of a stream: bytes that arrived and wait until the user can be told. */
#ifndef ENGINE_RECV_QUEUE_H
#define ENGINE_RECV_QUEUE_H

#include "engine/stream.h"

/* Tells what is held, as much as the user takes and one task may. */
void recv_queue_tell(struct sluice_stream *stream);

#endif
