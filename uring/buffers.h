/*
 * A ring of equal buffers that the kernel takes from when something arrives (IORING_REGISTER_PBUF_RING, 5.19).
 *
 * The kernel picks a buffer at the moment it has bytes for it, so idle connections hold none. What it filled is lent to
 * us, by number, until we return it.
 */
#ifndef URING_BUFFERS_H
#define URING_BUFFERS_H

#include <stdbool.h>
#include <stdint.h>

#include <liburing.h>

struct ring;

struct buffers {
    struct io_uring_buf_ring *ring; /* shared with the kernel; count entries */
    uint8_t *memory;                /* count * size bytes */
    size_t memory_size;             /* as mapped */
    uint32_t count;                 /* a power of two, at most 32768 */
    uint32_t size;
    uint32_t available; /* with the kernel, or on their way there */
    uint16_t group;
};

/* Maps the memory, registers the ring and gives every buffer to the kernel. 0 or -errno. */
int buffers_init(struct buffers *buffers, struct ring *ring, uint16_t group, uint32_t count, uint32_t size,
                 bool wants_huge_pages);
void buffers_finish(struct buffers *buffers, struct ring *ring);

/* The kernel filled buffer `id`: ours until returned. */
uint8_t *buffers_lend(struct buffers *buffers, uint16_t id);
void buffers_return(struct buffers *buffers, uint16_t id);

#endif
