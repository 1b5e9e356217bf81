/* The engine: creation, the turn, and the end. */
#include "engine/engine.h"

#include <assert.h>
#include <sched.h>
#include <stdlib.h>

#include "engine/config.h"
#include "engine/listener.h"
#include "engine/probes.h"
#include "engine/stream.h"
#include "engine/transport.h"
#include "engine/zero_copy.h"

/* The longest sleep over buffers that quiet sends have done with. */
#define QUIET_WAIT_NS UINT64_C(1000000)

/* -- Creation ------------------------------------------------------------------------------------------------ */

int engine_create_on(struct ring *ring, const struct sluice_engine_options *options, struct sluice_engine **result)
{
    struct sluice_engine *engine = calloc(1, sizeof *engine);
    int error = -ENOMEM;

    if (!engine)
        goto destroy_ring;
    engine->ring = ring;
    engine->options = *options;
    run_queue_init(&engine->tasks);
    operations_init(&engine->operations);
    pool_init(&engine->pool);
    link_init(&engine->streams);
    link_init(&engine->listeners);
    engine->now = ring->ops->now(ring);
    engine->active_at = engine->now;
    timers_init(&engine->timers, engine->now);
    engine->gathers = calloc(GATHERS, sizeof *engine->gathers);
    if (!engine->gathers)
        goto free_engine;
    engine->mailbox = mailbox_create(ring);
    if (!engine->mailbox)
        goto free_gathers;
    error =
        leases_init(&engine->leases, ring, &engine->tasks, options->receive_buffer_count, options->receive_buffer_size,
                    options->receive_buffer_window, options->huge_pages, transport_feed);
    if (error)
        goto drop_mailbox;
    *result = engine;
    return 0;

drop_mailbox:
    mailbox_drop(engine->mailbox);
free_gathers:
    free(engine->gathers);
free_engine:
    free(engine);
destroy_ring:
    ring->ops->destroy(ring);
    return error;
}

