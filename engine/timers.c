/* The timer wheel: see timers.h. */
#include "engine/timers.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static uint64_t tick_at_or_after(uint64_t ns)
{
    return (ns >> TIMERS_TICK_BITS) + ((ns & ((UINT64_C(1) << TIMERS_TICK_BITS) - 1)) != 0);
}

/* The slot of a level that a tick is in. */
static size_t slot_of(uint64_t tick, unsigned level)
{
    return level * TIMERS_SLOTS + (tick >> (level * TIMERS_LEVEL_BITS)) % TIMERS_SLOTS;
}

static void mark_occupied(struct timers *timers, size_t slot)
{
    timers->occupied[slot / 64] |= UINT64_C(1) << (slot % 64);
    timers->levels |= UINT32_C(1) << (slot / TIMERS_SLOTS);
    timers->next = 0;
}

/* The last timer of a slot is gone: nobody shall wake up for nothing. */
static void mark_empty(struct timers *timers, size_t slot)
{
    timers->occupied[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    if (!(timers->occupied[slot / 64] | timers->occupied[slot / 64 ^ 1]))
        timers->levels &= ~(UINT32_C(1) << (slot / TIMERS_SLOTS));
    timers->next = 0;
}

/*
 * Puts a timer, unlinked, where it belongs as seen from the present. Its tick lies in the future.
 *
 * On level 0 none comes into the slot of the present. On a higher level none comes into the slot that follows, because
 * its tick is two slots away: so each has the time of a slot at least until it must move down.
 */
static void put(struct timers *timers, struct sluice_timer *timer)
{
    uint64_t tick = tick_at_or_after(timer->deadline_ns);
    unsigned level;
    size_t slot;
    struct sluice_timer **first;

    if (tick <= timers->tick)
        tick = timers->tick + 1;
    level = (63 - (unsigned)__builtin_clzll((tick - timers->tick) / 2 | 1)) / TIMERS_LEVEL_BITS;
    slot = slot_of(tick, level);
    first = &timers->slots[slot];
    timer->next = *first;
    timer->link = first;
    *first = timer;
    if (timer->next)
        timer->next->link = &timer->next;
    else
        mark_occupied(timers, slot);
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
    size_t slot = ((uintptr_t)link - (uintptr_t)timers->slots) / sizeof(void *); /* if it is the first of one */

    if (!link)
        return;
    *link = timer->next;
    if (timer->next)
        timer->next->link = link;
    else if (slot < TIMERS_LEVELS * TIMERS_SLOTS)
        mark_empty(timers, slot);
    timer->next = NULL;
    timer->link = NULL;
}

/* How far it is from a slot to the first occupied one of its level, going round; one is. */
static unsigned distance(const struct timers *timers, size_t slot)
{
    uint64_t near = timers->occupied[slot / 64];
    uint64_t far = timers->occupied[slot / 64 ^ 1];
    unsigned skipped = slot % 64;

    assert(near | far);
    if (near >> skipped)
        return (unsigned)__builtin_ctzll(near >> skipped);
    return 64 - skipped + (unsigned)(far ? __builtin_ctzll(far) : 64 + __builtin_ctzll(near));
}

/* The tick with which the slot begins that follows the present one. */
static uint64_t following(const struct timers *timers, unsigned level)
{
    unsigned shift = level * TIMERS_LEVEL_BITS;

    return ((timers->tick >> shift) + 1) << shift;
}

/* …and the next one that has timers: all lie ahead. */
static uint64_t next_occupied(const struct timers *timers, unsigned level)
{
    uint64_t tick = following(timers, level);

    return tick + ((uint64_t)distance(timers, slot_of(tick, level)) << (level * TIMERS_LEVEL_BITS));
}

/* The next tick at which there is something to do: timers fire, or may move down, so that they need not all at once. */
static uint64_t find_next(const struct timers *timers)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t left = timers->levels; left; left &= left - 1) {
        unsigned level = (unsigned)__builtin_ctz(left);
        uint64_t tick = next_occupied(timers, level);

        if (level > 0)
            tick -= UINT64_C(1) << (level * TIMERS_LEVEL_BITS);
        if (tick < next)
            next = tick;
    }
    return next > timers->tick ? next : timers->tick + 1; /* more of them may move */
}

uint64_t timers_next(const struct timers *timers)
{
    uint64_t next = timers->next ? timers->next : find_next(timers);

    return next >> (64 - TIMERS_TICK_BITS) ? TIMERS_NEVER : next << TIMERS_TICK_BITS;
}

/* The next tick at which timers fire or must have moved down, which is the last one before their slot begins. */
static uint64_t next_event(const struct timers *timers, unsigned *event_level)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t left = timers->levels; left; left &= left - 1) {
        unsigned level = (unsigned)__builtin_ctz(left);
        uint64_t tick = next_occupied(timers, level) - (level > 0);

        if (tick < next) {
            next = tick;
            *event_level = level;
        }
    }
    return next;
}

/* Fires the timers of the present one by one; each may stop any other, and none can join them. */
static void fire_all(struct timers *timers)
{
    struct sluice_timer **first = &timers->slots[slot_of(timers->tick, 0)];

    while (*first) {
        struct sluice_timer *timer = *first;

        timers_stop(timers, timer);
        timer->fire(timer);
    }
}

/* Moves timers down from the slot that follows the present one, `count` at most. */
static void move_down(struct timers *timers, unsigned level, uint64_t count)
{
    size_t slot = slot_of(following(timers, level), level);
    struct sluice_timer *timer = timers->slots[slot];

    for (; timer && count > 0; count--) {
        struct sluice_timer *next = timer->next;

        put(timers, timer);
        timer = next;
    }
    timers->slots[slot] = timer;
    if (timer)
        timer->link = &timers->slots[slot];
    else
        mark_empty(timers, slot);
}

static void move_ahead(struct timers *timers, uint64_t ticks)
{
    uint64_t count = TIMERS_AHEAD * (ticks < TIMERS_AHEAD_TICKS ? ticks : TIMERS_AHEAD_TICKS);

    for (uint32_t left = timers->levels & ~UINT32_C(1); left; left &= left - 1)
        move_down(timers, (unsigned)__builtin_ctz(left), count);
}

static void catch_up(struct timers *timers, uint64_t now)
{
    uint64_t before = timers->tick;
    unsigned level = 0;
    uint64_t tick;

    while ((tick = next_event(timers, &level)) <= now) {
        timers->tick = tick;
        if (level == 0)
            fire_all(timers);
        else
            move_down(timers, level, UINT64_MAX);
    }
    if (now > before) {
        timers->tick = now;
        move_ahead(timers, now - before);
    }
    timers->next = find_next(timers);
}

void timers_run(struct timers *timers, uint64_t now_ns)
{
    uint64_t now = now_ns >> TIMERS_TICK_BITS;

    if (now >= timers->next)
        catch_up(timers, now);
    else if (now > timers->tick)
        timers->tick = now;
}
