/* One setting: its member, its value in text. */
#include "engine/setting.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <sluice/engine.h>

#include "uring/ring.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define MICROSECOND UINT64_C(1000)
#define MILLISECOND (1000 * MICROSECOND)
#define SECOND      (1000 * MILLISECOND)

uint64_t setting_get(const struct setting *setting, const struct sluice_engine_options *options)
{
    const void *member = (const char *)options + setting->offset;

    assert(setting->size == sizeof(uint32_t) || setting->size == sizeof(uint64_t));
    return setting->size == sizeof(uint64_t) ? *(const uint64_t *)member : *(const uint32_t *)member;
}

void setting_set(const struct setting *setting, struct sluice_engine_options *options, uint64_t value)
{
    void *member = (char *)options + setting->offset;

    assert(setting->size == sizeof(uint64_t) || value <= UINT32_MAX);
    if (setting->size == sizeof(uint64_t))
        *(uint64_t *)member = value;
    else
        *(uint32_t *)member = (uint32_t)value;
}

bool setting_allows(const struct setting *setting, uint64_t value)
{
    if (value == 0)
        return true;
    if (setting->kind == SETTING_POWER_OF_TWO && (value & (value - 1)) != 0)
        return false;
    return value >= setting->minimum && value <= setting->maximum;
}

/* -- Kernel features ----------------------------------------------------------------------------------------- */

/* By the number of their bit. */
static const char *const feature_names[] = {
    "defer_taskrun", "single_issuer", "registered_ring", "multishot_accept", "multishot_receive",
    "zero_copy",     "inline_send",   "no_iowait",       "quiet_send",       "receive_bundle",
};

#define FEATURE_COUNT (sizeof feature_names / sizeof feature_names[0])

/* Users and the ring speak of features by the same bits. */
static_assert((int)SLUICE_FEATURE_DEFER_TASKRUN == (int)RING_DEFER_TASKRUN, "");
static_assert((int)SLUICE_FEATURE_SINGLE_ISSUER == (int)RING_SINGLE_ISSUER, "");
static_assert((int)SLUICE_FEATURE_REGISTERED_RING == (int)RING_REGISTERED_RING, "");
static_assert((int)SLUICE_FEATURE_MULTISHOT_ACCEPT == (int)RING_MULTISHOT_ACCEPT, "");
static_assert((int)SLUICE_FEATURE_MULTISHOT_RECEIVE == (int)RING_MULTISHOT_RECEIVE, "");
static_assert((int)SLUICE_FEATURE_ZERO_COPY == (int)RING_ZERO_COPY, "");
static_assert((int)SLUICE_FEATURE_INLINE_SEND == (int)RING_INLINE_SEND, "");
static_assert((int)SLUICE_FEATURE_NO_IOWAIT == (int)RING_NO_IOWAIT, "");
static_assert((int)SLUICE_FEATURE_QUIET_SEND == (int)RING_QUIET_SEND, "");
static_assert((int)SLUICE_FEATURE_RECEIVE_BUNDLE == (int)RING_RECEIVE_BUNDLE, "");
static_assert(SETTING_ALL_FEATURES == (1 << FEATURE_COUNT) - 1, "every feature has a name");

const char *sluice_feature_name(uint32_t feature)
{
    for (size_t i = 0; i < FEATURE_COUNT; i++)
        if (feature == UINT32_C(1) << i)
            return feature_names[i];
    return NULL;
}

/* -- Values in text ------------------------------------------------------------------------------------------ */

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* Largest first; ended by the unit without a suffix. */
static const struct unit byte_units[] = {{"G", GIB}, {"M", MIB}, {"K", KIB}, {"", 1}};
static const struct unit time_units[] = {
    {"s", SECOND}, {"ms", MILLISECOND}, {"us", MICROSECOND}, {"ns", 1}, {"", 1},
};
static const struct unit no_units[] = {{"", 1}};

static const struct unit *find_units(const struct setting *setting)
{
    if (setting->kind == SETTING_BYTES)
        return byte_units;
    if (setting->kind == SETTING_TIME)
        return time_units;
    return no_units;
}

static void write_number(const struct setting *setting, uint64_t value, char *text, size_t text_size)
{
    const struct unit *unit = find_units(setting);

    while (unit->factor > 1 && (value == 0 || value % unit->factor != 0))
        unit++;
    snprintf(text, text_size, "%llu%s", (unsigned long long)(value / unit->factor), value == 0 ? "" : unit->suffix);
}

static void write_features(uint64_t features, char *text, size_t text_size)
{
    size_t len = (size_t)snprintf(text, text_size, "%s", features == 0 ? "none" : "");

    for (size_t i = 0; i < FEATURE_COUNT && len < text_size; i++)
        if (features & UINT64_C(1) << i)
            len += (size_t)snprintf(text + len, text_size - len, "%s%s", len > 0 ? "," : "", feature_names[i]);
}

void setting_write(const struct setting *setting, uint64_t value, char *text, size_t text_size)
{
    if (setting->kind == SETTING_CPU && value == 0)
        snprintf(text, text_size, "any");
    else if (setting->kind == SETTING_CPU)
        write_number(setting, value - 1, text, text_size);
    else if (setting->kind == SETTING_FEATURES && setting_allows(setting, value))
        write_features(value, text, text_size);
    else
        write_number(setting, value, text, text_size);
}

/* Reads a decimal number with one of the units of `setting` that is all of `text`. */
static bool read_number(const struct setting *setting, const char *text, uint64_t *value)
{
    const struct unit *unit = find_units(setting);
    size_t digits = strspn(text, "0123456789");
    uint64_t number = 0;

    if (digits == 0)
        return false;
    for (size_t i = 0; i < digits; i++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text[i] - '0'), &number))
            return false;
    while (unit->suffix[0] != '\0' && strcmp(unit->suffix, text + digits) != 0)
        unit++;
    if (strcmp(unit->suffix, text + digits) != 0)
        return false;
    return !__builtin_mul_overflow(number, unit->factor, value);
}

static bool read_cpu(const struct setting *setting, const char *text, uint64_t *value)
{
    uint64_t cpu;

    if (strcmp(text, "any") == 0) {
        *value = 0;
        return true;
    }
    return read_number(setting, text, &cpu) && !__builtin_add_overflow(cpu, 1, value);
}

/* Returns the bit of the feature whose name is the first `len` bytes of `name`, or 0. */
static uint32_t find_feature(const char *name, size_t len)
{
    for (size_t i = 0; i < FEATURE_COUNT; i++)
        if (strlen(feature_names[i]) == len && memcmp(feature_names[i], name, len) == 0)
            return UINT32_C(1) << i;
    return 0;
}

static bool read_features(const char *text, uint64_t *value)
{
    uint64_t features = 0;

    if (text[0] == '\0' || strcmp(text, "none") == 0) {
        *value = 0;
        return true;
    }
    for (;;) {
        size_t len = strcspn(text, ",");
        uint32_t feature = find_feature(text, len);

        if (feature == 0)
            return false;
        features |= feature;
        if (text[len] == '\0')
            break;
        text += len + 1;
    }
    *value = features;
    return true;
}

bool setting_read(const struct setting *setting, const char *text, uint64_t *value)
{
    if (setting->kind == SETTING_CPU)
        return read_cpu(setting, text, value);
    if (setting->kind == SETTING_FEATURES)
        return read_features(text, value);
    return read_number(setting, text, value);
}
