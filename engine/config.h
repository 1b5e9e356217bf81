/* Settings of an engine: one table of them, from which all that include/sluice/options.h offers is made. */
#ifndef ENGINE_CONFIG_H
#define ENGINE_CONFIG_H

#include <stddef.h>

#include <sluice/options.h>

struct setting;

/* Row `index` of the table, from 0; NULL past the last. */
const struct setting *config_setting(size_t index);

/*
 * Makes options of our size from a program's, which may be older (smaller) or newer (larger). Returns 0, or -EINVAL
 * with one line in `why`.
 */
int config_copy(const struct sluice_engine_options *given, struct sluice_engine_options *copy, char *why,
                size_t why_size);

/*
 * Copies `given`, which may be NULL or of an older program's size, and fills in every default: afterwards zero means
 * zero. Then checks each member and members against each other. `given` and `complete` may be the same.
 * Returns 0, or -EINVAL with one line in `why` and `complete` untouched.
 */
int config_complete(const struct sluice_engine_options *given, struct sluice_engine_options *complete, char *why,
                    size_t why_size);

#endif
