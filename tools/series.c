/* Series: sorted as they grow. */
#include "tools/series.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 16
/* Between the quartiles of a normal distribution lie so many standard deviations. */
#define QUARTILES_APART 1.349
/* A median of normal values scatters so many times as far as their mean. */
#define MEDIAN_SCATTER 1.2533
/* Standard errors on each side that an estimate claims for noise. */
#define CAUTION 3

static int grow(struct series *series)
{
    size_t capacity = series->capacity > 0 ? 2 * series->capacity : CAPACITY_MIN;
    double *values = reallocarray(series->values, capacity, sizeof *values);

    if (values == NULL)
        return -ENOMEM;
    series->values = values;
    series->capacity = capacity;
    return 0;
}

int series_add(struct series *series, double value)
{
    size_t at = series->count;

    assert(isfinite(value));
    if (series->count == series->capacity && grow(series) < 0)
        return -ENOMEM;
    while (at > 0 && series->values[at - 1] > value)
        at--;
    memmove(series->values + at + 1, series->values + at, (series->count - at) * sizeof *series->values);
    series->values[at] = value;
    series->count++;
    return 0;
}

void series_finish(struct series *series)
{
    free(series->values);
    *series = (struct series){0};
}

/* Between the two values nearest to that share of the way from the least to the greatest. */
static double quantile(const struct series *series, double share)
{
    double position = share * (double)(series->count - 1);
    size_t below = (size_t)position;
    size_t above = below + 1 < series->count ? below + 1 : below;
    double rest = position - (double)below;

    assert(series->count > 0);
    return series->values[below] * (1 - rest) + series->values[above] * rest;
}

double series_median(const struct series *series)
{
    return quantile(series, 0.5);
}

double series_spread(const struct series *series)
{
    if (series->count < 2)
        return 0;
    return (quantile(series, 0.75) - quantile(series, 0.25)) / QUARTILES_APART;
}

/* What is measured may be less steady than the default, never more: a few values may agree by chance. */
struct series_estimate series_estimate(const struct series *differences, const struct series *noise)
{
    struct series_estimate estimate = {0};

    if (differences->count == 0)
        return estimate;
    estimate.is_known = noise->count >= SERIES_NOISE_MIN;
    estimate.gain = series_median(differences);
    estimate.noise = CAUTION * MEDIAN_SCATTER * fmax(series_spread(noise), series_spread(differences)) /
                     sqrt((double)differences->count);
    return estimate;
}
