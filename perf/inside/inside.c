/* What the programs that measure inside one process have in common: see inside.h. */
#include "perf/inside/inside.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t inside_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t inside_cpu_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

void inside_die(const char *what, int error)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(abs(error)));
    exit(1);
}

/* What the process may use: asked on the first call, before any thread is bound. */
static const cpu_set_t *allowed_cpus(void)
{
    static cpu_set_t allowed;

    if (CPU_COUNT(&allowed) == 0 && sched_getaffinity(getpid(), sizeof allowed, &allowed) < 0)
        inside_die("sched_getaffinity", errno);
    return &allowed;
}

unsigned inside_cpu_count(void)
{
    return (unsigned)CPU_COUNT(allowed_cpus());
}

unsigned inside_cpu(unsigned index)
{
    unsigned left = index % inside_cpu_count();

    for (unsigned cpu = 0;; cpu++)
        if (CPU_ISSET(cpu, allowed_cpus()) && left-- == 0)
            return cpu;
}

void inside_pin(unsigned index)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(inside_cpu(index), &one);
    sched_setaffinity(0, sizeof one, &one);
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

uint64_t inside_percentile(uint64_t *values, size_t count, unsigned per_thousand)
{
    qsort(values, count, sizeof *values, compare);
    return values[count * per_thousand / 1000];
}
