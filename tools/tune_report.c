/* What `sluice tune` found: an environment file with the rest as comments, or JSON with the same contents. */
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <sluice/engine.h>

#include "tools/json.h"
#include "tools/tune.h"
#include "tools/units.h"

#define GAIN_WIDTH    10
#define VALUE_WIDTH   20
#define COLUMNS_WIDTH (3 * GAIN_WIDTH + VALUE_WIDTH)
#define LINE_MAX      320
/* A load this busy may be what limits the throughput. */
#define BUSY_SHARE 0.95

const char *const tune_goals[] = {"throughput", "latency", "tail", "cpu", NULL};

/* -- In words ------------------------------------------------------------------------------------------------ */

const char *tune_describe_goal(const struct tune *tune)
{
    static const char *const goals[] = {
        [TUNE_THROUGHPUT] = "throughput: more messages a second are better",
        [TUNE_LATENCY] = "latency: a shorter median round trip is better",
        [TUNE_TAIL] = "tail: a shorter 99th percentile of round trips is better",
        [TUNE_CPU] = "cpu: less CPU time of the server for a message is better",
    };

    return goals[tune->goal];
}

static const char *transport(const struct tune *tune)
{
    if (tune->command != NULL)
        return "by a command";
    return tune->is_unix ? "over a Unix socket" : "over TCP on loopback";
}

const char *tune_describe_workload(const struct tune *tune, char *text, size_t text_size)
{
    const struct load_options *load = &tune->load_options;
    char size[UNITS_TEXT_MAX];

    units_write_size(load->message_size, size, sizeof size);
    snprintf(text, text_size, "echo of %s-byte messages, %" PRIu64 " connection%s with %" PRIu64 " outstanding, %s",
             size, load->connections, load->connections == 1 ? "" : "s", load->depth, transport(tune));
    return text;
}

const char *tune_describe_machine(char *text, size_t text_size)
{
    struct utsname system;

    uname(&system);
    snprintf(text, text_size, "Sluice %s, %s %s %s, %ld CPUs", sluice_version(), system.sysname, system.release,
             system.machine, sysconf(_SC_NPROCESSORS_ONLN));
    return text;
}

const char *tune_show(const struct tune *tune, double value, char *text, size_t text_size)
{
    if (tune->goal == TUNE_THROUGHPUT)
        snprintf(text, text_size, "%.0f messages/s", value);
    else
        units_show_duration(value, text, text_size);
    return text;
}

static double percent(double gain)
{
    return expm1(gain) * 100;
}

const char *tune_show_gain(double gain, char *text, size_t text_size)
{
    snprintf(text, text_size, "%+.1f %%", percent(gain));
    return text;
}

/* -- The outcome --------------------------------------------------------------------------------------------- */

static double gain_again(const struct tune *tune, const struct tune_variant *variant)
{
    return tune_has_won(tune, variant) ? tune_estimate(tune, variant).gain : 0;
}

enum tune_outcome tune_outcome(const struct tune *tune)
{
    double together = gain_again(tune, &tune->together);
    double alone = gain_again(tune, &tune->alone);

    if (tune->best == NULL)
        return TUNE_NOTHING;
    if (tune->is_interrupted)
        return TUNE_UNCONFIRMED;
    if (together <= 0 && alone <= 0)
        return TUNE_REFUTED;
    return together >= alone ? TUNE_TOGETHER : TUNE_ALONE;
}

const char *tune_describe_outcome(const struct tune *tune)
{
    static const char *const outcomes[] = {
        [TUNE_NOTHING] = "Nothing won: no setting is better than the default by more than the noise.",
        [TUNE_UNCONFIRMED] = "What won was not measured again.",
        [TUNE_REFUTED] = "What won did not hold when it was measured again: keep the default.",
        [TUNE_TOGETHER] = "What won holds, measured again together.",
        [TUNE_ALONE] = "What won best is better alone than together with the rest.",
    };

    return outcomes[tune_outcome(tune)];
}

const struct tune_variant *tune_winner(const struct tune *tune)
{
    switch (tune_outcome(tune)) {
    case TUNE_NOTHING:
    case TUNE_REFUTED:
        break;
    case TUNE_UNCONFIRMED:
    case TUNE_TOGETHER:
        return &tune->together;
    case TUNE_ALONE:
        return &tune->alone;
    }
    return NULL;
}

/* True exactly when this setting is one of those to be set to something other than the default. */
static bool differs(const struct tune *tune, const struct tune_variant *winner, const struct sluice_setting *setting)
{
    struct sluice_setting before;

    tune_describe(setting->variable, &tune->base, &before);
    return winner != NULL && strcmp(before.value, setting->value) != 0;
}

