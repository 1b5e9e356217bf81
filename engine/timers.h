/*
 * Timers in a hierarchical wheel: arming and cancelling are constant work and cannot fail.
 *
 * Time is cut into ticks of 2^14 ns (16 microseconds). A level is a ring of 128 slots, each 64 times as long as one of
 * the level below; a timer stands on the lowest level that reaches as far (after Varghese and Lauck 1987, scheme 7).
 * A ring is two slots of the next level long, so the timers of a slot may move down from when the present is in the
 * slot before it, and must when it leaves that. They do it a few in each turn: none stands still for a whole slot.
 */
#ifndef ENGINE_TIMERS_H
#define ENGINE_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/engine.h>

enum {
    TIMERS_TICK_BITS = 14,
    TIMERS_LEVEL_BITS = 6, /* from the slots of one level to those of the next */
    TIMERS_SLOTS = 2 << TIMERS_LEVEL_BITS,
    TIMERS_LEVELS = 9,       /* 9 * 6 + 14 bits: more than 64, so every time fits */
    TIMERS_AHEAD = 32,       /* how many of a level move down before they must, for each tick that has passed… */
    TIMERS_AHEAD_TICKS = 64, /* …of which no more than these count in one turn */
};

#define TIMERS_NEVER UINT64_MAX

struct timers {
    uint64_t tick;                                        /* the present */
    uint64_t next;                                        /* before this tick there is nothing to do; 0: not known */
    uint32_t levels;                                      /* a bit for each level that has timers */
    uint64_t occupied[TIMERS_LEVELS * TIMERS_SLOTS / 64]; /* a bit for each slot that has timers */
    struct sluice_timer *slots[TIMERS_LEVELS * TIMERS_SLOTS];
};

void timers_init(struct timers *timers, uint64_t now_ns);
/* Fires at the first timers_run() at or after deadline_ns. Moves an armed timer. */
void timers_start(struct timers *timers, struct sluice_timer *timer, uint64_t deadline_ns);
void timers_stop(struct timers *timers, struct sluice_timer *timer);
/* When timers_run() is due, in nanoseconds; TIMERS_NEVER without timers. May be early, never late. */
uint64_t timers_next(const struct timers *timers);
/* Fires what is due, in order of ticks. A timer that keeps restarting itself fires at most once a tick. */
void timers_run(struct timers *timers, uint64_t now_ns);

static inline bool timer_is_armed(const struct sluice_timer *timer)
{
    return timer->link != NULL;
}

#endif
