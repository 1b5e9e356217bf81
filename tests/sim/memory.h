/*
 * Memory in a run. The engine's allocations are counted, and fail when the run wants it; the simulator's own are not.
 *
 * The program is linked so that malloc and its kin come here (--wrap). Without that it runs as well, but no allocation
 * fails and no leak is seen.
 */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim.h"

/* From here on allocations are counted from 0, and fail as `sim` wants; NULL: none fails any more. */
void memory_watch(struct sim *sim);
/* How many were made since. */
uint64_t memory_allocations(void);
/* Blocks that were allocated since and are not freed. */
int64_t memory_live(void);

/* The simulator's own: zeroed, never fails, is not counted. */
void *memory_get(size_t size);
void *memory_resize(void *memory, size_t old_size, size_t size);
void memory_put(void *memory);

#endif
