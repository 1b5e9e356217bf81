/* `sluice load`: a measurement of a server that runs elsewhere. */
#include <inttypes.h>
#include <stdbool.h>
#include <time.h>

#include "tools/arguments.h"
#include "tools/load.h"
#include "tools/measure.h"
#include "tools/verb.h"

/* The most that a kernel gives a process, /proc/sys/kernel/pid_max. */
#define PID_MAX 4194304

static bool parse(struct load_options *load_options, uint64_t *server_pid, bool *wants_json, int argc, char **argv,
                  int *status)
{
    const struct argument operand = {
        .name = "ADDRESS",
        .help = "an echo server: HOST:PORT, [IPV6]:PORT, unix:/PATH or unix:@NAME",
        .kind = ARGUMENT_ADDRESS,
        .text = &load_options->address,
    };
    struct argument options[LOAD_ARGUMENTS + 2];
    const struct arguments arguments = {
        .verb = "load",
        .summary = "Sends messages to an echo server, compares what comes back, and measures how long it takes.",
        .notes = load_notes,
        .example = "sluice load 127.0.0.1:7000 --connections 64 --rate 50000 --duration 10s",
        .options = options,
        .option_count = LOAD_ARGUMENTS + 2,
        .operands = &operand,
        .operand_count = 1,
    };

    load_arguments(load_options, options);
    options[LOAD_ARGUMENTS] = (struct argument){
        .name = "server-pid",
        .help = "also report the CPU time that this process, the server, spends",
        .kind = ARGUMENT_COUNT,
        .min = 1,
        .max = PID_MAX,
        .number = server_pid,
    };
    options[LOAD_ARGUMENTS + 1] = (struct argument){
        .name = "json",
        .help = "print one JSON object",
        .kind = ARGUMENT_FLAG,
        .flag = wants_json,
    };
    return arguments_parse(&arguments, argc, argv, status);
}

/* The clock that counts the CPU time of all threads of a process. Returns false if there is no such process. */
static bool find_clock(uint64_t pid, clockid_t *clock)
{
    return clock_getcpuclockid((pid_t)pid, clock) == 0;
}

int verb_load(int argc, char **argv)
{
    struct sluice_engine_options options = {.size = sizeof options};
    struct load_options load_options = load_defaults;
    uint64_t server_pid = 0;
    clockid_t server_clock;
    bool wants_json = false;
    int status;

    if (!parse(&load_options, &server_pid, &wants_json, argc, argv, &status))
        return status;
    if (server_pid > 0 && !find_clock(server_pid, &server_clock))
        return verb_refuse("load", "--server-pid: \"%" PRIu64 "\" is not a process that runs here", server_pid);
    if (server_pid > 0)
        load_options.peer_clock = &server_clock;
    status = verb_read_settings("load", &options);
    if (status != VERB_DONE)
        return status;
    verb_raise_descriptor_limit();
    return measure("load", &options, &load_options, wants_json);
}
