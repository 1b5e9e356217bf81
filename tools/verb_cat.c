/*
 * `sluice cat`: two relays between three streams. Standard input and standard output are a stream each, so that one can
 * end without the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include <sluice/address.h>
#include <sluice/connect.h>
#include <sluice/fd.h>
#include <sluice/listener.h>

#include "tools/arguments.h"
#include "tools/container_of.h"
#include "tools/interrupt.h"
#include "tools/relay.h"
#include "tools/units.h"
#include "tools/verb.h"

/* After the peer's end: how long an input that says nothing is still waited for. */
#define QUIET_NS UNITS_NS_PER_S

struct cat {
    const char *address;
    bool is_listening;
    struct sluice_engine *engine;
    struct sluice_stream *connection; /* each is NULL before it is made and after it has closed */
    struct sluice_stream *input;
    struct sluice_stream *output;
    struct relay outgoing;     /* from the input to the connection */
    struct relay incoming;     /* from the connection to the output */
    struct sluice_timer quiet; /* armed from the peer's end to ours */
    bool is_joined;            /* True exactly when the relays are in use. */
    bool has_failed;           /* True exactly when a line has told why. */
};

/* -- Ending -------------------------------------------------------------------------------------------------- */

/* The first complaint is the cause, what follows from it is not told. -ECANCELED is our own doing. */
static void note_error(struct cat *cat, const char *what, int error)
{
    if (error == 0 || error == -ECANCELED)
        return;
    if (!cat->has_failed)
        verb_fail("cat", "%s: %s", what, verb_error_text(error));
    cat->has_failed = true;
}

static void cut(struct sluice_stream *stream)
{
    if (stream != NULL)
        sluice_stream_abort(stream, -ECANCELED);
}

/* With the last stream it is over. */
static void note_closed(struct cat *cat)
{
    if (cat->connection != NULL || cat->input != NULL || cat->output != NULL)
        return;
    if (cat->is_joined) {
        relay_finish(&cat->outgoing);
        relay_finish(&cat->incoming);
    }
    cat->is_joined = false;
    sluice_engine_stop(cat->engine);
}

/* -- Standard input ------------------------------------------------------------------------------------------ */

static void input_on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct cat *cat = user;

    (void)stream;
    relay_data(&cat->outgoing, view);
    if (cat->incoming.has_ended)
        sluice_timer_start(cat->engine, &cat->quiet, QUIET_NS);
}

static void input_on_end(struct sluice_stream *stream, void *user)
{
    struct cat *cat = user;

    (void)stream;
    sluice_timer_stop(cat->engine, &cat->quiet);
    relay_end(&cat->outgoing);
}

/* If it could not be read to its end, the peer must not take what it got for the whole. */
static void input_on_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct cat *cat = user;

    (void)stream;
    note_error(cat, "standard input", why->error);
    cat->input = NULL;
    if (why->error != 0 && why->error != -ECANCELED)
        cut(cat->connection);
    note_closed(cat);
}

static const struct sluice_stream_events input_events = {
    .on_data = input_on_data,
    .on_end = input_on_end,
    .on_close = input_on_close,
};

/* -- Standard output ----------------------------------------------------------------------------------------- */

static void output_on_drain(struct sluice_stream *stream, void *user)
{
    struct cat *cat = user;

    (void)stream;
    relay_drain(&cat->incoming);
}

/* After all is written, or because it cannot be: then there is no point in receiving more. */
static void output_on_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct cat *cat = user;

    (void)stream;
    note_error(cat, "standard output", why->error);
    cat->output = NULL;
    if (why->error != 0) {
        cut(cat->connection);
        cut(cat->input);
    }
    note_closed(cat);
}

static const struct sluice_stream_events output_events = {
    .on_drain = output_on_drain,
    .on_close = output_on_close,
};

/* Makes a stream of a copy of one of our descriptors; the original stays as it is. Returns 0 or -errno. */
static int open_descriptor(struct cat *cat, int fd, const struct sluice_stream_events *events,
                           struct sluice_stream **stream)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int error;

    if (copy < 0)
        return -errno;
    error = sluice_fd_stream(cat->engine, fd == STDIN_FILENO ? copy : -1, fd == STDOUT_FILENO ? copy : -1, events, cat,
                             stream);
    if (error < 0)
        close(copy);
    else
        sluice_stream_set_idle_timeout(*stream, 0); /* that of the settings is meant for connections */
    return error;
}

/* -- The connection ------------------------------------------------------------------------------------------ */

/* The connection stands: only now anything is read from standard input. */
static void join(struct cat *cat)
{
    int error = open_descriptor(cat, STDIN_FILENO, &input_events, &cat->input);

    note_error(cat, "standard input", error);
    if (error == 0) {
        error = open_descriptor(cat, STDOUT_FILENO, &output_events, &cat->output);
        note_error(cat, "standard output", error);
    }
    if (error < 0) {
        cut(cat->input);
        cut(cat->connection);
        return;
    }
    relay_init(&cat->outgoing, cat->input, cat->connection);
    relay_init(&cat->incoming, cat->connection, cat->output);
    cat->is_joined = true;
}

