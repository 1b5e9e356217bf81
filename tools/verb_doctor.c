/* `sluice doctor`: makes an engine, asks it and the machine, and reports. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <sluice/engine.h>
#include <sluice/options.h>

#include "tools/arguments.h"
#include "tools/json.h"
#include "tools/units.h"
#include "tools/verb.h"

#define DESCRIPTORS_ENOUGH  4096
#define LOCKED_BYTES_ENOUGH (UINT64_C(8) << 20)
#define FEATURE_BITS        32

struct doctor {
    struct sluice_engine_options options;
    struct utsname system;
    int error; /* of making an engine; 0 if io_uring works */
    char reason[SLUICE_REASON_MAX];
    struct sluice_engine_info info; /* if io_uring works */
};

/* -- Findings ------------------------------------------------------------------------------------------------ */

static void examine(struct doctor *doctor)
{
    struct sluice_engine *engine;

    uname(&doctor->system);
    doctor->error = sluice_engine_create(&doctor->options, &engine);
    if (doctor->error < 0) {
        sluice_engine_explain(doctor->error, doctor->reason, sizeof doctor->reason);
        return;
    }
    sluice_engine_info(engine, &doctor->info);
    sluice_engine_destroy(engine);
}

static const char *feature_state(const struct doctor *doctor, uint32_t feature)
{
    if (doctor->info.features & feature)
        return "in use";
    if (doctor->options.disable & feature)
        return "switched off by SLUICE_DISABLE";
    if (doctor->info.kernel_features & feature)
        return "not in use with these settings";
    return "not offered by this kernel";
}

static const char *setting_source(const struct sluice_setting *setting)
{
    if (setting->is_from_env)
        return "environment";
    return setting->is_default ? "default" : "program";
}

/* Low limits. Each is one line with its remedy, or empty. */
struct warnings {
    char descriptors[SLUICE_REASON_MAX];
    char locked[SLUICE_REASON_MAX];
};

static void look_at_limits(struct warnings *warnings)
{
    struct rlimit limit;
    char locked[UNITS_TEXT_MAX];

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < DESCRIPTORS_ENOUGH)
        snprintf(warnings->descriptors, sizeof warnings->descriptors,
                 "a program may open %" PRIu64
                 " descriptors, one for each connection: raise it with \"ulimit -n 65536\" "
                 "or LimitNOFILE=65536 in its systemd unit",
                 (uint64_t)limit.rlim_cur);
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < LOCKED_BYTES_ENOUGH) {
        units_write_size(limit.rlim_cur, locked, sizeof locked);
        snprintf(warnings->locked, sizeof warnings->locked,
                 "a program may lock %s bytes of memory, which zero-copy sends need: raise it with \"ulimit -l 65536\" "
                 "or LimitMEMLOCK=64M in its systemd unit",
                 locked);
    }
}

/* -- For people ---------------------------------------------------------------------------------------------- */

static void print_engine(const struct doctor *doctor)
{
    const char *name;

    if (doctor->error < 0) {
        printf("io_uring  does not work: %s\n", doctor->reason);
        return;
    }
    printf("io_uring  works\n");
    printf("rings     %" PRIu32 " submissions, %" PRIu32 " completions\n", doctor->info.ring_entries,
           doctor->info.completion_entries);
    printf("probes    %s\n\n", doctor->info.has_probes ? "built in, for perf and bpftrace" : "not built in");
    for (unsigned bit = 0; bit < FEATURE_BITS; bit++) {
        name = sluice_feature_name(UINT32_C(1) << bit);
        if (name != NULL)
            printf("%-26s %s\n", name, feature_state(doctor, UINT32_C(1) << bit));
    }
}

static void print_settings(const struct doctor *doctor)
{
    struct sluice_setting setting;

    for (size_t i = 0; sluice_setting_describe(i, &doctor->options, &setting) == 0; i++)
        printf("%-28s %-10s %-12s %s\n", setting.variable, setting.value, setting_source(&setting), setting.meaning);
}

