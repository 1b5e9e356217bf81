/*
 * Timers in a hierarchical wheel: arming and cancelling are constant work and cannot fail.
 *
 * Time is cut into ticks of 2^14 ns (16 microseconds). A timer stands on the level of the highest group of six bits in
 * which its tick differs from the present one, in the slot of that group; when the present reaches a slot of a higher
 * level, its timers move down (Varghese and Lauck 1987, scheme 7).
 */
#ifndef ENGINE_TIMERS_H
#define ENGINE_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/engine.h>

enum {
    TIMERS_TICK_BITS = 14,
    TIMERS_SLOT_BITS = 6,
    TIMERS_SLOTS = 1 << TIMERS_SLOT_BITS,
    TIMERS_LEVELS = 9, /* 9 * 6 + 14 bits: more than 64, so every time fits */
};

#define TIMERS_NEVER UINT64_MAX

struct timers {
    uint64_t tick;                    /* the present */
    uint64_t occupied[TIMERS_LEVELS]; /* a bit for each slot that has timers */
    struct sluice_timer *slots[TIMERS_LEVELS][TIMERS_SLOTS];
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
