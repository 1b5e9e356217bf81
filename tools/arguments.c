/* The parser of command lines, and its help text. */
#include "tools/arguments.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <sluice/address.h>
#include <sluice/options.h>

#include "tools/units.h"
#include "tools/verb.h"

#define OPERANDS_MAX     2
#define NAME_WIDTH       24
#define DESCRIPTION_MAX  256
#define PLACEHOLDER_SIZE 64

/* -- Numbers of each kind ------------------------------------------------------------------------------------ */

static void write_number(enum argument_kind kind, uint64_t number, char *text, size_t text_size)
{
    if (kind == ARGUMENT_SIZE)
        units_write_size(number, text, text_size);
    else if (kind == ARGUMENT_DURATION)
        units_write_duration(number, text, text_size);
    else
        snprintf(text, text_size, "%" PRIu64, number);
}

static int parse_number(enum argument_kind kind, const char *text, uint64_t *number)
{
    if (kind == ARGUMENT_SIZE)
        return units_parse_size(text, number);
    if (kind == ARGUMENT_DURATION)
        return units_parse_duration(text, number);
    return units_parse_count(text, number);
}

/* "a number from 1 to 100", "one of echo, sink": what is allowed. */
static void describe(const struct argument *argument, char *text, size_t text_size)
{
    char min[UNITS_TEXT_MAX];
    char max[UNITS_TEXT_MAX];
    size_t len;

    write_number(argument->kind, argument->min, min, sizeof min);
    write_number(argument->kind, argument->max, max, sizeof max);
    switch (argument->kind) {
    case ARGUMENT_COUNT:
        snprintf(text, text_size, "a number from %s to %s", min, max);
        break;
    case ARGUMENT_SIZE:
        snprintf(text, text_size, "a size from %s to %s bytes (K, M, G)", min, max);
        break;
    case ARGUMENT_DURATION:
        snprintf(text, text_size, "a time from %s to %s (ns, us, ms, s)", min, max);
        break;
    case ARGUMENT_CHOICE:
        len = (size_t)snprintf(text, text_size, "one of");
        for (size_t i = 0; argument->choices[i] != NULL && len < text_size; i++)
            len += (size_t)snprintf(text + len, text_size - len, "%s %s", i == 0 ? "" : ",", argument->choices[i]);
        break;
    case ARGUMENT_FLAG:
    case ARGUMENT_TEXT:
    case ARGUMENT_ADDRESS:
        snprintf(text, text_size, "a text that is not empty");
        break;
    }
}

/* -- Values -------------------------------------------------------------------------------------------------- */

static bool take_number(const struct argument *argument, const char *value)
{
    uint64_t number;

    if (parse_number(argument->kind, value, &number) < 0 || number < argument->min || number > argument->max)
        return false;
    *argument->number = number;
    return true;
}

static bool take_choice(const struct argument *argument, const char *value)
{
    for (size_t i = 0; argument->choices[i] != NULL; i++) {
        if (strcmp(value, argument->choices[i]) == 0) {
            *argument->choice = i;
            return true;
        }
    }
    return false;
}

static bool take_text(const struct argument *argument, const char *value)
{
    if (*value == '\0')
        return false;
    *argument->text = value;
    return true;
}

/* Returns false if that is not allowed. */
static bool take(const struct argument *argument, const char *value)
{
    switch (argument->kind) {
    case ARGUMENT_COUNT:
    case ARGUMENT_SIZE:
    case ARGUMENT_DURATION:
        return take_number(argument, value);
    case ARGUMENT_CHOICE:
        return take_choice(argument, value);
    case ARGUMENT_FLAG:
    case ARGUMENT_TEXT:
    case ARGUMENT_ADDRESS:
        break;
    }
    return take_text(argument, value);
}

