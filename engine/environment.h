/* Settings from SLUICE_* variables: sluice_engine_options_from_env() of <sluice/options.h>, and whether one is set. */
#ifndef ENGINE_ENVIRONMENT_H
#define ENGINE_ENVIRONMENT_H

#include <stdbool.h>

bool environment_sets(const char *variable);

#endif
