/* What `sluice tune` tries: values of the settings that can make a difference, and what those that won are together. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/engine.h>

#include "tools/loopback.h"
#include "tools/tune.h"
#include "tools/units.h"
#include "tools/verb.h"

#define VALUES_MAX   6
#define FEATURE_BITS 32
/* A gain below one percent is not worth a line, however sure it is. */
#define GAIN_MIN 0.01

struct range {
    const char *variable;
    const char *values[VALUES_MAX + 1]; /* NULL ends them */
};

static const struct range ranges[] = {
    {"SLUICE_RECEIVE_BUFFER_SIZE", {"4K", "8K", "16K", "32K", "64K", "128K"}},
    {"SLUICE_RECEIVE_BUFFER_COUNT", {"64", "128", "256", "512", "2048", "4096"}},
    {"SLUICE_RECEIVE_BUFFER_WINDOW", {"4", "16", "32", "64", "256"}},
    {"SLUICE_HUGE_PAGES", {"0", "1"}},
    {"SLUICE_SEND_HIGH_MARK", {"16K", "32K", "64K", "128K", "256K", "1M"}},
    {"SLUICE_SEND_LOW_MARK", {"1", "16K", "32K", "48K"}},
    {"SLUICE_ZERO_COPY_MINIMUM", {"0", "2K", "8K", "16K", "32K"}},
    {"SLUICE_BUSY_POLL", {"0", "10us", "50us", "200us"}},
    {"SLUICE_NAPI", {"0", "50us"}},
    {"SLUICE_RING_ENTRIES", {"64", "256", "1024", "4096"}},
    {"SLUICE_SQPOLL", {"0", "1"}},
};

#define RANGE_COUNT (sizeof ranges / sizeof ranges[0])

static_assert(RANGE_COUNT * VALUES_MAX + FEATURE_BITS <= TUNE_VARIANTS_MAX, "there is room for all");

/* -- Settings ------------------------------------------------------------------------------------------------ */

void tune_describe(const char *variable, const struct sluice_engine_options *options, struct sluice_setting *setting)
{
    size_t i = 0;

    while (sluice_setting_describe(i, options, setting) == 0 && strcmp(setting->variable, variable) != 0)
        i++;
    assert(strcmp(setting->variable, variable) == 0);
}

int tune_read_settings(struct tune *tune)
{
    struct sluice_setting setting;
    int status = verb_read_settings("tune", &tune->base);

    /* From here on the environment is where one setting at a time is tried: see set(). */
    for (size_t i = 0; sluice_setting_describe(i, &tune->base, &setting) == 0; i++)
        unsetenv(setting.variable);
    return status;
}

/* Sets one setting as the environment would: values are then read by the rules that hold for who is to use them. */
static int set(struct sluice_engine_options *options, const char *variable, const char *value, char *why,
               size_t why_size)
{
    struct sluice_engine_options changed = *options;
    int error;

    if (setenv(variable, value, 1) < 0)
        error = -errno;
    else
        error = sluice_engine_options_from_env(&changed, why, why_size);
    unsetenv(variable);
    if (error == 0)
        error = sluice_engine_options_check(&changed, why, why_size);
    if (error == 0)
        *options = changed;
    return error;
}

/* -- What is worth trying ------------------------------------------------------------------------------------ */

static struct tune_variant *add_variant(struct tune *tune, const char *variable)
{
    struct tune_variant *variant = &tune->variants[tune->variant_count++];

    assert(tune->variant_count <= TUNE_VARIANTS_MAX);
    variant->variable = variable;
    variant->options = tune->base;
    return variant;
}

/* Views are what was received at a time: no more than was outstanding, nor than a buffer takes. */
static uint64_t largest_view(const struct tune *tune)
{
    uint64_t outstanding = tune->load_options.message_size * tune->load_options.depth;
    struct sluice_setting setting;
    uint64_t buffer_size = 0;

    tune_describe("SLUICE_RECEIVE_BUFFER_SIZE", &tune->base, &setting);
    units_parse_size(setting.value, &buffer_size);
    return outstanding < buffer_size ? outstanding : buffer_size;
}

/* A reason why this value makes no difference here, or none that tells anything; or nothing. */
static void look_at(const struct tune *tune, struct tune_variant *variant)
{
    uint64_t minimum = variant->options.zero_copy_minimum;

    if (minimum != tune->base.zero_copy_minimum && !(tune->features & SLUICE_FEATURE_ZERO_COPY))
        snprintf(variant->skipped, sizeof variant->skipped, "zero_copy is not in use here");
    else if (minimum != tune->base.zero_copy_minimum && minimum > largest_view(tune))
        snprintf(variant->skipped, sizeof variant->skipped, "no view in this workload is that large");
    else if (variant->options.sqpoll > tune->base.sqpoll && !loopback_has_spare_cpu())
        snprintf(variant->skipped, sizeof variant->skipped, "there is no CPU for it beside those of server and load");
}

