/* A connection of a story: two users, or one and a plain peer, and all that joins them. */
#ifndef SIM_CONNECTION_H
#define SIM_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/sluice.h>

#include "tests/sim/plain.h"
#include "tests/sim/sim.h"
#include "tests/sim/user.h"

enum {
    ENGINES = 2,
    CONNECTIONS = 4,
};

enum connection_kind {
    CONNECTION_SOCKETS,
    CONNECTION_PAIR,
    CONNECTION_PIPES,
    CONNECTION_PLAIN_CONNECTS,
    CONNECTION_PLAIN_LISTENS,
    CONNECTION_KINDS,
};

struct connection {
    enum connection_kind kind;
    struct story *story;
    struct user users[2];
    char names[2][8];
    struct plain plain;
    struct sluice_listener *listener;
    enum sluice_frame_length length;
    struct sluice_post start;      /* of the second user, on its own engine's thread */
    struct sluice_stream *started; /* …and on what */
    bool has_failed;               /* it could not be made, for want of something */
};

/* The moment at which the users of an engine begin to come to their end. */
struct curtain {
    struct sluice_timer timer;
    struct story *story;
    uint32_t index;
};

struct story {
    struct sim *sim;
    struct sluice_engine *engines[ENGINES];
    uint32_t engine_count;
    struct connection connections[CONNECTIONS];
    uint32_t connection_count;
    struct curtain curtains[ENGINES];
    struct sluice_timer watch;
    bool is_over[ENGINES];
    bool is_cut_short; /* engines are destroyed in the middle */
    bool has_short_times;
    bool has_small_limit;        /* of what a paused stream may hold */
    bool has_threads;            /* each engine has its own */
    bool has_names;              /* in a script: connections are made by name */
    bool is_broken;              /* a ring cannot go on */
    uint32_t points_until_abort; /* in a script: so many points in a turn later, another thread aborts; 0: none does */
    struct sluice_engine_options options;
};

/* From here on the calling thread is that of this engine, and of no other; NULL: of all. */
void story_become(struct story *story, const struct sluice_engine *engine);

/* Everything a connection needs, as the seed wants it. */
void connection_choose(struct connection *connection, struct story *story, uint32_t index);
/* Ready to be made as `kind`, with nothing left to chance; both users on these engines. */
void connection_prepare(struct connection *connection, struct story *story, enum connection_kind kind,
                        const char *layers, struct sluice_engine *const engines[2]);
/* Joins its users, who begin to act. */
void connection_make(struct connection *connection);
/* When everything is over: was anything lost, or did anybody fail without a reason? */
void connection_check(const struct connection *connection);

#endif
