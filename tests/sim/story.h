/* A story: users on streams of one or two engines, and everything that must hold whatever they do. */
#ifndef SIM_STORY_H
#define SIM_STORY_H

#include "tests/sim/sim.h"

/* Runs one story to its end; a broken promise ends in sim_violated(). */
void story_run(struct sim *sim);

/* For sim_next_event() and sim_advance(): what the story does below the seam (peers that are not ours). */
uint64_t story_next_event(const struct story *story);
void story_advance(struct story *story);

#endif
