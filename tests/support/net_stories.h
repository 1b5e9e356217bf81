/* Stories that must go the same way whatever the settings: told by echo.c and close.c, and again by features.c. */
#ifndef SUPPORT_NET_STORIES_H
#define SUPPORT_NET_STORIES_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/options.h>

#include "tests/support/peer.h"

/* `options` may be NULL: net_options(). */

/* Both ends are ours: the client pours `bytes` in pieces and finishes; every byte comes back. */
void story_echo(const struct sluice_engine_options *options, enum peer_family family, uint64_t bytes, size_t piece);
/* The same with a plain socket as the client. */
void story_echo_plain(const struct sluice_engine_options *options, enum peer_family family, uint64_t bytes);
/* Shares memory of its own with the kernel instead of copying. Each buffer is released once, after its last use. */
void story_views(const struct sluice_engine_options *options, enum peer_family family, uint64_t bytes, size_t piece);
/* We finish first; the peer then answers with `bytes`. */
void story_half_close(const struct sluice_engine_options *options, enum peer_family family, uint64_t bytes);
/* The queue takes many linger times to flush, because the peer reads little by little. Nothing is lost. */
void story_slow_reader(const struct sluice_engine_options *options, enum peer_family family);
/* The peer has sent what we did not read, and goes on sending, when we close. It still gets all of ours. */
void story_linger(const struct sluice_engine_options *options, enum peer_family family);
/* We abort: a peer on TCP is reset. */
void story_abort(const struct sluice_engine_options *options, enum peer_family family);
/* The peer resets: what it sent before is heard first. */
void story_reset(const struct sluice_engine_options *options);
/* Some connections of each kind of end at the same time. */
void story_crowd(const struct sluice_engine_options *options, int count, uint64_t bytes);

#endif
