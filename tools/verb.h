/* The verbs of the `sluice` command, and how all of them start and fail. */
#ifndef TOOLS_VERB_H
#define TOOLS_VERB_H

#include <stdbool.h>

#include <sluice/engine.h>
#include <sluice/options.h>

/* Exit statuses. */
enum verb_status {
    VERB_DONE = 0,
    VERB_FAILED = 1,  /* the world did not let us: one line says what */
    VERB_MISUSED = 2, /* the command line or a SLUICE_ variable is wrong: one line says which; nothing was done */
};

/* argv[0] is the verb. Each returns an exit status. */
int verb_bench(int argc, char **argv);
int verb_cat(int argc, char **argv);
int verb_doctor(int argc, char **argv);
int verb_load(int argc, char **argv);
int verb_serve(int argc, char **argv);
int verb_tune(int argc, char **argv);

/* Prints "sluice VERB: …" on standard error. Returns VERB_FAILED. */
__attribute__((format(printf, 2, 3))) int verb_fail(const char *verb, const char *format, ...);
/* The same for what the user got wrong. Returns VERB_MISUSED. */
__attribute__((format(printf, 2, 3))) int verb_refuse(const char *verb, const char *format, ...);

/* The negative errno of a library call in words. A constant. */
const char *verb_error_text(int error);

/* Fills `options` from the environment. Returns VERB_DONE, or VERB_MISUSED after a line on what is wrong there. */
int verb_read_settings(const char *verb, struct sluice_engine_options *options);

/* Prints why an engine could not be made. Returns VERB_FAILED. */
int verb_fail_engine(const char *verb, int error);

/* Lets this process have as many descriptors as it may: each connection takes one. */
void verb_raise_descriptor_limit(void);

#endif
