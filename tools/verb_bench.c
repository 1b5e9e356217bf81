/* `sluice bench`: an echo server on a thread of its own, and a measurement of it from this one. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <sluice/address.h>
#include <sluice/group.h>

#include "tools/arguments.h"
#include "tools/container_of.h"
#include "tools/load.h"
#include "tools/measure.h"
#include "tools/services.h"
#include "tools/verb.h"

struct bench {
    struct load_options load_options;
    bool wants_json;
    bool wants_tcp;
    bool wants_unix;
    struct sluice_engine_options server_engine;
    struct sluice_engine_options load_engine;
    char address[SLUICE_ADDRESS_MAX];
    clockid_t server_clock; /* CPU time of the server's thread */
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

/* -- CPUs ---------------------------------------------------------------------------------------------------- */

/* The first CPU from `cpu` on that we may use, or CPU_SETSIZE. */
static uint32_t next_cpu(const cpu_set_t *allowed, uint32_t cpu)
{
    while (cpu < CPU_SETSIZE && !CPU_ISSET(cpu, allowed))
        cpu++;
    return cpu;
}

/* Server and load share no CPU if there are two, unless the user has said where engines are to run. */
static void place(struct bench *bench)
{
    cpu_set_t allowed;
    uint32_t first;
    uint32_t second;

    bench->load_engine = bench->server_engine;
    bench->load_engine.thread_cpu = 0;
    if (bench->server_engine.thread_cpu != 0 || sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return;
    first = next_cpu(&allowed, 0);
    second = next_cpu(&allowed, first + 1);
    if (second >= CPU_SETSIZE)
        return;
    bench->server_engine.thread_cpu = first + 1;
    bench->load_engine.thread_cpu = second + 1;
}

/* -- The server's CPU time ----------------------------------------------------------------------------------- */

/* Asks an engine's thread for the clock that counts its CPU time. */
struct clock_question {
    struct sluice_post post;
    clockid_t clock;
    int error;
    sem_t answered;
};

static void answer_clock(struct sluice_post *post)
{
    struct clock_question *question = container_of(post, struct clock_question, post);

    question->error = -pthread_getcpuclockid(pthread_self(), &question->clock);
    sem_post(&question->answered);
}

static int ask_clock(struct sluice_engine *engine, clockid_t *clock)
{
    struct clock_question question = {.post.run = answer_clock};

    sem_init(&question.answered, 0, 0);
    sluice_engine_post(engine, &question.post);
    while (sem_wait(&question.answered) < 0)
        continue; /* a signal */
    sem_destroy(&question.answered);
    if (question.error == 0)
        *clock = question.clock;
    return question.error;
}

/* -- From start to end --------------------------------------------------------------------------------------- */

static int run(struct bench *bench, struct sluice_group *group)
{
    char wanted[SLUICE_ADDRESS_MAX] = "127.0.0.1:0";
    int error;

    if (bench->wants_unix)
        snprintf(wanted, sizeof wanted, "unix:@sluice-bench-%ld", (long)getpid());
    error = sluice_group_listen(group, wanted, NULL, &echo_service, NULL, bench->address, sizeof bench->address);
    if (error < 0)
        return verb_fail("bench", "%s: %s", wanted, verb_error_text(error));
    error = ask_clock(sluice_group_engine(group, 0), &bench->server_clock);
    if (error < 0)
        return verb_fail("bench", "the CPU time of the server's thread: %s", verb_error_text(error));
    bench->load_options.address = bench->address;
    bench->load_options.peer_clock = &bench->server_clock;
    return measure("bench", &bench->load_engine, &bench->load_options, bench->wants_json);
}

int verb_bench(int argc, char **argv)
{
    struct bench bench = {.load_options = load_defaults, .server_engine.size = sizeof bench.server_engine};
    struct sluice_group *group;
    int status;
    int error;

    if (!parse(&bench, argc, argv, &status))
        return status;
    verb_raise_descriptor_limit();
    place(&bench);
    error = sluice_group_create(&bench.server_engine, 1, &group);
    if (error < 0)
        return verb_fail_engine("bench", error);
    status = run(&bench, group);
    sluice_group_destroy(group);
    return status;
}
