/* The echo server over loopback: its place, its thread and that thread's clock. */
#include "tools/loopback.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/container_of.h"
#include "tools/services.h"
#include "tools/verb.h"

/* One for the server, one for the load, one for a thread of the kernel. */
#define CPUS_WANTED 3

/* -- CPUs ---------------------------------------------------------------------------------------------------- */

/* The first CPU from `cpu` on that we may use, or CPU_SETSIZE. */
static uint32_t next_cpu(const cpu_set_t *allowed, uint32_t cpu)
{
    while (cpu < CPU_SETSIZE && !CPU_ISSET(cpu, allowed))
        cpu++;
    return cpu;
}

/* The first CPUs that we may use, as many as there are; CPU_SETSIZE for the rest. */
static void find_cpus(uint32_t cpus[CPUS_WANTED])
{
    cpu_set_t allowed;
    uint32_t next = 0;

    CPU_ZERO(&allowed);
    sched_getaffinity(0, sizeof allowed, &allowed); /* if it fails, there are none that we know of */
    for (size_t i = 0; i < CPUS_WANTED; i++) {
        cpus[i] = next_cpu(&allowed, next);
        next = cpus[i] + 1;
    }
}

bool loopback_has_spare_cpu(void)
{
    uint32_t cpus[CPUS_WANTED];

    find_cpus(cpus);
    return cpus[2] < CPU_SETSIZE;
}

/* A thread of the kernel runs where the one that made its ring may run, unless it is told where. */
void loopback_place(struct sluice_engine_options *server, struct sluice_engine_options *load)
{
    uint32_t cpus[CPUS_WANTED];

    find_cpus(cpus);
    load->thread_cpu = 0;
    if (server->thread_cpu != 0 || cpus[1] >= CPU_SETSIZE)
        return;
    server->thread_cpu = cpus[0] + 1;
    load->thread_cpu = cpus[1] + 1;
    if (server->sqpoll != 0 && server->sqpoll_cpu == 0 && cpus[2] < CPU_SETSIZE)
        server->sqpoll_cpu = cpus[2] + 1;
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

static int listen_and_ask(struct loopback *loopback, bool is_unix, char *why, size_t why_size)
{
    char wanted[SLUICE_ADDRESS_MAX] = "127.0.0.1:0";
    int error;

    if (is_unix)
        snprintf(wanted, sizeof wanted, "unix:@sluice-loopback-%ld", (long)getpid());
    error = sluice_group_listen(loopback->group, wanted, NULL, &echo_service, NULL, loopback->address,
                                sizeof loopback->address);
    if (error < 0) {
        snprintf(why, why_size, "%s: %s", wanted, verb_error_text(error));
        return error;
    }
    error = ask_clock(sluice_group_engine(loopback->group, 0), &loopback->clock);
    if (error < 0)
        snprintf(why, why_size, "the CPU time of the server's thread: %s", verb_error_text(error));
    return error;
}

int loopback_start(struct loopback *loopback, const struct sluice_engine_options *server, bool is_unix, char *why,
                   size_t why_size)
{
    int error = sluice_group_create(server, 1, &loopback->group);

    if (error < 0) {
        sluice_engine_explain(error, why, why_size);
        return error;
    }
    error = listen_and_ask(loopback, is_unix, why, why_size);
    if (error < 0)
        loopback_stop(loopback);
    return error;
}

void loopback_stop(struct loopback *loopback)
{
    sluice_group_destroy(loopback->group);
    loopback->group = NULL;
}
