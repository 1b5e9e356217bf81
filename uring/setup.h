/* Opens a ring with the best flags and the size that this kernel grants. */
#ifndef URING_SETUP_H
#define URING_SETUP_H

#include <stdint.h>

#include <liburing.h>

#include "uring/ring.h"

/*
 * Opens `uring` for this thread; uring->flags says how. May sleep for half a second when memory is short. Returns 0,
 * -EOPNOTSUPP if the kernel is too old, -EINVAL if it refuses the settings, or another -errno.
 */
int setup_open(struct io_uring *uring, const struct ring_config *config);

/* The features that setup_open() used, and those that the kernel would have granted. */
uint32_t setup_granted(const struct io_uring *uring);
uint32_t setup_offered(const struct io_uring *uring);
/* RING_RECEIVE_BUNDLE if the kernel's bundles can be trusted, else 0. */
uint32_t setup_bundles(const struct io_uring *uring);

/* Switches on what makes waiting cheaper; nothing of it is essential. Returns the features now in use. */
uint32_t setup_tune(struct io_uring *uring, const struct ring_config *config);

#endif
