/* Runs tests that were written for criterion where criterion cannot run. Prints what criterion prints at the end. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of a test whose assertion failed; none that a test would expect. */
#define FAILED_STATUS 99

static struct plain_test *first_test;
static struct plain_test **last_link = &first_test;

/* True once an expectation of the running test has failed; any thread of it may say so. */
static atomic_bool has_failed;

void plain_add(struct plain_test *test)
{
    *last_link = test;
    last_link = &test->next;
}

void plain_check(bool is_true, bool is_fatal, const char *file, int line, const char *claim, const char *format, ...)
{
    char message[1024];
    va_list arguments;

    if (is_true)
        return;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s:%d: is false: %s:%s\n", file, line, claim, message);
    atomic_store(&has_failed, true);
    if (is_fatal)
        _exit(FAILED_STATUS);
}

/* In a process of its own. Leaves through exit(), so that the sanitizers report. */
static _Noreturn void run_test(const struct plain_test *test)
{
    const struct plain_options none = {0};
    const struct plain_options *suite = test->suite_options != NULL ? test->suite_options : &none;
    double timeout = test->options.timeout > 0 ? test->options.timeout : suite->timeout;

    if (timeout > 0)
        alarm((unsigned)(timeout + 1));
    if (suite->init != NULL)
        suite->init();
    if (test->options.init != NULL)
        test->options.init();
    test->run();
    if (test->options.fini != NULL)
        test->options.fini();
    if (suite->fini != NULL)
        suite->fini();
    exit(atomic_load(&has_failed) ? FAILED_STATUS : EXIT_SUCCESS);
}

static bool ends_as_expected(const struct plain_test *test, int status)
{
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == test->options.signal;
    return test->options.signal == 0 && WEXITSTATUS(status) == test->options.exit_code;
}

static bool test_passes(const struct plain_test *test)
{
    pid_t child = fork();
    int status;

    if (child == 0)
        run_test(test);
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("plain");
        return false;
    }
    if (ends_as_expected(test, status))
        return true;
    fprintf(stderr, "%s::%s: failed, %s %d\n", test->suite, test->name,
            WIFSIGNALED(status) ? "by signal" : "exit status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return false;
}

int main(void)
{
    unsigned tested = 0;
    unsigned passing = 0;

    for (const struct plain_test *test = first_test; test != NULL; test = test->next) {
        if (test->options.disabled)
            continue;
        tested++;
        passing += test_passes(test);
    }
    fprintf(stderr, "Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: 0\n", tested, passing,
            tested - passing);
    return passing == tested ? EXIT_SUCCESS : EXIT_FAILURE;
}
