/* `sluice tune`: an echo server measured under one setting after another, and those that won. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/arguments.h"
#include "tools/tune.h"
#include "tools/units.h"
#include "tools/verb.h"

#define CONNECTIONS_MAX  100000
#define MESSAGE_SIZE_MAX (16 << 20)
#define DEPTH_MAX        65536
#define ROUNDS_MAX       1000
#define DURATION_MAX_NS  (60 * UNITS_NS_PER_S)
/* Messages are sent for this part of the duration before it begins. */
#define WARMUP_PART  5
#define OPTION_COUNT 9

static const char notes[] =
    "Each value is tried between two trials of the default, round after round, so that both see the same machine.\n"
    "The default is what SLUICE_ variables say now, and the defaults for the rest. The server alone is given the\n"
    "values; the load stays as it is. Noise is three standard errors; to win, a gain must be larger, and at least\n"
    "1 %. What won is measured again, together. Standard output is an environment file: all but the settings is\n"
    "comment.\n"
    "Loopback has no network device: what SLUICE_NAPI gains on one is not seen here.\n\n"
    "Behind the options, \"-- COMMAND...\" names an echo server to try instead of our own. It is started for each\n"
    "trial with SLUICE_ variables, says \"listening on ADDRESS\" in its first line, and ends at SIGTERM.";

static void list_workload(struct tune *tune, struct argument rows[])
{
    rows[0] = (struct argument){
        .name = "connections",
        .help = "connections to open",
        .kind = ARGUMENT_COUNT,
        .min = 1,
        .max = CONNECTIONS_MAX,
        .number = &tune->load_options.connections,
    };
    rows[1] = (struct argument){
        .name = "size",
        .help = "bytes in a message",
        .kind = ARGUMENT_SIZE,
        .min = 1,
        .max = MESSAGE_SIZE_MAX,
        .number = &tune->load_options.message_size,
    };
    rows[2] = (struct argument){
        .name = "depth",
        .help = "messages that each connection keeps outstanding",
        .kind = ARGUMENT_COUNT,
        .min = 1,
        .max = DEPTH_MAX,
        .number = &tune->load_options.depth,
    };
    rows[3] = (struct argument){
        .name = "unix",
        .help = "over a Unix socket instead of TCP",
        .kind = ARGUMENT_FLAG,
        .flag = &tune->is_unix,
    };
}

static void list_procedure(struct tune *tune, struct argument rows[])
{
    rows[0] = (struct argument){
        .name = "duration",
        .help = "how long each trial measures, after a fifth to warm up",
        .kind = ARGUMENT_DURATION,
        .min = UNITS_NS_PER_MS,
        .max = DURATION_MAX_NS,
        .number = &tune->load_options.duration_ns,
    };
    rows[1] = (struct argument){
        .name = "rounds",
        .help = "trials of each value",
        .kind = ARGUMENT_COUNT,
        .min = 1,
        .max = ROUNDS_MAX,
        .number = &tune->rounds,
    };
    rows[2] = (struct argument){
        .name = "for",
        .help = "what is to become better",
        .kind = ARGUMENT_CHOICE,
        .choices = tune_goals,
        .choice = &tune->goal,
    };
    rows[3] = (struct argument){
        .name = "plot",
        .help = "a file to draw the gains in; its name ends in .svg or .html",
        .kind = ARGUMENT_TEXT,
        .text = &tune->plot_name,
    };
    rows[4] = (struct argument){
        .name = "json",
        .help = "print one JSON object",
        .kind = ARGUMENT_FLAG,
        .flag = &tune->wants_json,
    };
}

/* Takes the command behind "--" off. Returns the number of words before it. */
static int split(struct tune *tune, int argc, char **argv)
{
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--") == 0) {
            tune->command = argv + at + 1;
            argv[at] = NULL;
            return at;
        }
    }
    return argc;
}

