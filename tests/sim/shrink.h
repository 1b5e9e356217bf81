/* Makes the story of a failing seed shorter: leaves out what it does not need to fail. */
#ifndef SIM_SHRINK_H
#define SIM_SHRINK_H

#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim.h"

enum {
    LIMITS_TEXT_MAX = 512,
};

/* Runs one seed; a violation ends in sim_violated(). */
uint64_t run_seed(uint64_t seed, const struct limits *limits, bool is_traced);

/* Tries the seed with less and less, each time in a process of its own, and leaves in `limits` what still fails. */
void shrink(uint64_t seed, struct limits *limits);

/* As on the command line. */
void limits_write(const struct limits *limits, char text[LIMITS_TEXT_MAX]);
/* Takes one option of the command line. Returns false if it is none of them, or its value is none. */
bool limits_read(struct limits *limits, const char *option, const char *value);

#endif
