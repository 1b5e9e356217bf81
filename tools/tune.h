/*
 * The inside of `sluice tune`: what its files share. tune_variants.c knows what is worth trying, tune_trials.c tries
 * it, tune_report.c and tune_plot.c tell.
 *
 * Gains are natural logarithms of how many times better something is than the default: gains of both directions, and
 * those of rates and of times, are then alike.
 */
#ifndef TOOLS_TUNE_H
#define TOOLS_TUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <sluice/options.h>

#include "tools/load.h"
#include "tools/series.h"

enum tune_goal {
    TUNE_THROUGHPUT, /* more messages a second */
    TUNE_LATENCY,    /* the median round trip */
    TUNE_TAIL,       /* the 99th percentile of round trips */
    TUNE_CPU,        /* CPU time of the server for a message */
};

/* Room for the value of any setting, its NUL included. */
#define TUNE_VALUE_MAX sizeof(((struct sluice_setting *)NULL)->value)

/* Settings that are compared with the default. */
struct tune_variant {
    const char *variable;            /* "SLUICE_BUSY_POLL"; NULL if it is more than one setting */
    char value[TUNE_VALUE_MAX];      /* "50us" */
    uint32_t feature;                /* of SLUICE_DISABLE: the one that is switched off */
    char skipped[SLUICE_REASON_MAX]; /* why it is not measured, or no longer; empty if it is */
    struct sluice_engine_options options;
    struct series gains;
    struct series measured; /* in the goal's unit */
};

#define TUNE_VARIANTS_MAX 112

struct tune {
    /* What was asked for. */
    struct load_options load_options;
    uint64_t rounds;
    size_t goal; /* enum tune_goal */
    bool is_unix;
    bool wants_json;
    char *const *command;  /* the server, ended by NULL; NULL: one of our own */
    const char *plot_name; /* NULL: none */
    FILE *plot;

    /* What is compared. */
    struct sluice_engine_options base; /* "the default": what the environment says, defaults for the rest */
    struct sluice_engine_options load_engine;
    uint32_t features; /* enum sluice_feature bits that are in use with these */
    struct tune_variant variants[TUNE_VARIANTS_MAX];
    size_t variant_count;

    /* What came out. */
    struct series measured;       /* of the default, in the goal's unit */
    struct series noise;          /* gains of the default over itself */
    struct series load_share;     /* of a CPU, that the load took */
    double last_scores[2];        /* of the default, the latest last */
    struct tune_variant together; /* all that won */
    struct tune_variant *best;    /* the best of those alone; NULL: nothing won */
    struct tune_variant alone;    /* that one, measured again next to `together`, if more than one won */
    uint64_t trials_done;
    bool is_interrupted; /* by a signal or by a failure */
};

/* -- tune_variants.c ----------------------------------------------------------------------------------------- */

/* Reads the settings to start from, and takes them out of the environment. Returns an exit status. */
int tune_read_settings(struct tune *tune);

/* Lists what is worth trying. Returns 0, or -errno with one line in `why`. */
int tune_list_variants(struct tune *tune, char *why, size_t why_size);

/* True exactly when it won: its gain is larger than the noise, and worth a line. */
bool tune_has_won(const struct tune *tune, const struct tune_variant *variant);

/* Sets `best`, `together` and `alone` from what won. */
void tune_combine(struct tune *tune);

/* Describes a setting by its name. It must exist. */
void tune_describe(const char *variable, const struct sluice_engine_options *options, struct sluice_setting *setting);

/* -- tune_trials.c ------------------------------------------------------------------------------------------- */

/*
 * Compares everything with the default, then what won once more. Returns 0, also if a signal ended it early, or -errno
 * with one line in `why`.
 */
int tune_run(struct tune *tune, char *why, size_t why_size);

struct series_estimate tune_estimate(const struct tune *tune, const struct tune_variant *variant);

/* -- tune_report.c ------------------------------------------------------------------------------------------- */

enum tune_outcome {
    TUNE_NOTHING,     /* nothing won */
    TUNE_UNCONFIRMED, /* something won, and was interrupted before it was measured again */
    TUNE_REFUTED,     /* measured again it is within the noise */
    TUNE_TOGETHER,    /* it holds, all of it together */
    TUNE_ALONE,       /* the best one alone is better than all together */
};

enum tune_outcome tune_outcome(const struct tune *tune);

/* In one sentence. */
const char *tune_describe_outcome(const struct tune *tune);

/* The settings to recommend: those of `together` or `alone`. NULL: none. */
const struct tune_variant *tune_winner(const struct tune *tune);

/* Prints an environment file, in which all but the settings that won is comment; or one JSON object. */
void tune_print(const struct tune *tune);

/* "12.3 us", "31204 messages/s": a measurement in the goal's unit. Returns `text`. */
const char *tune_show(const struct tune *tune, double value, char *text, size_t text_size);

/* "+12.3 %": a gain. Returns `text`. */
const char *tune_show_gain(double gain, char *text, size_t text_size);

/* "Echo of 64-byte messages, …" and "Sluice 0.1.0, Linux …". Each returns `text`. */
const char *tune_describe_workload(const struct tune *tune, char *text, size_t text_size);
const char *tune_describe_machine(char *text, size_t text_size);

/* What the goal is, in words: "throughput: more messages a second is better". */
const char *tune_describe_goal(const struct tune *tune);

/* The words of --for, NULL behind the last. */
extern const char *const tune_goals[];

/* -- tune_plot.c --------------------------------------------------------------------------------------------- */

/* True exactly when a plot can have that name: it ends in .svg or .html. */
bool tune_plot_allows(const char *name);

/* Writes the plot. Returns 0, or -errno. */
int tune_plot_write(const struct tune *tune);

#endif
