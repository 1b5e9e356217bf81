/*
 * When messages are meant to be sent: number k exactly k / rate seconds after the start, whatever has happened to those
 * before it. A latency counted from here does not flatter a server that makes its clients wait.
 */
#ifndef TOOLS_SCHEDULE_H
#define TOOLS_SCHEDULE_H

#include <stdint.h>

struct schedule {
    uint64_t start_ns;
    uint64_t rate; /* messages a second, more than 0 */
};

/* When message `number` is due. */
uint64_t schedule_time(const struct schedule *schedule, uint64_t number);

/* How many messages are due before `time_ns`. */
uint64_t schedule_count(const struct schedule *schedule, uint64_t time_ns);

/* Of the first `count` messages, dealt out in turn to `sharers`: how many fall to number `index`. */
uint64_t schedule_share(uint64_t count, uint64_t sharers, uint64_t index);

#endif
