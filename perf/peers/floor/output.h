/* What goes out: quiet sends, those that wait for room, what is said to everybody, and a source's bytes. */
#ifndef PERF_FLOOR_OUTPUT_H
#define PERF_FLOOR_OUTPUT_H

#include "perf/peers/floor/request.h"

/* Sends what this turn has to say. */
void output_flush(void);

/* Those quiet sends of which nothing was heard took everything. */
void output_settle(void);

/* A quiet send, or one to everybody, did not take everything: the rest waits. */
void take_quiet(unsigned slot, int result);
void take_spread(unsigned slot, int result);

/* A send that waited took what there was room for: the rest, if there is any, waits again. */
void take_waiting(unsigned slot, int result);

/* Prepares what a source sends. Writes side by side, or as much of a large one: its bytes are all the same. */
void source_fill(void);

/* Sends them, once now (KIND_SOURCE) or when there is room (KIND_WAITING); and hears how that went. */
void source_more(unsigned slot, enum kind kind);
void source_sent(unsigned slot, int result);

#endif
