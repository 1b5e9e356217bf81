/* What an engine tells about itself. */
#include <sluice/engine.h>

#include "engine/engine.h"
#include "engine/probes.h"

static uint64_t read_counter(const counter_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void sluice_engine_stats(const struct sluice_engine *engine, struct sluice_stats *stats)
{
    const struct counters *counters = &engine->counters;

    *stats = (struct sluice_stats){
        .turns = read_counter(&counters->turns),
        .enters = read_counter(&counters->enters),
        .submissions = read_counter(&counters->submissions),
        .completions = read_counter(&counters->completions),
        .bytes_received = read_counter(&counters->bytes_received),
        .bytes_sent = read_counter(&counters->bytes_sent),
        .sends = read_counter(&counters->sends),
        .short_sends = read_counter(&counters->short_sends),
        .zero_copy_sends = read_counter(&counters->zero_copy_sends),
        .zero_copy_copied = read_counter(&counters->zero_copy_copied),
        .buffers_exhausted = read_counter(&counters->buffers_exhausted),
        .views_copied = read_counter(&counters->views_copied),
        .stale_completions = read_counter(&counters->stale_completions),
        .overflows = read_counter(&counters->overflows),
        .accepts = read_counter(&counters->accepts),
        .accept_errors = read_counter(&counters->accept_errors),
        .streams = read_counter(&counters->streams),
        .queued_bytes = read_counter(&counters->queued_bytes),
        .receive_buffers_lent = read_counter(&counters->receive_buffers_lent),
    };
}

void sluice_engine_info(const struct sluice_engine *engine, struct sluice_engine_info *info)
{
    const struct ring *ring = engine->ring;

    *info = (struct sluice_engine_info){
        .features = ring->features,
        .kernel_features = ring->kernel_features,
        .ring_entries = ring->entries,
        .completion_entries = ring->completion_entries,
        .has_probes = PROBES_BUILT_IN,
    };
}
