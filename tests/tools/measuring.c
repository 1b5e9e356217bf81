/* What the measuring verbs count with: units, histogram, series, schedule and pattern, each against a simpler way. */
#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/histogram.h"
#include "tools/pattern.h"
#include "tools/schedule.h"
#include "tools/series.h"
#include "tools/units.h"

/* -- Units --------------------------------------------------------------------------------------------------- */

Test(units, sizes_and_durations_are_read)
{
    uint64_t value;

    cr_assert_eq(units_parse_size("64K", &value), 0);
    cr_assert_eq(value, 65536);
    cr_assert_eq(units_parse_size("7", &value), 0);
    cr_assert_eq(value, 7);
    cr_assert_eq(units_parse_duration("250ms", &value), 0);
    cr_assert_eq(value, 250 * UNITS_NS_PER_MS);
    cr_assert_eq(units_parse_duration("0", &value), 0);
    cr_assert_eq(value, 0);
    cr_assert_eq(units_parse_count("18446744073709551615", &value), 0);
    cr_assert_eq(value, UINT64_MAX);
}

Test(units, anything_else_is_refused)
{
    static const char *const texts[] = {"", "-1", "+1", " 1", "1 ", "1x", "0x10", "1.5s", "10", "s", "1S", "10sK"};
    uint64_t value = 42;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        cr_assert_eq(units_parse_duration(texts[i], &value), -EINVAL, "\"%s\"", texts[i]);
    cr_assert_eq(units_parse_size("17179869184G", &value), -ERANGE);
    cr_assert_eq(units_parse_count("18446744073709551616", &value), -ERANGE);
    cr_assert_eq(value, 42);
}

Test(units, what_is_written_is_read_back)
{
    static const uint64_t values[] = {0, 1, 999, 1000, 1024, 1536, 65536, 1500000, 3000000000, UINT64_MAX};
    char text[UNITS_TEXT_MAX];
    uint64_t value;

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        units_write_size(values[i], text, sizeof text);
        cr_assert_eq(units_parse_size(text, &value), 0, "%s", text);
        cr_assert_eq(value, values[i], "%s", text);
        units_write_duration(values[i], text, sizeof text);
        cr_assert_eq(units_parse_duration(text, &value), 0, "%s", text);
        cr_assert_eq(value, values[i], "%s", text);
    }
}

static void assert_shown(double time_ns, const char *expected)
{
    char text[UNITS_TEXT_MAX];

    units_show_duration(time_ns, text, sizeof text);
    cr_assert_str_eq(text, expected);
}

Test(units, three_digits_are_shown)
{
    assert_shown(0, "0 ns");
    assert_shown(9.7, "10 ns");
    assert_shown(1234, "1.23 us");
    assert_shown(9996, "10.0 us");
    assert_shown(999, "999 ns");
    assert_shown(12345, "12.3 us");
    assert_shown(99990, "100 us");
    assert_shown(1500000, "1.50 ms");
    assert_shown(3600e9, "3600 s");
}

/* -- Histogram ----------------------------------------------------------------------------------------------- */

static struct histogram histogram;
static struct histogram other;

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

/* A value of random magnitude. */
static uint64_t random_value(unsigned short seed[3])
{
    uint64_t value = (uint64_t)nrand48(seed) << 11 ^ (uint64_t)nrand48(seed);

    return value >> (nrand48(seed) % 42);
}

Test(histogram, percentiles_agree_with_sorting)
{
    enum {
        COUNT = 200000
    };
    static const uint32_t shares[] = {1, 5000, 9000, 9900, 9990, 9999};
    static uint64_t values[COUNT];
    unsigned short seed[3] = {1, 2, 3};
    uint64_t told;

    histogram_init(&histogram);
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = random_value(seed);
        histogram_record(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof values[0], compare);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        uint64_t exact = values[(uint64_t)COUNT * shares[i] / 10000 - 1];

        cr_assert(histogram_percentile(&histogram, shares[i], &told));
        cr_assert_geq(told, exact);
        cr_assert_leq(told - exact, exact / 1000, "%u: %lu, not %lu", shares[i], told, exact);
    }
    cr_assert(histogram_maximum(&histogram, &told));
    cr_assert_eq(told, values[COUNT - 1]);
    cr_assert_eq(histogram.min, values[0]);
    cr_assert_eq(histogram.count, COUNT);
}

Test(histogram, every_value_has_a_slot)
{
    uint64_t told;

    for (unsigned bits = 0; bits < 64; bits++) {
        uint64_t value = UINT64_C(1) << bits;

        histogram_init(&histogram);
        for (int i = 0; i < 20; i++) {
            histogram_record(&histogram, value - 1);
            histogram_record(&histogram, value);
        }
        cr_assert(histogram_percentile(&histogram, 5000, &told));
        if (bits < HISTOGRAM_VALUE_BITS)
            cr_assert_leq(told - (value - 1), value / 1000, "%u bits: %lu", bits, told);
        cr_assert(histogram_maximum(&histogram, &told));
        cr_assert_eq(told, value);
    }
}

