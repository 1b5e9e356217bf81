/* Settings: every range at its ends, every rule between two, and what the environment may say. */
#include "engine/config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/engine.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define US  UINT64_C(1000)
#define MS  (1000 * US)
#define S   (1000 * MS)
#define DAY (86400 * S)

/* Runs in a process of its own, as all criterion tests do: the environment of others stays as it is. */
static void clear_environment(void)
{
    clearenv();
}

TestSuite(config, .init = clear_environment);

static struct sluice_engine_options completed(const struct sluice_engine_options *given)
{
    struct sluice_engine_options complete;
    char why[SLUICE_REASON_MAX] = "";

    cr_assert_eq(config_complete(given, &complete, why, sizeof why), 0, "%s", why);
    return complete;
}

/* Reads the environment into zeroed options. */
static int from_env(struct sluice_engine_options *options, char why[SLUICE_REASON_MAX])
{
    *options = (struct sluice_engine_options){.size = sizeof *options};
    why[0] = '\0';
    return sluice_engine_options_from_env(options, why, SLUICE_REASON_MAX);
}

/* -- Defaults ------------------------------------------------------------------------------------------------ */

Test(config, fills_in_the_defaults_that_the_header_tells)
{
    const struct sluice_engine_options expected = {
        .size = sizeof expected,
        .ring_entries = 256,
        .completion_entries = 4096,
        .receive_buffer_count = 1024,
        .receive_buffer_size = 65536,
        .receive_buffer_window = 8,
        .send_high_mark = 512 * KIB,
        .send_low_mark = 128 * KIB,
        .send_limit = 16 * MIB,
        .receive_limit = 4 * MIB,
        .memory_budget = GIB,
        .backlog = 4096,
        .linger_ns = 10 * S,
        .connect_timeout_ns = 10 * S,
    };
    const struct sluice_engine_options zeroes = {.size = sizeof zeroes};
    struct sluice_engine_options complete = completed(NULL);

    cr_assert_eq(memcmp(&complete, &expected, offsetof(struct sluice_engine_options, disable)), 0);
    cr_assert_eq(complete.disable, 0);
    complete = completed(&zeroes);
    cr_assert_eq(memcmp(&complete, &expected, offsetof(struct sluice_engine_options, disable)), 0);
}

Test(config, puts_the_low_mark_at_a_quarter_of_the_high_one)
{
    struct sluice_engine_options options = {.size = sizeof options, .send_high_mark = 1 * MIB};

    cr_assert_eq(completed(&options).send_low_mark, 256 * KIB);
    options.send_high_mark = 3;
    cr_assert_eq(completed(&options).send_low_mark, 0);
    options.send_low_mark = 2;
    cr_assert_eq(completed(&options).send_low_mark, 2);
}

Test(config, completes_in_place)
{
    struct sluice_engine_options options = {.size = sizeof options, .backlog = 7};

    cr_assert_eq(config_complete(&options, &options, NULL, 0), 0);
    cr_assert_eq(options.backlog, 7);
    cr_assert_eq(options.linger_ns, 10 * S);
}

/* -- Sizes --------------------------------------------------------------------------------------------------- */

/* What a program compiled against a later header hands over. */
struct later_options {
    struct sluice_engine_options known;
    uint64_t unknown;
};

Test(config, takes_members_beyond_an_older_size_as_zero)
{
    struct sluice_engine_options options = {
        .size = offsetof(struct sluice_engine_options, send_low_mark),
        .send_high_mark = 1 * MIB,
        .send_low_mark = 4 * MIB, /* beyond */
        .backlog = UINT32_MAX,    /* beyond */
    };
    struct sluice_engine_options complete = completed(&options);

    cr_assert_eq(complete.size, sizeof complete);
    cr_assert_eq(complete.send_high_mark, 1 * MIB);
    cr_assert_eq(complete.send_low_mark, 256 * KIB);
    cr_assert_eq(complete.backlog, 4096);
}

Test(config, takes_later_options_whose_unknown_members_are_zero)
{
    struct later_options later = {.known.size = sizeof later, .known.backlog = 9};

    cr_assert_eq(completed(&later.known).backlog, 9);
    cr_assert_eq(completed(&later.known).size, sizeof later.known);
}

Test(config, refuses_later_options_that_ask_for_the_unknown)
{
    struct later_options later = {.known.size = sizeof later, .unknown = 1};
    char why[SLUICE_REASON_MAX] = "";

    cr_assert_eq(sluice_engine_options_check(&later.known, why, sizeof why), -EINVAL);
    cr_assert(strstr(why, "size="), "%s", why);
    cr_assert(strstr(why, "does not know"), "%s", why);
}

