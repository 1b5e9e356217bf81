/* The table of settings: completing, checking and describing them. */
#include "engine/config.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <sluice/engine.h>

#include "engine/environment.h"
#include "engine/reason.h"
#include "engine/setting.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define HIGH_MARK_LEAST (64 * KIB) /* of the marks that nobody gave */

#define MICROSECOND UINT64_C(1000)
#define MILLISECOND (1000 * MICROSECOND)
#define SECOND      (1000 * MILLISECOND)
#define DAY         (24 * 60 * 60 * SECOND)

/* -- The table ----------------------------------------------------------------------------------------------- */

#define SETTING_MEMBER(name)                                                                                           \
    .member = #name, .offset = offsetof(struct sluice_engine_options, name),                                           \
    .size = sizeof(((struct sluice_engine_options *)NULL)->name)

static const struct setting settings[] = {
    {
        .variable = "SLUICE_RING_ENTRIES",
        SETTING_MEMBER(ring_entries),
        .meaning = "entries of the submission queue",
        .allowed = "a number from 8 to 32768",
        .kind = SETTING_NUMBER,
        .standard = 256,
        .minimum = 8,
        .maximum = 32768,
    },
    {
        .variable = "SLUICE_COMPLETION_ENTRIES",
        SETTING_MEMBER(completion_entries),
        .meaning = "entries of the completion queue",
        .allowed = "a number from 8 to 65536",
        .kind = SETTING_NUMBER,
        .standard = 4096,
        .minimum = 8,
        .maximum = 65536,
    },
    {
        .variable = "SLUICE_RECEIVE_BUFFER_COUNT",
        SETTING_MEMBER(receive_buffer_count),
        .meaning = "receive buffers that all streams share",
        .allowed = "a power of two from 8 to 32768",
        .kind = SETTING_POWER_OF_TWO,
        .standard = 1024,
        .minimum = 8,
        .maximum = 32768,
    },
    {
        .variable = "SLUICE_RECEIVE_BUFFER_SIZE",
        SETTING_MEMBER(receive_buffer_size),
        .meaning = "bytes in each receive buffer",
        .allowed = "bytes from 256 to 1M",
        .kind = SETTING_BYTES,
        .standard = 64 * KIB,
        .minimum = 256,
        .maximum = MIB,
    },
    {
        .variable = "SLUICE_RECEIVE_BUFFER_WINDOW",
        SETTING_MEMBER(receive_buffer_window),
        .meaning = "receive buffers that lie ready, until more are wanted at once",
        .allowed = "a number from 1 to 32768",
        .kind = SETTING_NUMBER,
        .standard = 8,
        .minimum = 1,
        .maximum = 32768,
    },
    {
        .variable = "SLUICE_HUGE_PAGES",
        SETTING_MEMBER(huge_pages),
        .meaning = "put receive buffers on huge pages, if there are any",
        .allowed = "0 or 1",
        .kind = SETTING_SWITCH,
        .maximum = 1,
    },
    {
        .variable = "SLUICE_SEND_HIGH_MARK",
        SETTING_MEMBER(send_high_mark),
        .meaning = "bytes queued in a stream at which a send is answered FULL",
        .allowed = "bytes from 1 to 1024G",
        .kind = SETTING_BYTES,
        .standard = 512 * KIB,
        .minimum = 1,
        .maximum = 1024 * GIB,
    },
    {
        .variable = "SLUICE_SEND_LOW_MARK",
        SETTING_MEMBER(send_low_mark),
        .meaning = "bytes left in the queue at which a full stream drains",
        .allowed = "bytes from 1 to 1024G, less than SLUICE_SEND_HIGH_MARK; 0: a quarter of that",
        .kind = SETTING_BYTES,
        .minimum = 1,
        .maximum = 1024 * GIB,
    },
    {
        .variable = "SLUICE_SEND_LIMIT",
        SETTING_MEMBER(send_limit),
        .meaning = "bytes queued in a stream past which a send is refused",
        .allowed = "bytes from 1 to 1024G, at least SLUICE_SEND_HIGH_MARK",
        .kind = SETTING_BYTES,
        .standard = 16 * MIB,
        .minimum = 1,
        .maximum = 1024 * GIB,
    },
    {
        .variable = "SLUICE_RECEIVE_LIMIT",
        SETTING_MEMBER(receive_limit),
        .meaning = "bytes held for a paused stream before it fails",
        .allowed = "bytes from 1 to 1024G",
        .kind = SETTING_BYTES,
        .standard = 4 * MIB,
        .minimum = 1,
        .maximum = 1024 * GIB,
    },
    {
        .variable = "SLUICE_MEMORY_BUDGET",
        SETTING_MEMBER(memory_budget),
        .meaning = "bytes that all send queues of an engine may hold",
        .allowed = "bytes from 1 to 1024G, at least SLUICE_SEND_HIGH_MARK",
        .kind = SETTING_BYTES,
        .standard = GIB,
        .minimum = 1,
        .maximum = 1024 * GIB,
    },
    {
        .variable = "SLUICE_ZERO_COPY_MINIMUM",
        SETTING_MEMBER(zero_copy_minimum),
        .meaning = "shared views of at least so many bytes are sent without the kernel's copy",
        .allowed = "bytes from 256 to 1024G; 0: never",
        .kind = SETTING_BYTES,
        .minimum = 256,
        .maximum = 1024 * GIB,
    },
    {
        .variable = "SLUICE_BUSY_POLL",
        SETTING_MEMBER(busy_poll_ns),
        .meaning = "look for completions and posts so long before sleeping, while waits are that short",
        .allowed = "a time from 1us to 86400s; 0: sleep at once",
        .kind = SETTING_TIME,
        .minimum = MICROSECOND,
        .maximum = DAY,
    },
    {
        .variable = "SLUICE_NAPI",
        SETTING_MEMBER(napi_ns),
        .meaning = "have the kernel poll the network device so long before sleeping (Linux 6.9)",
        .allowed = "a time from 1us to 1s; 0: never",
        .kind = SETTING_TIME,
        .minimum = MICROSECOND,
        .maximum = SECOND,
    },
    {
        .variable = "SLUICE_SQPOLL",
        SETTING_MEMBER(sqpoll),
        .meaning = "have a kernel thread submit for us, which costs a core",
        .allowed = "0 or 1",
        .kind = SETTING_SWITCH,
        .maximum = 1,
    },
    {
        .variable = "SLUICE_SQPOLL_CPU",
        SETTING_MEMBER(sqpoll_cpu),
        .meaning = "CPU of that kernel thread",
        .allowed = "a CPU from 0 to 1023 with SLUICE_SQPOLL=1, or any",
        .kind = SETTING_CPU,
        .minimum = 1,
        .maximum = 1024,
    },
    {
        .variable = "SLUICE_THREAD_CPU",
        SETTING_MEMBER(thread_cpu),
        .meaning = "CPU of an engine's thread; in a group, of its first thread",
        .allowed = "a CPU from 0 to 1023, or any",
        .kind = SETTING_CPU,
        .minimum = 1,
        .maximum = 1024,
    },
    {
        .variable = "SLUICE_BACKLOG",
        SETTING_MEMBER(backlog),
        .meaning = "connections that the kernel queues for a listener",
        .allowed = "a number from 1 to 65535",
        .kind = SETTING_NUMBER,
        .standard = 4096,
        .minimum = 1,
        .maximum = 65535,
    },
    {
        .variable = "SLUICE_LINGER",
        SETTING_MEMBER(linger_ns),
        .meaning = "how long a closing stream waits without progress",
        .allowed = "a time from 1ms to 86400s",
        .kind = SETTING_TIME,
        .standard = 10 * SECOND,
        .minimum = MILLISECOND,
        .maximum = DAY,
    },
    {
        .variable = "SLUICE_IDLE_TIMEOUT",
        SETTING_MEMBER(idle_timeout_ns),
        .meaning = "a stream fails after so long without a byte",
        .allowed = "a time from 1ms to 86400s; 0: never",
        .kind = SETTING_TIME,
        .minimum = MILLISECOND,
        .maximum = DAY,
    },
    {
        .variable = "SLUICE_CONNECT_TIMEOUT",
        SETTING_MEMBER(connect_timeout_ns),
        .meaning = "connecting fails after so long",
        .allowed = "a time from 1ms to 86400s",
        .kind = SETTING_TIME,
        .standard = 10 * SECOND,
        .minimum = MILLISECOND,
        .maximum = DAY,
    },
    {
        .variable = "SLUICE_DISABLE",
        SETTING_MEMBER(disable),
        .meaning = "kernel features to do without",
        .allowed = "none, or names with commas between: defer_taskrun, single_issuer, registered_ring, "
                   "multishot_accept, multishot_receive, zero_copy, inline_send, no_iowait, quiet_send, "
                   "receive_bundle",
        .kind = SETTING_FEATURES,
        .minimum = 1,
        .maximum = SETTING_ALL_FEATURES,
    },
};

