/* The trials of `sluice tune`: each has a server and a load of its own, and its place between two others. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sluice/engine.h>

#include "tools/child.h"
#include "tools/interrupt.h"
#include "tools/loopback.h"
#include "tools/progress.h"
#include "tools/tune.h"
#include "tools/units.h"
#include "tools/verb.h"

/* What setting up and taking down a trial takes, roughly; for telling how long it will all take. */
#define TRIAL_OVERHEAD_NS (20 * UNITS_NS_PER_MS)

/* What won is measured so many times the rounds: it is little, and it is what counts. */
#define ROUNDS_AGAIN 3
/* How often a trial is tried that had too few messages. */
#define TRIES_MAX 3
/* How long a kernel thread of the trial before may take to go, and how often we look. */
#define SETTLING_MAX_NS  UNITS_NS_PER_S
#define SETTLING_STEP_NS (2 * UNITS_NS_PER_MS)

/*
 * The process's clock also counts the kernel's threads that work for our rings, as those of SLUICE_SQPOLL; the load's
 * thread is taken off.
 */
static const clockid_t process_clock = CLOCK_PROCESS_CPUTIME_ID;

/* -- One trial ----------------------------------------------------------------------------------------------- */

/* Of the CPU time counted as the server's: the load's, unless the server is a process of its own. */
static uint64_t our_share(const struct tune *tune, const struct load_result *result)
{
    return tune->command == NULL ? result->cpu_ns : 0;
}

/* The value that the goal is about. Returns 0, or -ENODATA if there were too few messages for it. */
static int read_goal(const struct tune *tune, const struct load_result *result, double *value)
{
    uint32_t share = tune->goal == TUNE_TAIL ? 9900 : 5000;
    uint64_t latency_ns = 0;

    if (result->messages == 0 || result->measured_ns == 0)
        return -ENODATA;
    if (tune->goal == TUNE_THROUGHPUT)
        *value = (double)result->messages * (double)UNITS_NS_PER_S / (double)result->measured_ns;
    else if (tune->goal == TUNE_CPU)
        *value = (double)(result->peer_cpu_ns - our_share(tune, result)) / (double)result->messages;
    else if (!histogram_percentile(&result->latency, share, &latency_ns))
        return -ENODATA;
    else
        *value = (double)latency_ns;
    return *value > 0 ? 0 : -ENODATA;
}

static int judge(const struct tune *tune, const struct load_result *result, double *value, char *why, size_t why_size)
{
    if (result->failure[0] != '\0') {
        snprintf(why, why_size, "%s", result->failure);
        return -EIO;
    }
    if (result->unanswered > 0) {
        snprintf(why, why_size, "%" PRIu64 " messages got no answer", result->unanswered);
        return -EIO;
    }
    if (read_goal(tune, result, value) < 0) {
        snprintf(why, why_size, "too few messages in that time; give it longer (--duration)");
        return -ENODATA;
    }
    return 0;
}

/* Loads the server from an engine on this thread. */
static int measure_server(struct tune *tune, const char *address, const clockid_t *clock,
                          const struct sluice_engine_options *load_engine, double *value, char *why, size_t why_size)
{
    struct load_options load_options = tune->load_options;
    struct sluice_engine *engine;
    struct load *load = NULL;
    int error = sluice_engine_create(load_engine, &engine);

    if (error < 0) {
        sluice_engine_explain(error, why, why_size);
        return error;
    }
    load_options.address = address;
    load_options.peer_clock = clock;
    interrupt_turns_to(engine);
    error = load_create(engine, &load_options, &load);
    if (error == 0)
        error = load_run(load);
    interrupt_turns_to(NULL);
    if (error < 0)
        snprintf(why, why_size, "the load: %s", verb_error_text(error));
    else if (interrupt_came())
        error = -EINTR;
    else
        error = judge(tune, load_result(load), value, why, why_size);
    if (error == 0)
        error =
            series_add(&tune->load_share, (double)load_result(load)->cpu_ns / (double)load_result(load)->measured_ns);
    sluice_engine_destroy(engine);
    load_destroy(load);
    return error;
}