Test(config, refuses_a_size_that_cannot_be)
{
    static const size_t sizes[] = {0, 1, sizeof(size_t) - 1, 4097, SIZE_MAX};

    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct sluice_engine_options options = {.size = sizes[i]};
        char why[SLUICE_REASON_MAX] = "";
        char named[32];

        snprintf(named, sizeof named, "size=%zu", sizes[i]);
        cr_expect_eq(sluice_engine_options_check(&options, why, sizeof why), -EINVAL, "%zu", sizes[i]);
        cr_expect(strstr(why, named), "%s", why);
        cr_expect(strstr(why, "sizeof(struct sluice_engine_options)"), "%s", why);
        cr_expect_eq(sluice_engine_options_from_env(&options, why, sizeof why), -EINVAL, "%zu", sizes[i]);
    }
}

/* -- Ranges -------------------------------------------------------------------------------------------------- */

#define RANGE(variable, member, ...)                                                                                   \
    {                                                                                                                  \
        variable, offsetof(struct sluice_engine_options, member), sizeof((struct sluice_engine_options){0}.member),    \
            __VA_ARGS__                                                                                                \
    }

static const struct range {
    const char *variable;
    size_t offset;
    size_t size;
    const char *lowest; /* the ends of what is allowed, in text and as the member holds them */
    uint64_t minimum;
    const char *highest;
    uint64_t maximum;
    const char *too_low; /* just outside; NULL: zero is there */
    const char *too_high;
} ranges[] = {
    RANGE("SLUICE_RING_ENTRIES", ring_entries, "8", 8, "32768", 32768, "7", "32769"),
    RANGE("SLUICE_COMPLETION_ENTRIES", completion_entries, "8", 8, "65536", 65536, "7", "65537"),
    RANGE("SLUICE_RECEIVE_BUFFER_COUNT", receive_buffer_count, "8", 8, "32768", 32768, "4", "65536"),
    RANGE("SLUICE_RECEIVE_BUFFER_SIZE", receive_buffer_size, "256", 256, "1M", MIB, "255", "1048577"),
    RANGE("SLUICE_RECEIVE_BUFFER_WINDOW", receive_buffer_window, "1", 1, "32768", 32768, NULL, "32769"),
    RANGE("SLUICE_HUGE_PAGES", huge_pages, "0", 0, "1", 1, NULL, "2"),
    RANGE("SLUICE_SEND_HIGH_MARK", send_high_mark, "1", 1, "1024G", 1024 * GIB, NULL, "1025G"),
    RANGE("SLUICE_SEND_LOW_MARK", send_low_mark, "1", 1, "1024G", 1024 * GIB, NULL, "1025G"),
    RANGE("SLUICE_SEND_LIMIT", send_limit, "1", 1, "1024G", 1024 * GIB, NULL, "1025G"),
    RANGE("SLUICE_RECEIVE_LIMIT", receive_limit, "1", 1, "1024G", 1024 * GIB, NULL, "1025G"),
    RANGE("SLUICE_MEMORY_BUDGET", memory_budget, "1", 1, "1024G", 1024 * GIB, NULL, "1025G"),
    RANGE("SLUICE_ZERO_COPY_MINIMUM", zero_copy_minimum, "256", 256, "1024G", 1024 * GIB, "255", "1025G"),
    RANGE("SLUICE_BUSY_POLL", busy_poll_ns, "1us", US, "86400s", DAY, "999ns", "86401s"),
    RANGE("SLUICE_NAPI", napi_ns, "1us", US, "1s", S, "999", "1001ms"),
    RANGE("SLUICE_SQPOLL", sqpoll, "0", 0, "1", 1, NULL, "2"),
    RANGE("SLUICE_SQPOLL_CPU", sqpoll_cpu, "0", 1, "1023", 1024, NULL, "1024"),
    RANGE("SLUICE_THREAD_CPU", thread_cpu, "0", 1, "1023", 1024, NULL, "1024"),
    RANGE("SLUICE_BACKLOG", backlog, "1", 1, "65535", 65535, NULL, "65536"),
    RANGE("SLUICE_LINGER", linger_ns, "1ms", MS, "86400s", DAY, "999us", "86401s"),
    RANGE("SLUICE_IDLE_TIMEOUT", idle_timeout_ns, "1ms", MS, "86400s", DAY, "999999", "86400001ms"),
    RANGE("SLUICE_CONNECT_TIMEOUT", connect_timeout_ns, "1ms", MS, "86400s", DAY, "10", "86401s"),
};

