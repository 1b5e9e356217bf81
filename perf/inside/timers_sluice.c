/* A million timers of Sluice. */
#include <sluice/sluice.h>
#include <stdio.h>
#include <stdlib.h>

#include "perf/inside/inside.h"

static struct sluice_engine *engine;
static struct sluice_timer timers[INSIDE_TIMERS];

static void on_timer(struct sluice_timer *timer)
{
    inside_fired((size_t)(timer - timers));
}

static void create(void)
{
    struct sluice_engine_options options = {.size = sizeof options};
    char why[SLUICE_REASON_MAX];
    int error;

    if (sluice_engine_options_from_env(&options, why, sizeof why) < 0) {
        fprintf(stderr, "timers_sluice: %s\n", why);
        exit(2);
    }
    error = sluice_engine_create(&options, &engine);
    if (error)
        inside_die("sluice_engine_create", error);
    for (size_t i = 0; i < INSIDE_TIMERS; i++)
        timers[i].fire = on_timer;
}

static void start(size_t index, uint64_t delay_ns)
{
    sluice_timer_start(engine, &timers[index], delay_ns);
}

static void stop(size_t index)
{
    sluice_timer_stop(engine, &timers[index]);
}

static void turn(void)
{
    sluice_engine_turn(engine);
}

static void run(void)
{
    sluice_engine_run(engine);
}

static void stop_running(void)
{
    sluice_engine_stop(engine);
}

int main(void)
{
    static const struct inside_timers_library library = {
        .create = create,
        .start = start,
        .stop = stop,
        .restart = start, /* starting one that runs moves it */
        .turn = turn,
        .run = run,
        .stop_running = stop_running,
    };
    int result = inside_timers_main(&library);

    sluice_engine_destroy(engine);
    return result;
}
