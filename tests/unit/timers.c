/* The timer wheel, by example and at random against a plain list. */
#include "engine/timers.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "engine/list.h"
#include "tests/support/random.h"

#define TICK (UINT64_C(1) << TIMERS_TICK_BITS)

enum {
    COUNT = 300,
    STEPS = 20000,
    MANY = 5000,
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

Test(timers, that_are_near_are_waited_for_exactly)
{
    for (uint64_t present = 0; present < TIMERS_SLOTS; present++) {
        for (uint64_t ahead = 1; ahead < TIMERS_SLOTS; ahead++) {
            struct timers timers;
            struct alarm alarm = alarm_on(&timers);

            timers_init(&timers, present * TICK);
            timers_start(&timers, &alarm.timer, (present + ahead) * TICK);
            cr_assert_eq(timers_next(&timers), (present + ahead) * TICK);
        }
    }
}

/* However late the turn is: it is as if each tick had had one. */
Test(timers, at_the_border_of_a_slot_fire_with_their_tick)
{
    for (unsigned shift = TIMERS_TICK_BITS; shift < 64; shift += TIMERS_LEVEL_BITS) {
        for (int beside = -1; beside <= 1; beside++) {
            uint64_t tick = (UINT64_C(3) << shift) / TICK + (uint64_t)beside;
            struct timers timers;
            struct alarm alarm = alarm_on(&timers);

            timers_init(&timers, 0);
            timers_start(&timers, &alarm.timer, tick * TICK);
            timers_run(&timers, tick * TICK - 1);
            cr_assert_eq(alarm.fired, 0, "shift %u%+d", shift, beside);
            timers_run(&timers, tick * TICK);
            cr_assert_eq(alarm.fired, 1, "shift %u%+d", shift, beside);

            timers_init(&timers, 0);
            timers_start(&timers, &alarm.timer, tick * TICK);
            timers_run(&timers, tick * TICK);
            cr_assert_eq(alarm.fired, 2, "shift %u%+d, at once", shift, beside);
        }
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
    timers_run(&timers, TICK);
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

/* -- How much moves in one turn ------------------------------------------------------------------------------ */

static unsigned levels_before[MANY];

/* How many timers of a crowd stand on another level than when this was asked last. */
static unsigned count_moved(const struct timers *timers, const struct alarm *alarms)
{
    unsigned moved = 0;

    for (unsigned slot = 0; slot < TIMERS_LEVELS * TIMERS_SLOTS; slot++)
        for (const struct sluice_timer *timer = timers->slots[slot]; timer; timer = timer->next) {
            size_t index = (size_t)(container_of(timer, const struct alarm, timer) - alarms);

            moved += levels_before[index] != slot / TIMERS_SLOTS;
            levels_before[index] = slot / TIMERS_SLOTS;
        }
    return moved;
}

/* As many timers as fit, due at random within `length` ticks from `start` on. */
static struct alarm *crowd_within(struct timers *timers, uint64_t start, uint64_t length)
{
    struct alarm *alarms = malloc(MANY * sizeof *alarms);
    uint64_t random = random_seed();

    cr_assert_not_null(alarms);
    fired_in_all = 0;
    for (unsigned i = 0; i < MANY; i++) {
        alarms[i] = alarm_on(timers);
        timers_start(timers, &alarms[i].timer, (start + random_below(&random, length)) * TICK);
    }
    count_moved(timers, alarms);
    return alarms;
}

/* Nobody waits in a turn until thousands that are not due have moved. */
Test(timers, of_a_crowd_move_a_few_in_each_turn)
{
    struct timers timers;
    struct alarm *alarms;

    timers_init(&timers, 0);
    alarms = crowd_within(&timers, 10000, 10000);
    for (uint64_t tick = 1; tick <= 20000; tick++) {
        timers_run(&timers, tick * TICK);
        cr_assert_leq(count_moved(&timers, alarms), 2 * TIMERS_AHEAD, "at tick %llu", (unsigned long long)tick);
    }
    cr_assert_eq(fired_in_all, MANY);
    free(alarms);
}

/* A loop that has slept until the crowd comes near is asked back at once, but not for each of them. */
Test(timers, of_a_crowd_move_a_few_in_each_turn_after_a_long_sleep)
{
    struct timers timers;
    struct alarm *alarms;
    unsigned turns = 0;

    timers_init(&timers, 12345 * TICK);
    alarms = crowd_within(&timers, 50000000, 100);
    while (fired_in_all < MANY) {
        uint64_t next = timers_next(&timers);

        cr_assert_neq(next, TIMERS_NEVER);
        timers_run(&timers, next);
        cr_assert_leq(count_moved(&timers, alarms), TIMERS_AHEAD * TIMERS_AHEAD_TICKS, "in turn %u", turns);
        cr_assert_leq(++turns, 100 + TIMERS_LEVELS * (1 + MANY / TIMERS_AHEAD));
    }
    free(alarms);
}

/* Also the next that would have moved, which is the first of a slot. */
Test(timers, of_a_crowd_may_be_stopped_while_they_move)
{
    struct timers timers;
    struct alarm *alarms;
    unsigned stopped = 0;

    timers_init(&timers, 4095 * TICK);
    alarms = crowd_within(&timers, 12288, 4096);
    timers_run(&timers, 8191 * TICK);
    for (uint64_t tick = 8192; tick < 8202; tick++) {
        timers_run(&timers, tick * TICK);
        for (unsigned slot = 0; slot < TIMERS_LEVELS * TIMERS_SLOTS; slot++) {
            if (timers.slots[slot]) {
                timers_stop(&timers, timers.slots[slot]);
                stopped++;
            }
        }
    }
    timers_run(&timers, 16384 * TICK);
    cr_assert_eq(fired_in_all, MANY - stopped);
    free(alarms);
}

/* -- At random ----------------------------------------------------------------------------------------------- */

/* What a wheel must do, by a list: the tick at which each timer is due; 0: it is not armed. */
struct oracle {
    uint64_t random;
    uint64_t now;
    uint64_t tick;    /* the present, as those see it that fire */
    uint64_t meeting; /* a time around which many are due, so that they crowd into slots together */
    struct timers timers;
    struct sluice_timer crowd[COUNT];
    uint64_t due[COUNT];
};

static struct oracle oracle;

/* A time ahead, any order of magnitude about equally often. */
static uint64_t random_delay(void)
{
    return random_next(&oracle.random) >> (12 + random_below(&oracle.random, 50));
}

/* A deadline at the border of a slot of any level, or beside it. */
static uint64_t random_border(void)
{
    unsigned shift = TIMERS_TICK_BITS + TIMERS_LEVEL_BITS * (unsigned)random_below(&oracle.random, TIMERS_LEVELS - 1);
    uint64_t slot = (oracle.now >> shift) + random_below(&oracle.random, TIMERS_SLOTS + 2);

    return (slot << shift) + random_below(&oracle.random, 3) - 1;
}

static uint64_t random_deadline(void)
{
    switch (random_below(&oracle.random, 16)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
    case 3:
        return random_border();
    case 4:
    case 5:
    case 6:
        return oracle.now + random_delay();
    case 7:
        oracle.meeting = oracle.now + random_delay();
        return oracle.meeting;
    default:
        return oracle.meeting + random_below(&oracle.random, 100 * TICK);
    }
}

/* Starts or stops one of them, in the wheel and in the list. */
static void do_anything(void)
{
    size_t index = random_below(&oracle.random, COUNT);

    if (random_below(&oracle.random, 3) == 0) {
        timers_stop(&oracle.timers, &oracle.crowd[index]);
        oracle.due[index] = 0;
    } else {
        uint64_t deadline = random_deadline();
        uint64_t tick = deadline / TICK + (deadline % TICK != 0);

        timers_start(&oracle.timers, &oracle.crowd[index], deadline);
        oracle.due[index] = tick > oracle.tick ? tick : oracle.tick + 1;
    }
    cr_assert_eq(timer_is_armed(&oracle.crowd[index]), oracle.due[index] != 0);
}

static void ring_one_of_the_crowd(struct sluice_timer *timer)
{
    size_t index = (size_t)(timer - oracle.crowd);

    cr_assert_gt(oracle.due[index], 0, "it was not armed");
    cr_assert_leq(oracle.due[index], oracle.now / TICK, "it is not due");
    cr_assert_geq(oracle.due[index], oracle.tick, "one that was due later fired before");
    oracle.tick = oracle.due[index];
    oracle.due[index] = 0;
    if (random_below(&oracle.random, 2) == 0)
        do_anything();
}

static uint64_t earliest(void)
{
    uint64_t tick = UINT64_MAX;

    for (int i = 0; i < COUNT; i++)
        if (oracle.due[i] && oracle.due[i] < tick)
            tick = oracle.due[i];
    return tick;
}

/* Goes where the wheel says it is due, or anywhere. */
static void let_time_pass(void)
{
    uint64_t next = timers_next(&oracle.timers);

    if (earliest() < UINT64_MAX / TICK)
        cr_assert_leq(next, earliest() * TICK, "it would be woken too late");
    if (earliest() == UINT64_MAX)
        cr_assert_eq(next, TIMERS_NEVER, "it would be woken for nothing");
    if (next != TIMERS_NEVER && next > oracle.now && random_below(&oracle.random, 2) == 0)
        oracle.now = next;
    else if (oracle.now < UINT64_MAX / 2)
        oracle.now += random_delay() >> random_below(&oracle.random, 20);
    timers_run(&oracle.timers, oracle.now);
    oracle.tick = oracle.now / TICK;
    cr_assert_gt(earliest(), oracle.tick, "one was forgotten");
}

/* A slot or level is marked exactly if it has timers. */
static void check_marks(void)
{
    const struct timers *timers = &oracle.timers;
    uint32_t levels = 0;

    for (unsigned slot = 0; slot < TIMERS_LEVELS * TIMERS_SLOTS; slot++) {
        bool is_occupied = timers->occupied[slot / 64] >> (slot % 64) & 1;

        cr_assert_eq(is_occupied, timers->slots[slot] != NULL, "slot %u", slot);
        levels |= (uint32_t)is_occupied << (slot / TIMERS_SLOTS);
    }
    cr_assert_eq(timers->levels, levels);
}

Test(timers, at_random_do_what_a_list_would_do, .timeout = 60)
{
    oracle.random = random_seed();
    oracle.now = random_delay();
    oracle.tick = oracle.now / TICK;
    timers_init(&oracle.timers, oracle.now);
    for (int i = 0; i < COUNT; i++)
        oracle.crowd[i].fire = ring_one_of_the_crowd;
    for (int step = 0; step < STEPS; step++) {
        if (random_below(&oracle.random, 4) > 0)
            do_anything();
        else
            let_time_pass();
        check_marks();
    }
}
