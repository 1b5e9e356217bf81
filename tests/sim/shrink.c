/* Shorter stories: see shrink.h. */
#include "tests/sim/shrink.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/connection.h"
#include "tests/sim/user.h"

enum {
    ROUNDS = 2,
    ATTEMPT_SECONDS = 5,
    ALL_SECONDS = 10,
    THINGS = FAULT_COUNT + HABIT_COUNT,
};

/* -- On the command line ------------------------------------------------------------------------------------- */

static const char *name_of(int thing)
{
    return thing < FAULT_COUNT ? sim_fault_name((enum fault)thing) : user_habit_name((enum habit)(thing - FAULT_COUNT));
}

static int find_thing(const char *name, size_t len)
{
    for (int i = 0; i < THINGS; i++)
        if (strlen(name_of(i)) == len && memcmp(name_of(i), name, len) == 0)
            return i;
    return -1;
}

static bool read_names(uint64_t *things, const char *list)
{
    while (*list) {
        size_t len = strcspn(list, ",");
        int thing = find_thing(list, len);

        if (thing < 0)
            return false;
        *things |= UINT64_C(1) << thing;
        list += len + (list[len] == ',');
    }
    return true;
}

bool limits_read(struct limits *limits, const char *option, const char *value)
{
    char *end;
    unsigned long long number = strtoull(value, &end, 0);

    if (strcmp(option, "--without") == 0)
        return read_names(&limits->without, value);
    if (*end || end == value)
        return false;
    if (strcmp(option, "--engines") == 0)
        limits->engines = (uint32_t)number;
    else if (strcmp(option, "--keep") == 0)
        limits->keep = (uint32_t)number;
    else if (strcmp(option, "--layers") == 0)
        limits->layers = (uint32_t)number + 1;
    else if (strcmp(option, "--bytes") == 0)
        limits->bytes = number;
    else if (strcmp(option, "--curtain") == 0)
        limits->curtain_ns = number;
    else
        return false;
    return true;
}

static void append(char text[LIMITS_TEXT_MAX], const char *what, uint64_t number)
{
    size_t len = strlen(text);

    snprintf(text + len, LIMITS_TEXT_MAX - len, " %s %" PRIu64, what, number);
}

void limits_write(const struct limits *limits, char text[LIMITS_TEXT_MAX])
{
    const char *separator = " --without ";

    text[0] = 0;
    if (limits->engines)
        append(text, "--engines", limits->engines);
    if (limits->keep)
        append(text, "--keep", limits->keep);
    if (limits->layers)
        append(text, "--layers", limits->layers - 1);
    if (limits->bytes)
        append(text, "--bytes", limits->bytes);
    if (limits->curtain_ns)
        append(text, "--curtain", limits->curtain_ns);
    for (int i = 0; i < THINGS; i++) {
        size_t len = strlen(text);

        if (!(limits->without >> i & 1))
            continue;
        snprintf(text + len, LIMITS_TEXT_MAX - len, "%s%s", separator, name_of(i));
        separator = ",";
    }
}

/* -- Attempts ------------------------------------------------------------------------------------------------ */

static _Noreturn void run_apart(uint64_t seed, const struct limits *limits)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);
    alarm(ATTEMPT_SECONDS);
    run_seed(seed, limits, false);
    _exit(0);
}

static bool still_fails(uint64_t seed, const struct limits *limits)
{
    int status = 0;
    pid_t child = fork();

    if (child < 0)
        return false;
    if (child == 0)
        run_apart(seed, limits);
    if (waitpid(child, &status, 0) < 0)
        return false;
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

struct attempts {
    uint64_t seed;
    struct limits *limits;
    time_t until;
};

static void attempt(const struct attempts *attempts, const struct limits *wanted)
{
    if (memcmp(wanted, attempts->limits, sizeof *wanted) != 0 && time(NULL) < attempts->until &&
        still_fails(attempts->seed, wanted))
        *attempts->limits = *wanted;
}

static void leave_out_connections(const struct attempts *attempts)
{
    struct limits wanted;

    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        wanted = *attempts->limits;
        wanted.keep = (wanted.keep ? wanted.keep : (1U << CONNECTIONS) - 1) & ~(1U << i);
        if (wanted.keep)
            attempt(attempts, &wanted);
    }
}

static void leave_out_bytes(const struct attempts *attempts)
{
    struct limits wanted;

    for (uint64_t bytes = 1; bytes <= 10000; bytes *= 10) {
        wanted = *attempts->limits;
        wanted.bytes = bytes;
        if (!attempts->limits->bytes || attempts->limits->bytes > bytes)
            attempt(attempts, &wanted);
    }
    for (uint64_t curtain_ns = 1000000; curtain_ns <= 64000000; curtain_ns *= 4) {
        wanted = *attempts->limits;
        wanted.curtain_ns = curtain_ns;
        if (!attempts->limits->curtain_ns || attempts->limits->curtain_ns > curtain_ns)
            attempt(attempts, &wanted);
    }
}

static void leave_out_layers(const struct attempts *attempts)
{
    struct limits wanted = *attempts->limits;

    wanted.engines = 1;
    attempt(attempts, &wanted);
    for (uint32_t layers = 1; layers <= LAYERS_MAX; layers++) {
        wanted = *attempts->limits;
        wanted.layers = layers;
        if (!attempts->limits->layers || attempts->limits->layers > layers)
            attempt(attempts, &wanted);
    }
}

static void leave_out_things(const struct attempts *attempts)
{
    for (int i = 0; i < THINGS; i++) {
        struct limits wanted = *attempts->limits;

        wanted.without |= UINT64_C(1) << i;
        attempt(attempts, &wanted);
    }
}

void shrink(uint64_t seed, struct limits *limits)
{
    struct attempts attempts = {.seed = seed, .limits = limits, .until = time(NULL) + ALL_SECONDS};

    for (int round = 0; round < ROUNDS; round++) {
        leave_out_connections(&attempts);
        leave_out_layers(&attempts);
        leave_out_bytes(&attempts);
        leave_out_things(&attempts);
    }
}
