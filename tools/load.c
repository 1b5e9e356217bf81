/* The load generator: the phases of a run. */
#include "tools/load.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/clock.h"
#include "tools/container_of.h"
#include "tools/load_state.h"
#include "tools/units.h"
#include "tools/verb.h"

/* Connections being opened at a time: more would overrun the backlog of many a server. */
#define OPENING_MAX 128
/* Messages that one tick of the schedule sends before answers are looked at again. */
#define TICK_MAX 1024
/* How long we wait for the last answers. */
#define PATIENCE_NS (5 * UNITS_NS_PER_S)

/* -- Ending -------------------------------------------------------------------------------------------------- */

void load_finish(struct load *load)
{
    load->phase = LOAD_DONE;
    sluice_timer_stop(load->engine, &load->phase_timer);
    sluice_timer_stop(load->engine, &load->schedule_timer);
    sluice_engine_stop(load->engine);
}

void load_complain(struct load *load, const char *format, ...)
{
    va_list arguments;

    if (load->result.failure[0] != '\0')
        return;
    va_start(arguments, format);
    vsnprintf(load->result.failure, sizeof load->result.failure, format, arguments);
    va_end(arguments);
}

/* -- Phases -------------------------------------------------------------------------------------------------- */

static void open_more(struct load *load)
{
    while (load->opening < OPENING_MAX && load->opened + load->opening < load->options.connections) {
        uint64_t index = load->opened + load->opening;
        int error = load_connection_open(&load->connections[index]);

        if (error < 0) {
            load_complain(load, "connection %" PRIu64 ": %s", index, verb_error_text(error));
            load_finish(load);
            return;
        }
        load->opening++;
    }
}

/* Open loop: gives the messages that are due to their connections, in turn. */
static void on_schedule(struct sluice_timer *timer)
{
    struct load *load = container_of(timer, struct load, schedule_timer);
    uint64_t due = schedule_count(&load->schedule, clock_now_ns() + 1);
    uint64_t limit = load->assigned + TICK_MAX;
    uint64_t next_ns;
    uint64_t now;

    for (; load->assigned < due && load->assigned < limit; load->assigned++) {
        struct load_connection *connection = &load->connections[load->assigned % load->options.connections];

        connection->due++;
        load_connection_pump(connection);
    }
    next_ns = schedule_time(&load->schedule, load->assigned);
    now = clock_now_ns();
    sluice_timer_start(load->engine, timer, next_ns > now ? next_ns - now : 0);
}

/* How many messages of the schedule before `time_ns` fall to this connection. */
static uint64_t scheduled_before(const struct load_connection *connection, uint64_t time_ns)
{
    const struct load *load = connection->load;

    return schedule_share(schedule_count(&load->schedule, time_ns), load->options.connections, connection->index);
}

static uint64_t read_peer_cpu_ns(const struct load *load)
{
    return load->options.peer_clock != NULL ? clock_read_ns(*load->options.peer_clock) : 0;
}

/* Of a process that is gone, the clock reads 0. */
static uint64_t measured_peer_cpu_ns(struct load *load)
{
    uint64_t now = read_peer_cpu_ns(load);

    if (now >= load->peer_cpu_before_ns)
        return now - load->peer_cpu_before_ns;
    load_complain(load, "the server's process has ended: its CPU time is not known");
    return 0;
}

static void start_measuring(struct load *load)
{
    uint64_t now = clock_now_ns();

    load->phase = LOAD_MEASURING;
    load->measuring_since_ns = now;
    load->cpu_before_ns = clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
    load->peer_cpu_before_ns = read_peer_cpu_ns(load);
    for (uint64_t i = 0; i < load->options.connections; i++) {
        struct load_connection *connection = &load->connections[i];

        connection->measured_from = load_is_open_loop(load) ? scheduled_before(connection, now) : connection->sent;
    }
    sluice_timer_start(load->engine, &load->phase_timer, load->options.duration_ns);
}

/* All connections stand: from here on messages are sent. */
static void start_sending(struct load *load)
{
    load->phase = LOAD_WARMING;
    load->schedule = (struct schedule){.start_ns = clock_now_ns(), .rate = load->options.rate};
    if (load->options.warmup_ns > 0)
        sluice_timer_start(load->engine, &load->phase_timer, load->options.warmup_ns);
    else
        start_measuring(load);
    if (load_is_open_loop(load)) {
        sluice_timer_start(load->engine, &load->schedule_timer, 0);
        return;
    }
    for (uint64_t i = 0; i < load->options.connections; i++) {
        load->connections[i].due = load->options.depth;
        load_connection_pump(&load->connections[i]);
    }
}

static void stop_measuring(struct load *load, uint64_t now)
{
    load->result.measured_ns = now - load->measuring_since_ns;
    load->result.cpu_ns = clock_read_ns(CLOCK_THREAD_CPUTIME_ID) - load->cpu_before_ns;
    load->result.peer_cpu_ns = measured_peer_cpu_ns(load);
}

/* What the schedule held until now is due all the same, however late we are with it. */
static void start_draining(struct load *load)
{
    uint64_t now = clock_now_ns();

    assert(load->phase == LOAD_WARMING || load->phase == LOAD_MEASURING);
    if (load->phase == LOAD_MEASURING)
        stop_measuring(load, now);
    load->phase = LOAD_DRAINING;
    sluice_timer_stop(load->engine, &load->schedule_timer);
    sluice_timer_start(load->engine, &load->phase_timer, PATIENCE_NS);
    for (uint64_t i = 0; i < load->options.connections; i++) {
        struct load_connection *connection = &load->connections[i];

        connection->due = load_is_open_loop(load) ? scheduled_before(connection, now + 1) : connection->sent;
        if (connection->stream != NULL)
            load->awaited += connection->due - connection->answered;
        load_connection_pump(connection);
    }
    if (load->awaited == 0)
        load_finish(load);
}