static uint64_t get(const struct range *range, const struct sluice_engine_options *options)
{
    const void *member = (const char *)options + range->offset;

    return range->size == 8 ? *(const uint64_t *)member : *(const uint32_t *)member;
}

static void set(const struct range *range, struct sluice_engine_options *options, uint64_t value)
{
    void *member = (char *)options + range->offset;

    if (range->size == 8)
        *(uint64_t *)member = value;
    else
        *(uint32_t *)member = (uint32_t)value;
}

/* Sets what else must be so that `range` can be tried at both of its ends. */
static struct sluice_engine_options roomy(const struct range *range, uint64_t value)
{
    struct sluice_engine_options options = {.size = sizeof options};
    bool needs_high_mark = strcmp(range->variable, "SLUICE_SEND_LOW_MARK") == 0 || value == 1024 * GIB;

    options.ring_entries = 8;
    options.completion_entries = 65536;
    options.send_high_mark = needs_high_mark ? 1024 * GIB : 1;
    options.send_limit = 1024 * GIB;
    options.memory_budget = 1024 * GIB;
    options.sqpoll = 1;
    return options;
}

Test(config, takes_both_ends_of_every_range)
{
    for (size_t i = 0; i < COUNT(ranges); i++) {
        const struct range *range = &ranges[i];
        uint64_t ends[] = {range->minimum, range->maximum};

        /* No high mark is above a low mark of 1024G. */
        if (strcmp(range->variable, "SLUICE_SEND_LOW_MARK") == 0)
            ends[1] = range->maximum - 1;
        for (size_t end = 0; end < 2; end++) {
            struct sluice_engine_options options = roomy(range, ends[end]);
            char why[SLUICE_REASON_MAX] = "";

            set(range, &options, ends[end]);
            cr_expect_eq(sluice_engine_options_check(&options, why, sizeof why), 0, "%s", why);
        }
    }
}

Test(config, refuses_members_outside_their_range)
{
    for (size_t i = 0; i < COUNT(ranges); i++) {
        const struct range *range = &ranges[i];
        struct sluice_engine_options options = {.size = sizeof options};
        char why[SLUICE_REASON_MAX] = "";

        set(range, &options, range->maximum + 1);
        cr_expect_eq(sluice_engine_options_check(&options, why, sizeof why), -EINVAL, "%s", range->variable);
        cr_expect(strstr(why, range->variable), "%s", why);
        cr_expect(strstr(why, range->highest), "%s", why);
        if (range->minimum <= 1)
            continue;
        set(range, &options, range->minimum - 1);
        cr_expect_eq(sluice_engine_options_check(&options, why, sizeof why), -EINVAL, "%s", range->variable);
        cr_expect(strstr(why, range->variable), "%s", why);
        cr_expect(strstr(why, range->lowest), "%s", why);
    }
}

Test(config, names_member_value_and_range)
{
    struct sluice_engine_options options = {.size = sizeof options, .busy_poll_ns = 500};
    char why[SLUICE_REASON_MAX];

    cr_assert_eq(sluice_engine_options_check(&options, why, sizeof why), -EINVAL);
    cr_assert_str_eq(why, "SLUICE_BUSY_POLL=500ns (member busy_poll_ns): allowed is a time from 1us to 86400s; "
                          "0: sleep at once");
}

Test(config, refuses_buffer_counts_that_are_no_power_of_two)
{
    static const uint32_t counts[] = {9, 255, 257, 32767};

    for (size_t i = 0; i < COUNT(counts); i++) {
        struct sluice_engine_options options = {.size = sizeof options, .receive_buffer_count = counts[i]};
        char why[SLUICE_REASON_MAX] = "";

        cr_expect_eq(sluice_engine_options_check(&options, why, sizeof why), -EINVAL);
        cr_expect(strstr(why, "power of two"), "%s", why);
    }
}

Test(config, refuses_unknown_features)
{
    struct sluice_engine_options options = {.size = sizeof options, .disable = 1 << 10};
    char why[SLUICE_REASON_MAX] = "";

    cr_assert_eq(sluice_engine_options_check(&options, why, sizeof why), -EINVAL);
    cr_assert(strstr(why, "SLUICE_DISABLE=1024"), "%s", why);
    cr_assert(strstr(why, "no_iowait"), "%s", why);
    options.disable = 0xff;
    cr_assert_eq(sluice_engine_options_check(&options, why, sizeof why), 0);
}

/* -- Members against each other ------------------------------------------------------------------------------ */

