/* The server that is a program of its own: its start, its first line, its end. */
#include "tools/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/clock.h"
#include "tools/units.h"
#include "tools/verb.h"

#define GREETING "listening on "
/* How long it may take to say where it listens, and to end when it is told to. */
#define START_MAX_NS (10 * UNITS_NS_PER_S)
#define STOP_MAX_NS  (5 * UNITS_NS_PER_S)
#define STOP_STEP_NS UNITS_NS_PER_MS
/* What shells say of commands that cannot be run. */
#define UNKNOWN_STATUS 127

/* -- Its start ----------------------------------------------------------------------------------------------- */

/* In the child, between fork and exec: it has the variables that differ from the default, and goes when we go. */
static void become(char *const *command, const struct sluice_engine_options *options, int output)
{
    struct sluice_setting setting;
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; sluice_setting_describe(i, options, &setting) == 0; i++) {
        if (!setting.is_default)
            setenv(setting.variable, setting.value, 1);
    }
    if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0)
        execvp(command[0], command);
    _exit(UNKNOWN_STATUS);
}

/* Returns 0, or -errno. */
static int spawn(struct child *child, char *const *command, const struct sluice_engine_options *options)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    child->pid = fork();
    if (child->pid == 0)
        become(command, options, ends[1]);
    close(ends[1]);
    if (child->pid < 0) {
        int error = -errno;

        close(ends[0]);
        return error;
    }
    child->output = ends[0];
    return 0;
}

/* -- Its first line ------------------------------------------------------------------------------------------ */

/* Returns 0, or -errno; -EPIPE if it ended its output before, -EINTR if a signal came. */
static int read_line(int fd, char *line, size_t line_size)
{
    uint64_t deadline_ns = clock_now_ns() + START_MAX_NS;
    struct pollfd waited = {.fd = fd, .events = POLLIN};
    size_t len = 0;

    while (len + 1 < line_size) {
        uint64_t now = clock_now_ns();
        int ready = now < deadline_ns ? poll(&waited, 1, (int)((deadline_ns - now) / UNITS_NS_PER_MS) + 1) : 0;
        ssize_t count = ready > 0 ? read(fd, line + len, 1) : -1;

        if (ready == 0)
            return -ETIMEDOUT;
        if (count < 0)
            return -errno;
        if (count == 0)
            return -EPIPE;
        if (line[len] == '\n') {
            line[len] = '\0';
            return 0;
        }
        len++;
    }
    return -EMSGSIZE;
}

static int read_address(struct child *child, char *why, size_t why_size)
{
    char line[sizeof GREETING - 1 + SLUICE_ADDRESS_MAX];
    int error = read_line(child->output, line, sizeof line);

    if (error == -EPIPE) {
        snprintf(why, why_size, "it cannot be run, or ended before it said where it listens");
        return error;
    }
    if (error < 0 && error != -EMSGSIZE) {
        snprintf(why, why_size, "it did not say where it listens: %s", verb_error_text(error));
        return error;
    }
    if (error < 0 || strncmp(line, GREETING, strlen(GREETING)) != 0 ||
        sluice_address_check(line + strlen(GREETING), why, why_size) < 0) {
        snprintf(why, why_size, "the first line that it prints is not \"" GREETING "ADDRESS\"");
        return -EPROTO;
    }
    memcpy(child->address, line + strlen(GREETING), strlen(line + strlen(GREETING)) + 1);
    return 0;
}

/* -- Its end ------------------------------------------------------------------------------------------------- */

/* Returns true when it has gone. */
static bool await_end(pid_t pid, uint64_t limit_ns)
{
    const struct timespec step = {.tv_nsec = (long)STOP_STEP_NS};
    uint64_t deadline_ns = clock_now_ns() + limit_ns;

    do {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return true;
        nanosleep(&step, NULL);
    } while (clock_now_ns() < deadline_ns);
    return false;
}

void child_stop(struct child *child)
{
    kill(child->pid, SIGTERM);
    if (!await_end(child->pid, STOP_MAX_NS)) {
        kill(child->pid, SIGKILL);
        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    close(child->output);
}

int child_start(struct child *child, char *const *command, const struct sluice_engine_options *options, char *why,
                size_t why_size)
{
    char reason[SLUICE_REASON_MAX];
    int error = spawn(child, command, options);

    if (error < 0) {
        snprintf(why, why_size, "%s: %s", command[0], verb_error_text(error));
        return error;
    }
    error = read_address(child, reason, sizeof reason);
    if (error == 0)
        error = -clock_getcpuclockid(child->pid, &child->clock);
    if (error < 0) {
        snprintf(why, why_size, "%s: %.*s", command[0], (int)(why_size / 2), reason);
        child_stop(child);
    }
    return error;
}
