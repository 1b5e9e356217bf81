/* The shared buffers into which the kernel receives, and the ring in which they are offered to it. */
#ifndef PERF_FLOOR_BUFFERS_H
#define PERF_FLOOR_BUFFERS_H

#include <stdint.h>

#include "perf/peers/floor/server.h"

/* As many and as large ones as the role wants, all of them the kernel's. */
void buffers_set_up(void);

static inline uint8_t *buffer_memory(unsigned buffer)
{
    return server.memory + (size_t)buffer * server.buffer_size;
}

/* The kernel has it when it is entered next. */
static inline void buffer_give_back(unsigned buffer)
{
    server.places[buffer] = (uint16_t)(server.buffers->tail + server.returned);
    io_uring_buf_ring_add(server.buffers, buffer_memory(buffer), server.buffer_size, (unsigned short)buffer,
                          (int)server.buffer_count - 1, (int)server.returned++);
    server.lent--;
}

#endif
