/* Stories: see story.h. */
#include "tests/sim/story.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "engine/config.h"
#include "engine/engine.h"
#include "engine/listener.h"
#include "engine/stream.h"
#include "tests/sim/connection.h"
#include "tests/sim/memory.h"
#include "tests/sim/network.h"

enum {
    STEPS_MAX = 3000000,
    STARVED_NS = 60, /* seconds of simulated time in which everything must have ended */
    WATCH_NS = 1000000,
    SOON_NS = 50000000,
};

/* -- Making -------------------------------------------------------------------------------------------------- */

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
    options->receive_buffer_window = 1 + (uint32_t)sim_below(sim, options->receive_buffer_count);
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
    story->has_small_limit = sim_below(sim, 8) == 0;
    if (story->has_small_limit)
        options->receive_limit = 1000 + sim_below(sim, 20000);
    options->disable = (uint32_t)(sim_below(sim, 4) ? 0 : random_next(&sim->random)) &
                       (SLUICE_FEATURE_MULTISHOT_ACCEPT | SLUICE_FEATURE_MULTISHOT_RECEIVE |
                        SLUICE_FEATURE_INLINE_SEND | SLUICE_FEATURE_QUIET_SEND | SLUICE_FEATURE_RECEIVE_BUNDLE);
}

static struct sluice_engine *make_engine(struct story *story)
{
    const struct sluice_engine_options *options = &story->options;
    struct sim *sim = story->sim;
    struct ring *ring = sim_ring_create(sim, options->ring_entries, options->completion_entries);
    struct sluice_engine *engine;

    ring->features &= ~options->disable;
    if (engine_create_on(ring, options, &engine) == 0) {
        sim_ring_watch(ring, engine);
        return engine;
    }
    if (!sim->torture.allocation && !sim->torture.operation && !sim->odds[FAULT_NO_MEMORY])
        sim_violated(sim, "an engine cannot be made");
    return NULL;
}

