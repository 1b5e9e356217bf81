/* Connections of stories: see connection.h. */
#include "tests/sim/connection.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/stream.h"
#include "tests/sim/network.h"
#include "tests/support/shuffle_layer.h"

enum {
    MESSAGE_LIMIT = 60000,
    PAIR_CAPACITY_MAX = 5000,
};

/* Something could not be made. That is no wonder if the machine is short of something. */
static void refused(struct connection *connection, const char *what, int error)
{
    struct sim *sim = connection->story->sim;
    bool may_be = sim->torture.allocation || sim->torture.operation || sim->odds[FAULT_NO_MEMORY] ||
                  sim->odds[FAULT_NO_DESCRIPTOR];

    sim_trace(sim, "%s cannot be made: %d", what, error);
    if (!may_be)
        sim_violated(sim, "%s cannot be made: %d", what, error);
    connection->has_failed = true;
}

/* -- Layers -------------------------------------------------------------------------------------------------- */

static void cover_layers(const char *layers)
{
    size_t count = strlen(layers);

    if (count == 1)
        cover(COVER_STORY_LAYERED);
    if (count == 2)
        cover(COVER_STORY_STACKED);
    if (count > 2)
        cover(COVER_STORY_PILED);
}

/* Returns the stream on top. Without memory for a layer, that is as far as it came, and it is aborted. */
static struct sluice_stream *put_layers(struct connection *connection, struct user *user, struct sluice_stream *stream)
{
    struct sim *sim = connection->story->sim;

    sluice_stream_set_events(stream, user->events, user);
    cover_layers(user->layers);
    for (const char *layer = user->layers; *layer; layer++) {
        struct sluice_frame_options options = {.length = connection->length, .message_limit = MESSAGE_LIMIT};
        int error;

        if (*layer == 'f')
            error = sluice_frame_stream(stream, &options, user->events, user, &stream);
        else
            error = shuffle_stream(stream, random_next(&sim->random), user->events, user, &stream);
        if (error) {
            refused(connection, "a layer", error);
            user->has_aborted = true;
            sluice_stream_abort(stream, -EINTR);
            return stream;
        }
        user->has_messages = *layer == 'f';
        user->is_open_at_once = user->events != &user_events;
    }
    return stream;
}

static void choose_layers(struct sim *sim, char layers[LAYERS_MAX + 1])
{
    uint64_t count = sim_below(sim, 2) ? 0 : 1 + sim_below(sim, LAYERS_MAX);

    if (sim->limits.layers && count >= sim->limits.layers)
        count = sim->limits.layers - 1;
    for (uint64_t i = 0; i < count; i++)
        layers[i] = sim_below(sim, 2) ? 'f' : 's';
    layers[count] = 0;
}

/* -- Sockets ------------------------------------------------------------------------------------------------- */

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

static bool listen_for(struct connection *connection, char address[SLUICE_ADDRESS_MAX])
{
    int error = sluice_listen(connection->users[1].engine, "127.0.0.1:0", NULL, &listener_events, connection,
                              &connection->listener);

    if (error) {
        connection->listener = NULL;
        refused(connection, "a listener", error);
        return false;
    }
    sluice_listener_address(connection->listener, address, SLUICE_ADDRESS_MAX);
    return true;
}

static void connect_to(struct connection *connection, const char *address)
{
    struct user *user = &connection->users[0];
    struct sim *sim = user->sim;
    struct sluice_stream *stream;
    char name[SLUICE_ADDRESS_MAX];
    int error;

    /* By number, or by a name that has that port. */
    snprintf(name, sizeof name, "%s%s", "somewhere", strchr(address, ':'));
    if (sim->is_scripted ? !connection->story->has_names : sim_below(sim, 4) > 0)
        snprintf(name, sizeof name, "%s", address);
    error = sluice_connect(user->engine, name, user->events, user, &stream);
    if (error) {
        refused(connection, "a connection", error);
        return;
    }
    /* It may have failed already, for want of a descriptor: then it bears no layer. */
    if (sluice_stream_state(stream) == SLUICE_CONNECTING)
        stream = put_layers(connection, user, stream);
    user_start(user, stream);
}

/* -- Pairs and pipes ----------------------------------------------------------------------------------------- */

/* On the second engine's thread, right after the stream was born there. */
static void start_second(struct sluice_post *post)
{
    struct connection *connection = container_of(post, struct connection, start);
    struct user *user = &connection->users[1];
    struct sluice_stream *stream = connection->started;

    /* Its engine may be on its way out. */
    if (sluice_stream_state(stream) == SLUICE_OPEN)
        stream = put_layers(connection, user, stream);
    user_start(user, stream);
}

