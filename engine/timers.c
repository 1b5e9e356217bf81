/* The timer wheel: see timers.h. */
#include "engine/timers.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static uint64_t tick_at_or_after(uint64_t ns)
{
    return (ns >> TIMERS_TICK_BITS) + ((ns & ((UINT64_C(1) << TIMERS_TICK_BITS) - 1)) != 0);
}

static uint64_t slot_of(uint64_t tick, unsigned level)
{
    return (tick >> (level * TIMERS_SLOT_BITS)) & (TIMERS_SLOTS - 1);
}

/* Puts a timer, unlinked, where it belongs as seen from the present. Its tick lies in the future. */
static void put(struct timers *timers, struct sluice_timer *timer)
{
    uint64_t tick = tick_at_or_after(timer->deadline_ns);
    unsigned level;
    uint64_t slot;
    struct sluice_timer **first;

    if (tick <= timers->tick)
        tick = timers->tick + 1;
    level = (63 - (unsigned)__builtin_clzll(tick ^ timers->tick)) / TIMERS_SLOT_BITS;
    slot = slot_of(tick, level);
    first = &timers->slots[level][slot];
    timer->next = *first;
    if (timer->next)
        timer->next->link = &timer->next;
    timer->link = first;
    *first = timer;
    timers->occupied[level] |= UINT64_C(1) << slot;
}

static void unlink_timer(struct sluice_timer *timer)
{
    *timer->link = timer->next;
    if (timer->next)
        timer->next->link = timer->link;
    timer->next = NULL;
    timer->link = NULL;
}

void timers_init(struct timers *timers, uint64_t now_ns)
{
    memset(timers, 0, sizeof *timers);
    timers->tick = now_ns >> TIMERS_TICK_BITS;
}

void timers_start(struct timers *timers, struct sluice_timer *timer, uint64_t deadline_ns)
{
    timers_stop(timers, timer);
    timer->deadline_ns = deadline_ns;
    put(timers, timer);
}

void timers_stop(struct timers *timers, struct sluice_timer *timer)
{
    struct sluice_timer **link = timer->link;
    struct sluice_timer **slots = &timers->slots[0][0];

    if (!link)
        return;
    unlink_timer(timer);
    /* The last of its slot clears the slot's bit, so that nobody wakes up for nothing. */
    if (!*link && link >= slots && link < slots + (size_t)TIMERS_LEVELS * TIMERS_SLOTS) {
        size_t index = (size_t)(link - slots);

        timers->occupied[index / TIMERS_SLOTS] &= ~(UINT64_C(1) << (index % TIMERS_SLOTS));
    }
}

/* The first tick at which a slot is reached, and the level it is on; UINT64_MAX if all are empty. */
static uint64_t next_event(const struct timers *timers, unsigned *level)
{
    for (unsigned i = 0; i < TIMERS_LEVELS; i++) {
        if (timers->occupied[i]) {
            unsigned shift = i * TIMERS_SLOT_BITS;
            uint64_t slot = (uint64_t)__builtin_ctzll(timers->occupied[i]);
            unsigned above = shift + TIMERS_SLOT_BITS;
            uint64_t base = above < 64 ? timers->tick >> above << above : 0;

            /* All timers of a level lie ahead, and before any of a higher level. */
            assert(slot > slot_of(timers->tick, i));
            *level = i;
            return base | slot << shift;
        }
    }
    return UINT64_MAX;
}

uint64_t timers_next(const struct timers *timers)
{
    unsigned level;
    uint64_t tick = next_event(timers, &level);

    return tick >> (64 - TIMERS_TICK_BITS) ? TIMERS_NEVER : tick << TIMERS_TICK_BITS;
}

static struct sluice_timer *take_slot(struct timers *timers, unsigned level)
{
    uint64_t slot = slot_of(timers->tick, level);
    struct sluice_timer *first = timers->slots[level][slot];

    timers->slots[level][slot] = NULL;
    timers->occupied[level] &= ~(UINT64_C(1) << slot);
    return first;
}

/* Fires the timers of a list one by one; each may stop any other, also in the list. */
static void fire_all(struct sluice_timer **list)
{
    while (*list) {
        struct sluice_timer *timer = *list;

        unlink_timer(timer);
        timer->fire(timer);
    }
}

/* The present has reached a slot of a higher level: its timers are due now or stand lower from now on. */
static void move_down(struct timers *timers, unsigned level, struct sluice_timer **due)
{
    struct sluice_timer *timer = take_slot(timers, level);

    while (timer) {
        struct sluice_timer *next = timer->next;

        if (tick_at_or_after(timer->deadline_ns) <= timers->tick) {
            timer->next = *due;
            if (timer->next)
                timer->next->link = &timer->next;
            timer->link = due;
            *due = timer;
        } else {
            put(timers, timer);
        }
        timer = next;
    }
}

void timers_run(struct timers *timers, uint64_t now_ns)
{
    uint64_t now = now_ns >> TIMERS_TICK_BITS;
    unsigned level;
    uint64_t tick;

    while ((tick = next_event(timers, &level)) <= now) {
        struct sluice_timer *due = NULL;

        timers->tick = tick;
        if (level == 0) {
            due = take_slot(timers, 0);
            if (due)
                due->link = &due;
        } else {
            move_down(timers, level, &due);
        }
        fire_all(&due);
    }
    if (now > timers->tick)
        timers->tick = now;
}
