/* sluice-sim: runs stories on a simulated machine, by seed, in every order, or with each single thing going wrong. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/network.h"
#include "tests/sim/script.h"
#include "tests/sim/shrink.h"
#include "tests/sim/sim.h"
#include "tests/sim/story.h"
#include "tests/sim/torture.h"

enum {
    REPORT_SECONDS = 60,
    ARGUMENTS_MAX = 24,
};

struct command {
    uint64_t seed;
    uint64_t count;
    double hours;
    struct limits limits;
    const char *script; /* one of them, or one of its orders */
    struct torture torture;
    struct part part;
    bool is_traced;
    bool wants_shrink; /* only that */
    bool wants_coverage;
    bool wants_exhaustive;
    bool wants_torture;
};

/* In every run of this program, to see that it is noticed. */
static enum broken broken;

static bool read_broken(const char *name)
{
    static const char *const names[BROKEN_COUNT] = {
        [BROKEN_OPCODE] = "opcode", [BROKEN_FLAG] = "flag",   [BROKEN_BYTE] = "byte",
        [BROKEN_ORDER] = "order",   [BROKEN_DRAIN] = "drain", [BROKEN_LEAK] = "leak",
    };

    for (int i = BROKEN_NOTHING + 1; i < BROKEN_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            broken = (enum broken)i;
    return broken != BROKEN_NOTHING;
}

/* -- When a run fails ---------------------------------------------------------------------------------------- */

/* For a run that an assertion or a signal ends as well. */
static volatile uint64_t running_seed;
static bool may_shrink;
static char replay[LIMITS_TEXT_MAX + 64];

/* The state of this process is spent: a fresh one looks for a shorter story. */
_Noreturn void sim_failed(void)
{
    char seed[32];
    char *const arguments[] = {"sluice-sim", "--seed", seed, "--shrink", NULL};

    fflush(NULL);
    snprintf(seed, sizeof seed, "%" PRIu64, running_seed);
    if (may_shrink)
        execv("/proc/self/exe", arguments);
    _exit(1);
}

static void tell_seed(int number)
{
    fprintf(stderr, "seed %" PRIu64 ": ended by signal %d\nreplay with: sluice-sim %s --trace\n", running_seed, number,
            sim_running);
    if (may_shrink)
        sim_failed();
    signal(number, SIG_DFL);
    raise(number);
}

/* Unless a sanitizer has something to tell itself. */
static void tell_seed_at(int number)
{
    struct sigaction before;

    sigaction(number, NULL, &before);
    if (before.sa_handler == SIG_DFL)
        signal(number, tell_seed);
}

static int shrink_and_tell(struct command *command)
{
    char text[LIMITS_TEXT_MAX];

    shrink(command->seed, &command->limits);
    limits_write(&command->limits, text);
    if (text[0])
        fprintf(stderr, "a shorter story: sluice-sim --seed %" PRIu64 "%s --trace\n", command->seed, text);
    return 1;
}

/* -- Seeds --------------------------------------------------------------------------------------------------- */

uint64_t run_seed(uint64_t seed, const struct limits *limits, bool is_traced)
{
    static struct network network;
    char text[LIMITS_TEXT_MAX];
    struct sim sim = {.is_traced = is_traced, .limits = *limits, .broken = broken, .replay = replay};

    running_seed = seed;
    limits_write(limits, text);
    snprintf(replay, sizeof replay, "--seed %" PRIu64 "%s", seed, text);
    sim_init(&sim, &network, seed);
    story_run(&sim);
    network_finish(&network);
    sim_trace(&sim, "the end");
    return sim.operations;
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void report(const struct command *command, uint64_t done, uint64_t operations, double lasted)
{
    printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " operations, %.0f seeds and %.0f operations a second\n",
           done, command->seed, operations, (double)done / lasted, (double)operations / lasted);
}

static int run_seeds(const struct command *command)
{
    double start = seconds();
    double reported = start;
    uint64_t operations = 0;
    uint64_t done = 0;

    /* Seeds can be shrunk where each is a run of its own, and nothing else is asked for. */
    may_shrink = !command->is_traced && !broken;
    while (command->hours > 0 ? seconds() - start < command->hours * 3600 : done < command->count) {
        operations += run_seed(command->seed + done, &command->limits, command->is_traced);
        done++;
        if (command->hours > 0 && seconds() - reported > REPORT_SECONDS) {
            reported = seconds();
            report(command, done, operations, reported - start);
        }
    }
    report(command, done, operations, seconds() - start);
    if (command->hours > 0 || command->wants_coverage)
        coverage_report(stdout, command->wants_coverage);
    return 0;
}

/* -- The command --------------------------------------------------------------------------------------------- */

static int usage(void)
{
    fprintf(stderr,
            "usage: sluice-sim [--seed N] [--count N | --hours H] [--trace] [--coverage] [--shrink]\n"
            "       sluice-sim --exhaustive [--script NAME] [--part I/N] | --script NAME:STACK:PACE:ORDER [--trace]\n"
            "         [--allocation N [--lasting] | --operation N --variant N]\n"
            "       sluice-sim --torture [--part I/N]\n"
            "  --seed N      the first seed (default 1)\n"
            "  --count N     how many seeds, one after the other (default 1)\n"
            "  --hours H     on and on, for so long, with a report each minute\n"
            "  --trace       tell the story of each run\n"
            "  --coverage    tell how often each thing was met that a story can meet\n"
            "  --shrink      look for a shorter story in which the seed fails\n"
            "  --exhaustive  short stories, each in every order\n"
            "  --torture     …and each of them with each single thing going wrong in turn\n"
            "  --break NAME  the simulator breaks a promise, which must be noticed: opcode, flag, byte, order,\n"
            "                drain, leak\n"
            "and for a shorter story: --engines N, --keep BITS (of connections), --layers N, --bytes N,\n"
            "  --curtain NANOSECONDS, --without NAME,NAME (faults and habits)\n");
    return 2;
}

static bool take_switch(struct command *command, const char *option)
{
    const struct {
        const char *name;
        bool *value;
    } switches[] = {
        {"--trace", &command->is_traced},         {"--shrink", &command->wants_shrink},
        {"--coverage", &command->wants_coverage}, {"--exhaustive", &command->wants_exhaustive},
        {"--torture", &command->wants_torture},   {"--lasting", &command->torture.is_lasting},
    };

    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        if (strcmp(option, switches[i].name) == 0) {
            *switches[i].value = true;
            return true;
        }
    }
    return false;
}

