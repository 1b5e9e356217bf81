/*
 * Measurements of which only the order matters: their median and how far they spread, neither of which a few
 * outliers can move; and what a series of differences says in view of the noise.
 */
#ifndef TOOLS_SERIES_H
#define TOOLS_SERIES_H

#include <stdbool.h>
#include <stddef.h>

/* Start from zeroes. */
struct series {
    double *values; /* in ascending order */
    size_t count;
    size_t capacity;
};

/* Returns 0, or -ENOMEM. */
int series_add(struct series *series, double value);
void series_finish(struct series *series);

/* Of at least one value. */
double series_median(const struct series *series);

/* The standard deviation that a normal distribution with these quartiles would have; 0 of less than two values. */
double series_spread(const struct series *series);

/* Fewer differences of the default with itself do not tell how large the noise is. */
#define SERIES_NOISE_MIN 8

/*
 * What differences between two things mean. `gain` is their median; the truth lies within `noise` of it but for one
 * time in some hundreds, so that of dozens of things that make no difference hardly one is taken for a gain.
 */
struct series_estimate {
    bool is_known; /* True exactly when there is a difference, and enough noise has been seen. */
    double gain;
    double noise;
};

/* `noise` are differences of the same kind between two things that are the same. */
struct series_estimate series_estimate(const struct series *differences, const struct series *noise);

#endif