static void on_phase(struct sluice_timer *timer)
{
    struct load *load = container_of(timer, struct load, phase_timer);

    if (load->phase == LOAD_WARMING)
        start_measuring(load);
    else if (load->phase == LOAD_MEASURING)
        start_draining(load);
    else if (load->phase == LOAD_DRAINING)
        load_finish(load);
}

/* -- What connections tell ----------------------------------------------------------------------------------- */

void load_opened(struct load *load)
{
    load->opening--;
    load->opened++;
    if (load->phase != LOAD_OPENING)
        return;
    if (load->opened == load->options.connections)
        start_sending(load);
    else
        open_more(load);
}

static void note_drained(struct load *load, uint64_t count)
{
    assert(load->awaited >= count);
    load->awaited -= count;
    if (load->awaited == 0)
        load_finish(load);
}

bool load_answered(struct load *load, uint64_t count)
{
    load->answers += count;
    if (load->phase == LOAD_MEASURING)
        load->result.messages += count;
    if (load->phase == LOAD_DRAINING)
        note_drained(load, count);
    return !load_is_open_loop(load) && load->phase < LOAD_DRAINING;
}

/* The run goes on with the others; what is due on this one stays unanswered. */
void load_lost(struct load_connection *connection, const char *why)
{
    struct load *load = connection->load;

    if (load->phase == LOAD_DONE)
        return;
    if (load->phase == LOAD_OPENING) {
        load_complain(load, "%s", why);
        load_finish(load);
        return;
    }
    load_complain(load, "connection %" PRIu64 ": %s", connection->index, why);
    load->result.lost_connections++;
    if (load->phase == LOAD_DRAINING)
        note_drained(load, connection->due - connection->answered);
    else if (load->result.lost_connections == load->options.connections)
        start_draining(load);
}

/* -- From start to end --------------------------------------------------------------------------------------- */

/* The pattern's buffer belongs to the load, which outlives all streams: the last reference frees nothing. */
static void release_nothing(struct sluice_buffer *buffer)
{
    (void)buffer;
}

static int allocate(struct load *load)
{
    const struct load_options *options = &load->options;
    size_t sent_count = load_is_open_loop(load) ? 1 : (size_t)(options->connections * options->depth);

    load->connections = calloc((size_t)options->connections, sizeof *load->connections);
    load->sent_ns = calloc(sent_count, sizeof *load->sent_ns);
    if (load->connections == NULL || load->sent_ns == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i < options->connections; i++) {
        load->connections[i] = (struct load_connection){
            .load = load,
            .index = i,
            .measured_from = UINT64_MAX,
            .sent_ns = load_is_open_loop(load) ? NULL : load->sent_ns + i * options->depth,
        };
    }
    return pattern_init(&load->pattern,
                        options->message_size > LOAD_SEND_MAX ? (size_t)options->message_size : LOAD_SEND_MAX);
}

int load_create(struct sluice_engine *engine, const struct load_options *options, struct load **load)
{
    struct load *created = calloc(1, sizeof *created);

    if (created == NULL)
        return -ENOMEM;
    created->engine = engine;
    created->options = *options;
    created->phase_timer.fire = on_phase;
    created->schedule_timer.fire = on_schedule;
    sluice_buffer_init(&created->pattern_buffer, release_nothing);
    histogram_init(&created->result.latency);
    histogram_init(&created->result.delay);
    if (allocate(created) < 0) {
        load_destroy(created);
        return -ENOMEM;
    }
    *load = created;
    return 0;
}

void load_destroy(struct load *load)
{
    if (load == NULL)
        return;
    pattern_finish(&load->pattern);
    free(load->sent_ns);
    free(load->connections);
    free(load);
}

static void count_unanswered(struct load *load)
{
    for (uint64_t i = 0; i < load->options.connections; i++)
        load->result.unanswered += load->connections[i].due - load->connections[i].answered;
    histogram_record_lost(&load->result.latency, load->result.unanswered);
}

int load_run(struct load *load)
{
    int error;

    open_more(load);
    error = sluice_engine_run(load->engine);
    if (error == 0 && (load->phase == LOAD_WARMING || load->phase == LOAD_MEASURING)) {
        start_draining(load);
        error = sluice_engine_run(load->engine);
    }
    /* Connections that close from here on, when the engine is destroyed, are none of our losses. */
    load_finish(load);
    count_unanswered(load);
    return error;
}

const struct load_result *load_result(const struct load *load)
{
    return &load->result;
}

void load_describe(struct load *load, char *line, size_t line_size)
{
    double rate = progress_rate(&load->answer_rate, load->answers);
    char bar[PROGRESS_LINE_MAX] = "";

    switch (load->phase) {
    case LOAD_OPENING:
        snprintf(line, line_size, "%" PRIu64 " of %" PRIu64 " connections", load->opened, load->options.connections);
        break;
    case LOAD_WARMING:
        snprintf(line, line_size, "warming up  %.0f messages/s", rate);
        break;
    case LOAD_MEASURING:
        progress_bar(clock_now_ns() - load->measuring_since_ns, load->options.duration_ns, bar, sizeof bar);
        snprintf(line, line_size, "%s  %.0f messages/s", bar, rate);
        break;
    case LOAD_DRAINING:
        snprintf(line, line_size, "waiting for %" PRIu64 " answers", load->awaited);
        break;
    case LOAD_DONE:
        break;
    }
}
