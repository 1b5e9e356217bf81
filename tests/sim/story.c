/* Stories: see story.h. */
#include "tests/sim/story.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/config.h"
#include "engine/engine.h"
#include "engine/stream.h"
#include "tests/sim/network.h"
#include "tests/sim/plain.h"
#include "tests/sim/user.h"
#include "tests/support/shuffle_layer.h"

enum {
    ENGINES = 2,
    CONNECTIONS = 4,
    STEPS_MAX = 3000000,
    STARVED_NS = 60, /* seconds of simulated time in which everything must have ended */
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
    bool is_cut; /* its descriptors were broken by a fault, or it could not be made */
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
    struct sluice_engine_options options;
};

/* -- Making -------------------------------------------------------------------------------------------------- */

static struct sluice_stream *put_layers(struct connection *connection, struct user *user, struct sluice_stream *stream)
{
    struct sim *sim = connection->story->sim;

    sluice_stream_set_events(stream, &user_events, user);
    for (const char *layer = user->layers; *layer; layer++) {
        struct sluice_frame_options options = {.length = connection->length, .message_limit = 60000};
        int error;

        if (*layer == 'f')
            error = sluice_frame_stream(stream, &options, &user_events, user, &stream);
        else
            error = shuffle_stream(stream, random_next(&sim->random), &user_events, user, &stream);
        if (error)
            sim_violated(sim, "a layer does not go onto a fresh stream: %d", error);
        user->has_messages = *layer == 'f';
        user->is_open_at_once = false;
    }
    return stream;
}

static void on_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *argument)
{
    struct connection *connection = argument;
    struct user *user = &connection->users[1];

    (void)listener;
    if (user->stream || user->is_closed) {
        sluice_stream_abort(stream, 0);
        return;
    }
    user->is_open_at_once = true;
    user_start(user, put_layers(connection, user, stream));
}

static void on_listener_close(struct sluice_listener *listener, void *argument)
{
    (void)listener;
    ((struct connection *)argument)->listener = NULL;
}

static const struct sluice_listener_events listener_events = {
    .on_accept = on_accept,
    .on_close = on_listener_close,
};

static void listen_for(struct connection *connection, char *address)
{
    int error = sluice_listen(connection->users[1].engine, "127.0.0.1:0", NULL, &listener_events, connection,
                              &connection->listener);

    if (error)
        sim_violated(connection->story->sim, "listening fails: %d", error);
    sluice_listener_address(connection->listener, address, SLUICE_ADDRESS_MAX);
}

static void connect_to(struct connection *connection, const char *address)
{
    struct user *user = &connection->users[0];
    struct sluice_stream *stream;
    int error = sluice_connect(user->engine, address, &user_events, user, &stream);

    if (error)
        sim_violated(connection->story->sim, "connecting fails at once: %d", error);
    user_start(user, put_layers(connection, user, stream));
}

static void join_pair(struct connection *connection)
{
    struct sluice_pair_end ends[2];
    struct sluice_stream *streams[2];

    for (int i = 0; i < 2; i++) {
        ends[i] = (struct sluice_pair_end){connection->users[i].engine, &user_events, &connection->users[i]};
        connection->users[i].is_open_at_once = true;
    }
    if (sluice_pair(&ends[0], &ends[1], 1 + sim_below(connection->story->sim, 5000), &streams[0], &streams[1]) < 0)
        sim_violated(connection->story->sim, "a pair cannot be made");
    for (int i = 0; i < 2; i++)
        user_start(&connection->users[i], put_layers(connection, &connection->users[i], streams[i]));
}

static void join_pipes(struct connection *connection)
{
    struct network *network = connection->story->sim->network;
    int write_fds[2];
    int read_fds[2];

    for (int i = 0; i < 2; i++)
        read_fds[i] = network_pipe(network, &write_fds[i]);
    for (int i = 0; i < 2; i++) {
        struct user *user = &connection->users[i];
        struct sluice_stream *stream;

        if (sluice_fd_stream(user->engine, read_fds[i], write_fds[!i], &user_events, user, &stream) < 0)
            sim_violated(connection->story->sim, "a stream over pipes cannot be made");
        user->is_open_at_once = true;
        user->is_on_pipes = true;
        user_start(user, put_layers(connection, user, stream));
    }
}

