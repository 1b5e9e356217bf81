/* The simulated machine: see sim.h. And the program that runs stories on it, by seed. */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/sim/network.h"
#include "tests/sim/story.h"

bool sim_chance(struct sim *sim, enum fault fault)
{
    uint32_t odds = sim->odds[fault];

    /* What breaks connections stops at the end, so that the rest must come to a good one; the rest goes on. */
    if (!odds || (sim->is_quiet && (fault == FAULT_SEND_ERROR || fault == FAULT_RECEIVE_ERROR)))
        return false;
    return random_below(&sim->random, odds) == 0;
}

uint64_t sim_below(struct sim *sim, uint64_t limit)
{
    return limit ? random_below(&sim->random, limit) : 0;
}

void sim_trace(struct sim *sim, const char *format, ...)
{
    va_list arguments;

    if (!sim->is_traced)
        return;
    printf("%10.6f  ", (double)sim->now_ns / 1e9);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

void sim_violated(struct sim *sim, const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    fprintf(stderr, "seed %" PRIu64 ": at %.6f s: ", sim->seed, (double)sim->now_ns / 1e9);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nreplay with: sluice-sim --seed %" PRIu64 " --trace\n", sim->seed);
    exit(1);
}

uint64_t sim_next_event(const struct sim *sim)
{
    uint64_t network_ns = network_next_event(sim->network);
    uint64_t story_ns = sim->story ? story_next_event(sim->story) : UINT64_MAX;

    return network_ns < story_ns ? network_ns : story_ns;
}

void sim_advance(struct sim *sim, uint64_t to_ns)
{
    if (to_ns > sim->now_ns)
        sim->now_ns = to_ns;
    if (sim->story)
        story_advance(sim->story);
}

/* Each run has some faults, each with a probability of its own. */
static void choose_faults(struct sim *sim)
{
    for (int i = 0; i < FAULT_COUNT; i++) {
        bool breaks = i == FAULT_SEND_ERROR || i == FAULT_RECEIVE_ERROR || i == FAULT_CONNECT_ERROR;
        bool is_used = sim_below(sim, breaks ? 6 : 2) == 0;

        sim->odds[i] = is_used ? (breaks ? 10 : 2) + (uint32_t)sim_below(sim, breaks ? 500 : 60) : 0;
    }
}

/* For a run that an assertion or a signal ends. */
static volatile uint64_t running_seed;

static void tell_seed(int number)
{
    /* The run is over; what this may disturb does not matter any more. NOLINTNEXTLINE(bugprone-signal-handler) */
    fprintf(stderr, "seed %" PRIu64 ": ended by signal %d\n", running_seed, number);
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t run_seed(uint64_t seed, bool is_traced)
{
    static struct network network;
    struct sim sim = {.seed = seed, .random = seed, .now_ns = 1000000, .is_traced = is_traced, .network = &network};

    running_seed = seed;
    choose_faults(&sim);
    network_init(&network, &sim);
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

static int usage(void)
{
    fprintf(stderr, "usage: sluice-sim [--seed N] [--count N] [--hours H] [--trace]\n"
                    "  --seed N   the first seed (default 1)\n"
                    "  --count N  how many seeds, one after the other (default 1)\n"
                    "  --hours H  on and on, for so long\n"
                    "  --trace    tell the story of each run\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    uint64_t count = 1;
    double hours = 0;
    bool is_traced = false;
    double start = seconds();
    uint64_t operations = 0;
    uint64_t done = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGABRT, tell_seed);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            is_traced = true;
        else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[++i], NULL, 0);
        else if (i + 1 < argc && strcmp(argv[i], "--count") == 0)
            count = strtoull(argv[++i], NULL, 0);
        else if (i + 1 < argc && strcmp(argv[i], "--hours") == 0)
            hours = strtod(argv[++i], NULL);
        else
            return usage();
    }
    while (hours > 0 ? seconds() - start < hours * 3600 : done < count) {
        operations += run_seed(seed + done, is_traced);
        done++;
    }
    printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " operations, %.0f seeds and %.0f operations a second\n",
           done, seed, operations, (double)done / (seconds() - start), (double)operations / (seconds() - start));
    return 0;
}