static void join_pair(struct connection *connection)
{
    struct sluice_pair_end ends[2];
    struct sluice_stream *streams[2];
    struct user *users = connection->users;
    size_t capacity = 1 + sim_below(connection->story->sim, PAIR_CAPACITY_MAX);
    int error;

    for (int i = 0; i < 2; i++) {
        ends[i] = (struct sluice_pair_end){users[i].engine, users[i].events, &users[i]};
        users[i].is_open_at_once = true;
    }
    error = sluice_pair(&ends[0], &ends[1], capacity, &streams[0], &streams[1]);
    if (error) {
        refused(connection, "a pair", error);
        return;
    }
    cover(users[0].engine == users[1].engine ? COVER_STORY_PAIR : COVER_STORY_PAIR_ACROSS);
    user_start(&users[0], put_layers(connection, &users[0], streams[0]));
    if (users[0].engine == users[1].engine || !connection->story->has_threads) {
        user_start(&users[1], put_layers(connection, &users[1], streams[1]));
        return;
    }
    users[1].stream = streams[1];
    connection->started = streams[1];
    connection->start.run = start_second;
    sluice_engine_post(users[1].engine, &connection->start);
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
        int error = sluice_fd_stream(user->engine, read_fds[i], write_fds[!i], user->events, user, &stream);

        user->is_on_pipes = true;
        if (error) {
            refused(connection, "a stream over pipes", error);
            network_close(network, read_fds[i], false);
            network_close(network, write_fds[!i], false);
            continue;
        }
        user->is_open_at_once = true;
        user_start(user, put_layers(connection, user, stream));
    }
}

/* -- Plain peers --------------------------------------------------------------------------------------------- */

static void meet_plain_peer(struct connection *connection)
{
    struct sim *sim = connection->story->sim;
    struct plain *plain = &connection->plain;
    char address[SLUICE_ADDRESS_MAX];
    uint16_t port = 0;

    if (connection->kind == CONNECTION_PLAIN_LISTENS) {
        plain->listener = network_listen(sim->network, &port, BACKLOG);
        snprintf(address, sizeof address, "127.0.0.1:%u", port);
        connect_to(connection, address);
        return;
    }
    if (!listen_for(connection, address))
        return;
    plain->fd = network_socket(sim->network);
    port = (uint16_t)strtoul(strchr(address, ':') + 1, NULL, 10);
    if (network_connect(sim->network, plain->fd, port) < 0)
        sim_violated(sim, "a plain peer cannot connect");
}

/* -- Choosing and making ------------------------------------------------------------------------------------- */

static bool has_plain_peer(const struct connection *connection)
{
    return connection->kind == CONNECTION_PLAIN_CONNECTS || connection->kind == CONNECTION_PLAIN_LISTENS;
}

void connection_prepare(struct connection *connection, struct story *story, enum connection_kind kind,
                        const char *layers, struct sluice_engine *const engines[2])
{
    uint32_t number = (uint32_t)(connection - story->connections);
    struct user *users = connection->users;

    connection->story = story;
    connection->kind = kind;
    for (int i = 0; i < 2; i++) {
        snprintf(connection->names[i], sizeof connection->names[i], "%c%u", "ab"[i], number % 100);
        user_init(&users[i], story->sim, connection->names[i], engines[i]);
        snprintf(users[i].layers, sizeof users[i].layers, "%s", has_plain_peer(connection) ? "" : layers);
    }
    if (has_plain_peer(connection)) {
        struct user *user = &users[kind == CONNECTION_PLAIN_LISTENS ? 0 : 1];

        plain_init(&connection->plain, story->sim, user);
        user->heard_pattern = connection->plain.pattern;
        return;
    }
    for (int i = 0; i < 2; i++) {
        users[i].peer = &users[!i];
        users[i].heard_pattern = users[!i].pattern;
    }
}

void connection_choose(struct connection *connection, struct story *story, uint32_t index)
{
    struct sim *sim = story->sim;
    enum connection_kind kind = (enum connection_kind)sim_below(sim, CONNECTION_KINDS);
    struct sluice_engine *engines[2] = {story->engines[0], story->engines[sim_below(sim, story->engine_count)]};
    char layers[LAYERS_MAX + 1];

    /* The second engine's thread is another one: only pairs cross it, and are made on the first. */
    if (kind != CONNECTION_PAIR)
        engines[1] = engines[0];
    choose_layers(sim, layers);
    connection_prepare(connection, story, kind, layers, engines);
    connection->length = (enum sluice_frame_length)sim_below(sim, 5);
    snprintf(connection->names[0], sizeof connection->names[0], "a%u", index % 100);
    snprintf(connection->names[1], sizeof connection->names[1], "b%u", index % 100);
    /* Two who both wait before they read wait for ever, and it is their own doing. */
    connection->users[1].habits[HABIT_WAITS_FOR_DRAIN] = 0;
    for (int i = 0; i < 2; i++)
        if (sim_below(sim, 12) == 0)
            user_listen_little(&connection->users[i]);
}

