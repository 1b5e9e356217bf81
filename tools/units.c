/* Units: one table for each kind of number, used both to read and to write. */
#include "tools/units.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *typed; /* as on a command line */
    const char *shown; /* as in a report */
    uint64_t scale;
};

/* The tables go from the smallest unit to the largest. */
static const struct unit count_units[] = {
    {"", "", 1},
};

static const struct unit size_units[] = {
    {"", "bytes", 1},
    {"K", "KiB", UINT64_C(1) << 10},
    {"M", "MiB", UINT64_C(1) << 20},
    {"G", "GiB", UINT64_C(1) << 30},
};

static const struct unit duration_units[] = {
    {"ns", "ns", 1},
    {"us", "us", 1000},
    {"ms", "ms", UNITS_NS_PER_MS},
    {"s", "s", UNITS_NS_PER_S},
};

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* Reads decimal digits and leaves `*text` behind them. */
static int parse_digits(const char **text, uint64_t *number)
{
    uint64_t sum = 0;

    if (**text < '0' || **text > '9')
        return -EINVAL;
    for (; **text >= '0' && **text <= '9'; (*text)++) {
        if (__builtin_mul_overflow(sum, UINT64_C(10), &sum))
            return -ERANGE;
        if (__builtin_add_overflow(sum, (uint64_t)(**text - '0'), &sum))
            return -ERANGE;
    }
    *number = sum;
    return 0;
}

static const struct unit *find_unit(const char *typed, const struct unit *units, size_t unit_count)
{
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(typed, units[i].typed) == 0)
            return &units[i];
    }
    return NULL;
}

static int parse(const char *text, const struct unit *units, size_t unit_count, uint64_t *value)
{
    const struct unit *unit;
    uint64_t number;
    int error = parse_digits(&text, &number);

    if (error < 0)
        return error;
    unit = find_unit(text, units, unit_count);
    if (unit == NULL && number == 0 && *text == '\0')
        unit = &units[0]; /* nothing needs no unit */
    if (unit == NULL)
        return -EINVAL;
    if (__builtin_mul_overflow(number, unit->scale, &number))
        return -ERANGE;
    *value = number;
    return 0;
}

int units_parse_count(const char *text, uint64_t *count)
{
    return parse(text, count_units, COUNT(count_units), count);
}

int units_parse_size(const char *text, uint64_t *bytes)
{
    return parse(text, size_units, COUNT(size_units), bytes);
}

int units_parse_duration(const char *text, uint64_t *time_ns)
{
    return parse(text, duration_units, COUNT(duration_units), time_ns);
}

/* In the largest unit that divides it. */
static void write_exactly(uint64_t value, const struct unit *units, size_t unit_count, char *text, size_t text_size)
{
    size_t i = unit_count - 1;

    assert(units[0].scale == 1);
    if (value == 0) {
        snprintf(text, text_size, "0");
        return;
    }
    while (value % units[i].scale != 0)
        i--;
    snprintf(text, text_size, "%" PRIu64 "%s", value / units[i].scale, units[i].typed);
}

void units_write_size(uint64_t bytes, char *text, size_t text_size)
{
    write_exactly(bytes, size_units, COUNT(size_units), text, text_size);
}

void units_write_duration(uint64_t time_ns, char *text, size_t text_size)
{
    write_exactly(time_ns, duration_units, COUNT(duration_units), text, text_size);
}

/* In the largest unit of which there is at least one; what is smaller than the smallest is not worth a digit. */
static void show(double value, const struct unit *units, size_t unit_count, char *text, size_t text_size)
{
    size_t i = 0;
    double scaled;
    int digits;

    while (i + 1 < unit_count && value >= (double)units[i + 1].scale)
        i++;
    scaled = value / (double)units[i].scale;
    digits = i == 0 || scaled >= 99.95 ? 0 : scaled >= 9.995 ? 1 : 2;
    snprintf(text, text_size, "%.*f %s", digits, scaled, units[i].shown);
}

void units_show_size(double bytes, char *text, size_t text_size)
{
    show(bytes, size_units, COUNT(size_units), text, text_size);
}

void units_show_duration(double time_ns, char *text, size_t text_size)
{
    show(time_ns, duration_units, COUNT(duration_units), text, text_size);
}
