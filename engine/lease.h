/* Received buffers, lent to streams and users as counted views, and the receivers that wait for them to come back. */
#ifndef ENGINE_LEASE_H
#define ENGINE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/buffer.h>

#include "engine/list.h"
#include "engine/pool.h"
#include "engine/task.h"
#include "uring/buffers.h"

struct leases;

enum {
    /*
     * Nobody keeps a buffer when at most a quarter is left, so what is kept leaves a quarter; and receivers are fed
     * from an eighth on. The second is the smaller fraction, or keepers could starve receivers for ever.
     */
    LEASES_SCARCE_FRACTION = 4,
    LEASES_FEED_FRACTION = 8,
};

/* One buffer that the kernel filled and we have not returned. */
struct lease {
    struct sluice_buffer buffer;
    struct leases *leases;
};

struct leases {
    struct buffers buffers;
    struct lease *all;                   /* one a buffer, by number */
    struct link starving;                /* receivers whose request ended for want of a buffer */
    struct task feed;                    /* wakes them, once enough buffers are back */
    struct run_queue *tasks;             /* where to queue it */
    void (*wake)(struct link *starving); /* how to: buffers are back; it is off the list */
};

int leases_init(struct leases *leases, struct ring *ring, struct run_queue *tasks, uint32_t count, uint32_t size,
                uint32_t window, bool wants_huge_pages, void (*wake)(struct link *starving));
/* Every lease is back. */
void leases_finish(struct leases *leases, struct ring *ring);

/* The kernel put `len` bytes into buffer `id`: a view of them, with one reference. */
struct sluice_view leases_take(struct leases *leases, uint16_t id, size_t len);

/* Wakes them when a good part of the buffers is back: not for each one, or they would be gone at once. */
void leases_starve(struct leases *leases, struct link *starving);

/* So few buffers are left that nobody should keep one. */
static inline bool leases_are_scarce(const struct leases *leases)
{
    return leases->buffers.available <= leases->buffers.count / LEASES_SCARCE_FRACTION;
}

/* What leases are released by, and known by: nobody else calls it. */
void leases_return(struct sluice_buffer *buffer);

/* True for buffers that were leased here or anywhere. */
static inline bool buffer_is_lease(const struct sluice_buffer *buffer)
{
    return buffer->release == leases_return;
}

/* True if `buffer` can be kept by reference. A passing one cannot; a lease should not when they are scarce. */
static inline bool leases_may_keep(const struct leases *leases, const struct sluice_buffer *buffer)
{
    return buffer_is_lease(buffer) ? !leases_are_scarce(leases) : !buffer_is_passing(buffer);
}

#endif