static int check(const struct tune *tune)
{
    if (tune->plot_name != NULL && !tune_plot_allows(tune->plot_name))
        return verb_refuse("tune", "--plot: \"%s\" is not a name that ends in .svg or .html", tune->plot_name);
    if (tune->command != NULL && tune->command[0] == NULL)
        return verb_refuse("tune", "--: the command is missing; it is a program and its arguments");
    if (tune->command != NULL && tune->is_unix)
        return verb_refuse("tune", "--unix: it cannot be had together with a command, which says where it listens");
    return VERB_DONE;
}

static bool parse(struct tune *tune, int argc, char **argv, int *status)
{
    struct argument options[OPTION_COUNT];
    const struct arguments arguments = {
        .verb = "tune",
        .summary = "Tries settings on an echo server over loopback, and prints those that make it better.",
        .notes = notes,
        .example = "sluice tune --connections 64 --for cpu --plot tune.html >sluice.env",
        .options = options,
        .option_count = OPTION_COUNT,
    };

    list_workload(tune, options);
    list_procedure(tune, options + 4);
    argc = split(tune, argc, argv);
    if (!arguments_parse(&arguments, argc, argv, status))
        return false;
    *status = check(tune);
    if (*status != VERB_DONE)
        return false;
    tune->load_options.warmup_ns = tune->load_options.duration_ns / WARMUP_PART;
    *status = tune_read_settings(tune);
    return *status == VERB_DONE;
}

/* The load is what the others are measured with: it keeps its settings, and its CPU time is that of its thread. */
static void prepare_load(struct tune *tune)
{
    tune->load_engine = tune->base;
    tune->load_engine.sqpoll = 0;
    tune->load_engine.sqpoll_cpu = 0;
}

/* At the start, lest it be found out at the end that it cannot be written. */
static int open_plot(struct tune *tune)
{
    if (tune->plot_name == NULL)
        return VERB_DONE;
    tune->plot = fopen(tune->plot_name, "w");
    return tune->plot != NULL ? VERB_DONE : verb_fail("tune", "%s: %s", tune->plot_name, verb_error_text(-errno));
}

static int close_plot(struct tune *tune)
{
    int error = 0;

    if (tune->plot == NULL)
        return VERB_DONE;
    if (tune->measured.count > 0)
        error = tune_plot_write(tune);
    if (fclose(tune->plot) != 0 && error == 0)
        error = -errno;
    return error == 0 ? VERB_DONE : verb_fail("tune", "%s: %s", tune->plot_name, verb_error_text(error));
}

/* What was found before something failed is told, too. */
static int run(struct tune *tune)
{
    char why[SLUICE_REASON_MAX];
    int error;

    verb_raise_descriptor_limit();
    prepare_load(tune);
    error = tune_list_variants(tune, why, sizeof why);
    if (error == 0)
        error = tune_run(tune, why, sizeof why);
    if (tune->measured.count > 0)
        tune_print(tune);
    if (error < 0)
        return verb_fail("tune", "%s", why);
    return tune->measured.count > 0 ? VERB_DONE : verb_fail("tune", "interrupted before anything was measured");
}

static void finish_variant(struct tune_variant *variant)
{
    series_finish(&variant->gains);
    series_finish(&variant->measured);
}

static void destroy(struct tune *tune)
{
    for (size_t i = 0; i < tune->variant_count; i++)
        finish_variant(&tune->variants[i]);
    finish_variant(&tune->together);
    finish_variant(&tune->alone);
    series_finish(&tune->measured);
    series_finish(&tune->noise);
    series_finish(&tune->load_share);
    free(tune);
}

int verb_tune(int argc, char **argv)
{
    struct tune *tune = calloc(1, sizeof *tune);
    int plot_status;
    int status;

    if (tune == NULL)
        return verb_fail("tune", "%s", verb_error_text(-ENOMEM));
    tune->load_options = load_defaults;
    tune->load_options.connections = 64;
    tune->load_options.duration_ns = 500 * UNITS_NS_PER_MS;
    tune->rounds = 5;
    tune->base.size = sizeof tune->base;
    if (parse(tune, argc, argv, &status)) {
        status = open_plot(tune);
        if (status == VERB_DONE)
            status = run(tune);
        plot_status = close_plot(tune);
        status = status == VERB_DONE ? plot_status : status;
    }
    destroy(tune);
    return status;
}
