/* The peer on Sluice, by its public API, as a user of the library writes it. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/sluice.h>

#include "perf/peers/peer.h"

enum {
    RESUME_BELOW = PEER_FORWARD_MAX / 4,
};

static struct peer_options options;
static struct sluice_engine *engine;

/* -- Echo ---------------------------------------------------------------------------------------------------- */

/* Pauses the source of what was sent until on_drain, if that is the answer. */
static void heed(int answer, struct sluice_stream *source)
{
    if (answer == SLUICE_FULL)
        sluice_stream_pause(source);
}

static void echo_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)user;
    heed(sluice_stream_send_view(stream, view), stream);
}

static void echo_drain(struct sluice_stream *stream, void *user)
{
    (void)user;
    sluice_stream_resume(stream);
}

static void echo_end(struct sluice_stream *stream, void *user)
{
    (void)user;
    sluice_stream_finish(stream);
}

static const struct sluice_stream_events echo = {.on_data = echo_data, .on_drain = echo_drain, .on_end = echo_end};

static void echo_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    sluice_stream_set_events(stream, &echo, NULL);
}

/* -- Messages ------------------------------------------------------------------------------------------------ */

/* A connection whose bytes are messages of options.size. */
struct member {
    struct sluice_stream *stream;
    struct member *next; /* of all members */
    struct member **back;
    size_t partial_len;
    uint8_t partial[]; /* of a message that has begun */
};

static struct member *members;

/* Calls `tell` for each message that is whole now, and keeps the beginning of the next. */
static void cut_messages(struct member *member, struct sluice_view rest,
                         void (*tell)(struct member *member, const struct sluice_view *message))
{
    struct sluice_view message = rest;

    message.len = options.size;
    if (member->partial_len > 0) {
        size_t missing = options.size - member->partial_len;
        size_t part = rest.len < missing ? rest.len : missing;

        memcpy(member->partial + member->partial_len, rest.data, part);
        member->partial_len += part;
        rest.data += part;
        rest.len -= part;
        if (member->partial_len < options.size)
            return;
        member->partial_len = 0;
        tell(member, &(struct sluice_view){.data = member->partial, .len = options.size});
    }
    for (; rest.len >= options.size; rest.data += options.size, rest.len -= options.size) {
        message.data = rest.data;
        tell(member, &message);
    }
    memcpy(member->partial, rest.data, rest.len);
    member->partial_len = rest.len;
}

/* Shared if it lies in a received buffer, copied if it was put together from parts. */
static int send_message(struct sluice_stream *stream, const struct sluice_view *message)
{
    if (message->buffer)
        return sluice_stream_send_view(stream, message);
    return sluice_stream_send(stream, message->data, message->len);
}

static void answer_message(struct member *member, const struct sluice_view *message)
{
    heed(send_message(member->stream, message), member->stream);
}

static void messages_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    cut_messages(user, *view, answer_message);
}

static void member_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct member *member = user;

    (void)stream;
    (void)why;
    *member->back = member->next;
    if (member->next)
        member->next->back = member->back;
    free(member);
}

static const struct sluice_stream_events messages = {
    .on_data = messages_data,
    .on_drain = echo_drain,
    .on_end = echo_end,
    .on_close = member_close,
};

static void add_member(struct sluice_stream *stream, const struct sluice_stream_events *events)
{
    struct member *member = malloc(sizeof *member + options.size);

    if (!member) {
        sluice_stream_abort(stream, -ENOMEM);
        return;
    }
    *member = (struct member){.stream = stream, .next = members, .back = &members};
    if (members)
        members->back = &member->next;
    members = member;
    sluice_stream_set_events(stream, events, member);
}

static void messages_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    add_member(stream, &messages);
}

/* -- Fan-out ------------------------------------------------------------------------------------------------- */

static void tell_others(struct member *member, const struct sluice_view *message)
{
    for (struct member *other = members; other; other = other->next)
        if (other != member)
            send_message(other->stream, message); /* refused over its limit: it misses this one */
}

static void fanout_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    cut_messages(user, *view, tell_others);
}

static const struct sluice_stream_events fanout = {
    .on_data = fanout_data,
    .on_end = echo_end,
    .on_close = member_close,
};

static void fanout_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    sluice_stream_set_send_limits(stream, PEER_QUEUE_MAX / 4, PEER_QUEUE_MAX / 2, PEER_QUEUE_MAX);
    add_member(stream, &fanout);
}