Test(config, holds_members_against_each_other)
{
    static const struct {
        struct sluice_engine_options options;
        const char *why; /* NULL: allowed */
    } cases[] = {
        {{.ring_entries = 4096}, NULL},
        {{.ring_entries = 4097}, "SLUICE_COMPLETION_ENTRIES=4096: must be at least SLUICE_RING_ENTRIES, which is 4097"},
        {{.completion_entries = 256}, NULL},
        {{.completion_entries = 255},
         "SLUICE_COMPLETION_ENTRIES=255: must be at least SLUICE_RING_ENTRIES, which is 256"},
        {{.send_low_mark = 512 * KIB - 1}, NULL},
        {{.send_low_mark = 512 * KIB},
         "SLUICE_SEND_LOW_MARK=512K: must be less than SLUICE_SEND_HIGH_MARK, which is 512K"},
        {{.send_high_mark = 16 * MIB}, NULL},
        {{.send_high_mark = 17 * MIB}, "SLUICE_SEND_LIMIT=16M: must be at least SLUICE_SEND_HIGH_MARK, which is 17M"},
        {{.send_limit = 64 * KIB}, NULL},
        {{.send_limit = 65535}, "SLUICE_SEND_LIMIT=65535: must be at least SLUICE_SEND_HIGH_MARK, which is 64K"},
        {{.memory_budget = 64 * KIB}, NULL},
        {{.memory_budget = 65535}, "SLUICE_MEMORY_BUDGET=65535: must be at least SLUICE_SEND_HIGH_MARK, which is 64K"},
        {{.sqpoll = 1, .sqpoll_cpu = 4}, NULL},
        {{.sqpoll_cpu = 4}, "SLUICE_SQPOLL_CPU=3: must be any, unless SLUICE_SQPOLL=1"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sluice_engine_options options = cases[i].options;
        char why[SLUICE_REASON_MAX] = "";

        options.size = sizeof options;
        cr_expect_eq(sluice_engine_options_check(&options, why, sizeof why), cases[i].why != NULL ? -EINVAL : 0);
        cr_expect_str_eq(why, cases[i].why != NULL ? cases[i].why : "");
    }
}

Test(config, leaves_the_result_alone_when_it_refuses)
{
    const struct sluice_engine_options options = {.size = sizeof options, .send_low_mark = MIB};
    struct sluice_engine_options complete = {.backlog = 77};

    cr_assert_eq(config_complete(&options, &complete, NULL, 0), -EINVAL);
    cr_assert_eq(complete.backlog, 77);
}

/* -- The environment ----------------------------------------------------------------------------------------- */

Test(config, reads_nothing_from_an_empty_environment)
{
    struct sluice_engine_options options, zeroes = {.size = sizeof zeroes};
    char why[SLUICE_REASON_MAX];

    cr_assert_eq(from_env(&options, why), 0, "%s", why);
    cr_assert_eq(memcmp(&options, &zeroes, offsetof(struct sluice_engine_options, disable)), 0);
}

static void set_roomy_environment(const struct range *range)
{
    clearenv();
    setenv("SLUICE_RING_ENTRIES", "8", 1);
    setenv("SLUICE_COMPLETION_ENTRIES", "65536", 1);
    setenv("SLUICE_SEND_HIGH_MARK", strcmp(range->variable, "SLUICE_SEND_LOW_MARK") == 0 ? "1024G" : "1", 1);
    setenv("SLUICE_SEND_LIMIT", "1024G", 1);
    setenv("SLUICE_MEMORY_BUDGET", "1024G", 1);
    setenv("SLUICE_SQPOLL", "1", 1);
}

Test(config, reads_both_ends_of_every_range_from_the_environment)
{
    for (size_t i = 0; i < COUNT(ranges); i++) {
        const struct range *range = &ranges[i];
        struct sluice_engine_options options;
        char why[SLUICE_REASON_MAX];

        set_roomy_environment(range);
        setenv(range->variable, range->lowest, 1);
        cr_expect_eq(from_env(&options, why), 0, "%s", why);
        cr_expect_eq(get(range, &options), range->minimum, "%s", range->variable);
        if (strcmp(range->variable, "SLUICE_SEND_LOW_MARK") == 0)
            continue; /* no high mark is above its end */
        setenv(range->variable, range->highest, 1);
        cr_expect_eq(from_env(&options, why), 0, "%s", why);
        cr_expect_eq(get(range, &options), range->maximum, "%s", range->variable);
    }
}

/* The refusal names variable, value and what is allowed, and nothing has changed. */
static void expect_refused(const char *variable, const char *value, const char *allowed)
{
    struct sluice_engine_options options = {.size = sizeof options, .backlog = 77};
    struct sluice_engine_options before = options;
    char why[SLUICE_REASON_MAX] = "";
    char named[128];

    clearenv();
    setenv("SLUICE_RING_ENTRIES", "64", 1);
    setenv(variable, value, 1);
    snprintf(named, sizeof named, "%s=\"%.58s", variable, value);
    cr_expect_eq(sluice_engine_options_from_env(&options, why, sizeof why), -EINVAL, "%s=%s", variable, value);
    cr_expect_eq(strncmp(why, named, strlen(named)), 0, "%s", why);
    cr_expect(strstr(why, allowed), "%s", why);
    cr_expect_null(strchr(why, '\n'), "%s", why);
    cr_expect_eq(memcmp(&options, &before, sizeof options), 0, "%s=%s", variable, value);
}

Test(config, refuses_values_outside_their_range)
{
    for (size_t i = 0; i < COUNT(ranges); i++) {
        if (ranges[i].too_low != NULL)
            expect_refused(ranges[i].variable, ranges[i].too_low, ranges[i].lowest);
        expect_refused(ranges[i].variable, ranges[i].too_high, ranges[i].highest);
    }
}

Test(config, refuses_values_that_are_not_numbers)
{
    static const char *const values[] = {
        "",
        " ",
        "x",
        "-1",
        "+8",
        " 8",
        "8 ",
        "8.5",
        "0x10",
        "1e3",
        "8KB",
        "8k",
        "8T",
        "8 K",
        "K",
        "ms",
        "8sec",
        "8S",
        "8m",
        "99999999999999999999",
        "18446744073709551616",
        "18446744073709551615G",
        "18446744073709551615s",
        "one",
        "yes",
        "8,9",
        "0 any",
    };

    for (size_t i = 0; i < COUNT(ranges); i++)
        for (size_t j = 0; j < COUNT(values); j++)
            expect_refused(ranges[i].variable, values[j], ranges[i].highest);
}

Test(config, takes_suffixes_for_their_own_kind_only)
{
    expect_refused("SLUICE_RING_ENTRIES", "1K", "a number from 8 to 32768");
    expect_refused("SLUICE_RECEIVE_BUFFER_COUNT", "1K", "a power of two from 8 to 32768");
    expect_refused("SLUICE_SEND_LIMIT", "1s", "bytes from 1 to 1024G");
    expect_refused("SLUICE_LINGER", "1M", "a time from 1ms to 86400s");
    expect_refused("SLUICE_LINGER", "any", "a time from 1ms to 86400s");
    expect_refused("SLUICE_THREAD_CPU", "1K", "a CPU from 0 to 1023, or any");
    expect_refused("SLUICE_THREAD_CPU", "18446744073709551615", "a CPU from 0 to 1023, or any");
}

Test(config, reads_every_suffix)
{
    static const struct {
        const char *variable;
        const char *text;
        size_t offset;
        uint64_t value;
    } cases[] = {
        {"SLUICE_SEND_LIMIT", "70000", offsetof(struct sluice_engine_options, send_limit), 70000},
        {"SLUICE_SEND_LIMIT", "65K", offsetof(struct sluice_engine_options, send_limit), 65 * KIB},
        {"SLUICE_SEND_LIMIT", "5M", offsetof(struct sluice_engine_options, send_limit), 5 * MIB},
        {"SLUICE_SEND_LIMIT", "3G", offsetof(struct sluice_engine_options, send_limit), 3 * GIB},
        {"SLUICE_SEND_LIMIT", "0070000", offsetof(struct sluice_engine_options, send_limit), 70000},
        {"SLUICE_LINGER", "2000000", offsetof(struct sluice_engine_options, linger_ns), 2 * MS},
        {"SLUICE_LINGER", "2000000ns", offsetof(struct sluice_engine_options, linger_ns), 2 * MS},
        {"SLUICE_LINGER", "2500us", offsetof(struct sluice_engine_options, linger_ns), 2500 * US},
        {"SLUICE_LINGER", "250ms", offsetof(struct sluice_engine_options, linger_ns), 250 * MS},
        {"SLUICE_LINGER", "3s", offsetof(struct sluice_engine_options, linger_ns), 3 * S},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sluice_engine_options options;
        char why[SLUICE_REASON_MAX];

        clearenv();
        setenv(cases[i].variable, cases[i].text, 1);
        cr_expect_eq(from_env(&options, why), 0, "%s", why);
        cr_expect_eq(*(const uint64_t *)(const void *)((const char *)&options + cases[i].offset), cases[i].value,
                     "%s=%s", cases[i].variable, cases[i].text);
    }
}

Test(config, takes_zero_as_the_default)
{
    for (size_t i = 0; i < COUNT(ranges); i++) {
        struct sluice_engine_options options = {.size = sizeof options};
        char why[SLUICE_REASON_MAX] = "";

        if (strstr(ranges[i].variable, "_CPU") != NULL)
            continue;
        clearenv();
        setenv(ranges[i].variable, "0", 1);
        set(&ranges[i], &options, ranges[i].maximum);
        cr_expect_eq(sluice_engine_options_from_env(&options, why, sizeof why), 0, "%s", why);
        cr_expect_eq(get(&ranges[i], &options), 0, "%s", ranges[i].variable);
    }
}

Test(config, reads_any_cpu)
{
    struct sluice_engine_options options = {.size = sizeof options, .thread_cpu = 3};

    setenv("SLUICE_THREAD_CPU", "any", 1);
    cr_assert_eq(sluice_engine_options_from_env(&options, NULL, 0), 0);
    cr_assert_eq(options.thread_cpu, 0);
}

Test(config, reads_features_to_do_without)
{
    static const struct {
        const char *text;
        uint32_t features;
    } cases[] = {
        {"", 0},
        {"none", 0},
        {"zero_copy", SLUICE_FEATURE_ZERO_COPY},
        {"zero_copy,no_iowait", SLUICE_FEATURE_ZERO_COPY | SLUICE_FEATURE_NO_IOWAIT},
        {"no_iowait,zero_copy,zero_copy", SLUICE_FEATURE_ZERO_COPY | SLUICE_FEATURE_NO_IOWAIT},
        {"defer_taskrun,single_issuer,registered_ring,multishot_accept,multishot_receive,zero_copy,inline_send,"
         "no_iowait,quiet_send,receive_bundle",
         0x3ff},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sluice_engine_options options;
        char why[SLUICE_REASON_MAX];

        setenv("SLUICE_DISABLE", cases[i].text, 1);
        cr_expect_eq(from_env(&options, why), 0, "%s", why);
        cr_expect_eq(options.disable, cases[i].features, "%s", cases[i].text);
    }
}

Test(config, refuses_features_it_does_not_know)
{
    static const char *const texts[] = {
        ",",
        "zero_copy,",
        ",zero_copy",
        "zero_copy,,no_iowait",
        "zero_copy no_iowait",
        "Zero_copy",
        "zero_cop",
        "zero_copyy",
        "none,none",
        "zero_copy,none",
        "1",
        "all",
        "a name that is much longer than all that could fit into one line of a hundred and twenty characters, or so",
    };

    for (size_t i = 0; i < COUNT(texts); i++)
        expect_refused("SLUICE_DISABLE", texts[i], "inline_send, no_iowait, quiet_send, receive_bundle");
}

Test(config, refuses_variables_it_does_not_know)
{
    static const struct {
        const char *variable;
        const char *nearest;
    } cases[] = {
        {"SLUICE_RING_ENTRYS", "SLUICE_RING_ENTRIES"},
        {"SLUICE_SEND_HIGHMARK", "SLUICE_SEND_HIGH_MARK"},
        {"SLUICE_SEND_LOW_MRAK", "SLUICE_SEND_LOW_MARK"},
        {"SLUICE_Disable", "SLUICE_DISABLE"},
        {"SLUICE_BACKLOGS", "SLUICE_BACKLOG"},
        {"SLUICE_BUSYPOLL", "SLUICE_BUSY_POLL"},
        {"SLUICE_SQPOLLCPU", "SLUICE_SQPOLL_CPU"},
        {"SLUICE_", "SLUICE_NAPI"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sluice_engine_options options;
        char why[SLUICE_REASON_MAX];
        char expected[128];

        clearenv();
        setenv(cases[i].variable, "1", 1);
        snprintf(expected, sizeof expected, "\"%s=1\": no such setting; did you mean %s?", cases[i].variable,
                 cases[i].nearest);
        cr_expect_eq(from_env(&options, why), -EINVAL);
        cr_expect_str_eq(why, expected);
    }
}

Test(config, refuses_unknown_variables_of_any_length)
{
    struct sluice_engine_options options;
    char why[SLUICE_REASON_MAX];
    char name[5000] = "SLUICE_";

    memset(name + 7, 'A', sizeof name - 8);
    setenv(name, "1", 1);
    cr_assert_eq(from_env(&options, why), -EINVAL);
    cr_assert(strstr(why, "SLUICE_AAA"), "%s", why);
    cr_assert(strstr(why, "did you mean SLUICE_"), "%s", why);
}

Test(config, leaves_other_variables_alone)
{
    struct sluice_engine_options options;
    char why[SLUICE_REASON_MAX];

    setenv("SLUICEGATE", "1", 1);
    setenv("sluice_backlog", "x", 1);
    setenv("MY_SLUICE_BACKLOG", "x", 1);
    cr_assert_eq(from_env(&options, why), 0, "%s", why);
}

Test(config, holds_the_environment_against_what_the_program_set)
{
    struct sluice_engine_options options = {.size = sizeof options, .send_low_mark = 32 * KIB};
    char why[SLUICE_REASON_MAX] = "";

    setenv("SLUICE_SEND_HIGH_MARK", "32K", 1);
    cr_assert_eq(sluice_engine_options_from_env(&options, why, sizeof why), -EINVAL);
    cr_assert_str_eq(why, "SLUICE_SEND_LOW_MARK=32K: must be less than SLUICE_SEND_HIGH_MARK, which is 32K");
    cr_assert_eq(options.send_high_mark, 0);
    setenv("SLUICE_SEND_LOW_MARK", "0", 1);
    cr_assert_eq(sluice_engine_options_from_env(&options, why, sizeof why), 0, "%s", why);
    cr_assert_eq(options.send_high_mark, 32 * KIB);
    cr_assert_eq(options.send_low_mark, 0);
}

Test(config, writes_no_further_than_the_size_of_older_options)
{
    struct sluice_engine_options options = {.size = offsetof(struct sluice_engine_options, backlog), .backlog = 77};
    char why[SLUICE_REASON_MAX] = "";

    setenv("SLUICE_RING_ENTRIES", "64", 1);
    cr_assert_eq(sluice_engine_options_from_env(&options, why, sizeof why), 0, "%s", why);
    cr_assert_eq(options.size, offsetof(struct sluice_engine_options, backlog));
    cr_assert_eq(options.ring_entries, 64);
    cr_assert_eq(options.backlog, 77);

    setenv("SLUICE_BACKLOG", "9", 1);
    cr_assert_eq(sluice_engine_options_from_env(&options, why, sizeof why), -EINVAL);
    cr_assert(strstr(why, "SLUICE_BACKLOG=\"9\": this program was built for an older Sluice"), "%s", why);
    cr_assert_eq(options.backlog, 77);
}

Test(config, keeps_the_size_of_later_options)
{
    struct later_options later = {.known.size = sizeof later};

    setenv("SLUICE_BACKLOG", "9", 1);
    cr_assert_eq(sluice_engine_options_from_env(&later.known, NULL, 0), 0);
    cr_assert_eq(later.known.size, sizeof later);
    cr_assert_eq(later.known.backlog, 9);
}

/* -- Describing ---------------------------------------------------------------------------------------------- */

/* Finds a setting by its variable. */
static struct sluice_setting describe(const char *variable, const struct sluice_engine_options *options)
{
    struct sluice_setting setting;

    for (size_t i = 0; sluice_setting_describe(i, options, &setting) == 0; i++)
        if (strcmp(setting.variable, variable) == 0)
            return setting;
    cr_assert_fail("%s is not described", variable);
    abort();
}

Test(config, describes_every_setting_in_the_order_of_the_options)
{
    struct sluice_setting setting;

    for (size_t i = 0; i < COUNT(ranges); i++) {
        cr_assert_eq(sluice_setting_describe(i, NULL, &setting), 0);
        cr_expect_str_eq(setting.variable, ranges[i].variable);
        cr_expect(strstr(setting.allowed, ranges[i].highest), "%s: %s", setting.variable, setting.allowed);
        cr_expect(strlen(setting.meaning) > 0);
        cr_expect(setting.is_default);
        cr_expect_not(setting.is_from_env);
    }
    cr_assert_eq(sluice_setting_describe(COUNT(ranges), NULL, &setting), 0);
    cr_assert_str_eq(setting.variable, "SLUICE_DISABLE");
    cr_assert_eq(sluice_setting_describe(COUNT(ranges) + 1, NULL, &setting), -ENOENT);
    cr_assert_eq(sluice_setting_describe(SIZE_MAX, NULL, &setting), -ENOENT);
}

Test(config, describes_values_as_their_variables_are_written)
{
    static const struct {
        const char *variable;
        const char *value;
    } defaults[] = {
        {"SLUICE_RING_ENTRIES", "256"},    {"SLUICE_RECEIVE_BUFFER_SIZE", "64K"},
        {"SLUICE_HUGE_PAGES", "0"},        {"SLUICE_SEND_LOW_MARK", "128K"},
        {"SLUICE_SEND_LIMIT", "16M"},      {"SLUICE_MEMORY_BUDGET", "1G"},
        {"SLUICE_ZERO_COPY_MINIMUM", "0"}, {"SLUICE_BUSY_POLL", "0"},
        {"SLUICE_THREAD_CPU", "any"},      {"SLUICE_LINGER", "10s"},
        {"SLUICE_DISABLE", "none"},
    };
    struct sluice_engine_options options = {
        .size = sizeof options,
        .send_limit = 64 * MIB + 1,
        .busy_poll_ns = 50 * US,
        .linger_ns = 1500 * MS,
        .thread_cpu = 1,
        .disable = SLUICE_FEATURE_ZERO_COPY | SLUICE_FEATURE_NO_IOWAIT,
    };

    for (size_t i = 0; i < COUNT(defaults); i++)
        cr_expect_str_eq(describe(defaults[i].variable, NULL).value, defaults[i].value);
    cr_expect_str_eq(describe("SLUICE_SEND_LIMIT", &options).value, "67108865");
    cr_expect_str_eq(describe("SLUICE_BUSY_POLL", &options).value, "50us");
    cr_expect_str_eq(describe("SLUICE_LINGER", &options).value, "1500ms");
    cr_expect_str_eq(describe("SLUICE_THREAD_CPU", &options).value, "0");
    cr_expect_str_eq(describe("SLUICE_DISABLE", &options).value, "zero_copy,no_iowait");
    cr_expect_not(describe("SLUICE_DISABLE", &options).is_default);
}

Test(config, reads_back_every_value_it_describes)
{
    for (size_t i = 0; i < COUNT(ranges); i++) {
        struct sluice_engine_options options = roomy(&ranges[i], ranges[i].minimum);
        struct sluice_engine_options read;
        char why[SLUICE_REASON_MAX];
        struct sluice_setting setting;

        set(&ranges[i], &options, ranges[i].minimum);
        clearenv();
        for (size_t j = 0; sluice_setting_describe(j, &options, &setting) == 0; j++)
            setenv(setting.variable, setting.value, 1);
        cr_expect_eq(from_env(&read, why), 0, "%s", why);
        cr_expect_eq(get(&ranges[i], &read), ranges[i].minimum, "%s", ranges[i].variable);
    }
}

Test(config, tells_defaults_from_what_was_set)
{
    struct sluice_engine_options options = {.size = sizeof options, .backlog = 4096, .send_high_mark = 32 * KIB};

    setenv("SLUICE_LINGER", "10s", 1);
    cr_assert_eq(sluice_engine_options_from_env(&options, NULL, 0), 0);
    cr_expect(describe("SLUICE_BACKLOG", &options).is_default, "set to the same");
    cr_expect(describe("SLUICE_LINGER", &options).is_default, "set to the same");
    cr_expect(describe("SLUICE_LINGER", &options).is_from_env);
    cr_expect_not(describe("SLUICE_SEND_HIGH_MARK", &options).is_default);
    cr_expect_not(describe("SLUICE_SEND_HIGH_MARK", &options).is_from_env);
    cr_expect(describe("SLUICE_SEND_LOW_MARK", &options).is_default, "a quarter of the high mark");
    cr_expect_str_eq(describe("SLUICE_SEND_LOW_MARK", &options).value, "8K");
}

Test(config, describes_settings_that_would_be_refused)
{
    const struct sluice_engine_options options = {.size = sizeof options, .send_low_mark = MIB};

    cr_assert_str_eq(describe("SLUICE_SEND_LOW_MARK", &options).value, "1M");
}

/* -- Features ------------------------------------------------------------------------------------------------ */

Test(config, names_features)
{
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_DEFER_TASKRUN), "defer_taskrun");
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_SINGLE_ISSUER), "single_issuer");
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_REGISTERED_RING), "registered_ring");
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_MULTISHOT_ACCEPT), "multishot_accept");
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_MULTISHOT_RECEIVE), "multishot_receive");
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_ZERO_COPY), "zero_copy");
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_INLINE_SEND), "inline_send");
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_NO_IOWAIT), "no_iowait");
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_QUIET_SEND), "quiet_send");
    cr_assert_str_eq(sluice_feature_name(SLUICE_FEATURE_RECEIVE_BUNDLE), "receive_bundle");
    cr_assert_null(sluice_feature_name(0));
    cr_assert_null(sluice_feature_name(1 << 10));
    cr_assert_null(sluice_feature_name(UINT32_MAX));
    cr_assert_null(sluice_feature_name(SLUICE_FEATURE_ZERO_COPY | SLUICE_FEATURE_NO_IOWAIT));
}
