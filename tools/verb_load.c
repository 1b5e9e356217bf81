/* `sluice load`: a measurement of a server that runs elsewhere. */
#include <stdbool.h>

#include "tools/arguments.h"
#include "tools/load.h"
#include "tools/measure.h"
#include "tools/verb.h"

static bool parse(struct load_options *load_options, bool *wants_json, int argc, char **argv, int *status)
{
    const struct argument operand = {
        .name = "ADDRESS",
        .help = "an echo server: HOST:PORT, [IPV6]:PORT, unix:/PATH or unix:@NAME",
        .kind = ARGUMENT_ADDRESS,
        .text = &load_options->address,
    };
    struct argument options[LOAD_ARGUMENTS + 1];
    const struct arguments arguments = {
        .verb = "load",
        .summary = "Sends messages to an echo server, compares what comes back, and measures how long it takes.",
        .notes = load_notes,
        .example = "sluice load 127.0.0.1:7000 --connections 64 --rate 50000 --duration 10s",
        .options = options,
        .option_count = LOAD_ARGUMENTS + 1,
        .operands = &operand,
        .operand_count = 1,
    };

    load_arguments(load_options, options);
    options[LOAD_ARGUMENTS] = (struct argument){
        .name = "json",
        .help = "print one JSON object",
        .kind = ARGUMENT_FLAG,
        .flag = wants_json,
    };
    return arguments_parse(&arguments, argc, argv, status);
}

int verb_load(int argc, char **argv)
{
    struct sluice_engine_options options = {.size = sizeof options};
    struct load_options load_options = load_defaults;
    bool wants_json = false;
    int status;

    if (!parse(&load_options, &wants_json, argc, argv, &status))
        return status;
    status = verb_read_settings("load", &options);
    if (status != VERB_DONE)
        return status;
    verb_raise_descriptor_limit();
    return measure("load", &options, &load_options, wants_json);
}
