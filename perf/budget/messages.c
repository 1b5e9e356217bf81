/*
 * Moves messages through the library over a kernel in memory, one case after the other, for callgrind to count what
 * that takes. It dumps what it has counted before each mark(): so every second dump is a case, without what comes
 * before. On standard output: the compiler, then a line for each case, its name and its messages.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/sluice.h>

#include "perf/budget/kernel.h"

enum {
    MESSAGES = 1024, /* in the warm-up, and again in what is counted */
    KIB = 1024,
    SMALL = 64,
    SHARED = 256, /* not copied */
    PREFIX = 2,
    PIPELINE = 64, /* messages that arrive together */
    CROWD = 64,    /* connections */
};

#define TEXT_OF(value) #value
#define TEXT(value)    TEXT_OF(value)
#if defined(__clang__)
#define COMPILER "clang-" TEXT(__clang_major__)
#else
#define COMPILER "gcc-" TEXT(__GNUC__)
#endif

struct run {
    struct sluice_engine *engine;
    struct sluice_stream *streams[1 + CROWD];
    uint32_t streams_open;
    uint32_t messages;
};

struct scenario {
    const char *name;
    uint32_t connections;
    uint32_t together;  /* messages in one arrival */
    size_t message_len; /* without the length that a frame puts before it */
    bool is_framed;
    bool is_passed_on;                         /* to the other connections, from the first */
    const struct sluice_stream_events *events; /* NULL: nothing arrives, the program sends */
};

static struct run now;

static void must(bool is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "budget: %s\n", what);
    exit(1);
}

/* callgrind stops here to write down what it has counted. */
void mark(void);
__attribute__((noinline)) void mark(void)
{
    __asm__ volatile("");
}

static void count_message(void)
{
    now.messages++;
    if (now.messages == MESSAGES || now.messages == 2 * MESSAGES)
        mark();
    if (now.messages == 2 * MESSAGES)
        sluice_engine_stop(now.engine);
}

/* -- What is done with what arrives -------------------------------------------------------------------------- */

static void note_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    (void)stream;
    (void)why;
    (void)user;
    now.streams_open--;
}

static void echo(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)user;
    must(sluice_stream_send_view(stream, view) == SLUICE_ROOM, "an answer finds no room");
    count_message();
}

/* Each message is answered by a send of its own. */
static void answer_each(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)user;
    for (size_t at = 0; at < view->len; at += SMALL) {
        must(sluice_stream_send(stream, view->data + at, SMALL) == SLUICE_ROOM, "an answer finds no room");
        count_message();
    }
}

static void forward(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    (void)user;
    must(sluice_stream_send_view(now.streams[1], view) == SLUICE_ROOM, "a piece finds no room");
    count_message();
}

static void fan_out(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    (void)user;
    for (uint32_t i = 1; i <= CROWD; i++) {
        must(sluice_stream_send_view(now.streams[i], view) == SLUICE_ROOM, "a copy finds no room");
        count_message();
    }
}

static void count(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    (void)view;
    (void)user;
    count_message();
}

/* The same for an arrival of many messages that no frame tells apart. */
static void count_each(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)stream;
    (void)user;
    for (size_t at = 0; at < view->len; at += PREFIX + SMALL)
        count_message();
}

static const struct sluice_stream_events echo_events = {.on_data = echo, .on_close = note_close};
static const struct sluice_stream_events answer_events = {.on_data = answer_each, .on_close = note_close};
static const struct sluice_stream_events forward_events = {.on_data = forward, .on_close = note_close};
static const struct sluice_stream_events fan_out_events = {.on_data = fan_out, .on_close = note_close};
static const struct sluice_stream_events count_events = {.on_data = count, .on_close = note_close};
static const struct sluice_stream_events count_each_events = {.on_data = count_each, .on_close = note_close};
static const struct sluice_stream_events silent_events = {.on_close = note_close};

