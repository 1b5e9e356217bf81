/* Steps that tests on the real ring have in common. Each asserts that it worked. */
#ifndef SUPPORT_REAL_RING_H
#define SUPPORT_REAL_RING_H

#include <stdint.h>

#include "uring/ring.h"

enum {
    ENTRIES = 8,
    COMPLETIONS = 16,
};

static const uint64_t never = UINT64_MAX;

/* As small as the enum says, with everything that the kernel offers. */
extern const struct ring_config plain;

struct ring *open_ring(struct ring_config config);

void open_sockets(int sockets[2]);

struct io_uring_sqe *get_entry(struct ring *ring, uint64_t user_data);

/* A request that is done at once. */
void queue_nothing(struct ring *ring, uint64_t user_data);

void enter(struct ring *ring, uint32_t completions, uint64_t deadline_ns);

/* The oldest completion, which must be there. Good until the next is taken. */
const struct io_uring_cqe *take(struct ring *ring);
const struct io_uring_cqe *wait_for_one(struct ring *ring);

uint32_t count_ready(struct ring *ring);

/* Waits for a wake, and makes sure that the next one is heard. */
void hear_wake(struct ring *ring);

/* The lowest descriptor that is free. */
int next_descriptor(void);

#endif
