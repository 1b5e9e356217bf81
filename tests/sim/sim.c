/* The simulated machine: see sim.h. */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "tests/sim/network.h"
#include "tests/sim/story.h"

static const char *const fault_names[FAULT_COUNT] = {
    [FAULT_SHORT_SEND] = "short-send",
    [FAULT_SHORT_RECEIVE] = "short-receive",
    [FAULT_NO_ROOM] = "no-room",
    [FAULT_SEND_ERROR] = "send-error",
    [FAULT_RECEIVE_ERROR] = "receive-error",
    [FAULT_CONNECT_ERROR] = "connect-error",
    [FAULT_ACCEPT_ERROR] = "accept-error",
    [FAULT_BACKLOG_FULL] = "backlog-full",
    [FAULT_NO_BUFFER] = "no-buffer",
    [FAULT_MULTISHOT_ENDS] = "multishot-ends",
    [FAULT_LATE_COMPLETION] = "late-completion",
    [FAULT_INTERRUPT] = "interrupt",
    [FAULT_CANCEL_LOSES] = "cancel-loses",
    [FAULT_CANCEL_MISSES] = "cancel-misses",
    [FAULT_SEND_AGAIN] = "send-again",
    [FAULT_LATE_NOTICE] = "late-notice",
    [FAULT_NO_DESCRIPTOR] = "no-descriptor",
    [FAULT_PEER_LOST] = "peer-lost",
    [FAULT_NO_MEMORY] = "no-memory",
};

/* Those that can end a connection: rarer than the others, and not while everything comes to its end. */
static const bool breaks[FAULT_COUNT] = {
    [FAULT_SEND_ERROR] = true,    [FAULT_RECEIVE_ERROR] = true, [FAULT_CONNECT_ERROR] = true,
    [FAULT_NO_DESCRIPTOR] = true, [FAULT_PEER_LOST] = true,     [FAULT_NO_MEMORY] = true,
};

const char *sim_running = "";

const char *sim_fault_name(enum fault fault)
{
    return fault_names[fault];
}

bool sim_chance(struct sim *sim, enum fault fault)
{
    uint32_t odds = sim->odds[fault];

    if (sim->once >> fault & 1) {
        sim->once &= ~(1U << fault);
        return true;
    }
    /* What breaks connections stops at the end, so that the rest must come to a good one; the rest goes on. */
    if (!odds || (sim->is_quiet && breaks[fault] && fault != FAULT_CONNECT_ERROR))
        return false;
    return random_below(&sim->random, odds) == 0;
}

uint64_t sim_below(struct sim *sim, uint64_t limit)
{
    return limit ? random_below(&sim->random, limit) : 0;
}

uint32_t sim_torture(struct sim *sim, const char *what, uint32_t variants)
{
    if (++sim->torture.operations != sim->torture.operation)
        return 0;
    sim->torture.what = what;
    sim->torture.variants = variants;
    return sim->torture.variant <= variants ? sim->torture.variant : 0;
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
    fprintf(stderr, "\nreplay with: sluice-sim %s --trace\n", sim->replay);
    sim_failed();
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
        bool is_used = sim_below(sim, breaks[i] ? 8 : 2) == 0;
        uint32_t odds = (breaks[i] ? 10 : 2) + (uint32_t)sim_below(sim, breaks[i] ? 500 : 60);

        if (is_used && !(sim->limits.without >> i & 1))
            sim->odds[i] = odds;
    }
}

void sim_init(struct sim *sim, struct network *network, uint64_t seed)
{
    sim_running = sim->replay;
    sim->seed = seed;
    sim->random = seed;
    sim->now_ns = 1000000;
    sim->network = network;
    if (!sim->is_scripted)
        choose_faults(sim);
    network_init(network, sim);
}