#define SETTING_COUNT (sizeof settings / sizeof settings[0])

const struct setting *config_setting(size_t index)
{
    return index < SETTING_COUNT ? &settings[index] : NULL;
}

/* -- Completing and checking --------------------------------------------------------------------------------- */

static bool is_zero(const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* No library will know more than this; what claims to be larger was not initialised. */
#define OPTIONS_SIZE_MAX 4096

int config_copy(const struct sluice_engine_options *given, struct sluice_engine_options *copy, char *why,
                size_t why_size)
{
    struct sluice_engine_options ours = {.size = sizeof ours};
    size_t known = given->size < sizeof ours ? given->size : sizeof ours;

    if (given->size < sizeof given->size || given->size > OPTIONS_SIZE_MAX)
        return reason_refuse(why, why_size, "size=%zu: allowed is sizeof(struct sluice_engine_options), %zu here",
                             given->size, sizeof ours);
    if (!is_zero((const char *)given + known, given->size - known))
        return reason_refuse(why, why_size,
                             "size=%zu: the options hold settings that this library (%s, size %zu) does not know; "
                             "allowed there is zero",
                             given->size, sluice_version(), sizeof ours);
    memcpy(&ours, given, known);
    ours.size = sizeof ours;
    *copy = ours;
    return 0;
}

/* The standard high mark is meant for large limits: below a smaller one it follows, but not without end. */
static void fit_high_mark(struct sluice_engine_options *options)
{
    uint64_t limit = options->send_limit < options->memory_budget ? options->send_limit : options->memory_budget;

    if (limit < options->send_high_mark)
        options->send_high_mark = limit > HIGH_MARK_LEAST ? limit : HIGH_MARK_LEAST;
}

static void config_fill(struct sluice_engine_options *options)
{
    bool has_high_mark = options->send_high_mark != 0;

    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (setting_get(&settings[i], options) == 0)
            setting_set(&settings[i], options, settings[i].standard);
    if (!has_high_mark)
        fit_high_mark(options);
    if (options->send_low_mark == 0)
        options->send_low_mark = options->send_high_mark / 4;
}

/* Each member by itself, defaults filled in or not. */
static int check_ranges(const struct sluice_engine_options *options, char *why, size_t why_size)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings[i];
        uint64_t value = setting_get(setting, options);
        char text[REASON_QUOTE_MAX];

        if (setting_allows(setting, value))
            continue;
        setting_write(setting, value, text, sizeof text);
        return reason_refuse(why, why_size, "%s=%s (member %s): allowed is %s", setting->variable, text,
                             setting->member, setting->allowed);
    }
    return 0;
}

