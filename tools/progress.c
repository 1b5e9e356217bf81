/* The line of progress. */
#include "tools/progress.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/clock.h"
#include "tools/container_of.h"
#include "tools/units.h"

#define PERIOD_NS (200 * UNITS_NS_PER_MS)
#define BAR_WIDTH 20

/* "\r" goes to the start of the line, "\033[K" wipes what is right of the cursor. */
static void on_tick(struct sluice_timer *timer)
{
    struct progress *progress = container_of(timer, struct progress, timer);
    char line[PROGRESS_LINE_MAX] = "";

    progress->write(progress, line, sizeof line);
    fprintf(stderr, "\r%s\033[K", line);
    sluice_timer_start(progress->engine, timer, PERIOD_NS);
}

void progress_start(struct progress *progress, struct sluice_engine *engine)
{
    assert(progress->write != NULL);
    progress->engine = NULL;
    if (!isatty(STDERR_FILENO))
        return;
    progress->engine = engine;
    progress->timer = (struct sluice_timer){.fire = on_tick};
    sluice_timer_start(engine, &progress->timer, PERIOD_NS);
}

void progress_stop(struct progress *progress)
{
    if (progress->engine == NULL)
        return;
    sluice_timer_stop(progress->engine, &progress->timer);
    fputs("\r\033[K", stderr);
    progress->engine = NULL;
}

double progress_rate(struct progress_rate *rate, uint64_t count)
{
    uint64_t now = clock_now_ns();
    uint64_t elapsed_ns = now - rate->last_ns;
    uint64_t grown = count - rate->last_count;
    bool is_first = rate->last_ns == 0;

    assert(count >= rate->last_count);
    rate->last_ns = now;
    rate->last_count = count;
    return is_first || elapsed_ns == 0 ? 0 : (double)grown * (double)UNITS_NS_PER_S / (double)elapsed_ns;
}

const char *progress_bar(uint64_t elapsed_ns, uint64_t total_ns, char *line, size_t line_size)
{
    double share = elapsed_ns < total_ns ? (double)elapsed_ns / (double)total_ns : 1;
    char marks[BAR_WIDTH + 1];
    size_t mark_count = (size_t)(share * BAR_WIDTH);

    assert(total_ns > 0);
    memset(marks, ' ', BAR_WIDTH);
    memset(marks, '#', mark_count);
    marks[BAR_WIDTH] = '\0';
    snprintf(line, line_size, "[%s] %3.0f %%", marks, share * 100);
    return line;
}
