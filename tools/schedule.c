/* The schedule's arithmetic; whole seconds and the rest apart, so that nothing overflows. */
#include "tools/schedule.h"

#include <assert.h>

#include "tools/units.h"

uint64_t schedule_time(const struct schedule *schedule, uint64_t number)
{
    uint64_t seconds = number / schedule->rate;
    uint64_t rest = number % schedule->rate;

    return schedule->start_ns + seconds * UNITS_NS_PER_S + rest * UNITS_NS_PER_S / schedule->rate;
}

uint64_t schedule_count(const struct schedule *schedule, uint64_t time_ns)
{
    uint64_t elapsed_ns = time_ns - schedule->start_ns;
    uint64_t seconds = elapsed_ns / UNITS_NS_PER_S;
    uint64_t count;

    if (time_ns <= schedule->start_ns)
        return 0;
    count = seconds * schedule->rate + elapsed_ns % UNITS_NS_PER_S * schedule->rate / UNITS_NS_PER_S;
    while (schedule_time(schedule, count) < time_ns) /* times are rounded down, so at most a few more are due */
        count++;
    assert(schedule_time(schedule, count - 1) < time_ns);
    return count;
}

uint64_t schedule_share(uint64_t count, uint64_t sharers, uint64_t index)
{
    assert(index < sharers);
    return count / sharers + (index < count % sharers ? 1 : 0);
}
