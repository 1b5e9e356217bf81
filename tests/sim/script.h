/* Short stories, each told in every order of its events, over every stack, at every pace. */
#ifndef SIM_SCRIPT_H
#define SIM_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim.h"

enum {
    SCRIPT_EVENTS_MAX = 8,
};

struct script_run {
    const struct script *script;
    const struct stack *stack;
    const struct pace *pace;
    char order[SCRIPT_EVENTS_MAX + 1];
    bool is_traced;
};

/* Run number `index` of all, with its events in the order in which the script has them. Returns false past the last. */
bool script_pick(size_t index, struct script_run *run);

/* Tells it, with one thing going wrong as `torture` says, which then knows what there was. Returns the operations. */
uint64_t script_tell(const struct script_run *run, struct torture *torture);

/* One part of several, so that they can run side by side: what has this number, and each `count` further. */
struct part {
    size_t number; /* from 0 */
    size_t count;  /* 1: everything */
};

/*
 * Runs them all, or those of one name, or a single run, named as a violation names it. Returns 0, or 2 if there is none
 * of that name; a violation does not return.
 */
int script_run_all(const char *name, const struct part *part, const struct torture *torture, bool is_traced);

#endif
