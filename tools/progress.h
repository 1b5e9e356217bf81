/*
 * A line of progress on standard error, rewritten a few times a second and wiped away at the end.
 * If standard error is not a terminal, nothing happens at all.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/engine.h>

/* Room for the line, its NUL included: what fits every terminal. */
#define PROGRESS_LINE_MAX 80

/* Embed it, and set `write` before the start. */
struct progress {
    void (*write)(struct progress *progress, char *line, size_t line_size);
    struct sluice_engine *engine; /* from here on the progress's own */
    struct sluice_timer timer;
};

void progress_start(struct progress *progress, struct sluice_engine *engine);
void progress_stop(struct progress *progress);

/* How fast a counter grows. Start from zeroes. */
struct progress_rate {
    uint64_t last_ns;
    uint64_t last_count;
};

/* What `count` grows by in a second, since the last call. */
double progress_rate(struct progress_rate *rate, uint64_t count);

/* Writes "[####      ]  40 %": how much of `total_ns` is over. Returns `line`. */
const char *progress_bar(uint64_t elapsed_ns, uint64_t total_ns, char *line, size_t line_size);

#endif
