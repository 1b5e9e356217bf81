/*
 * A ring of equal buffers that the kernel takes from when something arrives (IORING_REGISTER_PBUF_RING, 5.19).
 *
 * The kernel picks a buffer at the moment it has bytes for it, so idle connections hold none. What it filled is lent to
 * us, by number, until we return it.
 *
 * The kernel takes them in the order in which they are offered, so if all were, each would be used in its turn and none
 * would be in the processor's cache any more. So only a window of them is on offer, and what came back last goes out
 * first. Whoever finds the window empty widens it. When nobody has for a while, it narrows; and the while doubles with
 * each want, so that a crowd that needs many is not tried again and again.
 */
#ifndef URING_BUFFERS_H
#define URING_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <liburing.h>

struct ring;

enum {
    BUFFERS_CALM = 16384,       /* buffers lent without a want of them, after which the window narrows, at first */
    BUFFERS_CALM_MAX = 1 << 24, /* …and in the end */
    BUFFERS_HOT = 1 << 20,      /* bytes, about as many as stay in a cache: who fills more at a time is given no more */
};

struct buffers {
    struct io_uring_buf_ring *ring; /* shared with the kernel; count entries */
    uint8_t *memory;                /* count * size bytes */
    size_t memory_size;             /* as mapped */
    uint32_t count;                 /* a power of two, at most 32768 */
    uint32_t size;
    uint32_t available; /* offered or spare */
    uint32_t offered;   /* with the kernel, or on their way there */
    uint32_t window;    /* how many to offer */
    uint32_t narrowest; /* what the window was first */
    uint32_t lent;      /* buffers, since the window last changed */
    uint64_t filled;    /* bytes in them */
    uint32_t calm;      /* how many may be lent before it narrows */
    uint16_t *spare;    /* a stack of the others */
    uint16_t *places;   /* where in the ring each was offered last */
    uint16_t group;
};

/*
 * Maps the memory, registers the ring and offers the first `window` buffers, at most all of them, to the kernel. 0 or
 * -errno.
 */
int buffers_init(struct buffers *buffers, struct ring *ring, uint16_t group, uint32_t count, uint32_t size,
                 uint32_t window, bool wants_huge_pages);
void buffers_finish(struct buffers *buffers, struct ring *ring);

/* The kernel put `len` bytes into buffer `id`: ours until returned. */
uint8_t *buffers_lend(struct buffers *buffers, uint16_t id, size_t len);
void buffers_return(struct buffers *buffers, uint16_t id);
/* The buffer that was offered right behind `id`. Good until that one has been lent and returned. */
uint16_t buffers_behind(const struct buffers *buffers, uint16_t id);

/* The kernel has found none on offer. */
void buffers_widen(struct buffers *buffers);

#endif
