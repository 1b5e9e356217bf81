/* What runs have reached: see coverage.h. */
#include "tests/sim/coverage.h"

#include <inttypes.h>

uint64_t coverage[COVERAGE_COUNT];

static const char *const names[COVERAGE_COUNT] = {
#define COVERAGE_NAME(number, name) name,
    COVERAGE_LIST(COVERAGE_NAME)
#undef COVERAGE_NAME
};

void coverage_report(FILE *file, int in_full)
{
    int reached = 0;

    for (int i = 0; i < COVERAGE_COUNT; i++) {
        reached += coverage[i] > 0;
        if (in_full)
            fprintf(file, "%12" PRIu64 "  %s\n", coverage[i], names[i]);
        else if (!coverage[i])
            fprintf(file, "never reached: %s\n", names[i]);
    }
    fprintf(file, "%d of %d things reached that a story can meet\n", reached, COVERAGE_COUNT);
}
