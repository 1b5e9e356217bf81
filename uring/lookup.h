/*
 * Name look-ups on a few threads, because the system's resolver can only block.
 *
 * The threads start when they are needed and end when nothing is left to look up.
 */
#ifndef URING_LOOKUP_H
#define URING_LOOKUP_H

#include "uring/ring.h"

struct lookup_pool;

/* Returns NULL if there is no memory. */
struct lookup_pool *lookup_pool_create(void);

/* Takes NULL. Look-ups under way or queued go on, and call `done`; the last of them frees the pool. */
void lookup_pool_destroy(struct lookup_pool *pool);

/* Returns 0 (lookup->done will be called, once, on another thread), or -errno (it will not). */
int lookup_start(struct lookup_pool *pool, struct ring_lookup *lookup);

#endif
