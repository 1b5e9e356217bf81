/*
 * A group: some threads, one engine each, sharing the work of listening.
 *
 * To create, to listen and to destroy belong to one thread at a time, which is none of the group's.
 */
#ifndef SLUICE_GROUP_H
#define SLUICE_GROUP_H

#include <stddef.h>

#include <sluice/engine.h>
#include <sluice/listener.h>

SLUICE_BEGIN

struct sluice_group;

/*
 * Starts `threads` threads (1 to 256), each with a running engine made from `options` (NULL: defaults). If
 * options->thread_cpu is set, the first is pinned to that CPU and each other one to the next, wrapping at the last.
 * Signals are blocked in these threads. Returns 0, or -errno as sluice_engine_create(), -EINVAL, -EAGAIN (no more
 * threads); then none runs.
 */
SLUICE_API int sluice_group_create(const struct sluice_engine_options *options, size_t threads,
                                   struct sluice_group **group);

/* How many engines there are. [any thread] */
SLUICE_API size_t sluice_group_size(const struct sluice_group *group);

/* Engine number `index` (wrapping), to post to. [any thread] */
SLUICE_API struct sluice_engine *sluice_group_engine(const struct sluice_group *group, size_t index);

/*
 * Listens on `address` from every engine: on TCP with one SO_REUSEPORT socket an engine, between which the kernel
 * spreads connections; on Unix sockets with one socket that all accept from. A port on which another program listens is
 * refused, unless options->reuse_port says to share it with that one, too. on_accept comes on the thread of the
 * stream's engine, so `user` is shared between threads. options->connection_limit is per engine.
 * `text` (may be NULL) gets the address as sluice_listener_address() writes it.
 * Listening ends with the group. Returns 0, or -errno as sluice_listen(), -ESHUTDOWN also if an engine of the group has
 * stopped or its ring has failed; then no engine listens.
 */
SLUICE_API int sluice_group_listen(struct sluice_group *group, const char *address,
                                   const struct sluice_listener_options *options,
                                   const struct sluice_listener_events *events, void *user, char *text,
                                   size_t text_size);

/* Stops every engine, destroys it as sluice_engine_destroy() does, and joins the threads. NULL is allowed. */
SLUICE_API void sluice_group_destroy(struct sluice_group *group);

SLUICE_END

#endif
