/* What the library says in words: its version, and why an engine could not be created. */
#include <sluice/engine.h>

#include "uring/probe.h"

#ifndef SLUICE_VERSION
#error "the build defines SLUICE_VERSION"
#endif

const char *sluice_version(void)
{
    return SLUICE_VERSION;
}

void sluice_engine_explain(int error, char *text, size_t text_size)
{
    probe_explain(error, text, text_size);
}
