/* A million timers of libevent, in memory of ours (event_assign). They count microseconds, and sleep milliseconds. */
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>

#include "perf/inside/inside.h"

static struct event_base *base;
static struct event timers[INSIDE_TIMERS];

static void on_timer(evutil_socket_t fd, short what, void *timer)
{
    (void)fd;
    (void)what;
    inside_fired((size_t)((struct event *)timer - timers));
}

static void create(void)
{
    struct event_config *config = event_config_new();

    if (!config)
        inside_die("event_config_new", ENOMEM);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    base = event_base_new_with_config(config);
    event_config_free(config);
    if (!base)
        inside_die("event_base_new_with_config", ENOMEM);
    for (size_t i = 0; i < INSIDE_TIMERS; i++)
        evtimer_assign(&timers[i], base, on_timer, &timers[i]);
}

/* Adding one that is pending moves it. */
static void start(size_t index, uint64_t delay_ns)
{
    struct timeval delay = {
        .tv_sec = (time_t)(delay_ns / 1000000000),
        .tv_usec = (suseconds_t)(delay_ns % 1000000000 / 1000),
    };

    evtimer_add(&timers[index], &delay);
}

static void stop(size_t index)
{
    evtimer_del(&timers[index]);
}

static void turn(void)
{
    event_base_loop(base, EVLOOP_NONBLOCK);
}

/* Returns when no timer is pending. */
static void run(void)
{
    event_base_dispatch(base);
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
