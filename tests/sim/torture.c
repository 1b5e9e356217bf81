/* One thing going wrong at a time: see torture.h. */
#include "tests/sim/torture.h"

#include <inttypes.h>
#include <stdio.h>

struct totals {
    uint64_t runs;
    uint64_t allocations;
    uint64_t operations;
};

/* Each allocation in turn, alone, and with all that follow. */
static void fail_allocations(const struct script_run *run, uint64_t count, struct totals *totals)
{
    for (uint64_t number = 1; number <= count; number++) {
        for (int is_lasting = 0; is_lasting < 2; is_lasting++) {
            struct torture torture = {.allocation = number, .is_lasting = is_lasting};

            script_tell(run, &torture);
            totals->runs++;
        }
    }
    totals->allocations += count;
}

/* Each operation of the kernel in turn, in each way in which it can go wrong. */
static void fail_operations(const struct script_run *run, uint64_t count, struct totals *totals)
{
    for (uint64_t number = 1; number <= count; number++) {
        struct torture torture = {.variants = 1};

        for (uint32_t variant = 1; variant <= torture.variants; variant++) {
            torture = (struct torture){.operation = number, .variant = variant};
            script_tell(run, &torture);
            totals->runs++;
        }
    }
    totals->operations += count;
}

int torture_all(const struct part *part, bool is_traced)
{
    struct script_run run = {.is_traced = is_traced};
    struct totals totals = {0};

    for (size_t i = part->number; script_pick(i, &run); i += part->count) {
        struct torture none = {0};

        script_tell(&run, &none);
        fail_allocations(&run, none.allocations, &totals);
        fail_operations(&run, none.operations, &totals);
    }
    printf("%" PRIu64 " runs: each of %" PRIu64 " allocations and %" PRIu64 " operations went wrong\n", totals.runs,
           totals.allocations, totals.operations);
    return 0;
}
