/*
 * What the programs that measure inside one process have in common. Each asks one question of one library: how fast
 * another thread's posts arrive (post_*), or what a timer costs (timers_*). The library's half is a few functions; the
 * question, its clock and its answer, one JSON object on a line, are here and the same for all.
 */
#ifndef PERF_INSIDE_H
#define PERF_INSIDE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* CLOCK_MONOTONIC, and the CPU time of the calling thread. */
uint64_t inside_now_ns(void);
uint64_t inside_cpu_ns(void);

/* Binds the calling thread to one of the CPUs that the process may use: number `index`, wrapping at the last. */
void inside_pin(unsigned index);
unsigned inside_cpu_count(void);
unsigned inside_cpu(unsigned index); /* as the kernel counts them */

/* Says what failed, with errno's text for `error` (positive or negative), and exits with status 1. */
void inside_die(const char *what, int error) __attribute__((noreturn));

/* The value below which `per_thousand` of the values lie. Sorts them. */
uint64_t inside_percentile(uint64_t *values, size_t count, unsigned per_thousand);

/* -- Posts ------------------------------------------------------------------------------------------------------ */

enum {
    INSIDE_POST_WINDOW = 1024, /* posts that are under way at most */
};

/* All belong to the loop's thread, except post. */
struct inside_post_library {
    void (*create)(void);
    void (*run)(void);           /* until stop */
    void (*stop)(void);          /* called from within the loop: run returns */
    void (*post)(unsigned slot); /* on the other thread: has the loop call inside_delivered(slot) */
};

/* The loop's answer to a post. Slots arrive in the order in which they were posted, each once; or the program stops. */
void inside_delivered(unsigned slot);

/* The loop is to look again and again rather than to sleep. Stands before `create` is called. */
extern bool inside_busy_polls;

/* With the option --busy-poll or without: asks, prints, and returns what main returns. */
int inside_post_main(int argc, char **argv, const struct inside_post_library *library);

/*
 * A list of slots behind a mutex, for the libraries whose own wake-up coalesces and says nothing of who asked for it.
 */
struct inside_queue {
    pthread_mutex_t mutex;
    unsigned count;
    unsigned slots[INSIDE_POST_WINDOW];
};

/* True if it was empty: then whoever takes from it has to be woken. */
bool inside_queue_push(struct inside_queue *queue, unsigned slot);

/* Takes everything that is there and delivers it. */
void inside_queue_deliver(struct inside_queue *queue);

/* -- Timers ----------------------------------------------------------------------------------------------------- */

enum {
    INSIDE_TIMERS = 1000000,
};

struct inside_timers_library {
    void (*create)(void); /* INSIDE_TIMERS timers, none of which runs; each calls inside_fired(its index) */
    void (*start)(size_t index, uint64_t delay_ns);
    void (*stop)(size_t index);
    void (*restart)(size_t index, uint64_t delay_ns); /* of one that runs */
    /* The loop looks once at what there is to do, without waiting. Called after every thousand operations. */
    void (*turn)(void);
    void (*run)(void);          /* until stop_running, or until no timer runs */
    void (*stop_running)(void); /* called from within the last timer; may be NULL */
};

void inside_fired(size_t index);

/* Asks, prints, and returns what main returns. */
int inside_timers_main(const struct inside_timers_library *library);

#ifdef __cplusplus
}
#endif

#endif
