/* The ways into the kernel: submit, wait, collect. See enter() in uring/ring.h for what they add up to. */
#ifndef URING_ENTER_H
#define URING_ENTER_H

#include <stdint.h>

#include "uring/linux.h"

/* Each returns 0, or -errno when the ring is broken for good. */

/* Submits every entry and lets the kernel run what it has pending. Without a system call if there is neither. */
int enter_submit(struct linux_ring *self);

/* Lets the kernel run what it has pending. */
int enter_collect(struct linux_ring *self);

/* Submits every entry, then waits until `completions` are there or the clock reaches `deadline_ns`. */
int enter_wait(struct linux_ring *self, uint32_t completions, uint64_t deadline_ns);

#endif
