/*
 * How fast posts of one thread arrive in the loop of another, and how long one takes that has to wake the loop first.
 *
 * The rate is that of one posting thread with a window of posts under way. Latency is from before the call until the
 * posting thread sees a flag that the loop's thread has set; with --busy-poll that loop is awake. It does not measure
 * many posting threads.
 */
#include "perf/inside/inside.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    WARMUP_NS = 100 * 1000 * 1000,
    RATE_NS = 1000 * 1000 * 1000,
    PINGS = 4000,
    PING_PAUSE_NS = 100 * 1000, /* in which the loop falls asleep */
    SPINS = 2000,               /* before a thread that waits lets others run */
};

bool inside_busy_polls;

static const struct inside_post_library *asked;
static bool is_stopping; /* the loop's: written before it runs, and in it */
static atomic_bool should_stop;

/* Deliveries: counted by the loop's thread, read by the posting one. Apart, so that they share no cache line. */
static _Alignas(128) atomic_uint_fast64_t delivered;
static _Alignas(128) uint64_t posted;

void inside_delivered(unsigned slot)
{
    uint64_t count = atomic_load_explicit(&delivered, memory_order_relaxed);

    if (slot != count % INSIDE_POST_WINDOW)
        inside_die("posts arrive in disorder", EPROTO);
    if (atomic_load_explicit(&should_stop, memory_order_relaxed) && !is_stopping) {
        is_stopping = true;
        asked->stop();
    }
    /* Release: from now on the slot, and what the loop wrote to it, is the posting thread's. */
    atomic_store_explicit(&delivered, count + 1, memory_order_release);
}

/* Until no more than `allowed` posts are under way. */
static void await_deliveries(uint64_t allowed)
{
    for (unsigned spins = 0; posted - atomic_load_explicit(&delivered, memory_order_acquire) > allowed; spins++)
        if (spins >= SPINS)
            sched_yield();
}

static void post(void)
{
    asked->post((unsigned)(posted++ % INSIDE_POST_WINDOW));
}

static void post_for(uint64_t duration_ns)
{
    uint64_t end = inside_now_ns() + duration_ns;

    while (inside_now_ns() < end)
        for (unsigned i = 0; i < 64; i++) {
            await_deliveries(INSIDE_POST_WINDOW - 1);
            post();
        }
    await_deliveries(0);
}

static double measure_rate(void)
{
    uint64_t start;
    uint64_t first;

    post_for(WARMUP_NS);
    first = posted;
    start = inside_now_ns();
    post_for(RATE_NS);
    return (double)(posted - first) * 1e9 / (double)(inside_now_ns() - start);
}

static void measure_latencies(uint64_t *latencies)
{
    struct timespec pause = {.tv_nsec = PING_PAUSE_NS};

    for (size_t i = 0; i < PINGS; i++) {
        uint64_t start;

        nanosleep(&pause, NULL);
        start = inside_now_ns();
        post();
        await_deliveries(0);
        latencies[i] = inside_now_ns() - start;
    }
}

static void *ask(void *user)
{
    static uint64_t latencies[PINGS];
    double rate;

    (void)user;
    inside_pin(1);
    rate = measure_rate();
    measure_latencies(latencies);
    printf("{\"post_rate\":%.0f,\"post_p50_ns\":%llu,\"post_p99_ns\":%llu}\n", rate,
           (unsigned long long)inside_percentile(latencies, PINGS, 500),
           (unsigned long long)inside_percentile(latencies, PINGS, 990));
    atomic_store(&should_stop, true);
    post();
    return NULL;
}

int inside_post_main(int argc, char **argv, const struct inside_post_library *library)
{
    pthread_t thread;
    int error;

    inside_busy_polls = argc == 2 && strcmp(argv[1], "--busy-poll") == 0;
    if (argc > 1 && !inside_busy_polls) {
        fprintf(stderr, "%s: \"%s\": allowed is --busy-poll, or nothing\n", program_invocation_short_name, argv[1]);
        return 2;
    }
    asked = library;
    inside_pin(0);
    asked->create();
    error = pthread_create(&thread, NULL, ask, NULL);
    if (error)
        inside_die("pthread_create", error);
    asked->run();
    pthread_join(thread, NULL);
    return 0;
}

/* -- The queue -------------------------------------------------------------------------------------------------- */

bool inside_queue_push(struct inside_queue *queue, unsigned slot)
{
    bool was_empty;

    pthread_mutex_lock(&queue->mutex);
    was_empty = queue->count == 0;
    queue->slots[queue->count++] = slot; /* the window is no longer than the queue */
    pthread_mutex_unlock(&queue->mutex);
    return was_empty;
}

void inside_queue_deliver(struct inside_queue *queue)
{
    static unsigned taken[INSIDE_POST_WINDOW];
    unsigned count;

    pthread_mutex_lock(&queue->mutex);
    count = queue->count;
    for (unsigned i = 0; i < count; i++)
        taken[i] = queue->slots[i];
    queue->count = 0;
    pthread_mutex_unlock(&queue->mutex);
    for (unsigned i = 0; i < count; i++)
        inside_delivered(taken[i]);
}