Test(histogram, too_few_values_above_tell_nothing)
{
    uint64_t told = 42;

    histogram_init(&histogram);
    cr_assert_not(histogram_percentile(&histogram, 5000, &told));
    cr_assert_not(histogram_maximum(&histogram, &told));
    for (unsigned i = 0; i < 999; i++)
        histogram_record(&histogram, i);
    cr_assert_not(histogram_percentile(&histogram, 9900, &told));
    cr_assert_eq(told, 42);
    histogram_record(&histogram, 999);
    cr_assert(histogram_percentile(&histogram, 9900, &told));
    cr_assert_eq(told, 989);
}

Test(histogram, what_never_came_is_slower_than_all)
{
    uint64_t told;

    histogram_init(&histogram);
    for (unsigned i = 1; i <= 900; i++)
        histogram_record(&histogram, i);
    histogram_record_lost(&histogram, 100);
    cr_assert(histogram_percentile(&histogram, 9000, &told));
    cr_assert_eq(told, 900);
    cr_assert_not(histogram_percentile(&histogram, 9001, &told));
    cr_assert_not(histogram_maximum(&histogram, &told));
}

Test(histogram, merging_is_recording_both)
{
    unsigned short seed[3] = {4, 5, 6};
    static struct histogram both;

    histogram_init(&histogram);
    histogram_init(&other);
    histogram_init(&both);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t value = random_value(seed);

        histogram_record(i % 3 == 0 ? &histogram : &other, value);
        histogram_record(&both, value);
    }
    histogram_record_lost(&other, 7);
    histogram_record_lost(&both, 7);
    histogram_merge(&histogram, &other);
    cr_assert_arr_eq(&histogram, &both, sizeof both);
}

/* -- Series -------------------------------------------------------------------------------------------------- */

static struct series series_of(const double *values, size_t count)
{
    struct series series = {0};

    for (size_t i = 0; i < count; i++)
        cr_assert_eq(series_add(&series, values[i]), 0);
    return series;
}

static void assert_near(double value, double expected)
{
    cr_assert_lt(fabs(value - expected), 1e-9, "%.12f is not %.12f", value, expected);
}

Test(series, the_median_does_not_depend_on_the_order)
{
    static const double odd[] = {9, -2, 4, 4, 1};
    static const double even[] = {8, 1, 3, 2};
    struct series of_odd = series_of(odd, 5);
    struct series of_even = series_of(even, 4);

    assert_near(series_median(&of_odd), 4);
    assert_near(series_median(&of_even), 2.5);
    series_finish(&of_odd);
    series_finish(&of_even);
}

Test(series, the_spread_is_that_of_the_quartiles_whatever_the_rest)
{
    static const double values[] = {1, 2, 3, 4, 5};
    static const double with_outliers[] = {-1e9, 2, 3, 4, 1e9};
    struct series one = series_of(values, 1);
    struct series calm = series_of(values, 5);
    struct series wild = series_of(with_outliers, 5);

    assert_near(series_spread(&one), 0);
    assert_near(series_spread(&calm), 2 / 1.349);
    assert_near(series_spread(&wild), series_spread(&calm));
    series_finish(&one);
    series_finish(&calm);
    series_finish(&wild);
}

Test(series, nothing_is_known_without_enough_noise)
{
    static const double values[SERIES_NOISE_MIN] = {0.1, -0.1, 0.1, -0.1, 0.1, -0.1, 0.1, -0.1};
    struct series few = series_of(values, SERIES_NOISE_MIN - 1);
    struct series enough = series_of(values, SERIES_NOISE_MIN);
    struct series none = {0};

    cr_assert(!series_estimate(&enough, &few).is_known);
    cr_assert(!series_estimate(&none, &enough).is_known);
    cr_assert(series_estimate(&few, &enough).is_known);
    series_finish(&few);
    series_finish(&enough);
}

/* A uniform number from -1 to 1: noise that can be repeated. */
static double noise_of(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return (double)(*state >> 8) / (double)(1 << 23) - 1;
}

