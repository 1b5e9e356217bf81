/*
 * A user of one stream in a story: does random things at random times, and checks everything it is told.
 *
 * What it sends is a pattern in which each byte depends on its place, so that a byte lost, doubled, or out of place
 * shows.
 */
#ifndef SIM_USER_H
#define SIM_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/sluice.h>

#include "tests/sim/sim.h"

enum {
    USER_MESSAGES = 4096, /* sent and not heard, over a message layer */
    USER_KEPT = 4,
    LAYERS_MAX = 4,
};

/* What a user is inclined to do; each is one in so many of its actions, 0: never. */
enum habit {
    HABIT_PAUSE,
    HABIT_FINISH,
    HABIT_CLOSE,
    HABIT_ABORT,
    HABIT_ABORT_FROM_AFAR,
    HABIT_KEEP,
    HABIT_LIMITS,
    HABIT_POSTS, /* sends from another thread, all of them */
    HABIT_LOOKS, /* at a status, from another thread */
    HABIT_IGNORES_FULL,
    HABIT_WAITS_FOR_DRAIN, /* does not even read until then, as an echo */
    HABIT_COUNT,
};

struct user {
    struct sim *sim;
    const char *name;
    char layers[LAYERS_MAX + 1]; /* on its stream, from the bottom up: f(rame), s(huffle) */
    struct sluice_engine *engine;
    struct sluice_stream *stream; /* NULL once closed */
    const struct sluice_stream_events *events;
    struct user *peer; /* NULL: not ours */
    uint32_t habits[HABIT_COUNT];
    struct sluice_timer action;

    uint64_t pattern;
    uint64_t to_send; /* bytes it still wants to send */
    uint64_t accepted;
    uint64_t heard;
    uint64_t heard_pattern;
    bool is_on_pipes;  /* on which there is no reset: an abort looks like an end */
    bool has_messages; /* boundaries are kept */
    bool is_held;      /* by "another thread" */
    bool is_poster;    /* all it sends is posted by that thread */

    bool has_started;
    bool is_open_at_once;
    bool has_opened;
    bool is_owed;    /* a drain */
    bool is_waiting; /* …and does nothing until it comes */
    bool winds_up;
    uint64_t taken_ns; /* when a plain peer last read */
    bool is_paused;
    bool has_ended;
    bool has_finished;
    bool has_closed;       /* called close */
    uint64_t closed_at_ns; /* …then */
    bool has_aborted;
    bool has_been_aborted; /* by another thread */
    bool is_closed;
    enum sluice_write_status seen_status; /* by another thread, last */
    struct sluice_close why;

    uint32_t message_lens[USER_MESSAGES]; /* sent by this user, not heard by its peer */
    uint64_t messages_sent;
    uint64_t messages_heard;
    struct sluice_view kept[USER_KEPT];
    uint64_t kept_at[USER_KEPT];
    uint32_t kept_count;
    uint32_t buffers_out; /* own buffers that were not released */
    uint64_t turn;        /* the last in which it heard something */
    uint32_t heard_in_turn;
};

extern const struct sluice_stream_events user_events;

void user_init(struct user *user, struct sim *sim, const char *name, struct sluice_engine *engine);
/* It wants to hear data and the end of it all, and nothing else. */
void user_listen_little(struct user *user);
/* Gives it its stream, and has it act from now on. */
void user_start(struct user *user, struct sluice_stream *stream);
/* From now on it only reads to the end, and closes. */
void user_wind_up(struct user *user);
enum user_send {
    USER_SEND_COPY,
    USER_SEND_PIECES,
    USER_SEND_SHARED,
};

/* Each checks the answer. */
int user_send(struct user *user, size_t len, enum user_send how);
void user_close(struct user *user);
void user_abort(struct user *user);
void user_finish_sending(struct user *user);
void user_pause(struct user *user, bool is_paused);
/* As other threads would, to a stream that is held. */
void user_abort_from_afar(struct user *user);
void user_post(struct user *user);

/* The name of a habit, as in --without. */
const char *user_habit_name(enum habit habit);

/* What another thread might do right now. */
void user_other_thread(struct user *user);
void user_finish(struct user *user);

/* The byte at `place` of a pattern. */
static inline uint8_t user_byte(uint64_t pattern, uint64_t place)
{
    return (uint8_t)(pattern + place * 131 + (place >> 8) * 7 + (place >> 16) * 3);
}

#endif
