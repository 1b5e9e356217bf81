/* One connection of a load: sends its messages, and holds the answers against them. */
#include <errno.h>
#include <inttypes.h>

#include <sluice/connect.h>

#include "tools/clock.h"
#include "tools/load_state.h"
#include "tools/verb.h"

/* When latency begins to count for a message of this connection. */
static uint64_t message_start(const struct load_connection *connection, uint64_t message)
{
    const struct load *load = connection->load;

    if (!load_is_open_loop(load))
        return connection->sent_ns[message % load->options.depth];
    return schedule_time(&load->schedule, message * load->options.connections + connection->index);
}

/* -- Sending ------------------------------------------------------------------------------------------------- */

static void note_sent(struct load_connection *connection, uint64_t count, uint64_t now)
{
    struct load *load = connection->load;

    for (uint64_t end = connection->sent + count; connection->sent < end; connection->sent++) {
        if (!load_is_open_loop(load))
            connection->sent_ns[connection->sent % load->options.depth] = now;
        else if (connection->sent >= connection->measured_from)
            histogram_record(&load->result.delay, now - message_start(connection, connection->sent));
    }
}

/* How many messages the next send holds: all that are due, as far as they lie in the pattern unbroken. */
static uint64_t next_count(const struct load_connection *connection)
{
    uint64_t due = connection->due - connection->sent;
    uint64_t most = LOAD_SEND_MAX / connection->load->options.message_size;

    if (most == 0)
        return 1;
    return due < most ? due : most;
}

/* Returns as sluice_stream_send_view(). */
static int send_messages(struct load_connection *connection, uint64_t count)
{
    struct load *load = connection->load;
    size_t size = (size_t)(count * load->options.message_size);
    struct sluice_view message = {
        .data = load->pattern.bytes + connection->send_position,
        .len = size,
        .buffer = &load->pattern_buffer,
    };
    int answer = sluice_stream_send_view(connection->stream, &message);

    if (answer >= 0)
        connection->send_position = pattern_advance(connection->send_position, size);
    return answer;
}

/* Many at once may be refused where one is not. Returns as sluice_stream_send_view(), with what was sent in `count`. */
static int send_what_fits(struct load_connection *connection, uint64_t *count)
{
    int answer = send_messages(connection, *count);

    if (answer != -ENOBUFS || *count == 1)
        return answer;
    *count = 1;
    return send_messages(connection, 1);
}

/* Refused for want of room: a drain will come, unless nothing is queued and the message is too large for the limit. */
static void note_refused(struct load_connection *connection, int error)
{
    if (error == -ENOBUFS && sluice_stream_queued(connection->stream) > 0)
        connection->is_full = true;
    else
        sluice_stream_abort(connection->stream, error == -ENOBUFS ? -EMSGSIZE : error);
}

void load_connection_pump(struct load_connection *connection)
{
    uint64_t now = clock_now_ns();

    while (connection->stream != NULL && connection->sent < connection->due && !connection->is_full) {
        uint64_t count = next_count(connection);
        int answer = send_what_fits(connection, &count);

        if (answer < 0) {
            note_refused(connection, answer);
            return;
        }
        note_sent(connection, count, now);
        connection->is_full = answer == SLUICE_FULL;
    }
}

static void on_drain(struct sluice_stream *stream, void *user)
{
    struct load_connection *connection = user;

    (void)stream;
    connection->is_full = false;
    load_connection_pump(connection);
}

/* -- Answers ------------------------------------------------------------------------------------------------- */

/* Holds what came against what was sent. Returns false after a complaint. */
static bool is_echo(struct load_connection *connection, const struct sluice_view *view)
{
    struct load *load = connection->load;
    uint64_t before = connection->answered * load->options.message_size + connection->partial;
    size_t same = pattern_compare(&load->pattern, connection->answer_position, view->data, view->len);
    size_t position = pattern_advance(connection->answer_position, same);

    if (same < view->len) {
        load_complain(load, "connection %" PRIu64 ": data error: byte %" PRIu64 " came back as 0x%02x, not 0x%02x",
                      connection->index, before + same, view->data[same], load->pattern.bytes[position]);
        return false;
    }
    if (before + view->len > connection->sent * load->options.message_size) {
        load_complain(load, "connection %" PRIu64 ": data error: more bytes came back than were sent",
                      connection->index);
        return false;
    }
    connection->answer_position = position;
    return true;
}

static void note_answers(struct load_connection *connection, uint64_t count)
{
    struct histogram *latency = &connection->load->result.latency;
    uint64_t now = clock_now_ns();

    for (uint64_t end = connection->answered + count; connection->answered < end; connection->answered++) {
        if (connection->answered >= connection->measured_from)
            histogram_record(latency, now - message_start(connection, connection->answered));
    }
}

static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct load_connection *connection = user;
    struct load *load = connection->load;
    size_t arrived = connection->partial + view->len;
    uint64_t count = arrived / load->options.message_size;

    (void)stream;
    if (load->phase == LOAD_DONE)
        return;
    if (!is_echo(connection, view)) {
        load_finish(load);
        return;
    }
    connection->partial = (size_t)(arrived % load->options.message_size);
    note_answers(connection, count);
    if (load_answered(load, count)) {
        connection->due += count;
        load_connection_pump(connection);
    }
}

/* -- Opening and ending -------------------------------------------------------------------------------------- */

static void on_open(struct sluice_stream *stream, void *user)
{
    struct load_connection *connection = user;

    (void)stream;
    load_opened(connection->load);
}

/* No echo server ends before its client does. */
static void on_end(struct sluice_stream *stream, void *user)
{
    (void)user;
    sluice_stream_close(stream);
}

static void on_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct load_connection *connection = user;

    (void)stream;
    connection->stream = NULL;
    load_lost(connection, why->error != 0 ? verb_error_text(why->error) : "ended by the server");
}

static const struct sluice_stream_events load_connection_events = {
    .on_open = on_open,
    .on_data = on_data,
    .on_drain = on_drain,
    .on_end = on_end,
    .on_close = on_close,
};

int load_connection_open(struct load_connection *connection)
{
    struct load *load = connection->load;

    return sluice_connect(load->engine, load->options.address, &load_connection_events, connection,
                          &connection->stream);
}
