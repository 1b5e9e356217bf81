/* The timer wheel, by example and at random against a plain list. */
#include "engine/timers.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "engine/list.h"
#include "tests/support/random.h"

#define TICK (UINT64_C(1) << TIMERS_TICK_BITS)

enum {
    COUNT = 200,
    STEPS = 20000,
};

struct alarm {
    struct sluice_timer timer;
    struct timers *timers;
    unsigned fired;
    unsigned order; /* when it last fired, among all */
    /* What it does when it fires. */
    struct alarm *stops;
    struct alarm *starts;
    uint64_t starts_at;
};

static unsigned fired_in_all;

static void ring_alarm(struct sluice_timer *timer)
{
    struct alarm *alarm = container_of(timer, struct alarm, timer);

    cr_assert_not(timer_is_armed(timer));
    alarm->fired++;
    alarm->order = ++fired_in_all;
    if (alarm->stops)
        timers_stop(alarm->timers, &alarm->stops->timer);
    if (alarm->starts)
        timers_start(alarm->timers, &alarm->starts->timer, alarm->starts_at);
}

static struct alarm alarm_on(struct timers *timers)
{
    return (struct alarm){.timer.fire = ring_alarm, .timers = timers};
}

Test(timers, fire_at_their_time_and_not_before)
{
    static const uint64_t deadlines[] = {1,         TICK - 1,    TICK,        TICK + 1,   63 * TICK,      64 * TICK,
                                         65 * TICK, 4095 * TICK, 4096 * TICK, 1000000000, 123456789012345};

    for (size_t i = 0; i < sizeof deadlines / sizeof *deadlines; i++) {
        struct timers timers;
        struct alarm alarm = alarm_on(&timers);
        uint64_t next;

        timers_init(&timers, 0);
        cr_assert_eq(timers_next(&timers), TIMERS_NEVER);
        timers_start(&timers, &alarm.timer, deadlines[i]);
        cr_assert(timer_is_armed(&alarm.timer));
        timers_run(&timers, deadlines[i] - 1);
        cr_assert_eq(alarm.fired, 0, "case %zu", i);
        /* Following timers_next() leads there, in few steps. */
        for (int steps = 0; alarm.fired == 0; steps++) {
            cr_assert_lt(steps, TIMERS_LEVELS + 1);
            next = timers_next(&timers);
            cr_assert_lt(next, deadlines[i] + TICK);
            timers_run(&timers, next);
        }
        cr_assert_eq(alarm.fired, 1);
        cr_assert_eq(timers_next(&timers), TIMERS_NEVER);
    }
}

Test(timers, of_the_past_fire_at_the_next_tick)
{
    struct timers timers;
    struct alarm alarm = alarm_on(&timers);

    timers_init(&timers, 1000 * TICK);
    timers_start(&timers, &alarm.timer, 5);
    timers_run(&timers, 1000 * TICK);
    cr_assert_eq(alarm.fired, 0);
    timers_run(&timers, 1001 * TICK);
    cr_assert_eq(alarm.fired, 1);
}

Test(timers, of_the_farthest_future_are_kept_and_may_be_stopped)
{
    struct timers timers;
    struct alarm alarm = alarm_on(&timers);

    timers_init(&timers, 1);
    timers_start(&timers, &alarm.timer, UINT64_MAX);
    cr_assert_neq(timers_next(&timers), 0);
    timers_run(&timers, UINT64_MAX / 2);
    timers_run(&timers, UINT64_MAX - TICK);
    cr_assert_eq(alarm.fired, 0);
    cr_assert(timer_is_armed(&alarm.timer));
    timers_stop(&timers, &alarm.timer);
    cr_assert_eq(timers_next(&timers), TIMERS_NEVER);
    timers_run(&timers, UINT64_MAX);
    cr_assert_eq(alarm.fired, 0);
}

Test(timers, that_are_moved_fire_once_at_the_new_time)
{
    struct timers timers;
    struct alarm alarm = alarm_on(&timers);

    timers_init(&timers, 0);
    timers_start(&timers, &alarm.timer, 10 * TICK);
    timers_start(&timers, &alarm.timer, 5000 * TICK);
    timers_run(&timers, 100 * TICK);
    cr_assert_eq(alarm.fired, 0);
    timers_start(&timers, &alarm.timer, 200 * TICK);
    timers_run(&timers, 10000 * TICK);
    cr_assert_eq(alarm.fired, 1);
}

Test(timers, that_are_stopped_do_not_fire_nor_wake_anybody)
{
    struct timers timers;
    struct alarm alarm = alarm_on(&timers);

    timers_init(&timers, 0);
    timers_stop(&timers, &alarm.timer);
    timers_start(&timers, &alarm.timer, 100 * TICK);
    timers_stop(&timers, &alarm.timer);
    timers_stop(&timers, &alarm.timer);
    cr_assert_eq(timers_next(&timers), TIMERS_NEVER);
    timers_run(&timers, 1000 * TICK);
    cr_assert_eq(alarm.fired, 0);
}

Test(timers, fire_in_the_order_of_their_ticks)
{
    enum {
        SPREAD = 1000
    };
    struct timers timers;
    struct alarm alarms[SPREAD];

    timers_init(&timers, 77 * TICK);
    for (unsigned i = 0; i < SPREAD; i++) {
        unsigned shuffled = i * 337 % SPREAD;

        alarms[shuffled] = alarm_on(&timers);
        timers_start(&timers, &alarms[shuffled].timer, (80 + 7 * (uint64_t)shuffled) * TICK);
    }
    timers_run(&timers, 1000000 * TICK);
    for (unsigned i = 0; i < SPREAD; i++)
        cr_assert_eq(alarms[i].order, i + 1);
}

