/* `sluice serve`: a group of engines with one service; this thread only waits for the end and shows progress. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <sluice/address.h>
#include <sluice/group.h>

#include "tools/arguments.h"
#include "tools/container_of.h"
#include "tools/interrupt.h"
#include "tools/json.h"
#include "tools/pattern.h"
#include "tools/progress.h"
#include "tools/services.h"
#include "tools/units.h"
#include "tools/verb.h"

#define THREADS_MAX  256
#define DESK_ENTRIES 8

enum service {
    SERVICE_ECHO,
    SERVICE_SINK,
    SERVICE_SOURCE,
    SERVICE_CHAT,
};

static const char *const service_names[] = {"echo", "sink", "source", "chat", NULL};

static const struct sluice_listener_events *const service_events[] = {
    [SERVICE_ECHO] = &echo_service,
    [SERVICE_SINK] = &sink_service,
    [SERVICE_SOURCE] = &source_service,
    [SERVICE_CHAT] = &chat_service,
};

struct serve {
    size_t service; /* enum service */
    const char *address;
    uint64_t threads;
    bool wants_json;

    struct sluice_engine_options options;
    struct sluice_group *group;
    struct sluice_engine *desk; /* this thread's: it carries the progress line, and signals stop it */
    struct progress progress;
    struct progress_rate received_rate;
    struct progress_rate sent_rate;
    struct pattern pattern; /* of source */
    struct chat chat;
};

static bool parse(struct serve *serve, int argc, char **argv, int *status)
{
    const struct argument operands[] = {
        {
            .name = "SERVICE",
            .help = "what to do with connections",
            .kind = ARGUMENT_CHOICE,
            .is_optional = true,
            .choices = service_names,
            .choice = &serve->service,
        },
        {
            .name = "ADDRESS",
            .help =
                "where to listen: HOST:PORT, [IPV6]:PORT, *:PORT, unix:/PATH or unix:@NAME; port 0 takes a free one",
            .kind = ARGUMENT_ADDRESS,
            .text = &serve->address,
        },
    };
    const struct argument options[] = {
        {
            .name = "threads",
            .help = "engines, one a thread, that share the connections",
            .kind = ARGUMENT_COUNT,
            .min = 1,
            .max = THREADS_MAX,
            .number = &serve->threads,
        },
        {
            .name = "json",
            .help = "print JSON, one object a line: where it listens, then the totals",
            .kind = ARGUMENT_FLAG,
            .flag = &serve->wants_json,
        },
    };
    const struct arguments arguments = {
        .verb = "serve",
        .summary = "Runs a server until Ctrl-C, then prints the totals.",
        .notes = "echo sends back what it receives; sink forgets it; source sends as fast as the peer reads;\n"
                 "chat sends what one connection says to all others, and drops those that do not read.",
        .example = "sluice serve echo 127.0.0.1:7000 --threads 2",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands = operands,
        .operand_count = sizeof operands / sizeof operands[0],
    };

    if (!arguments_parse(&arguments, argc, argv, status))
        return false;
    if (serve->service == SERVICE_CHAT && serve->threads > 1) {
        *status = verb_refuse("serve", "--threads: \"%" PRIu64 "\" is too many for chat: its members share one thread",
                              serve->threads);
        return false;
    }
    *status = verb_read_settings("serve", &serve->options);
    return *status == VERB_DONE;
}

/* -- While it runs ------------------------------------------------------------------------------------------- */

/* Of all engines together. */
static struct sluice_stats total(const struct serve *serve)
{
    struct sluice_stats sum = {0};

    for (size_t i = 0; i < sluice_group_size(serve->group); i++) {
        struct sluice_stats stats;

        sluice_engine_stats(sluice_group_engine(serve->group, i), &stats);
        sum.accepts += stats.accepts;
        sum.streams += stats.streams;
        sum.bytes_received += stats.bytes_received;
        sum.bytes_sent += stats.bytes_sent;
    }
    return sum;
}

static void write_progress(struct progress *progress, char *line, size_t line_size)
{
    struct serve *serve = container_of(progress, struct serve, progress);
    struct sluice_stats stats = total(serve);
    char received[UNITS_TEXT_MAX];
    char sent[UNITS_TEXT_MAX];

    units_show_size(progress_rate(&serve->received_rate, stats.bytes_received), received, sizeof received);
    units_show_size(progress_rate(&serve->sent_rate, stats.bytes_sent), sent, sizeof sent);
    snprintf(line, line_size, "%" PRIu64 " connections open; in %s/s, out %s/s", stats.streams, received, sent);
}