/* Pins the calling thread to CPU `cpu - 1`; 0: leaves it where it is. `before` gets where it could run. */
static int pin_thread(uint32_t cpu, cpu_set_t *before)
{
    cpu_set_t set;

    if (cpu == 0)
        return 0;
    CPU_ZERO(before); /* stays empty, and is refused later, where there are more CPUs than it can name */
    pthread_getaffinity_np(pthread_self(), sizeof *before, before);
    CPU_ZERO(&set);
    CPU_SET(cpu - 1, &set);
    return -pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void unpin_thread(uint32_t cpu, const cpu_set_t *before)
{
    if (cpu > 0)
        pthread_setaffinity_np(pthread_self(), sizeof *before, before);
}

int sluice_engine_create(const struct sluice_engine_options *given, struct sluice_engine **engine)
{
    struct sluice_engine_options options;
    char why[SLUICE_REASON_MAX];
    cpu_set_t before;
    struct ring *ring;
    int error = config_complete(given, &options, why, sizeof why);

    if (error)
        return error;
    error = ring_open_linux(
        &(struct ring_config){
            .entries = options.ring_entries,
            .completion_entries = options.completion_entries,
            .napi_ns = options.napi_ns,
            .disabled = options.disable,
            .wants_sqpoll = options.sqpoll,
            .sqpoll_cpu = (int)options.sqpoll_cpu - 1,
        },
        &ring);
    if (error)
        return error;
    /* Behind the ring, whose thread (SQPOLL) would inherit our CPU; before the rest, whose memory is to be near it. */
    error = pin_thread(options.thread_cpu, &before);
    if (error) {
        ring->ops->destroy(ring);
        return error;
    }
    error = engine_create_on(ring, &options, engine);
    if (error)
        unpin_thread(options.thread_cpu, &before);
    return error;
}

/* -- The ring ------------------------------------------------------------------------------------------------ */

/* The one place where the ring is entered. */
static inline void enter(struct sluice_engine *engine, uint64_t deadline)
{
    struct ring *ring = engine->ring;
    int error = ring->ops->enter(ring, 1, deadline);

    engine->unsubmitted = 0;
    engine->gathers_used = 0;
    /* What the completions of a sleep tell happened now, not when the turn began. */
    engine->has_slept = deadline > 0;
    if (engine->has_slept)
        engine->now = ring->ops->now(ring);
    if (error && !engine->error)
        engine->error = error;
    atomic_store_explicit(&engine->counters.enters, ring->enters, memory_order_relaxed);
    atomic_store_explicit(&engine->counters.overflows, ring->overflows, memory_order_relaxed);
}

/* Before its time, to make room. Rare, so kept out of the way of those who find some. */
__attribute__((cold)) static void enter_early(struct sluice_engine *engine)
{
    probe_submit(engine->unsubmitted);
    enter(engine, 0);
}

struct io_uring_sqe *engine_get_entry(struct sluice_engine *engine)
{
    struct ring *ring = engine->ring;
    struct io_uring_sqe *entry = ring->ops->get_entry(ring);

    /* Full: submitting empties it. Completions that this brings are dispatched in their own time. */
    while (!entry) {
        enter_early(engine);
        entry = ring->ops->get_entry(ring);
        /* A broken ring takes nothing more: what is armed now ends in operations_cancel_all(). */
        if (engine->error && !entry)
            return memset(&engine->nowhere, 0, sizeof engine->nowhere);
    }
    engine->unsubmitted++;
    counter_add(&engine->counters.submissions, 1);
    return entry;
}

struct gather *engine_get_gather(struct sluice_engine *engine, struct io_uring_sqe **entry)
{
    if (engine->gathers_used == GATHERS)
        enter_early(engine);
    /* Entering frees every gather, and this may enter: only from here on one is ours. */
    *entry = engine_get_entry(engine);
    return &engine->gathers[engine->gathers_used++];
}

static void submit_cancel(struct sluice_engine *engine, const struct operation *operation)
{
    struct io_uring_sqe *entry = engine_get_entry(engine);
    uint64_t identity = operation_identity(operation);

    ring_prep_cancel(entry, identity);
    entry->user_data = identity | RING_CANCEL;
}

void engine_cancel(struct sluice_engine *engine, struct operation *operation)
{
    assert(operation->is_armed);
    if (operation->is_cancelling)
        return;
    operation->is_cancelling = true;
    /* A quiet send is over with the next enter, whichever way it goes. */
    if (operation->is_quiet)
        quiet_await(&engine->quiet);
    else
        submit_cancel(engine, operation);
}

/*
 * A cancel does not find a request that the kernel is about to run again: a multishot receive that has had its share,
 * or that was armed with bytes waiting. If the request is still armed by then, ask once more.
 */
static void take_cancel(struct sluice_engine *engine, const struct io_uring_cqe *completion)
{
    const struct operation *target = operations_find(&engine->operations, completion->user_data & ~RING_CANCEL);

    if (target && target->is_cancelling && completion->res == -ENOENT)
        submit_cancel(engine, target);
}

/* -- The turn ------------------------------------------------------------------------------------------------ */

static void run_tasks(struct sluice_engine *engine)
{
    for (int pass = 0; pass < TURN_PASSES && !run_queue_is_empty(&engine->tasks); pass++)
        run_queue_run(&engine->tasks);
}

/* Nothing lives on the engine any more. */
static bool has_ended(const struct sluice_engine *engine)
{
    return link_is_alone(&engine->streams) && link_is_alone(&engine->listeners);
}

/* How long the ring may wait: not at all if there is something to do, or nothing left to wait for. */
static uint64_t next_deadline(struct sluice_engine *engine, bool may_wait)
{
    bool may_sleep = mailbox_may_sleep(engine->mailbox);
    uint64_t soon = engine->now + QUIET_WAIT_NS;
    uint64_t deadline;

    if (!may_wait || !may_sleep || !run_queue_is_empty(&engine->tasks) || atomic_load(&engine->is_stopping))
        return 0;
    if (engine->is_destroying && has_ended(engine))
        return 0;
    if (engine->quiet.are_awaited)
        return 0;
    deadline = timers_next(&engine->timers);
    return engine->quiet.hold_leases && deadline > soon ? soon : deadline;
}

/*
 * Busy polling is turns that do not sleep while what they wait for may come any moment: if the last wait was shorter
 * than the budget, which is the best guess of the next, and until this one is as long. Meanwhile no post need wake us.
 */
static bool is_busy_polling(const struct sluice_engine *engine)
{
    return !engine->is_idle && engine->now - engine->active_at < engine->options.busy_poll_ns;
}

static void learn(struct sluice_engine *engine)
{
    engine->is_idle = engine->now - engine->active_at > engine->options.busy_poll_ns;
    engine->active_at = engine->now;
}

static void dispatch_one(struct sluice_engine *engine, const struct io_uring_cqe *completion)
{
    probe_completion(completion->user_data, completion->res);
    if (completion->user_data == RING_WAKE)
        engine->ring->ops->woken(engine->ring, completion);
    else if (completion->user_data & RING_CANCEL)
        take_cancel(engine, completion);
    else if (!operations_dispatch(&engine->operations, completion))
        counter_add(&engine->counters.stale_completions, 1);
}

/* Hands completions to their operations, which record and schedule. No user is called from here. Returns how many. */
static uint32_t dispatch(struct sluice_engine *engine)
{
    struct ring *ring = engine->ring;
    struct io_uring_cqe *completions[COMPLETION_BATCH];
    uint32_t total = 0;
    uint32_t count;

    do {
        count = ring->ops->peek(ring, completions, COMPLETION_BATCH);
        for (uint32_t i = 0; i < count; i++)
            dispatch_one(engine, completions[i]);
        ring->ops->seen(ring, count);
        total += count;
    } while (count == COMPLETION_BATCH && total < TURN_COMPLETIONS);
    counter_add(&engine->counters.completions, total);
    if (count < COMPLETION_BATCH && !ring->ops->holds_back(ring) && !engine->error)
        quiet_settle(&engine->quiet, &engine->operations);
    probe_turn(total);
    return total;
}

/* One turn of the engine; see DESIGN: posts, tasks, timers, the ring, completions. */
static int take_turn(struct sluice_engine *engine, bool may_wait)
{
    bool has_come;
    bool stays_awake;

    assert(engine_is_mine(engine));
    assert(!engine->is_in_turn);
    engine->is_in_turn = true;
    if (!engine->has_slept)
        engine->now = engine->ring->ops->now(engine->ring);
    mailbox_stay_awake(engine->mailbox);
    has_come = mailbox_run(engine->mailbox);
    /*
     * Posts that came meanwhile keep us awake: whoever adds to them need not make a system call for it. A loop that is
     * not ours may sleep all the same, so there every post wakes.
     */
    stays_awake = may_wait && (is_busy_polling(engine) || !mailbox_is_empty(engine->mailbox));
    run_tasks(engine);
    timers_run(&engine->timers, engine->now);
    probe_submit(engine->unsubmitted);
    enter(engine, stays_awake ? 0 : next_deadline(engine, may_wait));
    has_come |= dispatch(engine) > 0;
    if (has_come && engine->options.busy_poll_ns > 0)
        learn(engine);
    counter_add(&engine->counters.turns, 1);
    atomic_store_explicit(&engine->counters.receive_buffers_lent,
                          engine->leases.buffers.count - engine->leases.buffers.available, memory_order_relaxed);
    engine->is_in_turn = false;
    return engine->error;
}

int sluice_engine_turn(struct sluice_engine *engine)
{
    engine->has_slept = false;
    return take_turn(engine, false);
}

int sluice_engine_run(struct sluice_engine *engine)
{
    int error;

    engine->has_slept = false;
    do
        error = take_turn(engine, true);
    while (!error && !atomic_load(&engine->is_stopping));
    atomic_store(&engine->is_stopping, false);
    return error;
}

void sluice_engine_stop(struct sluice_engine *engine)
{
    atomic_store(&engine->is_stopping, true);
    mailbox_wake(engine->mailbox);
}

int sluice_engine_fd(struct sluice_engine *engine)
{
    assert(engine_is_mine(engine));
    return engine->ring->ops->watch(engine->ring);
}

/* The last turn has left some for the next. */
static bool has_completions(const struct sluice_engine *engine)
{
    struct ring *ring = engine->ring;
    struct io_uring_cqe *completion;

    return ring->ops->peek(ring, &completion, 1) > 0 || ring->ops->holds_back(ring);
}

uint64_t sluice_engine_wait_ns(const struct sluice_engine *engine)
{
    uint64_t next = timers_next(&engine->timers);
    uint64_t now = engine->ring->ops->now(engine->ring);

    if (!run_queue_is_empty(&engine->tasks) || !mailbox_is_empty(engine->mailbox) || engine->unsubmitted > 0 ||
        has_completions(engine) || next <= now)
        return 0;
    return next == TIMERS_NEVER ? UINT64_MAX : next - now;
}

/* -- Posts and timers ---------------------------------------------------------------------------------------- */

void sluice_engine_post(struct sluice_engine *engine, struct sluice_post *post)
{
    mailbox_post(engine->mailbox, post);
}

void sluice_timer_start(struct sluice_engine *engine, struct sluice_timer *timer, uint64_t delay_ns)
{
    assert(engine_is_mine(engine));
    engine_look_at_clock(engine);
    timers_start(&engine->timers, timer, delay_ns < UINT64_MAX - engine->now ? engine->now + delay_ns : UINT64_MAX);
}

void sluice_timer_stop(struct sluice_engine *engine, struct sluice_timer *timer)
{
    assert(engine_is_mine(engine));
    timers_stop(&engine->timers, timer);
}

uint64_t sluice_engine_now(const struct sluice_engine *engine)
{
    return engine->now;
}

/* -- The end ------------------------------------------------------------------------------------------------- */

static void end_all(struct sluice_engine *engine)
{
    for (struct link *link = engine->listeners.next; link != &engine->listeners; link = link->next)
        sluice_listener_close(container_of(link, struct sluice_listener, link));
    for (struct link *link = engine->streams.next; link != &engine->streams; link = link->next)
        sluice_stream_abort(container_of(link, struct sluice_stream, link), -ECANCELED);
}

static void end_in_turns(struct sluice_engine *engine)
{
    while (!has_ended(engine) && !engine->error)
        take_turn(engine, true);
}

/* The ring is broken: nothing more comes from the kernel, so what is in its hands ends here. */
static void end_without_ring(struct sluice_engine *engine)
{
    while (!has_ended(engine)) {
        operations_cancel_all(&engine->operations);
        run_tasks(engine);
    }
}

void sluice_engine_destroy(struct sluice_engine *engine)
{
    struct ring *ring;

    if (!engine)
        return;
    assert(!engine->is_in_turn);
    ring = engine->ring;
    engine->is_destroying = true;
    end_all(engine);
    end_in_turns(engine);
    /* Among the last posts may be one that brings a stream: the end of a pair. It is told its end as well. */
    mailbox_stay_awake(engine->mailbox);
    mailbox_close(engine->mailbox);
    end_all(engine);
    end_in_turns(engine);
    if (engine->error)
        end_without_ring(engine);
    zero_copy_finish(engine);
    leases_finish(&engine->leases, ring);
    ring->ops->destroy(ring);
    mailbox_drop(engine->mailbox);
    operations_finish(&engine->operations);
    pool_finish(&engine->pool);
    free(engine->gathers);
    free(engine);
}