static void meet_plain_peer(struct connection *connection, bool it_listens)
{
    struct sim *sim = connection->story->sim;
    struct user *user = &connection->users[it_listens ? 0 : 1];
    char address[SLUICE_ADDRESS_MAX];
    uint16_t port = 0;

    plain_init(&connection->plain, sim, user);
    user->heard_pattern = connection->plain.pattern;
    if (it_listens) {
        connection->plain.listener = network_listen(sim->network, &port, BACKLOG);
        snprintf(address, sizeof address, "127.0.0.1:%u", port);
        connect_to(connection, address);
        return;
    }
    listen_for(connection, address);
    connection->plain.fd = network_socket(sim->network);
    port = (uint16_t)strtoul(strchr(address, ':') + 1, NULL, 10);
    if (network_connect(sim->network, connection->plain.fd, port) < 0)
        sim_violated(sim, "a plain peer cannot connect");
}

static void choose_layers(struct sim *sim, char layers[4])
{
    uint64_t count = sim_below(sim, 4);

    for (uint64_t i = 0; i < count; i++)
        layers[i] = sim_below(sim, 2) ? 'f' : 's';
    layers[count] = 0;
}

static void make_connection(struct story *story, struct connection *connection, uint32_t index)
{
    struct sim *sim = story->sim;
    char layers[4];
    char address[SLUICE_ADDRESS_MAX];

    connection->story = story;
    connection->kind = (enum connection_kind)sim_below(sim, CONNECTION_KINDS);
    connection->length = (enum sluice_frame_length)sim_below(sim, 5);
    choose_layers(sim, layers);
    if (connection->kind == CONNECTION_PLAIN_CONNECTS || connection->kind == CONNECTION_PLAIN_LISTENS)
        layers[0] = 0;
    for (int i = 0; i < 2; i++) {
        struct sluice_engine *engine = story->engines[sim_below(sim, story->engine_count)];

        /* The second engine's thread is another one: only pairs cross it, and are made on the first. */
        if (connection->kind != CONNECTION_PAIR || layers[0])
            engine = story->engines[0];
        snprintf(connection->names[i], sizeof connection->names[i], "%c%u", "ab"[i], index % 100);
        user_init(&connection->users[i], sim, connection->names[i], engine);
        memcpy(connection->users[i].layers, layers, sizeof layers);
    }
    connection->users[0].engine = story->engines[0];
    if (connection->kind != CONNECTION_PLAIN_CONNECTS && connection->kind != CONNECTION_PLAIN_LISTENS) {
        for (int i = 0; i < 2; i++) {
            connection->users[i].peer = &connection->users[!i];
            connection->users[i].heard_pattern = connection->users[!i].pattern;
        }
    }
    switch (connection->kind) {
    case CONNECTION_SOCKETS:
        listen_for(connection, address);
        connect_to(connection, address);
        break;
    case CONNECTION_PAIR:
        join_pair(connection);
        break;
    case CONNECTION_PIPES:
        join_pipes(connection);
        break;
    case CONNECTION_PLAIN_CONNECTS:
    case CONNECTION_PLAIN_LISTENS:
    case CONNECTION_KINDS:
        meet_plain_peer(connection, connection->kind == CONNECTION_PLAIN_LISTENS);
        break;
    }
}

