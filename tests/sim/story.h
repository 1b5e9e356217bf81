/* A story: users on streams of one or two engines, and everything that must hold whatever they do. */
#ifndef SIM_STORY_H
#define SIM_STORY_H

#include "tests/sim/sim.h"

/* Runs one story to its end; a broken promise ends in sim_violated(). */
void story_run(struct sim *sim);

/* For sim_next_event() and sim_advance(): what the story does below the seam (peers that are not ours). */
uint64_t story_next_event(const struct story *story);
void story_advance(struct story *story);

/* -- For stories that are told otherwise: step by step ------------------------------------------------------- */

/* Empty, with its engines, by story->options. Returns false if there is not enough of something to begin at all. */
bool story_begin(struct story *story, struct sim *sim, uint32_t engines);
/* One turn of every engine. */
void story_turn(struct story *story);
/* Turns until nobody has anything to do at this moment. */
void story_settle(struct story *story);
/* On to whatever comes next, if it comes soon. */
void story_pass_time(struct story *story);
/* Everybody closes, and everything comes to its end, which is checked. */
void story_wind_up(struct story *story);
void story_end(struct story *story);

#endif
