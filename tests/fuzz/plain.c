/*
 * Runs a fuzz target where there is no libFuzzer: every file of its corpus, then random changes to them.
 * Usage: fuzz-TARGET [--seed N] [--count N] FILE|FOLDER…
 */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "tests/support/random.h"

enum {
    FILES_MAX = 4096,
    LEN_MAX = 4096,
    CHANGES_MAX = 6, /* to one input */
};

struct sample {
    uint8_t data[LEN_MAX];
    size_t len;
};

static struct sample *samples[FILES_MAX];
static size_t sample_count;

/* What runs right now, for when it stops the program. */
static struct sample running;
static char what_runs[512];

static void say(const char *text, size_t len)
{
    if (write(STDERR_FILENO, text, len) < 0)
        _exit(EXIT_FAILURE);
}

static void tell(int number)
{
    static const char digits[] = "0123456789abcdef";
    static char hexadecimal[2 * LEN_MAX + 1];

    for (size_t i = 0; i < running.len; i++) {
        hexadecimal[2 * i] = digits[running.data[i] >> 4];
        hexadecimal[2 * i + 1] = digits[running.data[i] & 15];
    }
    hexadecimal[2 * running.len] = '\n';
    say("ended by a signal in ", 21);
    say(what_runs, strlen(what_runs));
    say(", by the bytes ", 15);
    say(hexadecimal, 2 * running.len + 1);
    signal(number, SIG_DFL);
    raise(number);
}

static void run(const struct sample *sample)
{
    uint8_t *exact = malloc(sample->len + !sample->len); /* so that a byte too far is seen */

    memcpy(exact, sample->data, sample->len);
    running = *sample;
    LLVMFuzzerTestOneInput(exact, sample->len);
    free(exact);
}

/* -- The corpus ---------------------------------------------------------------------------------------------- */

static bool load_file(const char *path)
{
    FILE *file = fopen(path, "rb");

    if (!file)
        return false;
    must(sample_count < FILES_MAX);
    samples[sample_count] = calloc(1, sizeof **samples);
    must(samples[sample_count]);
    samples[sample_count]->len = fread(samples[sample_count]->data, 1, LEN_MAX, file);
    must(!ferror(file), "%s cannot be read", path);
    fclose(file);
    snprintf(what_runs, sizeof what_runs, "%s", path);
    run(samples[sample_count++]);
    return true;
}

static int compare_names(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* By name, so that a seed means the same on every machine. */
static void load_folder(const char *path, DIR *folder)
{
    static char *names[FILES_MAX];
    size_t count = 0;
    struct dirent *entry;

    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        must(count < FILES_MAX);
        must(asprintf(&names[count++], "%s/%s", path, entry->d_name) > 0);
    }
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++) {
        must(load_file(names[i]), "%s cannot be opened", names[i]);
        free(names[i]);
    }
}

static void load(const char *path)
{
    DIR *folder = opendir(path);

    if (folder) {
        load_folder(path, folder);
        closedir(folder);
    } else {
        must(load_file(path), "%s cannot be opened", path);
    }
}

/* -- Changes ------------------------------------------------------------------------------------------------- */

static void insert(struct sample *sample, size_t at, const uint8_t *data, size_t len)
{
    if (len > LEN_MAX - sample->len)
        len = LEN_MAX - sample->len;
    memmove(sample->data + at + len, sample->data + at, sample->len - at);
    memcpy(sample->data + at, data, len);
    sample->len += len;
}

static void erase(struct sample *sample, size_t at, size_t len)
{
    if (len > sample->len - at)
        len = sample->len - at;
    memmove(sample->data + at, sample->data + at + len, sample->len - at - len);
    sample->len -= len;
}

static void change(struct sample *sample, uint64_t *random)
{
    size_t at = random_below(random, sample->len + 1);
    const struct sample *other = samples[random_below(random, sample_count)];
    size_t from = random_below(random, other->len + 1);
    uint8_t byte = (uint8_t)random_next(random);

    switch (random_below(random, 6)) {
    case 0:
        insert(sample, at, &byte, 1);
        break;
    case 1:
        erase(sample, at, random_size(random, 16));
        break;
    case 2: /* a piece of another */
        insert(sample, at, other->data + from, random_below(random, other->len - from + 1));
        break;
    case 3: /* ours to here, then another's */
        sample->len = at;
        insert(sample, at, other->data + from, other->len - from);
        break;
    default:
        if (at < sample->len)
            sample->data[at] ^= (uint8_t)(byte & 1 ? byte : 1 << (byte >> 5));
        break;
    }
}

static void run_changes(uint64_t seed, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t random = seed + i;
        struct sample sample = *samples[random_below(&random, sample_count)];
        uint64_t changes = 1 + random_below(&random, CHANGES_MAX);

        for (uint64_t j = 0; j < changes; j++)
            change(&sample, &random);
        snprintf(what_runs, sizeof what_runs, "--seed %" PRIu64, seed + i);
        run(&sample);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    uint64_t count = 0;

    signal(SIGABRT, tell);
    signal(SIGSEGV, tell);
    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[++i], NULL, 0);
        else if (i + 1 < argc && strcmp(argv[i], "--count") == 0)
            count = strtoull(argv[++i], NULL, 0);
        else
            load(argv[i]);
    }
    must(sample_count > 0, "no corpus: name its folder");
    run_changes(seed, count);
    printf("%zu files and %" PRIu64 " changes to them, from seed %" PRIu64 "\n", sample_count, count, seed);
    for (size_t i = 0; i < sample_count; i++)
        free(samples[i]);
    return 0;
}