Test(timers, may_stop_each_other_while_they_fire)
{
    struct timers timers;
    struct alarm first = alarm_on(&timers);
    struct alarm second = alarm_on(&timers);
    struct alarm later = alarm_on(&timers);

    /* given two of one tick, each of which stops the other, and one of later, which both stop */
    timers_init(&timers, 0);
    first.stops = &second;
    second.stops = &first;
    timers_start(&timers, &first.timer, 10 * TICK);
    timers_start(&timers, &second.timer, 10 * TICK);
    timers_run(&timers, 20 * TICK);
    cr_assert_eq(first.fired + second.fired, 1);

    first.stops = &later;
    timers_start(&timers, &later.timer, 31 * TICK);
    timers_start(&timers, &first.timer, 30 * TICK);
    timers_run(&timers, 40 * TICK);
    cr_assert_eq(later.fired, 0);
    cr_assert_eq(timers_next(&timers), TIMERS_NEVER);
}

/* Also where the slot is of a higher level, and is taken apart. */
Test(timers, may_stop_and_start_each_other_where_levels_meet)
{
    struct timers timers;
    struct alarm all[8];

    timers_init(&timers, 0);
    for (int i = 0; i < 8; i++) {
        all[i] = alarm_on(&timers);
        all[i].stops = &all[i ^ 1];
        timers_start(&timers, &all[i].timer, 64 * TICK);
    }
    timers_run(&timers, 64 * TICK);
    for (int i = 0; i < 8; i += 2)
        cr_assert_eq(all[i].fired + all[i + 1].fired, 1);
    cr_assert_eq(timers_next(&timers), TIMERS_NEVER);
}

Test(timers, that_start_themselves_again_fire_once_a_tick)
{
    struct timers timers;
    struct alarm alarm = alarm_on(&timers);

    timers_init(&timers, 0);
    alarm.starts = &alarm;
    alarm.starts_at = 0;
    timers_start(&timers, &alarm.timer, 0);
    timers_run(&timers, 100 * TICK);
    cr_assert_eq(alarm.fired, 100);
    timers_run(&timers, 100 * TICK);
    cr_assert_eq(alarm.fired, 100);
    timers_stop(&timers, &alarm.timer);
}

Test(timers, may_start_others_that_are_due_by_then)
{
    struct timers timers;
    struct alarm first = alarm_on(&timers);
    struct alarm second = alarm_on(&timers);

    timers_init(&timers, 0);
    first.starts = &second;
    first.starts_at = 20 * TICK;
    timers_start(&timers, &first.timer, 10 * TICK);
    timers_run(&timers, 1000 * TICK);
    cr_assert_eq(second.fired, 1);
    cr_assert_eq(second.order, first.order + 1);
}

/* -- At random ----------------------------------------------------------------------------------------------- */

/* What a wheel must do, by a list: the tick at which each timer is due; 0: it is not armed. */
struct oracle {
    uint64_t due[COUNT];
    uint64_t fired_at[COUNT];
};

static struct oracle oracle;
static struct alarm crowd[COUNT];
static uint64_t present; /* as a tick */
static uint64_t last_due;

static void ring_one_of_the_crowd(struct sluice_timer *timer)
{
    size_t index = (size_t)(container_of(timer, struct alarm, timer) - crowd);

    cr_assert_gt(oracle.due[index], 0, "it was not armed");
    cr_assert_leq(oracle.due[index], present, "it is not due");
    cr_assert_geq(oracle.due[index], last_due, "one that was due later fired before");
    last_due = oracle.due[index];
    oracle.due[index] = 0;
}

static uint64_t tick_of(uint64_t deadline, uint64_t now)
{
    uint64_t tick = deadline / TICK + (deadline % TICK != 0);

    return tick > now / TICK ? tick : now / TICK + 1;
}

/* A time ahead, any order of magnitude about equally often. */
static uint64_t random_delay(uint64_t *random)
{
    return random_next(random) >> (12 + random_below(random, 50));
}

static uint64_t earliest(void)
{
    uint64_t tick = UINT64_MAX;

    for (int i = 0; i < COUNT; i++)
        if (oracle.due[i] && oracle.due[i] < tick)
            tick = oracle.due[i];
    return tick;
}

Test(timers, at_random_do_what_a_list_would_do, .timeout = 60)
{
    uint64_t random = random_seed();
    uint64_t now = random_delay(&random);
    struct timers timers;

    timers_init(&timers, now);
    for (int i = 0; i < COUNT; i++)
        crowd[i].timer.fire = ring_one_of_the_crowd;
    for (int step = 0; step < STEPS; step++) {
        size_t index = random_below(&random, COUNT);
        uint64_t deadline = now + random_delay(&random);

        switch (random_below(&random, 4)) {
        case 0:
        case 1:
            timers_start(&timers, &crowd[index].timer, deadline);
            oracle.due[index] = tick_of(deadline, now);
            break;
        case 2:
            timers_stop(&timers, &crowd[index].timer);
            oracle.due[index] = 0;
            break;
        default:
            if (earliest() != UINT64_MAX)
                cr_assert_leq(timers_next(&timers), earliest() * TICK, "late in step %d", step);
            else
                cr_assert_eq(timers_next(&timers), TIMERS_NEVER);
            now += random_delay(&random) >> random_below(&random, 20);
            present = now / TICK;
            last_due = 0;
            timers_run(&timers, now);
            cr_assert_gt(earliest(), present, "one was forgotten in step %d", step);
        }
        cr_assert_eq(timer_is_armed(&crowd[index].timer), oracle.due[index] != 0);
    }
}