/* Takes `value`, or says what is wrong with it. `dashes` is "--" for options and "" for operands. */
static int set(const char *verb, const char *dashes, const struct argument *argument, const char *value)
{
    char allowed[DESCRIPTION_MAX];
    char why[SLUICE_REASON_MAX];

    if (argument->kind == ARGUMENT_ADDRESS && sluice_address_check(value, why, sizeof why) < 0)
        return verb_refuse(verb, "%s%s: %s", dashes, argument->name, why);
    if (!take(argument, value)) {
        describe(argument, allowed, sizeof allowed);
        return verb_refuse(verb, "%s%s: \"%s\" is not %s", dashes, argument->name, value, allowed);
    }
    return VERB_DONE;
}

/* -- Parsing ------------------------------------------------------------------------------------------------- */

static const struct argument *find_option(const struct arguments *arguments, const char *name, size_t name_len)
{
    for (size_t i = 0; i < arguments->option_count; i++) {
        const struct argument *option = &arguments->options[i];

        if (strlen(option->name) == name_len && memcmp(option->name, name, name_len) == 0)
            return option;
    }
    return NULL;
}

/* Reads the option at argv[*at], and the value behind it if it needs one. */
static int parse_option(const struct arguments *arguments, char **argv, int *at)
{
    const char *name = argv[*at] + 2;
    const char *value = strchr(name, '=');
    size_t name_len = value != NULL ? (size_t)(value - name) : strlen(name);
    const struct argument *option = find_option(arguments, name, name_len);
    char allowed[DESCRIPTION_MAX];

    if (option == NULL)
        return verb_refuse(arguments->verb, "%.*s is not an option; see \"sluice %s --help\"", (int)name_len + 2,
                           argv[*at], arguments->verb);
    if (value != NULL)
        value++;
    if (option->kind == ARGUMENT_FLAG) {
        if (value != NULL)
            return verb_refuse(arguments->verb, "--%s: \"%s\" is one value too many; it takes none", option->name,
                               value);
        *option->flag = true;
        return VERB_DONE;
    }
    if (value == NULL)
        value = argv[++*at]; /* argv ends with NULL */
    if (value == NULL) {
        describe(option, allowed, sizeof allowed);
        return verb_refuse(arguments->verb, "--%s: the value is missing; it is %s", option->name, allowed);
    }
    return set(arguments->verb, "--", option, value);
}

/* Gives each operand its value; optional ones do without when there are too few. */
static int assign_operands(const struct arguments *arguments, const char *const *values, size_t value_count)
{
    size_t spare = value_count;
    size_t next = 0;
    int status = VERB_DONE;

    for (size_t i = 0; i < arguments->operand_count; i++) {
        if (!arguments->operands[i].is_optional && spare > 0)
            spare--;
    }
    for (size_t i = 0; i < arguments->operand_count && status == VERB_DONE; i++) {
        const struct argument *operand = &arguments->operands[i];

        if (operand->is_optional && spare == 0)
            continue;
        if (operand->is_optional)
            spare--;
        if (next == value_count)
            return verb_refuse(arguments->verb, "%s is missing; see \"sluice %s --help\"", operand->name,
                               arguments->verb);
        status = set(arguments->verb, "", operand, values[next++]);
    }
    return status;
}

static int parse_all(const struct arguments *arguments, int argc, char **argv)
{
    const char *values[OPERANDS_MAX];
    size_t value_count = 0;
    bool are_options_over = false;

    for (int at = 1; at < argc; at++) {
        int status = VERB_DONE;

        if (!are_options_over && strcmp(argv[at], "--") == 0)
            are_options_over = true;
        else if (!are_options_over && strncmp(argv[at], "--", 2) == 0)
            status = parse_option(arguments, argv, &at);
        else if (!are_options_over && argv[at][0] == '-')
            status = verb_refuse(arguments->verb, "%s is not an option; see \"sluice %s --help\"", argv[at],
                                 arguments->verb);
        else if (value_count == arguments->operand_count)
            status = verb_refuse(arguments->verb, "\"%s\" is one word too many; see \"sluice %s --help\"", argv[at],
                                 arguments->verb);
        else
            values[value_count++] = argv[at];
        if (status != VERB_DONE)
            return status;
    }
    return assign_operands(arguments, values, value_count);
}