/* True exactly when this process has no thread but this one; also if that cannot be known. */
static bool is_alone(void)
{
    struct stat threads;

    return stat("/proc/self/task", &threads) < 0 || threads.st_nlink <= 3; /* itself, its parent, and one a thread */
}

/* The kernel's thread of SLUICE_SQPOLL outlives its ring for a while: it would be part of the next trial. */
static void settle(void)
{
    const struct timespec step = {.tv_nsec = (long)SETTLING_STEP_NS};

    for (uint64_t waited_ns = 0; waited_ns < SETTLING_MAX_NS && !is_alone(); waited_ns += SETTLING_STEP_NS)
        nanosleep(&step, NULL);
}

static int try_loopback(struct tune *tune, const struct sluice_engine_options *server,
                        const struct sluice_engine_options *load_engine, double *value, char *why, size_t why_size)
{
    struct loopback loopback;
    int error = loopback_start(&loopback, server, tune->is_unix, why, why_size);

    if (error < 0)
        return error;
    error = measure_server(tune, loopback.address, &process_clock, load_engine, value, why, why_size);
    loopback_stop(&loopback);
    settle();
    return error;
}

static int try_command(struct tune *tune, const struct sluice_engine_options *server,
                       const struct sluice_engine_options *load_engine, double *value, char *why, size_t why_size)
{
    struct child child;
    int error = child_start(&child, tune->command, server, why, why_size);

    if (error < 0)
        return interrupt_came() ? -EINTR : error;
    error = measure_server(tune, child.address, &child.clock, load_engine, value, why, why_size);
    child_stop(&child);
    return error;
}

static int try_once(struct tune *tune, const struct sluice_engine_options *options, double *value, char *why,
                    size_t why_size)
{
    struct sluice_engine_options server = *options;
    struct sluice_engine_options load_engine = tune->load_engine;

    if (interrupt_came())
        return -EINTR;
    loopback_place(&server, &load_engine);
    if (tune->command != NULL)
        return try_command(tune, &server, &load_engine, value, why, why_size);
    return try_loopback(tune, &server, &load_engine, value, why, why_size);
}

/*
 * A machine that stands still for the length of a short trial is no fault of the settings: then it is tried again.
 * Returns 0, -EINTR if a signal has come, or -errno with one line in `why`; leaves `why` alone if it does not fail.
 */
static int try(struct tune *tune, const struct sluice_engine_options *options, double *value, char *why,
               size_t why_size)
{
    char reason[SLUICE_REASON_MAX] = "out of memory";
    int error = -ENODATA;

    for (int left = TRIES_MAX; left > 0 && error == -ENODATA; left--)
        error = try_once(tune, options, value, reason, sizeof reason);
    tune->trials_done++;
    if (error < 0 && error != -EINTR)
        snprintf(why, why_size, "%s", reason);
    return error;
}

/* -- The default and the others ------------------------------------------------------------------------------ */

/* What a gain is the difference of. */
static double score(const struct tune *tune, double value)
{
    return tune->goal == TUNE_THROUGHPUT ? log(value) : -log(value);
}

/* Each trial of the default is also held against the one before and the one after it: so far noise carries. */
static int try_default(struct tune *tune, char *why, size_t why_size)
{
    double value;
    double latest;
    int error = try(tune, &tune->base, &value, why, why_size);

    if (error < 0)
        return error;
    latest = score(tune, value);
    if (tune->measured.count >= 2)
        error = series_add(&tune->noise, tune->last_scores[1] - (tune->last_scores[0] + latest) / 2);
    if (error == 0)
        error = series_add(&tune->measured, value);
    tune->last_scores[0] = tune->last_scores[1];
    tune->last_scores[1] = latest;
    return error;
}

/* Between two trials of the default, the first of which has been. One that fails is tried no more. */
static int try_variant(struct tune *tune, struct tune_variant *variant, char *why, size_t why_size)
{
    double value;
    int error;

    if (variant->skipped[0] != '\0')
        return 0;
    error = try(tune, &variant->options, &value, variant->skipped, sizeof variant->skipped);
    if (error == -EINTR)
        return error;
    if (error < 0)
        return 0;
    error = try_default(tune, why, why_size);
    if (error == 0)
        error = series_add(&variant->measured, value);
    if (error == 0)
        error = series_add(&variant->gains, score(tune, value) - (tune->last_scores[0] + tune->last_scores[1]) / 2);
    return error;
}