/* What follows from another setting need not be set: the low mark is a quarter of the high mark. */
static bool follows(const struct sluice_setting *setting, const struct sluice_engine_options *options)
{
    return strcmp(setting->variable, "SLUICE_SEND_LOW_MARK") == 0 && options->send_low_mark == 0;
}

/* -- For people and shells ----------------------------------------------------------------------------------- */

static void print_head(const struct tune *tune)
{
    char text[LINE_MAX];

    printf("# %s\n", tune_describe_machine(text, sizeof text));
    printf("# %s\n", tune_describe_workload(tune, text, sizeof text));
    printf("# %s\n", tune_describe_goal(tune));
    printf("# the default: %s", tune_show(tune, series_median(&tune->measured), text, sizeof text));
    printf(" (median of %zu trials", tune->measured.count);
    if (tune->noise.count >= SERIES_NOISE_MIN)
        printf("; one against its neighbours differs by %.1f %%, a standard deviation",
               percent(series_spread(&tune->noise)));
    puts(")");
    if (tune->load_share.count > 0 && series_median(&tune->load_share) > BUSY_SHARE)
        puts("# The load needed a whole CPU: what it can do may be what limits; --for cpu would see more.");
}

/* "+2.0 %  -1.0 %  +5.0 %": a gain and between what it lies, as far as that is known. */
static void print_gain(const struct tune *tune, const struct tune_variant *variant)
{
    struct series_estimate estimate = tune_estimate(tune, variant);
    char gain[UNITS_TEXT_MAX];
    char from[UNITS_TEXT_MAX] = "?";
    char to[UNITS_TEXT_MAX] = "?";

    if (estimate.is_known) {
        tune_show_gain(estimate.gain - estimate.noise, from, sizeof from);
        tune_show_gain(estimate.gain + estimate.noise, to, sizeof to);
    }
    printf("# %*s%*s%*s", GAIN_WIDTH, tune_show_gain(estimate.gain, gain, sizeof gain), GAIN_WIDTH, from, GAIN_WIDTH,
           to);
}

static void print_variant(const struct tune *tune, const struct tune_variant *variant)
{
    char measured[UNITS_TEXT_MAX];

    if (variant->gains.count == 0) {
        printf("# %*s  %s=%s: %s\n", COLUMNS_WIDTH, "not measured", variant->variable, variant->value,
               variant->skipped[0] != '\0' ? variant->skipped : "interrupted before");
        return;
    }
    print_gain(tune, variant);
    printf("%*s  %s=%s%s\n", VALUE_WIDTH, tune_show(tune, series_median(&variant->measured), measured, sizeof measured),
           variant->variable, variant->value, tune_has_won(tune, variant) ? "  (won)" : "");
    if (variant->skipped[0] != '\0')
        printf("# %*s  then it failed: %s\n", COLUMNS_WIDTH, "", variant->skipped);
}

static void print_again(const struct tune *tune, const struct tune_variant *variant, const char *what)
{
    char measured[UNITS_TEXT_MAX];

    if (variant->gains.count == 0)
        return;
    print_gain(tune, variant);
    printf("%*s  measured again: %s\n", VALUE_WIDTH,
           tune_show(tune, series_median(&variant->measured), measured, sizeof measured), what);
}

static void print_outcome(const struct tune *tune)
{
    if (tune->is_interrupted)
        puts("# Interrupted: this is what was found so far.");
    if (tune->together.skipped[0] != '\0')
        printf("# What won does not work together: %s\n", tune->together.skipped);
    print_again(tune, &tune->together, "all that won");
    print_again(tune, &tune->alone, "the best of it alone");
    printf("# %s\n", tune_describe_outcome(tune));
}

/* Either those that won, or those that came from the environment: they are part of the default, and stay. */
static void print_settings(const struct tune *tune, bool that_won, const char *heading)
{
    const struct tune_variant *winner = tune_winner(tune);
    const struct sluice_engine_options *options = winner != NULL ? &winner->options : &tune->base;
    struct sluice_setting setting;

    for (size_t i = 0; sluice_setting_describe(i, options, &setting) == 0; i++) {
        bool has_won = differs(tune, winner, &setting);

        if (has_won != that_won || (!has_won && setting.is_default) || follows(&setting, options))
            continue;
        if (heading != NULL)
            printf("# %s\n", heading);
        heading = NULL;
        printf("%s=%s\n", setting.variable, setting.value);
    }
}

