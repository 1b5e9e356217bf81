/*
 * Fuzzes the settings of an engine: options as a program gives them, of any size and content, and SLUICE_ variables.
 *
 * Input: 'r' and the options as they lie in memory, of which the first two bytes are the size; or anything else. Then
 * lines, each a variable without its SLUICE_.
 */
#include <errno.h>
#include <unistd.h>

#include <sluice/engine.h>
#include <sluice/options.h>

#include "engine/config.h"
#include "tests/fuzz/fuzz.h"

enum {
    VARIABLES_MAX = 40,
    VARIABLE_SIZE = 512,
    SETTINGS_MAX = 64,
    RAW_SIZE = 4096 + 64, /* more than options may claim to have */
};

static char texts[VARIABLES_MAX][VARIABLE_SIZE];
static char *variables[VARIABLES_MAX + 1];

/* Options, and what a program's own may have behind them. */
union raw {
    struct sluice_engine_options options;
    uint8_t bytes[RAW_SIZE];
};

static void read_options(struct input *input, union raw *raw)
{
    memset(raw, 0, sizeof *raw);
    raw->options.size = sizeof raw->options;
    if (input_byte(input) != 'r')
        return;
    raw->options.size = input_number(input);
    for (size_t i = sizeof raw->options.size; i < sizeof raw->options + 8 && input->len > 0; i++)
        raw->bytes[i] = input_byte(input);
}

static void read_variables(struct input *input)
{
    size_t count = 0;

    for (; count < VARIABLES_MAX; count++) {
        memcpy(texts[count], "SLUICE_", 7);
        if (!input_line(input, texts[count] + 7, VARIABLE_SIZE - 7))
            break;
        variables[count] = texts[count];
    }
    variables[count] = NULL;
}

/* A refusal says why in one line, and fits where it is told to fit. */
static void check_refusal(const union raw *before, size_t room)
{
    union raw again = *before;
    char whole[SLUICE_REASON_MAX] = "";
    char cut[SLUICE_REASON_MAX + 1];

    must(sluice_engine_options_from_env(&again.options, whole, sizeof whole) == -EINVAL);
    must(is_one_line(whole), "%s", whole);
    memset(cut, '#', sizeof cut);
    must(sluice_engine_options_from_env(&again.options, cut, room) == -EINVAL);
    must(memcmp(&again, before, sizeof again) == 0, "a refusal changed the options");
    must(cut[room] == '#');
    must(room == 0 || strncmp(cut, whole, room - 1) == 0);
}

/* What the settings are said to be is what has them be so. */
static void check_descriptions(const struct sluice_engine_options *options)
{
    static char written[SETTINGS_MAX][VARIABLE_SIZE];
    static char *all[SETTINGS_MAX + 1];
    struct sluice_engine_options complete;
    struct sluice_engine_options again = {.size = sizeof again};
    struct sluice_setting setting;
    char why[SLUICE_REASON_MAX] = "";
    size_t count = 0;

    must(config_complete(options, &complete, why, sizeof why) == 0, "%s", why);
    while (sluice_setting_describe(count, options, &setting) == 0) {
        must(count < SETTINGS_MAX);
        must(is_one_line(setting.value) && strlen(setting.value) < sizeof setting.value - 1);
        snprintf(written[count], VARIABLE_SIZE, "%s=%s", setting.variable, setting.value);
        all[count] = written[count];
        count++;
    }
    must(count > 0);
    all[count] = NULL;
    environ = all;
    must(sluice_engine_options_from_env(&again, why, sizeof why) == 0, "%s", why);
    for (size_t i = 0; i < count; i++) {
        must(sluice_setting_describe(i, &again, &setting) == 0);
        must(strcmp(strchr(written[i], '=') + 1, setting.value) == 0, "%s is read as %s", written[i], setting.value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct input input = {data, len};
    char **before_us = environ;
    union raw raw;
    union raw before;
    char why[SLUICE_REASON_MAX] = "";
    int error;

    read_options(&input, &raw);
    read_variables(&input);
    before = raw;
    environ = variables;
    error = sluice_engine_options_check(&raw.options, why, sizeof why);
    must(error == 0 || (error == -EINVAL && is_one_line(why)), "%d %s", error, why);
    must(memcmp(&raw, &before, sizeof raw) == 0);
    error = sluice_engine_options_from_env(&raw.options, why, sizeof why);
    if (error) {
        must(error == -EINVAL);
        must(memcmp(&raw, &before, sizeof raw) == 0, "a refusal changed the options");
        check_refusal(&before, len % SLUICE_REASON_MAX);
    } else {
        must(raw.options.size == before.options.size);
        must(sluice_engine_options_check(&raw.options, why, sizeof why) == 0, "%s", why);
        check_descriptions(&raw.options);
    }
    environ = before_us;
    return 0;
}
