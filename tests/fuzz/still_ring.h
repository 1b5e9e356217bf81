/*
 * Engines on a ring below which nothing happens: it takes no requests, and its clock moves when it is told to. Enough
 * for streams in memory, and cheap to make for each input.
 */
#ifndef FUZZ_STILL_RING_H
#define FUZZ_STILL_RING_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/engine.h>

/* `now_ns` is the clock of all engines that share it; `options` are complete. */
struct sluice_engine *still_engine_create(const struct sluice_engine_options *options, const uint64_t *now_ns);

/*
 * Takes turns until no engine has anything to do for longer than `patience_ns`, moving the clock to each timer before
 * that. They must come to rest in a bounded number of turns.
 */
void still_settle(struct sluice_engine *const engines[], size_t count, uint64_t *now_ns, uint64_t patience_ns);

#endif