static void choose_options(struct story *story)
{
    struct sim *sim = story->sim;
    struct sluice_engine_options *options = &story->options;
    char why[SLUICE_REASON_MAX];

    config_complete(NULL, options, why, sizeof why);
    options->ring_entries = 1u << (2 + sim_below(sim, 6));
    options->completion_entries = options->ring_entries << (1 + sim_below(sim, 3));
    options->receive_buffer_count = 1u << (1 + sim_below(sim, 5));
    options->receive_buffer_size = 1u << (5 + sim_below(sim, 7));
    options->send_high_mark = 1 + sim_below(sim, 8192);
    options->send_low_mark = sim_below(sim, options->send_high_mark);
    options->send_limit = options->send_high_mark + sim_below(sim, 20000);
    if (sim_below(sim, 8) == 0)
        options->memory_budget = 10000 + sim_below(sim, 20000);
    if (sim_below(sim, 3) == 0)
        options->zero_copy_minimum = 256;
    story->has_short_times = sim_below(sim, 5) == 0;
    if (story->has_short_times) {
        options->linger_ns = 1000000 + sim_below(sim, 20000000);
        options->idle_timeout_ns = sim_below(sim, 2) ? 5000000 + sim_below(sim, 50000000) : 0;
        options->connect_timeout_ns = 1000000 + sim_below(sim, 20000000);
    }
    options->disable = (uint32_t)(sim_below(sim, 4) ? 0 : random_next(&sim->random)) &
                       (SLUICE_FEATURE_MULTISHOT_ACCEPT | SLUICE_FEATURE_MULTISHOT_RECEIVE |
                        SLUICE_FEATURE_INLINE_SEND | SLUICE_FEATURE_QUIET_SEND);
}

static struct sluice_engine *make_engine(struct story *story)
{
    const struct sluice_engine_options *options = &story->options;
    struct ring *ring = sim_ring_create(story->sim, options->ring_entries, options->completion_entries);
    struct sluice_engine *engine;

    ring->features &= ~options->disable;
    if (engine_create_on(ring, options, &engine) < 0)
        sim_violated(story->sim, "an engine cannot be made");
    sim_ring_watch(ring, engine);
    return engine;
}

/* -- Ending -------------------------------------------------------------------------------------------------- */

static bool has_ended(const struct story *story)
{
    for (uint32_t i = 0; i < story->connection_count; i++) {
        const struct connection *connection = &story->connections[i];

        for (int j = 0; j < 2; j++)
            if (connection->users[j].stream && !connection->users[j].is_closed)
                return false;
        if (connection->listener)
            return false;
    }
    return true;
}

static void wind_up(struct story *story, struct sluice_engine *engine)
{
    story->sim->is_quiet = true;
    for (uint32_t i = 0; i < story->connection_count; i++) {
        struct connection *connection = &story->connections[i];

        for (int j = 0; j < 2; j++)
            if (connection->users[j].engine == engine)
                user_wind_up(&connection->users[j]);
        if (connection->plain.sim)
            plain_wind_up(&connection->plain);
        if (connection->listener && connection->users[1].engine == engine)
            sluice_listener_close(connection->listener);
    }
}

static void draw_curtain(struct sluice_timer *timer)
{
    struct curtain *curtain = container_of(timer, struct curtain, timer);
    struct story *story = curtain->story;

    sim_trace(story->sim, "the curtain falls for engine %u", curtain->index);
    wind_up(story, story->engines[curtain->index]);
    story->is_over[curtain->index] = true;
}

static void check_connection(const struct story *story, const struct connection *connection)
{
    struct sim *sim = story->sim;
    bool may_fail = story->is_cut_short || story->has_short_times || sim->odds[FAULT_SEND_ERROR] ||
                    sim->odds[FAULT_RECEIVE_ERROR] || sim->odds[FAULT_CONNECT_ERROR] || connection->plain.was_rude;

    for (int i = 0; i < 2; i++)
        may_fail = may_fail || connection->users[i].has_aborted || connection->users[i].has_been_aborted ||
                   /* A pipe's reader leaves at once. */
                   (connection->kind == CONNECTION_PIPES && connection->users[i].has_closed);
    /* A listener that closes refuses, or resets, whom it has not accepted. */
    may_fail = may_fail || !connection->users[0].has_started ||
               (connection->users[0].peer && !connection->users[1].has_started);
    for (int i = 0; i < 2; i++) {
        const struct user *user = &connection->users[i];
        const struct user *peer = user->peer;

        if (!user->is_closed)
            continue;
        if (user->why.error && !may_fail && user->why.error != -ECANCELED)
            sim_violated(sim, "%s ended with %d (unsent %llu), and nothing went wrong", user->name, user->why.error,
                         (unsigned long long)user->why.unsent);
        if (user->why.unsent > 0 && !user->why.error)
            sim_violated(sim, "%s ended well with unsent bytes", user->name);
        if (peer && peer->has_ended && !(user->is_on_pipes && user->why.error) &&
            peer->heard + (user->is_poster && user->why.error ? user->why.unsent : 0) != user->accepted)
            sim_violated(sim, "%s heard %llu of the %llu bytes of %s, and the end", peer->name,
                         (unsigned long long)peer->heard, (unsigned long long)user->accepted, user->name);
        /* Without layers, what was lost is known to the byte, but for what a reset destroyed on the way. */
        if (peer && peer->is_closed && !user->layers[0] && user->accepted > peer->heard + user->why.unsent &&
            !may_fail && !peer->has_closed)
            sim_violated(sim, "%s lost bytes in silence", user->name);
    }
    if (connection->plain.sim && !may_fail) {
        const struct user *user = connection->plain.user;

        if (user->is_closed && !user->why.error && connection->plain.has_heard_end &&
            connection->plain.heard != user->accepted)
            sim_violated(sim, "the plain peer of %s heard %llu of %llu bytes, and the end", user->name,
                         (unsigned long long)connection->plain.heard, (unsigned long long)user->accepted);
    }
}