static void print_text(const struct tune *tune)
{
    print_head(tune);
    printf("#\n# %*s%*s%*s%*s  setting\n", GAIN_WIDTH, "gain", GAIN_WIDTH, "from", GAIN_WIDTH, "to", VALUE_WIDTH,
           "measured");
    for (size_t i = 0; i < tune->variant_count; i++)
        print_variant(tune, &tune->variants[i]);
    puts("#");
    print_outcome(tune);
    print_settings(tune, false, "From the environment, as before:");
    print_settings(tune, true, "Won:");
}

/* -- For machines -------------------------------------------------------------------------------------------- */

static void write_gain(struct json *json, const struct tune *tune, const struct tune_variant *variant)
{
    struct series_estimate estimate = tune_estimate(tune, variant);

    json_count(json, "rounds", variant->gains.count);
    if (variant->gains.count > 0) {
        json_number(json, "measured", series_median(&variant->measured));
        json_number(json, "gain_percent", percent(estimate.gain));
    }
    if (estimate.is_known) {
        json_number(json, "from_percent", percent(estimate.gain - estimate.noise));
        json_number(json, "to_percent", percent(estimate.gain + estimate.noise));
        json_flag(json, "won", tune_has_won(tune, variant));
    }
    if (variant->skipped[0] != '\0')
        json_text(json, "skipped", variant->skipped);
}

static void write_variants(struct json *json, const struct tune *tune)
{
    json_open_list(json, "variants");
    for (size_t i = 0; i < tune->variant_count; i++) {
        json_open_object(json, NULL);
        json_text(json, "setting", tune->variants[i].variable);
        json_text(json, "value", tune->variants[i].value);
        write_gain(json, tune, &tune->variants[i]);
        json_close_object(json);
    }
    json_close_list(json);
}

static void write_again(struct json *json, const char *name, const struct tune *tune,
                        const struct tune_variant *variant)
{
    if (tune->best == NULL)
        return;
    json_open_object(json, name);
    write_gain(json, tune, variant);
    json_close_object(json);
}

static void write_setup(struct json *json, const struct tune *tune)
{
    char text[LINE_MAX];

    json_text(json, "machine", tune_describe_machine(text, sizeof text));
    json_text(json, "for", tune_goals[tune->goal]);
    json_text(json, "unit", tune->goal == TUNE_THROUGHPUT ? "messages/s" : "ns");
    if (tune->command != NULL)
        json_text(json, "command", tune->command[0]);
    else
        json_text(json, "transport", tune->is_unix ? "unix" : "tcp");
    json_count(json, "connections", tune->load_options.connections);
    json_count(json, "message_size", tune->load_options.message_size);
    json_count(json, "depth", tune->load_options.depth);
    json_count(json, "duration_ns", tune->load_options.duration_ns);
    json_count(json, "rounds", tune->rounds);
    json_flag(json, "interrupted", tune->is_interrupted);
}

static void write_default(struct json *json, const struct tune *tune)
{
    json_open_object(json, "default");
    json_count(json, "trials", tune->measured.count);
    json_number(json, "measured", series_median(&tune->measured));
    if (tune->noise.count >= SERIES_NOISE_MIN)
        json_number(json, "spread_percent", percent(series_spread(&tune->noise)));
    json_number(json, "load_share_of_cpu", series_median(&tune->load_share));
    json_close_object(json);
}

/* Those to be set, and those that are set and stay. */
static void write_settings(struct json *json, const struct tune *tune)
{
    const struct tune_variant *winner = tune_winner(tune);
    const struct sluice_engine_options *options = winner != NULL ? &winner->options : &tune->base;
    struct sluice_setting setting;

    json_open_object(json, "settings");
    for (size_t i = 0; sluice_setting_describe(i, options, &setting) == 0; i++) {
        if ((!setting.is_default || differs(tune, winner, &setting)) && !follows(&setting, options))
            json_text(json, setting.variable, setting.value);
    }
    json_close_object(json);
}

static void print_json(const struct tune *tune)
{
    struct json json = {.file = stdout};

    json_open_object(&json, NULL);
    write_setup(&json, tune);
    write_default(&json, tune);
    write_variants(&json, tune);
    write_again(&json, "together", tune, &tune->together);
    write_again(&json, "alone", tune, &tune->alone);
    json_text(&json, "outcome", tune_describe_outcome(tune));
    write_settings(&json, tune);
    json_close_object(&json);
    json_end(&json);
}

void tune_print(const struct tune *tune)
{
    assert(tune->measured.count > 0);
    if (tune->wants_json)
        print_json(tune);
    else
        print_text(tune);
}