/* I/N, from 1 */
static bool read_part(struct part *part, const char *value)
{
    char *end;

    part->number = strtoul(value, &end, 0) - 1;
    part->count = *end == '/' ? strtoul(end + 1, &end, 0) : 0;
    return !*end && part->number < part->count;
}

static bool take_value(struct command *command, const char *option, const char *value)
{
    if (strcmp(option, "--seed") == 0)
        command->seed = strtoull(value, NULL, 0);
    else if (strcmp(option, "--count") == 0)
        command->count = strtoull(value, NULL, 0);
    else if (strcmp(option, "--hours") == 0)
        command->hours = strtod(value, NULL);
    else if (strcmp(option, "--script") == 0)
        command->script = value;
    else if (strcmp(option, "--part") == 0)
        return read_part(&command->part, value);
    else if (strcmp(option, "--allocation") == 0)
        command->torture.allocation = strtoull(value, NULL, 0);
    else if (strcmp(option, "--operation") == 0)
        command->torture.operation = strtoull(value, NULL, 0);
    else if (strcmp(option, "--break") == 0)
        return read_broken(value);
    else if (strcmp(option, "--variant") == 0)
        command->torture.variant = (uint32_t)strtoul(value, NULL, 0);
    else
        return limits_read(&command->limits, option, value);
    return true;
}

int main(int argc, char **argv)
{
    struct command command = {.seed = 1, .count = 1, .part.count = 1};

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        if (take_switch(&command, argv[i]))
            continue;
        if (i + 1 == argc || !take_value(&command, argv[i], argv[i + 1]))
            return usage();
        i++;
    }
    if (command.wants_shrink)
        return shrink_and_tell(&command);
    tell_seed_at(SIGABRT);
    tell_seed_at(SIGSEGV);
    if (command.wants_torture)
        return torture_all(&command.part, command.is_traced);
    if (command.wants_exhaustive || command.script)
        return script_run_all(command.script, &command.part, &command.torture, command.is_traced);
    return run_seeds(&command);
}
