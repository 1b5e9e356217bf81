/* Steps that tests on the real ring have in common. Each asserts that it worked. */
#ifndef SUPPORT_REAL_RING_H
#define SUPPORT_REAL_RING_H

#include <stdint.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "uring/ring.h"

enum {
    ENTRIES = 8,
    COMPLETIONS = 16,
};

static const uint64_t never = UINT64_MAX;

/* As small as the enum says, with everything that the kernel offers. */
static const struct ring_config plain = {.entries = ENTRIES, .completion_entries = COMPLETIONS, .sqpoll_cpu = -1};

static inline struct ring *open_ring(struct ring_config config)
{
    struct ring *ring;
    int result = ring_open_linux(&config, &ring);

    cr_assert_eq(result, 0, "%s", strerror(-result));
    return ring;
}

static inline void open_sockets(int sockets[2])
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
}

static inline struct io_uring_sqe *get_entry(struct ring *ring, uint64_t user_data)
{
    struct io_uring_sqe *entry = ring->ops->get_entry(ring);

    cr_assert(entry);
    entry->user_data = user_data;
    return entry;
}

/* A request that is done at once. */
static inline void queue_nothing(struct ring *ring, uint64_t user_data)
{
    ring_prep(get_entry(ring, user_data), IORING_OP_NOP, -1, NULL, 0);
}

static inline void enter(struct ring *ring, uint32_t completions, uint64_t deadline_ns)
{
    int result = ring->ops->enter(ring, completions, deadline_ns);

    cr_assert_eq(result, 0, "%s", strerror(-result));
}

/* The oldest completion, which must be there. Good until the next is taken. */
static inline const struct io_uring_cqe *take(struct ring *ring)
{
    static struct io_uring_cqe taken;
    struct io_uring_cqe *completion;

    cr_assert_eq(ring->ops->peek(ring, &completion, 1), 1);
    memcpy(&taken, completion, sizeof taken);
    ring->ops->seen(ring, 1);
    return &taken;
}

static inline const struct io_uring_cqe *wait_for_one(struct ring *ring)
{
    enter(ring, 1, never);
    return take(ring);
}

static inline uint32_t count_ready(struct ring *ring)
{
    struct io_uring_cqe *completions[4 * COMPLETIONS];

    return ring->ops->peek(ring, completions, 4 * COMPLETIONS);
}

/* Waits for a wake, and makes sure that the next one is heard. */
static inline void hear_wake(struct ring *ring)
{
    const struct io_uring_cqe *completion = wait_for_one(ring);

    cr_assert_eq(completion->user_data, RING_WAKE);
    cr_assert_geq(completion->res, 0);
    ring->ops->woken(ring, completion);
}

/* The lowest descriptor that is free. */
static inline int next_descriptor(void)
{
    int fd = dup(STDERR_FILENO);

    close(fd);
    return fd;
}

#endif
