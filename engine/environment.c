/* Settings from SLUICE_* variables: the one place that reads the environment. */
#include "engine/environment.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sluice/options.h>

#include "engine/config.h"
#include "engine/reason.h"
#include "engine/setting.h"

#define VARIABLE_PREFIX "SLUICE_"

/* Names longer than this are cut before they are compared for likeness. */
#define LIKENESS_MAX 48

/* -- Names --------------------------------------------------------------------------------------------------- */

static size_t min_size(size_t one, size_t other)
{
    return one < other ? one : other;
}

/* Letters to insert, delete or replace to make one name from the other (Levenshtein), computed row by row. */
static size_t edit_distance(const char *from, size_t from_len, const char *to)
{
    size_t to_len = strlen(to);
    size_t distances[LIKENESS_MAX + 1];

    assert(to_len <= LIKENESS_MAX);
    for (size_t j = 0; j <= to_len; j++)
        distances[j] = j;
    for (size_t i = 1; i <= from_len; i++) {
        size_t diagonal = distances[0];

        distances[0] = i;
        for (size_t j = 1; j <= to_len; j++) {
            size_t replaced = diagonal + (from[i - 1] != to[j - 1]);

            diagonal = distances[j];
            distances[j] = min_size(replaced, 1 + min_size(distances[j], distances[j - 1]));
        }
    }
    return distances[to_len];
}

/* The known variable most like the first `len` bytes of `name`. */
static const char *nearest_variable(const char *name, size_t len)
{
    const char *nearest = NULL;
    size_t nearest_distance = SIZE_MAX;

    for (size_t i = 0; config_setting(i); i++) {
        size_t distance = edit_distance(name, min_size(len, LIKENESS_MAX), config_setting(i)->variable);

        if (distance < nearest_distance) {
            nearest_distance = distance;
            nearest = config_setting(i)->variable;
        }
    }
    return nearest;
}

static bool is_known_variable(const char *name, size_t len)
{
    for (size_t i = 0; config_setting(i); i++)
        if (strlen(config_setting(i)->variable) == len && memcmp(config_setting(i)->variable, name, len) == 0)
            return true;
    return false;
}

static int refuse_unknown_variables(char *why, size_t why_size)
{
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++) {
        const char *name = *variable;
        size_t len = strcspn(name, "=");
        char quoted[REASON_QUOTE_MAX];

        if (strncmp(name, VARIABLE_PREFIX, strlen(VARIABLE_PREFIX)) != 0 || is_known_variable(name, len))
            continue;
        return reason_refuse(why, why_size, "%s: no such setting; did you mean %s?", reason_quote(quoted, name),
                             nearest_variable(name, len));
    }
    return 0;
}

/* -- Values -------------------------------------------------------------------------------------------------- */

bool environment_sets(const char *variable)
{
    return getenv(variable) != NULL;
}

/* Overrides one member from its variable, if that is set. `given_size` is how much of `options` the program has. */
static int override_from_env(const struct setting *setting, struct sluice_engine_options *options, size_t given_size,
                             char *why, size_t why_size)
{
    const char *text = getenv(setting->variable);
    char quoted[REASON_QUOTE_MAX];
    uint64_t value;

    if (text == NULL)
        return 0;
    if (setting->offset + setting->size > given_size)
        return reason_refuse(why, why_size,
                             "%s=%s: this program was built for an older Sluice that has no such setting",
                             setting->variable, reason_quote(quoted, text));
    if (!setting_read(setting, text, &value) || !setting_allows(setting, value))
        return reason_refuse(why, why_size, "%s=%s: allowed is %s", setting->variable, reason_quote(quoted, text),
                             setting->allowed);
    setting_set(setting, options, value);
    return 0;
}

int sluice_engine_options_from_env(struct sluice_engine_options *options, char *why, size_t why_size)
{
    struct sluice_engine_options changed;
    struct sluice_engine_options complete;
    size_t given_size = options->size;
    int error = config_copy(options, &changed, why, why_size);

    if (error < 0)
        return error;
    error = refuse_unknown_variables(why, why_size);
    if (error < 0)
        return error;
    for (size_t i = 0; config_setting(i); i++) {
        error = override_from_env(config_setting(i), &changed, given_size, why, why_size);
        if (error < 0)
            return error;
    }
    error = config_complete(&changed, &complete, why, why_size);
    if (error < 0)
        return error;

    changed.size = given_size;
    memcpy(options, &changed, min_size(given_size, sizeof changed));
    return 0;
}
