/*
 * Ctrl-C, and SIGTERM: the first one stops an engine, so that the verb can end in order; the second one of the same
 * kind ends the process at once.
 */
#ifndef TOOLS_INTERRUPT_H
#define TOOLS_INTERRUPT_H

#include <stdbool.h>

#include <sluice/engine.h>

/* From now on signals stop `engine`; with NULL they are only remembered. One engine at a time. */
void interrupt_stops(struct sluice_engine *engine);

/* For a verb that makes one engine after another: signals stop this one instead, also one that has come already. */
void interrupt_turns_to(struct sluice_engine *engine);

/* Before that engine is destroyed, for good: from now on signals do what they did before. */
void interrupt_release(void);

/* True exactly when a signal has come since interrupt_stops(). */
bool interrupt_came(void);

#endif
