/* Two streams joined in memory, on one engine or on two: what one sends, the other receives. */
#ifndef SLUICE_PAIR_H
#define SLUICE_PAIR_H

#include <stddef.h>

#include <sluice/engine.h>
#include <sluice/stream.h>

SLUICE_BEGIN

/* One end of a pair: on which engine, and who hears it (NULL: nobody until sluice_stream_set_events()). */
struct sluice_pair_end {
    struct sluice_engine *engine;
    const struct sluice_stream_events *events;
    void *user;
};

/*
 * Makes a pair. At most `capacity` bytes (0: 64 KiB) of each direction are between the ends at a time: sent by one, and
 * not yet heard by the other. They are copied once, into that memory; keeping a view copies it out.
 *
 * With two engines, call it on the first one's thread, before or while the second runs; the second stream then may be
 * named on the second engine's thread only, from its first callback or a post on.
 *
 * Returns 0, -ENOMEM, or -ESHUTDOWN (the first engine is being destroyed).
 */
SLUICE_API int sluice_pair(const struct sluice_pair_end *first, const struct sluice_pair_end *second, size_t capacity,
                           struct sluice_stream **first_stream, struct sluice_stream **second_stream);

SLUICE_END

#endif
