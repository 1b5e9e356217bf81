/* Short stories in every order: see script.h. */
#include "tests/sim/script.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/config.h"
#include "engine/engine.h"
#include "tests/sim/connection.h"
#include "tests/sim/memory.h"
#include "tests/sim/network.h"
#include "tests/sim/story.h"

enum {
    SENT_BYTES = 40,
    SHARED_BYTES = 300, /* enough to be shared, more than fits into the socket */
    SETTLING_STEPS = 8,
    BEGIN_STEPS = 64,
    CAPACITY = 128, /* of a socket */
};

/* What a story is made of: a letter for each event, told in every order. a and b are the two ends. */
static const struct script {
    const char *name;
    const char *events;
} scripts[] = {
    {"drain-meets-close", "sSwhcT"}, /* the defect that started all this: a drain that arrives while we close */
    {"drain-meets-abort", "sSwnxT"}, /* …or after the stream is gone */
    {"drain-meets-afar", "SwXTsc"},  /* …or while another thread aborts */
    {"drain-meets-reset", "sSwRcT"}, /* …or the peer does */
    {"drain-meets-end", "sSwefT"},   /* …or the peer half-closes */
    {"finish-and-resume", "Sfprwd"}, /* half-closed, paused */
    {"pause-and-end", "dprecT"},     /* held bytes, then the end */
    {"pause-and-reset", "dprRTc"},   /* held bytes, then a reset */
    {"pause-and-afar", "dprXTs"},    /* held bytes, then an abort from elsewhere */
    {"posts-and-close", "ooocwT"},   /* posts at any moment, and a close */
    {"posts-and-finish", "ooowfT"},  /* …a finish */
    {"posts-and-abort", "ooXwxT"},   /* …aborts from both sides */
    {"posts-and-reset", "ooRwfT"},   /* …a reset */
    {"cancel-that-loses", "dpLrMc"}, /* receives that are cancelled and end by themselves */
    {"no-buffers", "dbdbec"},        /* receives without a buffer */
    {"close-both", "sdcqwT"},        /* both ends close */
    {"two-closes", "SccxwT"},        /* closes and aborts of the same end, twice */
    {"late-and-close", "SlwcsT"},    /* results that come late */
    {"close-reset-pause", "SpcRrT"}, /* everything at the end */
    {"afar-at-once", "SwcT1s"},      /* an abort from elsewhere right at the next point at which there can be one */
    {"afar-in-a-turn", "SwcT2s"},    /* …at the second */
    {"afar-later-in-it", "SwcT3s"},  /* …at the third */
    {"afar-late-in-it", "SwfT5d"},   /* …at the fifth */
    {"long-goodbye", "SwTTfced"},    /* eight events */
};

static const struct stack {
    const char *name;
    enum connection_kind kind;
    const char *layers;
    uint32_t engines;
    bool has_zero_copy;
    bool has_devices; /* in place of pipes */
    bool has_others;  /* one more connection of each kind, to which the same happens */
    bool has_names;   /* connections are made by name */
} stacks[] = {
    {"plain", CONNECTION_PLAIN_LISTENS, "", 1, false, false, false, false},
    {"zero-copy", CONNECTION_PLAIN_LISTENS, "", 1, true, false, false, false},
    {"socket", CONNECTION_SOCKETS, "", 1, false, false, false, false},
    {"frame", CONNECTION_SOCKETS, "f", 1, false, false, false, false},
    {"shuffle", CONNECTION_SOCKETS, "s", 1, false, false, false, false},
    {"frame-on-shuffle", CONNECTION_SOCKETS, "sf", 1, false, false, false, false},
    {"pair", CONNECTION_PAIR, "", 1, false, false, false, false},
    {"pair-across", CONNECTION_PAIR, "", 2, false, false, false, false},
    {"frame-on-pair", CONNECTION_PAIR, "f", 2, false, false, false, false},
    {"pipes", CONNECTION_PIPES, "", 1, false, false, false, false},
    {"devices", CONNECTION_PIPES, "", 1, false, true, false, false},
    {"named", CONNECTION_SOCKETS, "", 1, false, false, false, true},
    {"everything", CONNECTION_PLAIN_LISTENS, "", 2, true, false, true, false},
};

