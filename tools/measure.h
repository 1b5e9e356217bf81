/* One measurement from start to end: an engine on this thread, a load on it, progress meanwhile, a report after. */
#ifndef TOOLS_MEASURE_H
#define TOOLS_MEASURE_H

#include <stdbool.h>

#include <sluice/options.h>

#include "tools/load.h"

/* Returns the exit status of `verb`, in whose name it complains. */
int measure(const char *verb, const struct sluice_engine_options *engine_options,
            const struct load_options *load_options, bool wants_json);

#endif
