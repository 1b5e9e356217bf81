/*
 * A small world for stories: an engine, streams on it, and records of what their users hear.
 *
 * Every step asserts what must always hold: callbacks come from the engine's turn only, one at a time, none after
 * on_close; and a world in which everything is closed keeps no stream and no queued byte.
 */
#ifndef SUPPORT_WORLD_H
#define SUPPORT_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <criterion/criterion.h>
#include <sluice/sluice.h>

enum {
    MANY_TURNS = 20000,
    MS = 1000 * 1000, /* in nanoseconds */
};

struct world {
    struct sluice_engine *engine;
    bool is_in_turn;
    bool is_telling; /* a callback of some stream runs */
};

/* What one user heard, and what it does when it hears something. */
struct record {
    struct world *world;
    struct sluice_stream *stream; /* NULL before it is made and once on_close was told */
    unsigned opens;
    unsigned views;
    unsigned drains;
    unsigned ends;
    unsigned closes;
    struct sluice_close why; /* once closes is 1 */
    uint8_t *bytes;          /* all that arrived */
    size_t len;
    size_t capacity;
    char told[8]; /* the order: o(pen), v(iew), d(rain), e(nd), c(lose); of each the first */

    bool may_be_aborted; /* by another thread, at any moment */

    /* Left to send, by send_all(): the next as soon as there is room. */
    const uint8_t *source;
    size_t source_len;
    size_t source_chunk;
    unsigned fulls; /* answers of FULL to that */

    /* NULL: nothing is done. */
    void (*when_open)(struct record *record);
    void (*when_data)(struct record *record, const struct sluice_view *view);
    void (*when_drain)(struct record *record);
    void (*when_end)(struct record *record);
    void (*when_close)(struct record *record);
    void *story; /* whatever the functions need */
};

/* Has every member. `user` is a struct record. */
extern const struct sluice_stream_events record_events;

/* An engine with small rings; `options` (NULL: defaults) is completed by small ones. */
void world_open(struct world *world, const struct sluice_engine_options *options);
/* Destroys the engine. */
void world_close(struct world *world);
/* The same, and before that asserts that no stream, no byte and no buffer is left. */
void world_close_empty(struct world *world);

/* Waits until there is something to do, but not long, and takes a turn. */
void world_turn(struct world *world);
/* Takes turns until nothing is left to do within the next milliseconds. For streams in memory. */
void world_settle(struct world *world);
struct sluice_stats world_stats(const struct world *world);

/* Takes turns until the condition is true, which it must be after so many. */
#define world_turns_until(world, condition, max_turns)                                                                 \
    do {                                                                                                               \
        for (unsigned taken_ = 0; !(condition) && taken_ < (max_turns); taken_++)                                      \
            world_turn(world);                                                                                         \
        cr_assert(condition, "not after %u turns", (unsigned)(max_turns));                                             \
    } while (0)

/* Takes turns until both have heard their on_close. */
void world_until_closed(struct world *world, const struct record *left, const struct record *right);

/* Starts a record. */
void record_init(struct record *record, struct world *world);
/* Frees what it collected. */
void record_finish(struct record *record);
/* Makes a pair whose ends two fresh records hear. */
void world_pair(struct world *world, struct record *left, struct record *right, size_t capacity);

/* Sends `len` bytes, `chunk` at a time, waiting for on_drain whenever there is no room. They must stay. */
void send_all(struct record *record, const uint8_t *data, size_t len, size_t chunk);
static inline bool has_sent_all(const struct record *record)
{
    return record->source_len == 0;
}

/* Sends all of it at once, which must be taken. Returns the answer. */
int send_now(struct record *record, const void *data, size_t len);

/* True if exactly these bytes arrived. */
bool has_heard(const struct record *record, const void *data, size_t len);
/* Asserts that on_close was told, once and last, with this cause. */
void assert_closed(const struct record *record, int error, uint64_t unsent);

/* `len` bytes in which no part is like another. Free them. */
uint8_t *pattern(size_t len, uint64_t seed);

/* Whens that several stories need. */
void close_when_end(struct record *record);
void finish_when_end(struct record *record);
void echo_when_data(struct record *record, const struct sluice_view *view);

#endif