/* What happens between two events. */
static const struct pace {
    const char *name;
    bool begins_open; /* the connection stands when the first event comes */
    bool has_turns;   /* one turn */
    bool settles;     /* everything that can happen */
} paces[] = {
    {"at-once", true, false, false},
    {"turns", true, true, false},
    {"settled", true, false, true},
    {"early", false, true, false},
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* -- Events -------------------------------------------------------------------------------------------------- */

static bool is_alive(const struct user *user)
{
    return user->has_started && user->stream && !user->is_closed;
}

/* Nobody calls an end that it has ended. */
static bool may_act(const struct user *user)
{
    return is_alive(user) && !user->has_aborted && !user->has_closed;
}

static void act_for_a(struct story *story, struct user *a, char event)
{
    switch (event) {
    case 's':
        user_send(a, SENT_BYTES, USER_SEND_COPY);
        break;
    case 'S':
        user_send(a, SHARED_BYTES, USER_SEND_SHARED);
        break;
    case 'f':
        user_finish_sending(a);
        break;
    case 'p':
        user_pause(a, true);
        break;
    case 'r':
        user_pause(a, false);
        break;
    default:
        sim_violated(story->sim, "no such event: %c", event);
    }
}

static void act_for_b(struct user *b, char event)
{
    switch (event) {
    case 'd':
        user_send(b, SENT_BYTES, USER_SEND_COPY);
        break;
    case 'w':
        user_pause(b, false);
        break;
    case 'e':
        user_finish_sending(b);
        break;
    case 'q':
        user_close(b);
        break;
    default:
        user_abort(b);
    }
}

static void act_for_plain(struct plain *plain, char event)
{
    const char *events = "dweqR";
    const enum plain_act acts[] = {PLAIN_WRITES, PLAIN_READS, PLAIN_FINISHES, PLAIN_CLOSES, PLAIN_RESETS};

    plain_do(plain, acts[strchr(events, event) - events]);
}

/* Things that the kernel or the network does, the next time that it can. */
static bool take_fault(struct sim *sim, char event)
{
    static const char events[] = "hnblLMi";
    static const enum fault faults[] = {FAULT_SHORT_SEND,   FAULT_NO_ROOM,       FAULT_NO_BUFFER, FAULT_LATE_COMPLETION,
                                        FAULT_CANCEL_LOSES, FAULT_CANCEL_MISSES, FAULT_INTERRUPT};
    const char *at = strchr(events, event);

    if (at)
        sim->once |= 1U << faults[at - events];
    return at != NULL;
}

static void happen_to(struct connection *connection, char event)
{
    struct story *story = connection->story;
    struct user *a = &connection->users[0];
    struct user *b = &connection->users[1];

    if (strchr("Xo", event)) {
        if (is_alive(a) && event == 'X')
            user_abort_from_afar(a);
        else if (is_alive(a))
            user_post(a);
    } else if (strchr("cx", event)) {
        /* Again and again, and after each other. */
        story_become(story, a->engine);
        if (is_alive(a) && event == 'c')
            user_close(a);
        else if (is_alive(a))
            user_abort(a);
    } else if (strchr("dweqR", event)) {
        story_become(story, b->engine);
        if (connection->plain.sim)
            act_for_plain(&connection->plain, event);
        else if (may_act(b))
            act_for_b(b, event);
    } else if (may_act(a)) {
        story_become(story, a->engine);
        act_for_a(story, a, event);
    }
}

static void happen(struct story *story, char event)
{
    sim_trace(story->sim, "event %c", event);
    if (take_fault(story->sim, event))
        return;
    if (event == 'T') {
        story_turn(story);
        return;
    }
    if (event >= '1' && event <= '9') {
        story->points_until_abort = (uint32_t)(event - '0');
        return;
    }
    for (uint32_t i = 0; i < story->connection_count; i++)
        happen_to(&story->connections[i], event);
}

/* -- A run --------------------------------------------------------------------------------------------------- */

static void choose_options(struct sluice_engine_options *options)
{
    char why[SLUICE_REASON_MAX];

    config_complete(NULL, options, why, sizeof why);
    options->ring_entries = 8;
    options->completion_entries = 16;
    options->receive_buffer_count = 4;
    options->receive_buffer_size = 64;
    options->receive_buffer_window = 2;
    options->send_low_mark = 16;
    options->send_high_mark = 64;
    options->send_limit = 1000;
}

static void join(struct story *story, enum connection_kind kind, const char *layers, uint32_t engine)
{
    struct sluice_engine *engines[2] = {story->engines[0], story->engines[engine]};
    struct connection *connection = &story->connections[story->connection_count++];

    story_become(story, story->engines[0]);
    connection_prepare(connection, story, kind, layers, engines);
    connection_make(connection);
}

static bool stands(const struct connection *connection)
{
    const struct user *users = connection->users;

    return connection->has_failed || users[0].is_closed ||
           ((users[0].has_opened || users[0].is_open_at_once) && (users[1].has_started || connection->plain.fd >= 0));
}

static bool all_stand(const struct story *story)
{
    for (uint32_t i = 0; i < story->connection_count; i++)
        if (!stands(&story->connections[i]))
            return false;
    return true;
}

/* b does not read before it is told to, so that bytes pile up. */
static void begin(struct story *story, const struct script_run *run)
{
    join(story, run->stack->kind, run->stack->layers, run->stack->engines - 1);
    if (run->stack->has_others) {
        join(story, CONNECTION_SOCKETS, "sf", 0);
        join(story, CONNECTION_PAIR, "f", 1);
        join(story, CONNECTION_PIPES, "s", 0);
    }
    for (int i = 0; run->pace->begins_open && i < BEGIN_STEPS && !all_stand(story); i++) {
        story_settle(story);
        story_pass_time(story);
    }
    for (uint32_t i = 0; i < story->connection_count; i++) {
        struct user *b = &story->connections[i].users[1];

        if (may_act(b)) {
            story_become(story, b->engine);
            user_pause(b, true);
        }
    }
}

static void go_on(struct story *story, const struct pace *pace)
{
    if (pace->has_turns)
        story_turn(story);
    for (int i = 0; pace->settles && i < SETTLING_STEPS; i++) {
        story_settle(story);
        story_pass_time(story);
    }
}

static void resume(struct story *story, struct user *user)
{
    if (!may_act(user) || !user->is_paused)
        return;
    story_become(story, user->engine);
    user_pause(user, false);
}

/* Everybody reads, so that what was accepted arrives if nobody ended it. */
static void wind_up(struct story *story)
{
    for (uint32_t i = 0; i < story->connection_count; i++)
        for (int j = 0; j < 2; j++)
            resume(story, &story->connections[i].users[j]);
    for (int i = 0; i < SETTLING_STEPS; i++) {
        story_settle(story);
        story_pass_time(story);
    }
    story_wind_up(story);
}

static void tell_story(struct story *story, const struct script_run *run)
{
    begin(story, run);
    for (const char *event = run->order; *event && !story->is_broken; event++) {
        happen(story, *event);
        go_on(story, run->pace);
    }
    if (!story->is_broken)
        wind_up(story);
}

/* As on the command line. */
static void write_run(const struct script_run *run, const struct torture *torture, char *text, size_t size)
{
    int len =
        snprintf(text, size, "--script %s:%s:%s:%s", run->script->name, run->stack->name, run->pace->name, run->order);

    if (torture->allocation)
        snprintf(text + len, size - (size_t)len, " --allocation %" PRIu64 "%s", torture->allocation,
                 torture->is_lasting ? " --lasting" : "");
    if (torture->operation)
        snprintf(text + len, size - (size_t)len, " --operation %" PRIu64 " --variant %u", torture->operation,
                 torture->variant);
}

uint64_t script_tell(const struct script_run *run, struct torture *torture)
{
    static struct network network;
    char replay[160];
    struct sim sim = {.is_scripted = true, .is_traced = run->is_traced, .torture = *torture, .replay = replay};
    struct story *story = memory_get(sizeof *story);

    write_run(run, torture, replay, sizeof replay);
    sim_init(&sim, &network, 1);
    network.capacity = CAPACITY;
    network.delay_ns = 0;
    network.has_devices = run->stack->has_devices;
    network.ns_per_byte = 0;
    choose_options(&story->options);
    if (run->stack->has_zero_copy)
        story->options.zero_copy_minimum = SHARED_BYTES;
    story->has_threads = true;
    story->has_names = run->stack->has_names;
    if (story_begin(story, &sim, run->stack->engines))
        tell_story(story, run);
    story_end(story);
    memory_put(story);
    network_finish(&network);
    *torture = sim.torture;
    return sim.operations;
}

/* -- Every order --------------------------------------------------------------------------------------------- */

static int compare_letters(const void *a, const void *b)
{
    return *(const char *)a - *(const char *)b;
}

static void swap(char *a, char *b)
{
    char kept = *a;

    *a = *b;
    *b = kept;
}

/* The next order by the alphabet, each different one once. Returns false after the last. */
static bool next_order(char *order)
{
    size_t len = strlen(order);
    size_t i = len - 1;
    size_t j = len - 1;

    while (i > 0 && order[i - 1] >= order[i])
        i--;
    if (i == 0)
        return false;
    while (order[j] <= order[i - 1])
        j--;
    swap(&order[i - 1], &order[j]);
    for (j = len - 1; i < j; i++, j--)
        swap(&order[i], &order[j]);
    return true;
}

struct totals {
    uint64_t runs;
    uint64_t operations;
};

static void tell_in_every_order(const struct script *script, bool is_traced, struct totals *totals)
{
    for (size_t i = 0; i < COUNT(stacks) * COUNT(paces); i++) {
        struct script_run run = {.script = script, .is_traced = is_traced};

        run.stack = &stacks[i / COUNT(paces)];
        run.pace = &paces[i % COUNT(paces)];
        if (run.stack->has_others)
            continue;
        snprintf(run.order, sizeof run.order, "%s", script->events);
        qsort(run.order, strlen(run.order), 1, compare_letters);
        do {
            struct torture none = {0};

            totals->operations += script_tell(&run, &none);
            totals->runs++;
        } while (next_order(run.order));
    }
}

bool script_pick(size_t index, struct script_run *run)
{
    if (index >= COUNT(scripts) * COUNT(stacks) * COUNT(paces))
        return false;
    run->script = &scripts[index / COUNT(paces) / COUNT(stacks)];
    run->stack = &stacks[index / COUNT(paces) % COUNT(stacks)];
    run->pace = &paces[index % COUNT(paces)];
    snprintf(run->order, sizeof run->order, "%s", run->script->events);
    return true;
}

/* NAME:STACK:PACE:ORDER */
static bool read_run(const char *text, struct script_run *run)
{
    char script[32];
    char stack[32];
    char pace[32];

    if (sscanf(text, "%31[^:]:%31[^:]:%31[^:]:%8s", script, stack, pace, run->order) != 4)
        return false;
    for (size_t i = 0; i < COUNT(scripts); i++)
        if (strcmp(scripts[i].name, script) == 0)
            run->script = &scripts[i];
    for (size_t i = 0; i < COUNT(stacks); i++)
        if (strcmp(stacks[i].name, stack) == 0)
            run->stack = &stacks[i];
    for (size_t i = 0; i < COUNT(paces); i++)
        if (strcmp(paces[i].name, pace) == 0)
            run->pace = &paces[i];
    return run->script && run->stack && run->pace;
}

int script_run_all(const char *name, const struct part *part, const struct torture *torture, bool is_traced)
{
    struct torture wanted = *torture;
    struct script_run one = {.is_traced = is_traced};
    struct totals totals = {0};

    if (name && strchr(name, ':')) {
        if (!read_run(name, &one)) {
            fprintf(stderr, "\"%s\" is no run of a script; allowed is NAME:STACK:PACE:ORDER\n", name);
            return 2;
        }
        script_tell(&one, &wanted);
        return 0;
    }
    for (size_t i = part->number; i < COUNT(scripts); i += part->count)
        if (!name || strcmp(scripts[i].name, name) == 0)
            tell_in_every_order(&scripts[i], is_traced, &totals);
    if (totals.runs == 0) {
        fprintf(stderr, "\"%s\" is no script\n", name);
        return 2;
    }
    printf("%" PRIu64 " stories in every order, over every stack, at every pace, %" PRIu64 " operations\n", totals.runs,
           totals.operations);
    return 0;
}