static void print_text(const struct doctor *doctor, const struct warnings *warnings)
{
    printf("sluice    %s\n", sluice_version());
    printf("kernel    %s %s %s\n", doctor->system.sysname, doctor->system.release, doctor->system.machine);
    print_engine(doctor);
    putchar('\n');
    print_settings(doctor);
    if (warnings->descriptors[0] != '\0')
        printf("\nwarning: %s\n", warnings->descriptors);
    if (warnings->locked[0] != '\0')
        printf("\nwarning: %s\n", warnings->locked);
}

/* -- For machines -------------------------------------------------------------------------------------------- */

static void write_feature(struct json *json, const struct doctor *doctor, uint32_t feature)
{
    const char *name = sluice_feature_name(feature);

    if (name == NULL)
        return;
    json_open_object(json, name);
    json_flag(json, "offered", doctor->info.kernel_features & feature);
    json_flag(json, "in_use", doctor->info.features & feature);
    json_flag(json, "switched_off", doctor->options.disable & feature);
    json_close_object(json);
}

static void write_engine(struct json *json, const struct doctor *doctor)
{
    json_flag(json, "io_uring", doctor->error == 0);
    if (doctor->error < 0) {
        json_text(json, "reason", doctor->reason);
        return;
    }
    json_count(json, "ring_entries", doctor->info.ring_entries);
    json_count(json, "completion_entries", doctor->info.completion_entries);
    json_flag(json, "probes", doctor->info.has_probes);
    json_open_object(json, "features");
    for (unsigned bit = 0; bit < FEATURE_BITS; bit++)
        write_feature(json, doctor, UINT32_C(1) << bit);
    json_close_object(json);
}

static void write_settings(struct json *json, const struct doctor *doctor)
{
    struct sluice_setting setting;

    json_open_object(json, "settings");
    for (size_t i = 0; sluice_setting_describe(i, &doctor->options, &setting) == 0; i++) {
        json_open_object(json, setting.variable);
        json_text(json, "value", setting.value);
        json_text(json, "from", setting_source(&setting));
        json_close_object(json);
    }
    json_close_object(json);
}

static void print_json(const struct doctor *doctor, const struct warnings *warnings)
{
    struct json json = {.file = stdout};

    json_open_object(&json, NULL);
    json_text(&json, "version", sluice_version());
    json_text(&json, "kernel", doctor->system.release);
    write_engine(&json, doctor);
    write_settings(&json, doctor);
    json_open_list(&json, "warnings");
    if (warnings->descriptors[0] != '\0')
        json_text(&json, NULL, warnings->descriptors);
    if (warnings->locked[0] != '\0')
        json_text(&json, NULL, warnings->locked);
    json_close_list(&json);
    json_close_object(&json);
    json_end(&json);
}

/* -- From start to end --------------------------------------------------------------------------------------- */

static bool parse(bool *wants_json, int argc, char **argv, int *status)
{
    const struct argument option = {
        .name = "json",
        .help = "print one JSON object",
        .kind = ARGUMENT_FLAG,
        .flag = wants_json,
    };
    const struct arguments arguments = {
        .verb = "doctor",
        .summary = "Tells what this kernel offers, what is switched off, and which settings are in force.",
        .notes = "Exits with 1 if io_uring does not work here.",
        .example = "SLUICE_DISABLE=zero_copy sluice doctor",
        .options = &option,
        .option_count = 1,
    };

    return arguments_parse(&arguments, argc, argv, status);
}

int verb_doctor(int argc, char **argv)
{
    struct doctor doctor = {.options.size = sizeof doctor.options};
    struct warnings warnings = {0};
    bool wants_json = false;
    int status;

    if (!parse(&wants_json, argc, argv, &status))
        return status;
    status = verb_read_settings("doctor", &doctor.options);
    if (status != VERB_DONE)
        return status;
    examine(&doctor);
    look_at_limits(&warnings);
    if (wants_json)
        print_json(&doctor, &warnings);
    else
        print_text(&doctor, &warnings);
    return doctor.error == 0 ? VERB_DONE : VERB_FAILED;
}
