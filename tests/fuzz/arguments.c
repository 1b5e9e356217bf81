/* Fuzzes the command line: each line of the input is a word. Units are read and written on the way. */
#include <sluice/address.h>

#include "tests/fuzz/fuzz.h"
#include "tools/arguments.h"
#include "tools/units.h"
#include "tools/verb.h"

enum {
    WORDS_MAX = 12,
    WORD_SIZE = 512,
    COUNT_MAX_ALLOWED = 1000,
};

static const char *const colours[] = {"red", "green", "blue", NULL};

/* Where values go. */
struct values {
    bool flag;
    uint64_t count;
    uint64_t size;
    uint64_t duration;
    size_t choice;
    const char *text;
    const char *address;
    const char *operand;
};

static bool parse(struct values *values, int argc, char **argv, int *status)
{
    const struct argument options[] = {
        {.name = "flag", .help = "a flag", .kind = ARGUMENT_FLAG, .flag = &values->flag},
        {
            .name = "count",
            .help = "a count",
            .kind = ARGUMENT_COUNT,
            .min = 1,
            .max = COUNT_MAX_ALLOWED,
            .number = &values->count,
        },
        {.name = "size", .help = "a size", .kind = ARGUMENT_SIZE, .max = UINT64_MAX, .number = &values->size},
        {
            .name = "duration",
            .help = "a time",
            .kind = ARGUMENT_DURATION,
            .min = 1,
            .max = UINT64_MAX,
            .number = &values->duration,
        },
        {.name = "colour", .help = "a choice", .kind = ARGUMENT_CHOICE, .choices = colours, .choice = &values->choice},
        {.name = "text", .help = "a text", .kind = ARGUMENT_TEXT, .text = &values->text},
    };
    const struct argument operands[] = {
        {.name = "ADDRESS",
         .help = "an address",
         .kind = ARGUMENT_ADDRESS,
         .is_optional = true,
         .text = &values->address},
        {.name = "TEXT", .help = "a text", .kind = ARGUMENT_TEXT, .text = &values->operand},
    };
    const struct arguments arguments = {
        .verb = "fuzz",
        .summary = "Takes anything.",
        .example = "sluice fuzz",
        .options = options,
        .option_count = sizeof options / sizeof *options,
        .operands = operands,
        .operand_count = sizeof operands / sizeof *operands,
    };

    return arguments_parse(&arguments, argc, argv, status);
}

static void check_values(const struct values *values)
{
    char why[SLUICE_REASON_MAX];

    must(values->count >= 1 && values->count <= COUNT_MAX_ALLOWED);
    must(values->duration >= 1);
    must(values->choice < 3);
    must(!values->text || *values->text);
    must(!values->address || sluice_address_check(values->address, why, sizeof why) == 0);
    must(values->operand && *values->operand);
}

/* A refusal is one line that names the verb. */
static void check_complaint(const char *complaint)
{
    size_t len = strlen(complaint);
    char *line;

    must(len > 1 && complaint[len - 1] == '\n', "%s", complaint);
    line = strndup(complaint, len - 1);
    must(line && is_one_line(line), "%s", complaint);
    must(strncmp(line, "sluice fuzz: ", 13) == 0, "%s", complaint);
    free(line);
}

/* What a number with a unit is, by another way. Returns false if it is none, or does not fit 64 bits. */
static bool read_otherwise(const char *word, const char *const units[4], const uint64_t scales[4], uint64_t *number)
{
    size_t digits = strspn(word, "0123456789");
    double about = strtod(word, NULL);
    uint64_t scale = 0;

    if (digits == 0)
        return false;
    for (int i = 0; i < 4; i++)
        if (strcmp(word + digits, units[i]) == 0)
            scale = scales[i];
    *number = strtoull(word, NULL, 10) * scale;
    if (word[digits] == '\0' && *number == 0 && strspn(word, "0") == digits)
        return true;
    /* Near the end of what fits, one of the two may round: that is not looked at. */
    return scale > 0 && about * (double)scale < 1.8e19;
}

static bool is_near_the_end(uint64_t number)
{
    return number > UINT64_C(17900000000000000000);
}

static void check_sizes_and_times(const char *word)
{
    static const char *const sizes[] = {"", "K", "M", "G"};
    static const char *const times[] = {"ns", "us", "ms", "s"};
    static const uint64_t size_scales[] = {1, 1 << 10, 1 << 20, 1 << 30};
    static const uint64_t time_scales[] = {1, 1000, 1000000, 1000000000};
    uint64_t expected;
    uint64_t number = 0;
    bool is_number = units_parse_size(word, &number) == 0;

    if (!is_near_the_end(number)) {
        must(is_number == read_otherwise(word, sizes, size_scales, &expected), "%s", word);
        must(!is_number || number == expected, "%s", word);
    }
    number = 0;
    is_number = units_parse_duration(word, &number) == 0;
    if (!is_near_the_end(number)) {
        must(is_number == read_otherwise(word, times, time_scales, &expected), "%s", word);
        must(!is_number || number == expected, "%s", word);
    }
}

static void check_units(const char *word)
{
    char text[UNITS_TEXT_MAX];
    uint64_t number;
    uint64_t again;

    if (units_parse_size(word, &number) == 0) {
        units_write_size(number, text, sizeof text);
        must(units_parse_size(text, &again) == 0 && again == number, "%s is written as %s", word, text);
        units_show_size((double)number, text, sizeof text);
        must(strlen(text) < sizeof text - 1);
    }
    if (units_parse_duration(word, &number) == 0) {
        units_write_duration(number, text, sizeof text);
        must(units_parse_duration(text, &again) == 0 && again == number, "%s is written as %s", word, text);
        units_show_duration((double)number, text, sizeof text);
        must(strlen(text) < sizeof text - 1);
    }
    if (units_parse_count(word, &number) == 0)
        must(units_parse_size(word, &again) == 0 && again == number);
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static char words[WORDS_MAX][WORD_SIZE];
    struct input input = {data, len};
    struct values values = {.count = 1, .duration = 1};
    char *argv[WORDS_MAX + 2] = {(char[]){"fuzz"}};
    int argc = 1;
    FILE *real_stdout = stdout;
    FILE *real_stderr = stderr;
    char *printed = NULL;
    char *complaint = NULL;
    size_t printed_len;
    size_t complaint_len;
    int status = -1;
    bool goes_on;

    for (int i = 0; i < WORDS_MAX && input_line(&input, words[i], WORD_SIZE); i++) {
        argv[argc++] = words[i];
        check_units(words[i]);
        check_sizes_and_times(words[i]);
    }
    stdout = open_memstream(&printed, &printed_len);
    stderr = open_memstream(&complaint, &complaint_len);
    goes_on = parse(&values, argc, argv, &status);
    fclose(stdout);
    fclose(stderr);
    stdout = real_stdout;
    stderr = real_stderr;
    if (asks_for_help(argc, argv)) {
        must(!goes_on && status == VERB_DONE);
        must(printed_len > 0 && complaint_len == 0);
    } else if (goes_on) {
        must(status == VERB_DONE && printed_len == 0 && complaint_len == 0);
        check_values(&values);
    } else {
        must(status == VERB_MISUSED && printed_len == 0);
        check_complaint(complaint);
    }
    free(printed);
    free(complaint);
    return 0;
}