static const struct setting *setting_find(const char *variable)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (strcmp(settings[i].variable, variable) == 0)
            return &settings[i];
    return NULL;
}

/* Says that one setting does not go with another, of which both are known by their variables. */
static int refuse_pair(const struct sluice_engine_options *options, const char *variable, const char *must_be,
                       const char *other_variable, char *why, size_t why_size)
{
    const struct setting *setting = setting_find(variable);
    const struct setting *other = setting_find(other_variable);
    char text[REASON_QUOTE_MAX];
    char other_text[REASON_QUOTE_MAX];

    setting_write(setting, setting_get(setting, options), text, sizeof text);
    setting_write(other, setting_get(other, options), other_text, sizeof other_text);
    return reason_refuse(why, why_size, "%s=%s: must be %s %s, which is %s", variable, text, must_be, other_variable,
                         other_text);
}

/* Members against each other, defaults filled in. */
static int check_pairs(const struct sluice_engine_options *options, char *why, size_t why_size)
{
    if (options->completion_entries < options->ring_entries)
        return refuse_pair(options, "SLUICE_COMPLETION_ENTRIES", "at least", "SLUICE_RING_ENTRIES", why, why_size);
    if (options->send_low_mark >= options->send_high_mark)
        return refuse_pair(options, "SLUICE_SEND_LOW_MARK", "less than", "SLUICE_SEND_HIGH_MARK", why, why_size);
    if (options->send_limit < options->send_high_mark)
        return refuse_pair(options, "SLUICE_SEND_LIMIT", "at least", "SLUICE_SEND_HIGH_MARK", why, why_size);
    if (options->memory_budget < options->send_high_mark)
        return refuse_pair(options, "SLUICE_MEMORY_BUDGET", "at least", "SLUICE_SEND_HIGH_MARK", why, why_size);
    if (options->sqpoll_cpu != 0 && options->sqpoll == 0)
        return reason_refuse(why, why_size, "SLUICE_SQPOLL_CPU=%u: must be any, unless SLUICE_SQPOLL=1",
                             options->sqpoll_cpu - 1);
    return 0;
}

