/*
 * A verb's command line, described by a table: the parser, the help text and every complaint come from it.
 *
 * What an option's variable holds before parsing is its default, and the help text tells it as such.
 */
#ifndef TOOLS_ARGUMENTS_H
#define TOOLS_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum argument_kind {
    ARGUMENT_FLAG,     /* no value: named or not */
    ARGUMENT_COUNT,    /* a number */
    ARGUMENT_SIZE,     /* bytes, with or without K, M or G */
    ARGUMENT_DURATION, /* a time, with ns, us, ms or s */
    ARGUMENT_CHOICE,   /* one of some words */
    ARGUMENT_TEXT,     /* anything but nothing */
    ARGUMENT_ADDRESS,  /* what sluice_address_check() accepts */
};

struct argument {
    const char *name; /* "rate" is typed as --rate; operands have theirs in capitals */
    const char *help; /* one line */
    enum argument_kind kind;
    uint64_t min; /* of numbers, sizes and times */
    uint64_t max;
    const char *const *choices; /* of a choice; NULL ends them */
    bool is_optional;           /* of an operand: it is left out when there are too few to go round */

    /* Where the value goes; the member that the kind asks for. */
    union {
        bool *flag;
        uint64_t *number;
        size_t *choice; /* an index in `choices` */
        const char **text;
    };
};

struct arguments {
    const char *verb;
    const char *summary; /* one sentence */
    const char *notes;   /* a few lines on what the table cannot say, or NULL */
    const char *example;
    const struct argument *options;
    size_t option_count;
    const struct argument *operands;
    size_t operand_count;
};

/*
 * Reads the command line of a verb (argv[0] is the verb). Returns true if the verb is to go on. Otherwise help was
 * printed, or one line on what is wrong, and the verb is to end with `status`.
 */
bool arguments_parse(const struct arguments *arguments, int argc, char **argv, int *status);

#endif
