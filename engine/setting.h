/*
 * One setting: a member of the options with its variable, its default, what it may be, and its value in text.
 * The table of all of them is in engine/config.c.
 */
#ifndef ENGINE_SETTING_H
#define ENGINE_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/options.h>

/* Every enum sluice_feature bit. */
#define SETTING_ALL_FEATURES (2 * SLUICE_FEATURE_RECEIVE_BUNDLE - 1)

enum setting_kind {
    SETTING_NUMBER,       /* as it is */
    SETTING_POWER_OF_TWO, /* likewise */
    SETTING_SWITCH,       /* 0 or 1 */
    SETTING_BYTES,        /* with suffixes K, M, G */
    SETTING_TIME,         /* nanoseconds, with suffixes ns, us, ms, s */
    SETTING_CPU,          /* a CPU's number, kept plus one; zero is "any" */
    SETTING_FEATURES,     /* names of features, kept as bits; zero is "none" */
};

struct setting {
    const char *variable;
    const char *member;
    const char *meaning;
    const char *allowed;
    enum setting_kind kind;
    size_t offset;     /* of the member in the options */
    size_t size;       /* of the member: 4 or 8 */
    uint64_t standard; /* the default: what zero stands for */
    uint64_t minimum;  /* of what is not zero */
    uint64_t maximum;
};

uint64_t setting_get(const struct setting *setting, const struct sluice_engine_options *options);
void setting_set(const struct setting *setting, struct sluice_engine_options *options, uint64_t value);

/* Zero, which stands for the default, is always allowed. */
bool setting_allows(const struct setting *setting, uint64_t value);

/* Writes `value` as its variable would be written, in the largest unit that holds it in whole; cut if need be. */
void setting_write(const struct setting *setting, uint64_t value, char *text, size_t text_size);

/* Reads what setting_write() writes, or a person does. Returns false if it is no value of this kind. */
bool setting_read(const struct setting *setting, const char *text, uint64_t *value);

#endif
