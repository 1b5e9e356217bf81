/* What a load starts from, and how a command line changes it. */
#include <string.h>

#include "tools/load.h"
#include "tools/units.h"

#define CONNECTIONS_MAX  1000000
#define MESSAGE_SIZE_MAX (16 << 20) /* the default of SLUICE_SEND_LIMIT */
#define RATE_MAX         100000000
#define DEPTH_MAX        65536
#define WARMUP_MAX_NS    (3600 * UNITS_NS_PER_S)
#define DURATION_MAX_NS  (86400 * UNITS_NS_PER_S)

const struct load_options load_defaults = {
    .connections = 1,
    .message_size = 64,
    .depth = 1,
    .warmup_ns = UNITS_NS_PER_S,
    .duration_ns = 5 * UNITS_NS_PER_S,
};

const char load_notes[] =
    "Without --rate each connection sends its next message when an answer is there (closed loop). With --rate messages\n"
    "leave by a schedule that no answer can hold up, and latency counts from when a message was due (open loop).\n"
    "Unanswered messages count as slower than all others. A percentile is \"-\" if fewer than 10 values lie above it.\n"
    "CPU time is that of the thread; kernel threads, as for SLUICE_SQPOLL, are not in it.";

void load_arguments(struct load_options *options, struct argument rows[LOAD_ARGUMENTS])
{
    const struct argument table[LOAD_ARGUMENTS] = {
        {
            .name = "connections",
            .help = "connections to open",
            .kind = ARGUMENT_COUNT,
            .min = 1,
            .max = CONNECTIONS_MAX,
            .number = &options->connections,
        },
        {
            .name = "size",
            .help = "bytes in a message",
            .kind = ARGUMENT_SIZE,
            .min = 1,
            .max = MESSAGE_SIZE_MAX,
            .number = &options->message_size,
        },
        {
            .name = "duration",
            .help = "how long to measure",
            .kind = ARGUMENT_DURATION,
            .min = UNITS_NS_PER_MS,
            .max = DURATION_MAX_NS,
            .number = &options->duration_ns,
        },
        {
            .name = "warmup",
            .help = "how long to send before that",
            .kind = ARGUMENT_DURATION,
            .max = WARMUP_MAX_NS,
            .number = &options->warmup_ns,
        },
        {
            .name = "rate",
            .help = "open loop: messages a second over all connections, by schedule",
            .kind = ARGUMENT_COUNT,
            .min = 1,
            .max = RATE_MAX,
            .number = &options->rate,
        },
        {
            .name = "depth",
            .help = "closed loop: messages that each connection keeps outstanding",
            .kind = ARGUMENT_COUNT,
            .min = 1,
            .max = DEPTH_MAX,
            .number = &options->depth,
        },
    };

    memcpy(rows, table, sizeof table);
}
