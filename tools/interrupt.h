/*
 * Ctrl-C, and SIGTERM: the first one stops an engine, so that the verb can end in order; the second one of the same
 * kind ends the process at once.
 */
#ifndef TOOLS_INTERRUPT_H
#define TOOLS_INTERRUPT_H

#include <stdbool.h>

#include <sluice/engine.h>

/* From now on signals stop `engine`. One engine at a time. */
void interrupt_stops(struct sluice_engine *engine);

/* Before that engine is destroyed: from now on signals do what they did before. */
void interrupt_release(void);

/* True exactly when a signal has come since interrupt_stops(). */
bool interrupt_came(void);

#endif