struct series_estimate tune_estimate(const struct tune *tune, const struct tune_variant *variant)
{
    return series_estimate(&variant->gains, &tune->noise);
}

/* -- From start to end --------------------------------------------------------------------------------------- */

static uint64_t count_trials(const struct tune *tune)
{
    uint64_t variants = 0;

    for (size_t i = 0; i < tune->variant_count; i++)
        variants += tune->variants[i].skipped[0] == '\0';
    return 1 + 2 * tune->rounds * (variants + 2 * ROUNDS_AGAIN); /* those that won, together and the best alone */
}

/* On terminals only, and wiped at the end. */
static void show_progress(const struct tune *tune, const struct tune_variant *variant)
{
    uint64_t total = count_trials(tune);
    uint64_t trial_ns = tune->load_options.warmup_ns + tune->load_options.duration_ns + TRIAL_OVERHEAD_NS;
    uint64_t left = total > tune->trials_done ? total - tune->trials_done : 0;
    const char *value = variant->feature != 0 ? sluice_feature_name(variant->feature) : variant->value;
    char bar[PROGRESS_LINE_MAX];

    if (!isatty(STDERR_FILENO))
        return;
    progress_bar(tune->trials_done, total, bar, sizeof bar);
    fprintf(stderr, "\r%s  %" PRIu64 " s left  ", bar, left * trial_ns / UNITS_NS_PER_S);
    if (variant->variable == NULL)
        fprintf(stderr, "what won, once more\033[K");
    else
        fprintf(stderr, "%s=%s\033[K", variant->variable + sizeof "SLUICE_" - 1, value);
}

/* Numbers that look random and are the same in each run (Knuth's 64-bit linear congruence); below `limit`. */
static size_t next_random(uint64_t *state, size_t limit)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)((*state >> 33) % limit);
}

/* In each round another order: what one value leaves behind must not always meet the same other one. */
static void shuffle(size_t *order, size_t count, uint64_t *state)
{
    for (size_t left = count; left > 1; left--) {
        size_t chosen = next_random(state, left);
        size_t last = order[left - 1];

        order[left - 1] = order[chosen];
        order[chosen] = last;
    }
}

static int try_all(struct tune *tune, char *why, size_t why_size)
{
    size_t order[TUNE_VARIANTS_MAX] = {0};
    uint64_t random_state = 0;
    int error = try_default(tune, why, why_size);

    for (size_t i = 0; i < tune->variant_count; i++)
        order[i] = i;
    for (uint64_t round = 0; round < tune->rounds && error == 0; round++) {
        shuffle(order, tune->variant_count, &random_state);
        for (size_t i = 0; i < tune->variant_count && error == 0; i++) {
            show_progress(tune, &tune->variants[order[i]]);
            error = try_variant(tune, &tune->variants[order[i]], why, why_size);
        }
    }
    return error;
}

/* Of many, those look best that were also lucky: what won is measured once more. */
static int confirm(struct tune *tune, char *why, size_t why_size)
{
    int error = 0;

    for (uint64_t round = 0; round < ROUNDS_AGAIN * tune->rounds && error == 0; round++) {
        show_progress(tune, &tune->together);
        error = try_variant(tune, &tune->together, why, why_size);
        if (error == 0)
            error = try_variant(tune, &tune->alone, why, why_size);
    }
    return error;
}

int tune_run(struct tune *tune, char *why, size_t why_size)
{
    int error;

    interrupt_stops(NULL);
    error = try_all(tune, why, why_size);
    tune_combine(tune);
    if (error == 0 && tune->best != NULL)
        error = confirm(tune, why, why_size);
    interrupt_release();
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    if (error == -ENOMEM)
        snprintf(why, why_size, "%s", verb_error_text(error));
    tune->is_interrupted = error < 0;
    return error == -EINTR ? 0 : error;
}
