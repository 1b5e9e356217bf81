/*
 * What a timer costs in a loop that has a million: to start it, to move it, to stop it, and to fire it.
 *
 * Deadlines of the first three are random within an hour. Then a million fire that are due at random moments of one
 * second, while the loop sleeps between them as it sees fit (fire_ns, CPU time; late_..., how long after its deadline
 * one fires), and a million that are all due when the loop looks (fire_due_ns). A loop with coarser timers wakes less
 * often: read fire_ns beside how late it is. One that takes more than a microsecond for each cannot keep up.
 *
 * Timers are started, moved and stopped in the order of their memory, which is not the order of their deadlines.
 */
#include "perf/inside/inside.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum {
    OPERATIONS_A_TURN = 1000,
    SAMPLE_EVERY = 64,
    SAMPLES = INSIDE_TIMERS / SAMPLE_EVERY,
};

static const uint64_t millisecond = 1000 * 1000;
static const uint64_t second = 1000 * 1000 * 1000;

static const struct inside_timers_library *asked;
static uint64_t random_state = 1; /* the same deadlines in each run */
static size_t fired;
static uint64_t deadlines[SAMPLES];
static uint64_t lateness[SAMPLES];

static uint64_t random_below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

void inside_fired(size_t index)
{
    if (index % SAMPLE_EVERY == 0) {
        uint64_t now = inside_now_ns();
        uint64_t deadline = deadlines[index / SAMPLE_EVERY];

        lateness[index / SAMPLE_EVERY] = now > deadline ? now - deadline : 0;
    }
    if (++fired == INSIDE_TIMERS && asked->stop_running)
        asked->stop_running();
}

static void start(size_t index, uint64_t delay_ns)
{
    if (index % SAMPLE_EVERY == 0)
        deadlines[index / SAMPLE_EVERY] = inside_now_ns() + delay_ns;
    asked->start(index, delay_ns);
}

static void start_within_hour(size_t index)
{
    asked->start(index, millisecond + random_below(3600 * second));
}

static void restart_within_hour(size_t index)
{
    asked->restart(index, millisecond + random_below(3600 * second));
}

static void start_within_second(size_t index)
{
    start(index, second + random_below(second)); /* none before all are started */
}

static void start_for_later(size_t index)
{
    start(index, second + random_below(second / 2));
}

/* Nanoseconds for each of a million operations, with the loop's turns in between. */
static double measure(void (*operate)(size_t index))
{
    uint64_t begin;

    asked->turn();
    begin = inside_now_ns();
    for (size_t i = 0; i < INSIDE_TIMERS; i++) {
        operate(i);
        if (i % OPERATIONS_A_TURN == OPERATIONS_A_TURN - 1)
            asked->turn();
    }
    return (double)(inside_now_ns() - begin) / INSIDE_TIMERS;
}

/* CPU time of the loop for each that fires. On a machine too busy to start them in time there is no answer. */
static double measure_firing(void (*start_one)(size_t index))
{
    struct timespec until_due = {.tv_sec = 1, .tv_nsec = 550 * 1000 * 1000};
    uint64_t begin;
    size_t fired_before;

    fired = 0;
    measure(start_one);
    if (start_one == start_for_later)
        nanosleep(&until_due, NULL);
    fired_before = fired;
    if (fired_before > INSIDE_TIMERS / 2)
        inside_die("timers fire before all are started", ETIMEDOUT);
    begin = inside_cpu_ns();
    asked->run();
    return (double)(inside_cpu_ns() - begin) / (double)(INSIDE_TIMERS - fired_before);
}

int inside_timers_main(const struct inside_timers_library *library)
{
    double start_ns;
    double restart_ns;
    double stop_ns;
    double fire_ns;
    double fire_due_ns;
    uint64_t late_p50_ns;
    uint64_t late_p99_ns;

    asked = library;
    inside_pin(0);
    asked->create();
    start_ns = measure(start_within_hour);
    restart_ns = measure(restart_within_hour);
    stop_ns = measure(asked->stop);
    fire_ns = measure_firing(start_within_second);
    late_p50_ns = inside_percentile(lateness, SAMPLES, 500);
    late_p99_ns = inside_percentile(lateness, SAMPLES, 990);
    fire_due_ns = measure_firing(start_for_later);
    printf("{\"start_ns\":%.1f,\"stop_ns\":%.1f,\"restart_ns\":%.1f,\"fire_ns\":%.1f,"
           "\"late_p50_ns\":%llu,\"late_p99_ns\":%llu,\"fire_due_ns\":%.1f}\n",
           start_ns, stop_ns, restart_ns, fire_ns, (unsigned long long)late_p50_ns, (unsigned long long)late_p99_ns,
           fire_due_ns);
    return 0;
}
