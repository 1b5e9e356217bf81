/* The short stories of script.h again and again: each time one single thing goes wrong. */
#ifndef SIM_TORTURE_H
#define SIM_TORTURE_H

#include <stdbool.h>

#include "tests/sim/script.h"

/* Each allocation fails in turn, and each operation of the kernel in every way that it can. Returns 0. */
int torture_all(const struct part *part, bool is_traced);

#endif