/* -- Help ---------------------------------------------------------------------------------------------------- */

static const char *placeholder(const struct argument *argument, char *text, size_t text_size)
{
    size_t len = 0;

    switch (argument->kind) {
    case ARGUMENT_FLAG:
        return "";
    case ARGUMENT_COUNT:
        return "N";
    case ARGUMENT_SIZE:
        return "BYTES";
    case ARGUMENT_DURATION:
        return "TIME";
    case ARGUMENT_TEXT:
        return "TEXT";
    case ARGUMENT_ADDRESS:
        return "ADDRESS";
    case ARGUMENT_CHOICE:
        break;
    }
    for (size_t i = 0; argument->choices[i] != NULL && len < text_size; i++)
        len += (size_t)snprintf(text + len, text_size - len, "%s%s", i == 0 ? "" : "|", argument->choices[i]);
    return text;
}

static void print_usage(const struct arguments *arguments)
{
    char words[PLACEHOLDER_SIZE];

    printf("Usage: sluice %s [options]", arguments->verb);
    for (size_t i = 0; i < arguments->operand_count; i++) {
        const struct argument *operand = &arguments->operands[i];

        printf(operand->is_optional ? " [%s]" : " %s", placeholder(operand, words, sizeof words));
    }
    printf("\n\n%s\n\n", arguments->summary);
}

/* What is allowed and what it is if not given, in brackets; nothing for what speaks for itself. */
static void print_range(const struct argument *option)
{
    char text[DESCRIPTION_MAX];

    switch (option->kind) {
    case ARGUMENT_COUNT:
    case ARGUMENT_SIZE:
    case ARGUMENT_DURATION:
        describe(option, text, sizeof text);
        printf(" (%s", text);
        write_number(option->kind, *option->number, text, sizeof text);
        if (*option->number >= option->min)
            printf("; %s if not given", text);
        printf(")");
        break;
    case ARGUMENT_CHOICE:
        printf(" (%s if not given)", option->choices[*option->choice]);
        break;
    case ARGUMENT_FLAG:
    case ARGUMENT_TEXT:
    case ARGUMENT_ADDRESS:
        break;
    }
}

static void print_argument(const struct argument *argument, bool is_option)
{
    char words[PLACEHOLDER_SIZE];
    char name[NAME_WIDTH + PLACEHOLDER_SIZE];
    const char *value = placeholder(argument, words, sizeof words);

    if (is_option)
        snprintf(name, sizeof name, "--%s %s", argument->name, value);
    else
        snprintf(name, sizeof name, "%s", value);
    printf("  %-*s %s", NAME_WIDTH, name, argument->help);
    print_range(argument);
    putchar('\n');
}

static void print_help(const struct arguments *arguments)
{
    print_usage(arguments);
    for (size_t i = 0; i < arguments->operand_count; i++)
        print_argument(&arguments->operands[i], false);
    if (arguments->operand_count > 0)
        putchar('\n');
    for (size_t i = 0; i < arguments->option_count; i++)
        print_argument(&arguments->options[i], true);
    printf("  %-*s %s\n", NAME_WIDTH, "--help", "print this");
    if (arguments->notes != NULL)
        printf("\n%s\n", arguments->notes);
    printf("\nThe engine's own settings are SLUICE_ variables; \"sluice doctor\" lists them.\n\nExample:\n\n    %s\n",
           arguments->example);
}

/* Help asked for anywhere is help wanted: defaults have not been overwritten yet. */
static bool asks_for_help(int argc, char **argv)
{
    for (int at = 1; at < argc && strcmp(argv[at], "--") != 0; at++) {
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)
            return true;
    }
    return false;
}

bool arguments_parse(const struct arguments *arguments, int argc, char **argv, int *status)
{
    assert(arguments->operand_count <= OPERANDS_MAX);
    if (asks_for_help(argc, argv)) {
        print_help(arguments);
        *status = VERB_DONE;
        return false;
    }
    *status = parse_all(arguments, argc, argv);
    return *status == VERB_DONE;
}