Test(series, a_gain_within_the_noise_is_hardly_ever_taken_for_one)
{
    enum {
        TRIES = 2000,
        ROUNDS = 5
    };
    uint32_t state = 1;
    size_t taken = 0;
    size_t found = 0;
    struct series noise = {0};

    for (size_t i = 0; i < 200; i++)
        cr_assert_eq(series_add(&noise, noise_of(&state)), 0);
    for (size_t i = 0; i < TRIES; i++) {
        struct series same = {0};
        struct series better = {0};
        struct series_estimate estimate;

        for (size_t round = 0; round < ROUNDS; round++) {
            cr_assert_eq(series_add(&same, noise_of(&state)), 0);
            cr_assert_eq(series_add(&better, 3 + noise_of(&state)), 0);
        }
        estimate = series_estimate(&same, &noise);
        taken += estimate.gain > estimate.noise;
        estimate = series_estimate(&better, &noise);
        found += estimate.gain > estimate.noise;
        series_finish(&same);
        series_finish(&better);
    }
    series_finish(&noise);
    cr_assert_lt(taken, TRIES / 200, "%zu of %d", taken, TRIES);
    cr_assert_gt(found, TRIES * 9 / 10, "%zu of %d", found, TRIES);
}

/* -- Schedule ------------------------------------------------------------------------------------------------ */

Test(schedule, counting_undoes_timing)
{
    static const uint64_t rates[] = {1, 3, 7, 1000, 48000, 333333, 99999999, 100000000};

    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct schedule schedule = {.start_ns = 123456789, .rate = rates[i]};

        for (uint64_t number = 0; number < UINT64_C(1) << 33; number += number / 3 + 1) {
            uint64_t time_ns = schedule_time(&schedule, number);

            cr_assert_eq(schedule_count(&schedule, time_ns), number, "%lu a second, number %lu", rates[i], number);
            cr_assert_eq(schedule_count(&schedule, time_ns + 1), number + 1, "%lu a second, number %lu", rates[i],
                         number);
        }
    }
}

Test(schedule, no_second_drifts)
{
    struct schedule schedule = {.start_ns = 5, .rate = 333333};

    for (uint64_t second = 0; second < 100000; second++)
        cr_assert_eq(schedule_time(&schedule, second * 333333), 5 + second * UNITS_NS_PER_S);
    cr_assert_eq(schedule_count(&schedule, 0), 0);
    cr_assert_eq(schedule_count(&schedule, 5), 0);
}

Test(schedule, shares_add_up)
{
    for (uint64_t count = 0; count < 50; count++) {
        for (uint64_t sharers = 1; sharers < 10; sharers++) {
            uint64_t sum = 0;

            for (uint64_t index = 0; index < sharers; index++) {
                uint64_t dealt = 0;

                for (uint64_t number = index; number < count; number += sharers)
                    dealt++;
                cr_assert_eq(schedule_share(count, sharers, index), dealt);
                sum += dealt;
            }
            cr_assert_eq(sum, count);
        }
    }
}

/* -- Pattern ------------------------------------------------------------------------------------------------- */

/* The stream in pieces of `piece`, as a sender makes it; then compared in pieces of `read`, as a receiver gets it. */
static void assert_agrees(size_t piece, size_t read)
{
    enum {
        LEN = 300000
    };
    static uint8_t stream[LEN];
    struct pattern pattern;
    size_t position = 0;

    cr_assert_eq(pattern_init(&pattern, piece), 0);
    for (size_t at = 0; at + piece <= LEN; at += piece) {
        cr_assert_leq(position + piece, pattern.len);
        for (size_t i = 0; i < piece; i++)
            stream[at + i] = pattern.bytes[position + i];
        position = pattern_advance(position, piece);
    }
    position = 0;
    for (size_t at = 0; at + read <= LEN / piece * piece; at += read) {
        cr_assert_eq(pattern_compare(&pattern, position, stream + at, read), read);
        position = pattern_advance(position, read);
    }
    pattern_finish(&pattern);
}

Test(pattern, pieces_of_any_size_agree)
{
    assert_agrees(1, 16384);
    assert_agrees(64, 1);
    assert_agrees(65521, 65536);
    assert_agrees(100000, 7777);
    assert_agrees(150000, 150000);
}

Test(pattern, a_wrong_byte_is_found)
{
    static uint8_t stream[200000];
    struct pattern pattern;

    cr_assert_eq(pattern_init(&pattern, 10), 0);
    for (size_t i = 0; i < sizeof stream; i++)
        stream[i] = pattern.bytes[i % PATTERN_PERIOD];
    cr_assert_eq(pattern_compare(&pattern, 0, stream, sizeof stream), sizeof stream);
    for (size_t wrong = 0; wrong < sizeof stream; wrong = wrong * 2 + 1) {
        stream[wrong] ^= 1;
        cr_assert_eq(pattern_compare(&pattern, 0, stream, sizeof stream), wrong);
        stream[wrong] ^= 1;
    }
    pattern_finish(&pattern);
}

Test(pattern, a_lost_block_shows)
{
    static const size_t blocks[] = {1, 64, 512, 1460, 4096, 16384, 65536, 131072};
    struct pattern pattern;

    cr_assert_eq(pattern_init(&pattern, 0), 0);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        cr_assert_lt(pattern_compare(&pattern, pattern_advance(0, blocks[i]), pattern.bytes, 64), 64);
    pattern_finish(&pattern);
}