void story_become(struct story *story, const struct sluice_engine *engine)
{
    for (uint32_t i = 0; i < story->engine_count; i++) {
        struct mailbox *mailbox = story->engines[i] ? story->engines[i]->mailbox : NULL;

        if (!mailbox)
            continue;
        memset(&mailbox->owner, 0, sizeof mailbox->owner);
        if (!engine || !story->has_threads || story->engines[i] == engine)
            mailbox->owner = pthread_self();
    }
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

static void check_time(struct story *story);

static void draw_curtain(struct sluice_timer *timer)
{
    struct curtain *curtain = container_of(timer, struct curtain, timer);
    struct story *story = curtain->story;

    /* Whoever has connected is accepted before its listener closes. */
    for (uint32_t i = 0; i < story->connection_count; i++) {
        const struct connection *connection = &story->connections[i];

        if (connection->listener && connection->users[1].engine == story->engines[curtain->index] &&
            network_get(story->sim->network, connection->listener->fd)->waiting_count > 0) {
            check_time(story);
            sluice_timer_start(story->engines[curtain->index], timer, 1000000);
            return;
        }
    }
    sim_trace(story->sim, "the curtain falls for engine %u", curtain->index);
    wind_up(story, story->engines[curtain->index]);
    story->is_over[curtain->index] = true;
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

/* In a script: now is the moment at which another thread aborts. */
static void abort_from_afar(struct story *story)
{
    for (uint32_t i = 0; i < story->connection_count; i++) {
        struct user *user = &story->connections[i].users[0];

        if (user->has_started && user->stream && !user->is_closed)
            user_abort_from_afar(user);
    }
}

void story_other_threads(struct story *story)
{
    if (!story || story->sim->is_quiet)
        return;
    if (story->points_until_abort > 0 && --story->points_until_abort == 0)
        abort_from_afar(story);
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

/* One turn, on the engine's own thread. */
static void take_turn(struct story *story, struct sluice_engine *engine)
{
    story_become(story, engine);
    if (sluice_engine_turn(engine) < 0)
        story->is_broken = true;
}

/* Gives every engine that has something to do a turn, in any order. Returns false if none had. */
static bool take_turns(struct story *story)
{
    bool had_turn = false;
    uint32_t first = (uint32_t)sim_below(story->sim, story->engine_count);

    for (uint32_t i = 0; i < story->engine_count; i++) {
        struct sluice_engine *engine = story->engines[(first + i) % story->engine_count];

        if (sluice_engine_wait_ns(engine) == 0 || sim_ring_is_ready(engine->ring)) {
            take_turn(story, engine);
            had_turn = true;
        }
    }
    return had_turn;
}

static uint64_t next_moment(const struct story *story)
{
    uint64_t next_ns = sim_next_event(story->sim);

    for (uint32_t i = 0; i < story->engine_count; i++) {
        uint64_t wait_ns = sluice_engine_wait_ns(story->engines[i]);

        if (wait_ns != UINT64_MAX && story->sim->now_ns + wait_ns < next_ns)
            next_ns = story->sim->now_ns + wait_ns;
    }
    return next_ns;
}

/* When all engines sleep: on to whatever comes first. Then each looks at its ring. */
static void sleep_together(struct story *story)
{
    uint64_t next_ns = next_moment(story);

    if (next_ns == UINT64_MAX)
        blame(story);
    sim_advance(story->sim, next_ns);
    for (uint32_t i = 0; i < story->engine_count; i++)
        take_turn(story, story->engines[i]);
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
    for (uint64_t step = 0; !is_over(story) && !story->is_broken; step++) {
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
        sluice_timer_start(story->engines[0], timer, WATCH_NS);
}

/* One thread: the engine waits by itself. */
static void run_by_itself(struct story *story)
{
    story->watch.fire = run_watch;
    sluice_timer_start(story->engines[0], &story->watch, WATCH_NS);
    if (sluice_engine_run(story->engines[0]) < 0)
        story->is_broken = true;
    sluice_timer_stop(story->engines[0], &story->watch);
}

/* Some turns, and then nobody waits for an end. */
static void run_shortly(struct story *story)
{
    cover(COVER_STORY_CUT_SHORT);
    for (uint64_t turns = sim_below(story->sim, 300); turns > 0 && !has_ended(story) && !story->is_broken; turns--)
        if (!take_turns(story))
            sleep_together(story);
}

static void run(struct story *story)
{
    if (story->is_cut_short)
        run_shortly(story);
    else if (story->engine_count == 1 && sim_below(story->sim, 2))
        run_by_itself(story);
    else
        run_in_turns(story);
}

/* -- Beginning and end --------------------------------------------------------------------------------------- */

bool story_begin(struct story *story, struct sim *sim, uint32_t engines)
{
    story->sim = sim;
    sim->story = story;
    sim->stack = (uintptr_t)__builtin_frame_address(0);
    memory_watch(sim);
    story->engine_count = engines;
    for (uint32_t i = 0; i < engines; i++) {
        story_become(story, NULL);
        story->engines[i] = make_engine(story);
        if (!story->engines[i])
            return false;
    }
    story_become(story, story->engines[0]);
    return true;
}

static void hang_curtain(struct story *story, uint32_t index)
{
    struct sim *sim = story->sim;
    uint64_t delay_ns = sim_below(sim, 100000000);

    if (sim->limits.curtain_ns && delay_ns > sim->limits.curtain_ns)
        delay_ns = sim->limits.curtain_ns;
    story->curtains[index] = (struct curtain){.timer.fire = draw_curtain, .story = story, .index = index};
    story_become(story, story->engines[index]);
    sluice_timer_start(story->engines[index], &story->curtains[index].timer, delay_ns);
}

static void make_connections(struct story *story)
{
    struct sim *sim = story->sim;
    uint32_t count = 1 + (uint32_t)sim_below(sim, CONNECTIONS);

    story_become(story, story->engines[0]);
    for (uint32_t i = 0; i < count; i++) {
        struct connection *connection = &story->connections[story->connection_count];

        connection_choose(connection, story, i);
        if (sim->limits.keep && !(sim->limits.keep >> i & 1)) {
            memset(connection, 0, sizeof *connection);
            continue;
        }
        story->connection_count++;
        connection_make(connection);
    }
}

static void end_engines(struct story *story)
{
    story->sim->is_quiet = true;
    for (uint32_t i = 0; i < story->engine_count; i++) {
        struct sluice_engine *engine = story->engines[i];

        if (!engine)
            continue;
        story_become(story, engine);
        sluice_timer_stop(engine, &story->curtains[i].timer);
        check_ended_engine(story->sim, engine);
        sluice_engine_destroy(engine);
        story->engines[i] = NULL;
    }
}

static void close_plain(struct sim *sim, const struct plain *plain)
{
    if (!plain->sim)
        return;
    if (plain->fd >= 0)
        network_close(sim->network, plain->fd, false);
    if (plain->listener >= 0)
        network_close(sim->network, plain->listener, false);
}

static void end_connection(const struct story *story, struct connection *connection)
{
    struct sim *sim = story->sim;

    for (int i = 0; i < 2; i++) {
        struct user *user = &connection->users[i];

        if (user->stream && !user->is_closed)
            sim_violated(sim, "%s was not told on_close", user->name);
        user_finish(user);
    }
    if (!story->is_broken)
        connection_check(connection);
    close_plain(sim, &connection->plain);
}

void story_end(struct story *story)
{
    struct sim *sim = story->sim;

    end_engines(story);
    for (uint32_t i = 0; i < story->connection_count; i++)
        end_connection(story, &story->connections[i]);
    if (sim->network->open > 0)
        sim_violated(sim, "%u descriptors were left open", sim->network->open);
    if (memory_live() != 0 || sim->broken == BROKEN_LEAK)
        sim_violated(sim, "%lld blocks of memory were not freed", (long long)memory_live());
    sim->torture.allocations = memory_allocations();
    memory_watch(NULL);
    sim->story = NULL;
}

/* -- Step by step -------------------------------------------------------------------------------------------- */

void story_turn(struct story *story)
{
    for (uint32_t i = 0; i < story->engine_count && !story->is_broken; i++)
        take_turn(story, story->engines[i]);
}

void story_settle(struct story *story)
{
    /* What moves without end is found by check_engine(). */
    while (!story->is_broken && take_turns(story))
        continue;
}

void story_pass_time(struct story *story)
{
    uint64_t next_ns = next_moment(story);

    if (!story->is_broken && next_ns < story->sim->now_ns + SOON_NS)
        sleep_together(story);
}

void story_wind_up(struct story *story)
{
    for (uint32_t i = 0; i < story->engine_count; i++) {
        story_become(story, story->engines[i]);
        wind_up(story, story->engines[i]);
        story->is_over[i] = true;
    }
    run_in_turns(story);
}

/* -- By a seed ----------------------------------------------------------------------------------------------- */

void story_run(struct sim *sim)
{
    struct story *story = memory_get(sizeof *story);
    uint32_t engines;

    story->sim = sim;
    choose_options(story);
    engines = 1 + (uint32_t)sim_below(sim, ENGINES);
    story->is_cut_short = sim_below(sim, 6) == 0;
    story->has_threads = sim_below(sim, 4) > 0;
    if (sim->limits.engines && engines > sim->limits.engines)
        engines = sim->limits.engines;
    if (engines > 1)
        cover(COVER_STORY_TWO_ENGINES);
    if (story_begin(story, sim, engines)) {
        for (uint32_t i = 0; i < engines; i++) {
            hang_curtain(story, i);
            story->is_over[i] = story->is_cut_short;
        }
        make_connections(story);
        run(story);
    }
    story_end(story);
    memory_put(story);
}