int config_complete(const struct sluice_engine_options *given, struct sluice_engine_options *complete, char *why,
                    size_t why_size)
{
    struct sluice_engine_options options = {.size = sizeof options};
    int error = given != NULL ? config_copy(given, &options, why, why_size) : 0;

    if (error < 0)
        return error;
    config_fill(&options);
    error = check_ranges(&options, why, why_size);
    if (error < 0)
        return error;
    error = check_pairs(&options, why, why_size);
    if (error < 0)
        return error;
    *complete = options;
    return 0;
}

int sluice_engine_options_check(const struct sluice_engine_options *options, char *why, size_t why_size)
{
    struct sluice_engine_options complete;

    return config_complete(options, &complete, why, why_size);
}

/* -- Describing ---------------------------------------------------------------------------------------------- */

/* What the setting is when nobody sets it. */
static uint64_t setting_default(const struct setting *setting, const struct sluice_engine_options *options)
{
    struct sluice_engine_options unset = *options;

    setting_set(setting, &unset, 0);
    config_fill(&unset);
    return setting_get(setting, &unset);
}

int sluice_setting_describe(size_t index, const struct sluice_engine_options *options, struct sluice_setting *setting)
{
    struct sluice_engine_options effective = {.size = sizeof effective};
    const struct setting *row;
    uint64_t value;

    if (index >= SETTING_COUNT)
        return -ENOENT;
    row = &settings[index];
    if (options != NULL)
        (void)config_copy(options, &effective, NULL, 0);
    config_fill(&effective);
    value = setting_get(row, &effective);

    *setting = (struct sluice_setting){
        .variable = row->variable,
        .meaning = row->meaning,
        .allowed = row->allowed,
        .is_default = value == setting_default(row, &effective),
        .is_from_env = environment_sets(row->variable),
    };
    setting_write(row, value, setting->value, sizeof setting->value);
    return 0;
}
