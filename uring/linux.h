/* The kernel's ring from the inside: linux.c and enter.c share it, nobody else sees it. */
#ifndef URING_LINUX_H
#define URING_LINUX_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include <liburing.h>

#include "uring/ring.h"

struct lookup_pool;

struct linux_ring {
    struct ring ring;
    struct io_uring uring;
    struct lookup_pool *lookups;
    uint32_t enter_flags; /* on every entry into the kernel */
    uint32_t pipes;       /* open ones, whose writes may raise SIGPIPE */
    int wake_fd;          /* never read: each write is an edge that its poll hears */
    atomic_int watch_fd;  /* told of completions for whoever sleeps elsewhere; -1: nobody does */
    bool hears_wakes;     /* True exactly when the poll of wake_fd is in the kernel or on its way there. */
};

static inline uint64_t linux_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