static const struct scenario scenarios[] = {
    {.name = "echo", .connections = 1, .together = 1, .message_len = SMALL, .events = &echo_events},
    {.name = "crowd", .connections = CROWD, .together = 1, .message_len = SMALL, .events = &echo_events},
    {.name = "pipelined", .connections = 1, .together = PIPELINE, .message_len = SMALL, .events = &answer_events},
    {.name = "forward",
     .connections = 2,
     .together = 1,
     .message_len = 16 * KIB,
     .is_passed_on = true,
     .events = &forward_events},
    {.name = "fan-out",
     .connections = 1 + CROWD,
     .together = 1,
     .message_len = SHARED,
     .is_passed_on = true,
     .events = &fan_out_events},
    {.name = "receive", .connections = 1, .together = 1, .message_len = PREFIX + SMALL, .events = &count_events},
    {.name = "receive-framed",
     .connections = 1,
     .together = 1,
     .message_len = SMALL,
     .is_framed = true,
     .events = &count_events},
    {.name = "receive-many",
     .connections = 1,
     .together = PIPELINE,
     .message_len = PREFIX + SMALL,
     .events = &count_each_events},
    {.name = "receive-many-framed",
     .connections = 1,
     .together = PIPELINE,
     .message_len = SMALL,
     .is_framed = true,
     .events = &count_events},
    {.name = "send", .connections = 1, .together = 1, .message_len = SMALL},
    {.name = "send-framed", .connections = 1, .together = 1, .message_len = SMALL, .is_framed = true},
    {.name = "send-many", .connections = 1, .together = PIPELINE, .message_len = SMALL},
    {.name = "send-many-framed", .connections = 1, .together = PIPELINE, .message_len = SMALL, .is_framed = true},
};

/* -- Running ------------------------------------------------------------------------------------------------- */

/* Nothing arrives where only the program sends, nor where it is passed on to. */
static bool is_read(const struct scenario *scenario, uint32_t connection)
{
    return scenario->events && !(scenario->is_passed_on && connection > 0);
}

static void open_streams(const struct scenario *scenario)
{
    for (uint32_t i = 0; i < scenario->connections; i++) {
        const struct sluice_stream_events *events = is_read(scenario, i) ? scenario->events : &silent_events;
        int fd = kernel_socket();
        struct sluice_stream **stream = &now.streams[i];

        must(sluice_fd_stream(now.engine, fd, fd, events, NULL, stream) == 0, "no stream can be had");
        if (scenario->is_framed)
            must(sluice_frame_stream(*stream, NULL, events, NULL, stream) == 0, "no frame can be had");
        now.streams_open++;
    }
    /* What is opened is told, and the receives are armed. */
    for (int i = 0; i < 4; i++)
        sluice_engine_turn(now.engine);
}

/* Messages as they arrive: lengths before them if they are framed. */
static size_t write_arrival(const struct scenario *scenario, uint8_t *out)
{
    size_t len = 0;

    for (uint32_t i = 0; i < scenario->together; i++) {
        if (scenario->is_framed) {
            out[len++] = (uint8_t)(scenario->message_len >> 8);
            out[len++] = (uint8_t)scenario->message_len;
        }
        memset(out + len, 'm', scenario->message_len);
        len += scenario->message_len;
    }
    return len;
}

static void receive_messages(const struct scenario *scenario)
{
    uint8_t arrival[16 * KIB];
    size_t len = write_arrival(scenario, arrival);

    kernel_bring(arrival, len, scenario->is_passed_on ? 1 : scenario->connections);
    must(sluice_engine_run(now.engine) == 0, "the engine stops");
    kernel_bring(NULL, 0, 0);
}

static void send_messages(const struct scenario *scenario)
{
    static const uint8_t message[SMALL];

    while (now.messages < 2 * MESSAGES) {
        for (uint32_t i = 0; i < scenario->together; i++) {
            must(sluice_stream_send(now.streams[0], message, sizeof message) == SLUICE_ROOM, "a message has no room");
            count_message();
        }
        sluice_engine_turn(now.engine);
    }
}

/* What is counted would be worth nothing if it did not come out. */
static void check_taken(const struct scenario *scenario)
{
    bool answers = !scenario->events || (scenario->events->on_data != count && scenario->events->on_data != count_each);
    uint64_t each = scenario->message_len + (scenario->is_framed ? PREFIX : 0);

    sluice_engine_turn(now.engine);
    must(kernel_taken() >= (answers ? 2 * MESSAGES * each : 0), "not every message was answered");
}

static void close_streams(const struct scenario *scenario)
{
    for (uint32_t i = 0; i < scenario->connections; i++)
        sluice_stream_abort(now.streams[i], 0);
    while (now.streams_open > 0)
        sluice_engine_turn(now.engine);
}

static void run(const struct scenario *scenario)
{
    /* The kernel in memory has neither receives that find no buffer nor those that fill several. */
    struct sluice_engine_options options = {
        .size = sizeof options,
        .receive_buffer_window = 2048,
        .disable = SLUICE_FEATURE_RECEIVE_BUNDLE,
    };

    now = (struct run){0};
    must(sluice_engine_create(&options, &now.engine) == 0, "no engine can be had");
    open_streams(scenario);
    if (scenario->events)
        receive_messages(scenario);
    else
        send_messages(scenario);
    check_taken(scenario);
    close_streams(scenario);
    sluice_engine_destroy(now.engine);
    printf("%s %d\n", scenario->name, MESSAGES);
}

int main(void)
{
    printf("%s\n", COMPILER);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        run(&scenarios[i]);
    return 0;
}