/* `value` is left out if it is what the default has. */
static void add_value(struct tune *tune, const char *variable, const char *value)
{
    struct tune_variant *variant = add_variant(tune, variable);
    struct sluice_setting setting;

    tune_describe(variable, &tune->base, &setting);
    snprintf(variant->value, sizeof variant->value, "%s", value);
    if (strcmp(setting.value, value) == 0) {
        tune->variant_count--;
        return;
    }
    if (set(&variant->options, variable, value, variant->skipped, sizeof variant->skipped) == 0)
        look_at(tune, variant);
}

/* Switches one more feature off, unless it is off. */
static void add_feature(struct tune *tune, uint32_t feature)
{
    struct tune_variant *variant;
    struct sluice_setting setting;

    if (sluice_feature_name(feature) == NULL || tune->base.disable & feature)
        return;
    variant = add_variant(tune, "SLUICE_DISABLE");
    variant->feature = feature;
    variant->options.disable |= feature;
    tune_describe(variant->variable, &variant->options, &setting);
    snprintf(variant->value, sizeof variant->value, "%s", setting.value);
    if (!(tune->features & feature))
        snprintf(variant->skipped, sizeof variant->skipped, "it is not in use here");
    else if (feature == SLUICE_FEATURE_ZERO_COPY && tune->base.zero_copy_minimum == 0)
        snprintf(variant->skipped, sizeof variant->skipped, "nothing is sent that way: SLUICE_ZERO_COPY_MINIMUM is 0");
}

static int find_features(struct tune *tune, char *why, size_t why_size)
{
    struct sluice_engine_info info;
    struct sluice_engine *engine;
    int error = sluice_engine_create(&tune->base, &engine);

    if (error < 0) {
        sluice_engine_explain(error, why, why_size);
        return error;
    }
    sluice_engine_info(engine, &info);
    sluice_engine_destroy(engine);
    tune->features = info.features;
    return 0;
}

int tune_list_variants(struct tune *tune, char *why, size_t why_size)
{
    int error = find_features(tune, why, why_size);

    if (error < 0)
        return error;
    for (size_t i = 0; i < RANGE_COUNT; i++) {
        for (size_t j = 0; ranges[i].values[j] != NULL; j++)
            add_value(tune, ranges[i].variable, ranges[i].values[j]);
    }
    for (unsigned bit = 0; bit < FEATURE_BITS; bit++)
        add_feature(tune, UINT32_C(1) << bit);
    return 0;
}

/* -- What won ------------------------------------------------------------------------------------------------ */

bool tune_has_won(const struct tune *tune, const struct tune_variant *variant)
{
    struct series_estimate estimate = tune_estimate(tune, variant);

    if (variant->skipped[0] != '\0' || !estimate.is_known)
        return false;
    return estimate.gain > estimate.noise && estimate.gain >= log1p(GAIN_MIN);
}

/* Of the values of one setting only the best can be had; features can be switched off all. */
static bool is_beaten(const struct tune *tune, const struct tune_variant *variant)
{
    double gain = tune_estimate(tune, variant).gain;

    for (size_t i = 0; variant->feature == 0 && i < tune->variant_count; i++) {
        const struct tune_variant *other = &tune->variants[i];

        if (other != variant && strcmp(other->variable, variant->variable) == 0 && tune_has_won(tune, other) &&
            tune_estimate(tune, other).gain > gain)
            return true;
    }
    return false;
}

/* The one with the greatest gain below `limit`; NULL: there is none. */
static struct tune_variant *next_winner(struct tune *tune, double limit)
{
    struct tune_variant *next = NULL;

    for (size_t i = 0; i < tune->variant_count; i++) {
        struct tune_variant *variant = &tune->variants[i];
        double gain = tune_estimate(tune, variant).gain;

        if (!tune_has_won(tune, variant) || is_beaten(tune, variant) || gain >= limit)
            continue;
        if (next == NULL || gain > tune_estimate(tune, next).gain)
            next = variant;
    }
    return next;
}

/* What does not go with what is better is left out. */
static bool join(struct sluice_engine_options *options, const struct tune_variant *variant)
{
    char why[SLUICE_REASON_MAX];

    if (variant->feature == 0)
        return set(options, variant->variable, variant->value, why, sizeof why) == 0;
    options->disable |= variant->feature;
    return true;
}

void tune_combine(struct tune *tune)
{
    size_t joined = 0;
    struct tune_variant *variant = next_winner(tune, INFINITY);

    tune->best = variant;
    tune->together.options = tune->base;
    for (; variant != NULL; variant = next_winner(tune, tune_estimate(tune, variant).gain))
        joined += join(&tune->together.options, variant);
    if (tune->best == NULL || joined == 1)
        snprintf(tune->alone.skipped, sizeof tune->alone.skipped, "it is the same as all together");
    else
        tune->alone.options = tune->best->options;
}
