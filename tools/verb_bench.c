/* `sluice bench`: an echo server on a thread of its own, and a measurement of it from this one. */
#include <stdbool.h>

#include "tools/arguments.h"
#include "tools/load.h"
#include "tools/loopback.h"
#include "tools/measure.h"
#include "tools/verb.h"

struct bench {
    struct load_options load_options;
    bool wants_json;
    bool wants_tcp;
    bool wants_unix;
    struct sluice_engine_options server_engine;
    struct sluice_engine_options load_engine;
};

static bool parse_arguments(struct bench *bench, int argc, char **argv, int *status)
{
    struct argument options[LOAD_ARGUMENTS + 3];
    const struct arguments arguments = {
        .verb = "bench",
        .summary =
            "Runs an echo server and a load against it over loopback, each on a CPU of its own if there are two.",
        .notes = load_notes,
        .example = "sluice bench --connections 64 --size 128 --unix",
        .options = options,
        .option_count = LOAD_ARGUMENTS + 3,
    };

    load_arguments(&bench->load_options, options);
    options[LOAD_ARGUMENTS] = (struct argument){
        .name = "tcp",
        .help = "over TCP; so it is if not given",
        .kind = ARGUMENT_FLAG,
        .flag = &bench->wants_tcp,
    };
    options[LOAD_ARGUMENTS + 1] = (struct argument){
        .name = "unix",
        .help = "over a Unix socket",
        .kind = ARGUMENT_FLAG,
        .flag = &bench->wants_unix,
    };
    options[LOAD_ARGUMENTS + 2] = (struct argument){
        .name = "json",
        .help = "print one JSON object",
        .kind = ARGUMENT_FLAG,
        .flag = &bench->wants_json,
    };
    return arguments_parse(&arguments, argc, argv, status);
}

static bool parse(struct bench *bench, int argc, char **argv, int *status)
{
    if (!parse_arguments(bench, argc, argv, status))
        return false;
    if (bench->wants_tcp && bench->wants_unix) {
        *status = verb_refuse("bench", "--unix: it cannot be had together with --tcp; choose one");
        return false;
    }
    *status = verb_read_settings("bench", &bench->server_engine);
    return *status == VERB_DONE;
}

int verb_bench(int argc, char **argv)
{
    struct bench bench = {.load_options = load_defaults, .server_engine.size = sizeof bench.server_engine};
    struct loopback loopback;
    char why[SLUICE_REASON_MAX];
    int status;

    if (!parse(&bench, argc, argv, &status))
        return status;
    verb_raise_descriptor_limit();
    bench.load_engine = bench.server_engine;
    loopback_place(&bench.server_engine, &bench.load_engine);
    if (loopback_start(&loopback, &bench.server_engine, bench.wants_unix, why, sizeof why) < 0)
        return verb_fail("bench", "%s", why);
    bench.load_options.address = loopback.address;
    bench.load_options.peer_clock = &loopback.clock;
    status = measure("bench", &bench.load_engine, &bench.load_options, bench.wants_json);
    loopback_stop(&loopback);
    return status;
}
