/* A measurement. Ctrl-C ends it early, with the report of what was measured until then. */
#include "tools/measure.h"

#include <stddef.h>

#include <sluice/engine.h>

#include "tools/container_of.h"
#include "tools/interrupt.h"
#include "tools/load_report.h"
#include "tools/progress.h"
#include "tools/verb.h"

struct measurement {
    struct progress progress;
    struct load *load;
};

static void write_progress(struct progress *progress, char *line, size_t line_size)
{
    struct measurement *measurement = container_of(progress, struct measurement, progress);

    load_describe(measurement->load, line, line_size);
}

static int run_load(struct sluice_engine *engine, struct load *load)
{
    struct measurement measurement = {.progress.write = write_progress, .load = load};
    int error;

    progress_start(&measurement.progress, engine);
    error = load_run(load);
    progress_stop(&measurement.progress);
    return error;
}

static int run_and_report(const char *verb, struct sluice_engine *engine, struct load *load,
                          const struct load_options *load_options, bool wants_json)
{
    const struct load_result *result = load_result(load);
    int error = run_load(engine, load);

    if (error < 0)
        return verb_fail(verb, "the engine failed: %s", verb_error_text(error));
    if (result->failure[0] == '\0' || result->measured_ns > 0)
        load_report_print(load_options, result, wants_json);
    return load_report_status(verb, load_options, result);
}

int measure(const char *verb, const struct sluice_engine_options *engine_options,
            const struct load_options *load_options, bool wants_json)
{
    struct sluice_engine *engine;
    struct load *load = NULL;
    int status;
    int error = sluice_engine_create(engine_options, &engine);

    if (error < 0)
        return verb_fail_engine(verb, error);
    interrupt_stops(engine);
    error = load_create(engine, load_options, &load);
    if (error < 0)
        status = verb_fail(verb, "%s", verb_error_text(error));
    else
        status = run_and_report(verb, engine, load, load_options, wants_json);
    interrupt_release();
    sluice_engine_destroy(engine);
    load_destroy(load);
    return status;
}