static void connection_on_open(struct sluice_stream *stream, void *user)
{
    (void)stream;
    join(user);
}

static void connection_on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct cat *cat = user;

    (void)stream;
    relay_data(&cat->incoming, view);
}

static void connection_on_drain(struct sluice_stream *stream, void *user)
{
    struct cat *cat = user;

    (void)stream;
    relay_drain(&cat->outgoing);
}

/* Nothing more to print. What standard input has to say is still sent: the peer may have ended only its direction. */
static void connection_on_end(struct sluice_stream *stream, void *user)
{
    struct cat *cat = user;

    (void)stream;
    relay_end(&cat->incoming);
    if (!cat->outgoing.has_ended)
        sluice_timer_start(cat->engine, &cat->quiet, QUIET_NS);
}

/* The peer has most likely gone, and nobody says anything that would show it. */
static void on_quiet(struct sluice_timer *timer)
{
    struct cat *cat = container_of(timer, struct cat, quiet);

    if (sluice_stream_queued(cat->connection) > 0) { /* it is the peer that is slow */
        sluice_timer_start(cat->engine, timer, QUIET_NS);
        return;
    }
    cut(cat->input);
    relay_end(&cat->outgoing);
}

static void connection_on_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct cat *cat = user;

    (void)stream;
    note_error(cat, cat->address, why->error);
    cat->connection = NULL;
    sluice_timer_stop(cat->engine, &cat->quiet);
    cut(cat->input);
    if (cat->is_joined)
        relay_end(&cat->incoming);
    note_closed(cat);
}

static const struct sluice_stream_events connection_events = {
    .on_open = connection_on_open,
    .on_data = connection_on_data,
    .on_drain = connection_on_drain,
    .on_end = connection_on_end,
    .on_close = connection_on_close,
};

static void on_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    struct cat *cat = user;

    sluice_listener_close(listener);
    cat->connection = stream;
    sluice_stream_set_events(stream, &connection_events, cat);
    join(cat);
}

static const struct sluice_listener_events listener_events = {
    .on_accept = on_accept,
};

/* -- From start to end --------------------------------------------------------------------------------------- */

/* Waits for one connection. The address goes to standard error: standard output is the peer's. */
static int start_listening(struct cat *cat)
{
    const struct sluice_listener_options options = {.connection_limit = 1};
    char address[SLUICE_ADDRESS_MAX];
    struct sluice_listener *listener;
    int error = sluice_listen(cat->engine, cat->address, &options, &listener_events, cat, &listener);

    if (error < 0)
        return error;
    error = sluice_listener_address(listener, address, sizeof address);
    if (error == 0)
        fprintf(stderr, "listening on %s\n", address);
    return error;
}

static int run(struct cat *cat)
{
    int error;

    if (cat->is_listening)
        error = start_listening(cat);
    else
        error = sluice_connect(cat->engine, cat->address, &connection_events, cat, &cat->connection);
    note_error(cat, cat->address, error);
    if (error == 0) {
        error = sluice_engine_run(cat->engine);
        note_error(cat, "the engine failed", error);
    }
    return cat->has_failed || interrupt_came() ? VERB_FAILED : VERB_DONE;
}

static bool parse(struct cat *cat, int argc, char **argv, int *status)
{
    const struct argument operand = {
        .name = "ADDRESS",
        .help = "where to: HOST:PORT, [IPV6]:PORT, unix:/PATH or unix:@NAME; with --listen also *:PORT",
        .kind = ARGUMENT_ADDRESS,
        .text = &cat->address,
    };
    const struct argument option = {
        .name = "listen",
        .help = "wait for one connection on ADDRESS instead of making one",
        .kind = ARGUMENT_FLAG,
        .flag = &cat->is_listening,
    };
    const struct arguments arguments = {
        .verb = "cat",
        .summary = "Sends standard input to a stream and prints what comes back, until the peer ends.",
        .notes =
            "At the end of standard input our direction is ended; what the peer still sends is printed. After the peer's\n"
            "end standard input is still sent, until it ends or is quiet for a second.",
        .example = "echo hello | sluice cat 127.0.0.1:7000",
        .options = &option,
        .option_count = 1,
        .operands = &operand,
        .operand_count = 1,
    };

    return arguments_parse(&arguments, argc, argv, status);
}

int verb_cat(int argc, char **argv)
{
    struct sluice_engine_options options = {.size = sizeof options};
    struct cat cat = {.quiet.fire = on_quiet};
    int status;
    int error;

    if (!parse(&cat, argc, argv, &status))
        return status;
    status = verb_read_settings("cat", &options);
    if (status != VERB_DONE)
        return status;
    error = sluice_engine_create(&options, &cat.engine);
    if (error < 0)
        return verb_fail_engine("cat", error);
    interrupt_stops(cat.engine);
    status = run(&cat);
    interrupt_release();
    sluice_engine_destroy(cat.engine);
    return status;
}