void connection_make(struct connection *connection)
{
    char address[SLUICE_ADDRESS_MAX];

    switch (connection->kind) {
    case CONNECTION_SOCKETS:
        cover(COVER_STORY_SOCKETS);
        if (listen_for(connection, address))
            connect_to(connection, address);
        break;
    case CONNECTION_PAIR:
        join_pair(connection);
        break;
    case CONNECTION_PIPES:
        cover(COVER_STORY_PIPES);
        join_pipes(connection);
        break;
    case CONNECTION_PLAIN_CONNECTS:
    case CONNECTION_PLAIN_LISTENS:
    case CONNECTION_KINDS:
        cover(COVER_STORY_PLAIN);
        meet_plain_peer(connection);
        break;
    }
}

/* -- Checking ------------------------------------------------------------------------------------------------ */

static bool has_faults_that_break(const struct sim *sim)
{
    static const enum fault faults[] = {FAULT_SEND_ERROR, FAULT_RECEIVE_ERROR, FAULT_CONNECT_ERROR, FAULT_NO_MEMORY,
                                        FAULT_NO_DESCRIPTOR};

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (sim->odds[faults[i]])
            return true;
    return sim->torture.allocation || sim->torture.operation;
}

/* Something happened after which a stream of this connection need not end well. */
static bool may_fail(const struct connection *connection)
{
    const struct story *story = connection->story;
    const struct user *users = connection->users;

    if (story->is_cut_short || story->has_short_times || story->has_small_limit || has_faults_that_break(story->sim) ||
        connection->plain.was_rude || connection->has_failed)
        return true;
    for (int i = 0; i < 2; i++) {
        if (users[i].has_aborted || users[i].has_been_aborted || users[i].why.error == -ECANCELED)
            return true;
        /* Who closes does not wait for ever for the peer to end: seed 5231522 sent for longer than that. */
        if (users[i].has_closed && story->sim->now_ns - users[i].closed_at_ns >= story->options.linger_ns)
            return true;
        /* A pipe's reader leaves at once. */
        if (connection->kind == CONNECTION_PIPES && users[i].has_closed)
            return true;
    }
    /* A listener that closes refuses, or resets, whom it has not accepted. */
    return !users[0].has_started || (users[0].peer && !users[1].has_started);
}

static void check_cause(const struct connection *connection, const struct user *user)
{
    struct sim *sim = connection->story->sim;
    const struct sluice_close *why = &user->why;

    if (why->error && why->error != -ECANCELED && !may_fail(connection))
        sim_violated(sim, "%s ended with %d (unsent %llu), and nothing went wrong", user->name, why->error,
                     (unsigned long long)why->unsent);
    if ((why->error == -ECONNRESET || why->error == -EPIPE) && why->side != SLUICE_REMOTE)
        sim_violated(sim, "%s was reset, and is told that it did it itself", user->name);
    if (why->error == -ECONNABORTED && !connection->has_failed)
        sim_violated(sim, "%s ended with a cause that nobody gave", user->name);
    if (why->unsent > 0 && !why->error)
        sim_violated(sim, "%s ended well with unsent bytes", user->name);
}

/* Every accepted byte was heard by the peer, or is counted in on_close, unless a reset destroyed it on the way. */
static void check_bytes(const struct connection *connection, const struct user *user)
{
    struct sim *sim = connection->story->sim;
    const struct user *peer = user->peer;
    uint64_t late = user->is_poster && user->why.error ? user->why.unsent : 0;

    if (peer->has_ended && !(user->is_on_pipes && user->why.error) && peer->heard + late != user->accepted)
        sim_violated(sim, "%s heard %llu of the %llu bytes of %s, and the end", peer->name,
                     (unsigned long long)peer->heard, (unsigned long long)user->accepted, user->name);
    if (!peer->is_closed || user->layers[0])
        return;
    if (user->accepted > peer->heard + user->why.unsent && !may_fail(connection) && !peer->has_closed)
        sim_violated(sim, "%s lost bytes in silence", user->name);
    if (peer->heard + user->why.unsent > user->accepted && connection->kind != CONNECTION_PIPES)
        sim_violated(sim, "%s counts bytes as unsent that were heard", user->name);
}

static void check_plain(const struct connection *connection)
{
    const struct plain *plain = &connection->plain;
    const struct user *user = plain->user;

    if (plain->heard + user->why.unsent > user->accepted)
        sim_violated(plain->sim, "%s counts bytes as unsent that were heard", user->name);
    if (may_fail(connection) || !user->is_closed || user->why.error || !plain->has_heard_end)
        return;
    if (plain->heard != user->accepted)
        sim_violated(plain->sim, "the plain peer of %s heard %llu of %llu bytes, and the end", user->name,
                     (unsigned long long)plain->heard, (unsigned long long)user->accepted);
}

void connection_check(const struct connection *connection)
{
    for (int i = 0; i < 2; i++) {
        const struct user *user = &connection->users[i];

        if (!user->is_closed)
            continue;
        check_cause(connection, user);
        if (user->peer)
            check_bytes(connection, user);
    }
    if (connection->plain.sim)
        check_plain(connection);
}