/* -- Time ---------------------------------------------------------------------------------------------------- */

uint64_t story_next_event(const struct story *story)
{
    uint64_t next_ns = UINT64_MAX;

    for (uint32_t i = 0; i < ENGINES; i++) {
        if (story->engines[i]) {
            uint64_t at_ns = sim_ring_next_event(story->engines[i]->ring);

            next_ns = at_ns < next_ns ? at_ns : next_ns;
        }
    }
    for (uint32_t i = 0; i < story->connection_count; i++) {
        const struct plain *plain = &story->connections[i].plain;

        if (plain->sim && (plain->fd >= 0 || plain->listener >= 0)) {
            uint64_t at_ns = plain->next_ns > story->sim->now_ns ? plain->next_ns : story->sim->now_ns + 1;

            next_ns = at_ns < next_ns ? at_ns : next_ns;
        }
    }
    return next_ns;
}

void story_advance(struct story *story)
{
    for (uint32_t i = 0; i < story->connection_count; i++)
        if (story->connections[i].plain.sim)
            plain_step(&story->connections[i].plain);
}

void story_other_threads(struct story *story)
{
    if (!story || story->sim->is_quiet)
        return;
    for (uint32_t i = 0; i < story->connection_count; i++)
        for (int j = 0; j < 2; j++)
            user_other_thread(&story->connections[i].users[j]);
}

/* Somebody does not come to its end: says who. */
static _Noreturn void blame(struct story *story)
{
    for (uint32_t i = 0; i < story->connection_count; i++)
        for (int j = 0; j < 2; j++) {
            const struct user *user = &story->connections[i].users[j];

            if (user->stream && !user->is_closed)
                sim_violated(story->sim,
                             "%s does not come to its end (kind %d, state %d, write %d, read %d, queued %zu)",
                             user->name, story->connections[i].kind, sluice_stream_state(user->stream),
                             sluice_stream_write_status(user->stream), sluice_stream_read_status(user->stream),
                             sluice_stream_queued(user->stream));
        }
    for (uint32_t i = 0; i < story->connection_count; i++)
        if (story->connections[i].listener)
            sim_violated(story->sim, "the listener of connection %u does not come to its end", i);
    sim_violated(story->sim, "an engine sleeps for ever");
}

static void check_time(struct story *story)
{
    if (story->sim->now_ns >= (uint64_t)STARVED_NS * 1000000000)
        blame(story);
}

/* Gives every engine that has something to do a turn, in any order. Returns false if none had. */
static bool take_turns(struct story *story)
{
    bool had_turn = false;
    uint32_t first = (uint32_t)sim_below(story->sim, story->engine_count);

    for (uint32_t i = 0; i < story->engine_count; i++) {
        struct sluice_engine *engine = story->engines[(first + i) % story->engine_count];

        if (sluice_engine_wait_ns(engine) == 0 || sim_ring_is_ready(engine->ring)) {
            sluice_engine_turn(engine);
            had_turn = true;
        }
    }
    return had_turn;
}

