/* A million timers of libuv. They count milliseconds. */
#include <uv.h>

#include "perf/inside/inside.h"

static uv_loop_t loop;
static uv_timer_t timers[INSIDE_TIMERS];

static void on_timer(uv_timer_t *timer)
{
    inside_fired((size_t)(timer - timers));
}

static void create(void)
{
    int error = uv_loop_init(&loop);

    if (error)
        inside_die("libuv", error);
    for (size_t i = 0; i < INSIDE_TIMERS; i++)
        uv_timer_init(&loop, &timers[i]);
}

/* Starting one that runs moves it; rounded up, as none may fire early. */
static void start(size_t index, uint64_t delay_ns)
{
    uv_timer_start(&timers[index], on_timer, (delay_ns + 999999) / 1000000, 0);
}

static void stop(size_t index)
{
    uv_timer_stop(&timers[index]);
}

static void turn(void)
{
    uv_run(&loop, UV_RUN_NOWAIT);
}

/* Returns when no timer runs. */
static void run(void)
{
    uv_run(&loop, UV_RUN_DEFAULT);
}

int main(void)
{
    static const struct inside_timers_library library = {
        .create = create,
        .start = start,
        .stop = stop,
        .restart = start,
        .turn = turn,
        .run = run,
    };

    return inside_timers_main(&library);
}