/* -- Streaming ----------------------------------------------------------------------------------------------- */

static uint8_t constant[PEER_SIZE_MAX];
static struct sluice_buffer constant_buffer;

static void never_release(struct sluice_buffer *buffer)
{
    (void)buffer; /* we keep our reference */
}

static void source_more(struct sluice_stream *stream, void *user)
{
    const struct sluice_view view = {.data = constant, .len = options.size, .buffer = &constant_buffer};

    (void)user;
    while (sluice_stream_send_view(stream, &view) == SLUICE_ROOM)
        continue;
}

static void sink_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    (void)view;
    (void)user;
}

static const struct sluice_stream_events source = {
    .on_data = sink_data,
    .on_drain = source_more,
    .on_end = echo_end,
};
static const struct sluice_stream_events sink = {.on_data = sink_data, .on_end = echo_end};

static void source_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    sluice_stream_set_events(stream, &source, NULL);
    source_more(stream, NULL);
}

static void sink_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    sluice_stream_set_events(stream, &sink, NULL);
}

/* -- Forwarding ---------------------------------------------------------------------------------------------- */

/* Each of two streams that are joined has the other as its user. */
static void forward_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    heed(sluice_stream_send_view(user, view), stream);
}

static void forward_drain(struct sluice_stream *stream, void *user)
{
    (void)stream;
    sluice_stream_resume(user);
}

static void forward_end(struct sluice_stream *stream, void *user)
{
    (void)stream;
    sluice_stream_finish(user);
}

static const struct sluice_stream_events widowed = {.on_data = sink_data};

static void forward_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    (void)stream;
    sluice_stream_set_events(user, &widowed, NULL);
    if (why->error)
        sluice_stream_abort(user, why->error);
    else
        sluice_stream_close(user);
}

static const struct sluice_stream_events forward = {
    .on_data = forward_data,
    .on_drain = forward_drain,
    .on_end = forward_end,
    .on_close = forward_close,
};

static void forward_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    struct sluice_stream *other;
    int error = sluice_connect(engine, options.upstream.text, &forward, stream, &other);

    (void)listener;
    (void)user;
    if (error) {
        sluice_stream_abort(stream, error);
        return;
    }
    sluice_stream_set_send_limits(stream, RESUME_BELOW, PEER_FORWARD_MAX, 2 * PEER_FORWARD_MAX);
    sluice_stream_set_send_limits(other, RESUME_BELOW, PEER_FORWARD_MAX, 2 * PEER_FORWARD_MAX);
    sluice_stream_set_events(stream, &forward, other);
}

/* -- The program --------------------------------------------------------------------------------------------- */

static const struct sluice_listener_events listeners[] = {
    [PEER_ECHO] = {.on_accept = echo_accept},     [PEER_MESSAGES] = {.on_accept = messages_accept},
    [PEER_FANOUT] = {.on_accept = fanout_accept}, [PEER_SOURCE] = {.on_accept = source_accept},
    [PEER_SINK] = {.on_accept = sink_accept},     [PEER_FORWARD] = {.on_accept = forward_accept},
};

/* SLUICE_ variables count here, too: so every setting can be compared. */
static void create_engine(void)
{
    struct sluice_engine_options settings = {.size = sizeof settings};
    char why[SLUICE_REASON_MAX];
    int error;

    if (options.busy_polls)
        settings.busy_poll_ns = 1000000000;
    if (sluice_engine_options_from_env(&settings, why, sizeof why) < 0) {
        fprintf(stderr, "peer_sluice: %s\n", why);
        exit(2);
    }
    error = sluice_engine_create(&settings, &engine);
    if (error) {
        sluice_engine_explain(error, why, sizeof why);
        fprintf(stderr, "peer_sluice: %s\n", why);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    struct sluice_listener *listener;
    int error;

    peer_read_arguments(argc, argv, &options);
    sluice_buffer_init(&constant_buffer, never_release);
    create_engine();
    error = sluice_listen(engine, options.listen.text, &(struct sluice_listener_options){.backlog = PEER_BACKLOG},
                          &listeners[options.role], NULL, &listener);
    if (error)
        peer_die(options.listen.text, error);
    peer_announce(&options);
    peer_die("the engine", sluice_engine_run(engine));
}