/* When all engines sleep: on to whatever comes first. Then each looks at its ring. */
static void sleep_together(struct story *story)
{
    uint64_t next_ns = sim_next_event(story->sim);

    for (uint32_t i = 0; i < story->engine_count; i++) {
        uint64_t wait_ns = sluice_engine_wait_ns(story->engines[i]);

        if (wait_ns != UINT64_MAX && story->sim->now_ns + wait_ns < next_ns)
            next_ns = story->sim->now_ns + wait_ns;
    }
    if (next_ns == UINT64_MAX)
        blame(story);
    sim_advance(story->sim, next_ns);
    for (uint32_t i = 0; i < story->engine_count; i++)
        sluice_engine_turn(story->engines[i]);
}

static bool is_over(const struct story *story)
{
    for (uint32_t i = 0; i < story->engine_count; i++)
        if (!story->is_over[i])
            return false;
    return story->is_cut_short || has_ended(story);
}

/* Two threads: turns without waiting, in any order. */
static void run_in_turns(struct story *story)
{
    for (uint64_t step = 0; !is_over(story); step++) {
        check_time(story);
        if (step > STEPS_MAX)
            sim_violated(story->sim, "the story does not end");
        if (!take_turns(story))
            sleep_together(story);
    }
}

static void run_watch(struct sluice_timer *timer)
{
    struct story *story = container_of(timer, struct story, watch);

    check_time(story);
    if (is_over(story))
        sluice_engine_stop(story->engines[0]);
    else
        sluice_timer_start(story->engines[0], timer, 1000000);
}

/* One thread: the engine waits by itself. */
static void run_by_itself(struct story *story)
{
    story->watch.fire = run_watch;
    sluice_timer_start(story->engines[0], &story->watch, 1000000);
    sluice_engine_run(story->engines[0]);
    sluice_timer_stop(story->engines[0], &story->watch);
}

void story_run(struct sim *sim)
{
    struct story *story = calloc(1, sizeof *story);

    story->sim = sim;
    sim->story = story;
    choose_options(story);
    story->engine_count = 1 + (uint32_t)sim_below(sim, ENGINES);
    story->is_cut_short = sim_below(sim, 6) == 0;
    for (uint32_t i = 0; i < story->engine_count; i++) {
        story->engines[i] = make_engine(story);
        story->curtains[i] = (struct curtain){.timer.fire = draw_curtain, .story = story, .index = i};
        sluice_timer_start(story->engines[i], &story->curtains[i].timer, sim_below(sim, 100000000));
    }
    story->connection_count = 1 + (uint32_t)sim_below(sim, CONNECTIONS);
    for (uint32_t i = 0; i < story->connection_count; i++)
        make_connection(story, &story->connections[i], i);
    if (story->is_cut_short)
        for (uint32_t i = 0; i < story->engine_count; i++)
            story->is_over[i] = true;
    if (story->is_cut_short)
        for (uint64_t turns = sim_below(sim, 300); turns > 0 && !has_ended(story); turns--)
            if (!take_turns(story))
                sleep_together(story);
    if (!story->is_cut_short && story->engine_count == 1 && sim_below(sim, 2))
        run_by_itself(story);
    else
        run_in_turns(story);
    sim->is_quiet = true;
    for (uint32_t i = 0; i < story->engine_count; i++) {
        struct sluice_engine *engine = story->engines[i];

        sluice_timer_stop(engine, &story->curtains[i].timer);
        sluice_engine_destroy(engine);
        story->engines[i] = NULL;
    }
    for (uint32_t i = 0; i < story->connection_count; i++) {
        for (int j = 0; j < 2; j++) {
            struct user *user = &story->connections[i].users[j];

            if (user->stream && !user->is_closed)
                sim_violated(sim, "%s was not told on_close", user->name);
            user_finish(user);
        }
        check_connection(story, &story->connections[i]);
        if (story->connections[i].plain.sim && story->connections[i].plain.fd >= 0)
            network_close(sim->network, story->connections[i].plain.fd, false);
        if (story->connections[i].plain.sim && story->connections[i].plain.listener >= 0)
            network_close(sim->network, story->connections[i].plain.listener, false);
    }
    if (sim->network->open > 0)
        sim_violated(sim, "%u descriptors were left open", sim->network->open);
    free(story);
    sim->story = NULL;
}
