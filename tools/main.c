/* The `sluice` command: finds the verb and runs it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sluice/engine.h>

#include "tools/verb.h"

struct verb {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

static const struct verb verbs[] = {
    {"bench", "measure an echo server over loopback", verb_bench},
    {"cat", "join standard input and output to a stream", verb_cat},
    {"doctor", "tell what this kernel offers and which settings are in force", verb_doctor},
    {"load", "send messages to an echo server and measure the answers", verb_load},
    {"serve", "run an echo, sink, source or chat server", verb_serve},
    {"tune", "try settings on an echo server, and print those that make it better", verb_tune},
};

#define VERB_COUNT (sizeof verbs / sizeof verbs[0])

static int print_help(void)
{
    puts("Usage: sluice VERB [options]\n");
    for (size_t i = 0; i < VERB_COUNT; i++)
        printf("  %-8s %s\n", verbs[i].name, verbs[i].summary);
    puts("\n\"sluice VERB --help\" tells more about one. \"sluice --version\" tells the version.");
    return VERB_DONE;
}

static int print_version(void)
{
    printf("sluice %s\n", sluice_version());
    return VERB_DONE;
}

/* One line: what is wrong, and which verbs there are. */
static int refuse_verb(const char *name)
{
    if (name == NULL)
        fputs("sluice: no verb given", stderr);
    else
        fprintf(stderr, "sluice: \"%s\" is not a verb", name);
    for (size_t i = 0; i < VERB_COUNT; i++)
        fprintf(stderr, "%s%s", i == 0 ? "; there are " : ", ", verbs[i].name);
    putc('\n', stderr);
    return VERB_MISUSED;
}

static int run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    if (name == NULL)
        return refuse_verb(NULL);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return print_help();
    if (strcmp(name, "--version") == 0)
        return print_version();
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (strcmp(name, verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    }
    return refuse_verb(name);
}

/*
 * A standard descriptor that is not open would soon be something else of ours. In its place comes one that refuses
 * every use of it, as a closed one does.
 */
static void reserve_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            // cppcheck-suppress leakReturnValNotUsed
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
}

int main(int argc, char **argv)
{
    int status;

    reserve_standard_descriptors();
    status = run(argc, argv);

    /* Results that could not be written are no results. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == VERB_DONE) {
        fprintf(stderr, "sluice: standard output: %s\n", verb_error_text(-errno));
        status = VERB_FAILED;
    }
    return status;
}
