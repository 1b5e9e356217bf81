/*
 * Carries what one stream receives to another without copying it, no faster than the other takes it, and then its end.
 * Both may be the same stream: that is an echo.
 *
 * Its owner hears the events of both streams and passes them on. A relay holds both, so it may be told of anything in
 * any order, also after one of them has closed.
 */
#ifndef TOOLS_RELAY_H
#define TOOLS_RELAY_H

#include <stdbool.h>

#include <sluice/buffer.h>
#include <sluice/stream.h>

struct relay {
    struct sluice_stream *source;
    struct sluice_stream *target;
    struct sluice_view refused; /* what the target had no room for; its buffer is NULL when there is nothing */
    bool has_ended;             /* True exactly when no more will come from the source. */
};

void relay_init(struct relay *relay, struct sluice_stream *source, struct sluice_stream *target);
void relay_finish(struct relay *relay);

/* Bytes of the source: on_data. */
void relay_data(struct relay *relay, const struct sluice_view *view);
/* The source will send no more: on_end, or on_close. Telling it twice does no harm. */
void relay_end(struct relay *relay);
/* The target has room again: on_drain. */
void relay_drain(struct relay *relay);

#endif
