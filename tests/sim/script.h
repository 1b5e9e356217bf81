/* Short stories, each told in every order of its events, over every stack, at every pace. */
#ifndef SIM_SCRIPT_H
#define SIM_SCRIPT_H

#include <stdbool.h>

/*
 * Runs them all, or those of one name, or a single run, named as a violation names it. Returns 0, or 2 if there is none
 * of that name; a violation does not return.
 */
int script_run_all(const char *name, bool is_traced);

#endif