/* Told at once, so that whoever started us can go on. */
static void print_listening(const struct serve *serve, const char *address)
{
    struct json json = {.file = stdout};

    if (serve->wants_json) {
        json_open_object(&json, NULL);
        json_text(&json, "listening", address);
        json_close_object(&json);
        json_end(&json);
    } else {
        printf("listening on %s\n", address);
    }
    fflush(stdout);
}

/* -- Afterwards ---------------------------------------------------------------------------------------------- */

static void print_totals_json(const struct serve *serve, const struct sluice_stats *stats)
{
    struct json json = {.file = stdout};

    json_open_object(&json, NULL);
    json_text(&json, "service", service_names[serve->service]);
    json_count(&json, "connections", stats->accepts);
    json_count(&json, "bytes_received", stats->bytes_received);
    json_count(&json, "bytes_sent", stats->bytes_sent);
    json_count(&json, "dropped", serve->chat.dropped);
    json_close_object(&json);
    json_end(&json);
}

static void print_totals_text(const struct serve *serve, const struct sluice_stats *stats)
{
    char received[UNITS_TEXT_MAX];
    char sent[UNITS_TEXT_MAX];

    units_show_size((double)stats->bytes_received, received, sizeof received);
    units_show_size((double)stats->bytes_sent, sent, sizeof sent);
    printf("connections   %" PRIu64 "\n", stats->accepts);
    printf("received      %" PRIu64 " bytes (%s)\n", stats->bytes_received, received);
    printf("sent          %" PRIu64 " bytes (%s)\n", stats->bytes_sent, sent);
    if (serve->service == SERVICE_CHAT)
        printf("dropped       %" PRIu64 " slow readers\n", serve->chat.dropped);
}

/* -- From start to end --------------------------------------------------------------------------------------- */

static void *service_user(struct serve *serve)
{
    if (serve->service == SERVICE_CHAT)
        return &serve->chat;
    if (serve->service == SERVICE_SOURCE)
        return &serve->pattern;
    return NULL;
}

static int listen_and_wait(struct serve *serve)
{
    char address[SLUICE_ADDRESS_MAX];
    struct sluice_stats stats;
    int error = sluice_group_listen(serve->group, serve->address, NULL, service_events[serve->service],
                                    service_user(serve), address, sizeof address);

    if (error < 0)
        return verb_fail("serve", "%s: %s", serve->address, verb_error_text(error));
    print_listening(serve, address);
    serve->progress.write = write_progress;
    progress_start(&serve->progress, serve->desk);
    error = sluice_engine_run(serve->desk);
    progress_stop(&serve->progress);
    if (error < 0)
        return verb_fail("serve", "the engine failed: %s", verb_error_text(error));
    stats = total(serve);
    sluice_group_destroy(serve->group);
    serve->group = NULL;
    if (serve->wants_json)
        print_totals_json(serve, &stats);
    else
        print_totals_text(serve, &stats);
    return VERB_DONE;
}

static int run(struct serve *serve)
{
    /* Small, as it does next to nothing. Of the settings only a feature that must not be used matters to it. */
    const struct sluice_engine_options desk_options = {
        .size = sizeof desk_options,
        .ring_entries = DESK_ENTRIES,
        .receive_buffer_count = DESK_ENTRIES,
        .disable = serve->options.disable,
    };
    int status;
    int error = sluice_engine_create(&desk_options, &serve->desk);

    if (error < 0)
        return verb_fail_engine("serve", error);
    interrupt_stops(serve->desk);
    error = sluice_group_create(&serve->options, serve->threads, &serve->group);
    status = error < 0 ? verb_fail_engine("serve", error) : listen_and_wait(serve);
    sluice_group_destroy(serve->group);
    interrupt_release();
    sluice_engine_destroy(serve->desk);
    return status;
}

int verb_serve(int argc, char **argv)
{
    struct serve serve = {.threads = 1, .options.size = sizeof serve.options};
    int status;

    if (!parse(&serve, argc, argv, &status))
        return status;
    if (pattern_init(&serve.pattern, 0) < 0)
        return verb_fail("serve", "%s", verb_error_text(-ENOMEM));
    verb_raise_descriptor_limit();
    status = run(&serve);
    pattern_finish(&serve.pattern);
    return status;
}
