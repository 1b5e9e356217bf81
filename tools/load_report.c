/* The report: a table, or JSON with the same contents. */
#include "tools/load_report.h"

#include <inttypes.h>
#include <stdio.h>

#include "tools/json.h"
#include "tools/units.h"
#include "tools/verb.h"

#define LABEL_WIDTH 16
#define VALUE_WIDTH 12

struct percentile {
    uint32_t per_ten_thousand;
    const char *label;
    const char *member;
};

static const struct percentile percentiles[] = {
    {5000, "50 %", "p50"},     {9000, "90 %", "p90"},       {9900, "99 %", "p99"},
    {9990, "99.9 %", "p99_9"}, {9999, "99.99 %", "p99_99"},
};

#define PERCENTILE_COUNT (sizeof percentiles / sizeof percentiles[0])

static double per_second(const struct load_result *result, double amount)
{
    return result->measured_ns > 0 ? amount * (double)UNITS_NS_PER_S / (double)result->measured_ns : 0;
}

static double per_message(const struct load_result *result, uint64_t time_ns)
{
    return result->messages > 0 ? (double)time_ns / (double)result->messages : 0;
}

static double bytes(const struct load_options *options, const struct load_result *result)
{
    return (double)result->messages * (double)options->message_size;
}

/* -- For people ---------------------------------------------------------------------------------------------- */

static void print_setup(const struct load_options *options)
{
    char size[UNITS_TEXT_MAX];

    units_write_size(options->message_size, size, sizeof size);
    printf("%-*s %" PRIu64 " to %s\n", LABEL_WIDTH, "connections", options->connections, options->address);
    if (options->rate > 0)
        printf("%-*s %s bytes each, %" PRIu64 " a second by schedule\n", LABEL_WIDTH, "messages", size, options->rate);
    else
        printf("%-*s %s bytes each, %" PRIu64 " outstanding on a connection\n", LABEL_WIDTH, "messages", size,
               options->depth);
}

static void print_cpu(const char *whose, const struct load_result *result, uint64_t time_ns)
{
    char text[UNITS_TEXT_MAX];

    if (result->messages == 0)
        return;
    units_show_duration(per_message(result, time_ns), text, sizeof text);
    printf("%-*s %s a message, %.0f %% of a CPU\n", LABEL_WIDTH, whose, text,
           100 * (double)time_ns / (double)result->measured_ns);
}

static void print_totals(const struct load_options *options, const struct load_result *result)
{
    char duration[UNITS_TEXT_MAX];
    char rate[UNITS_TEXT_MAX];

    units_show_duration((double)result->measured_ns, duration, sizeof duration);
    units_show_size(per_second(result, bytes(options, result)), rate, sizeof rate);
    printf("%-*s %s\n", LABEL_WIDTH, "measured", duration);
    printf("%-*s %" PRIu64 ", %.0f a second\n", LABEL_WIDTH, "answers", result->messages,
           per_second(result, (double)result->messages));
    printf("%-*s %.0f each way, %s a second\n", LABEL_WIDTH, "bytes", bytes(options, result), rate);
    printf("%-*s %" PRIu64 "\n", LABEL_WIDTH, "unanswered", result->unanswered);
    printf("%-*s %" PRIu64 " connections lost\n", LABEL_WIDTH, "errors", result->lost_connections);
    print_cpu("CPU of the load", result, result->cpu_ns);
    if (options->peer_clock != NULL)
        print_cpu("CPU of server", result, result->peer_cpu_ns);
}

/* One line of the table; "-" where too few values lie behind a number. */
static void print_row(const char *label, bool is_known, uint64_t time_ns)
{
    char text[UNITS_TEXT_MAX] = "-";

    if (is_known)
        units_show_duration((double)time_ns, text, sizeof text);
    printf("  %-*s %*s\n", LABEL_WIDTH - 2, label, VALUE_WIDTH, text);
}

static void print_histogram(const char *title, const struct histogram *histogram)
{
    uint64_t value = 0;
    bool is_known;

    printf("\n%s\n", title);
    for (size_t i = 0; i < PERCENTILE_COUNT; i++) {
        is_known = histogram_percentile(histogram, percentiles[i].per_ten_thousand, &value);
        print_row(percentiles[i].label, is_known, value);
    }
    is_known = histogram_maximum(histogram, &value);
    print_row("maximum", is_known, value);
}

static void print_text(const struct load_options *options, const struct load_result *result)
{
    print_setup(options);
    print_totals(options, result);
    if (options->rate > 0)
        print_histogram("sent later than scheduled, by", &result->delay);
    print_histogram(options->rate > 0 ? "latency, from the scheduled time" : "latency", &result->latency);
}

/* -- For machines -------------------------------------------------------------------------------------------- */

static void write_time(struct json *json, const char *name, bool is_known, uint64_t time_ns)
{
    if (is_known)
        json_count(json, name, time_ns);
    else
        json_null(json, name);
}

static void write_histogram(struct json *json, const char *name, const struct histogram *histogram)
{
    uint64_t value = 0;
    bool is_known;

    json_open_object(json, name);
    json_count(json, "count", histogram->count);
    write_time(json, "min", histogram->count > 0, histogram->min);
    for (size_t i = 0; i < PERCENTILE_COUNT; i++) {
        is_known = histogram_percentile(histogram, percentiles[i].per_ten_thousand, &value);
        write_time(json, percentiles[i].member, is_known, value);
    }
    is_known = histogram_maximum(histogram, &value);
    write_time(json, "max", is_known, value);
    json_close_object(json);
}

static void write_per_message(struct json *json, const char *name, const struct load_result *result, uint64_t time_ns)
{
    if (result->messages > 0)
        json_number(json, name, per_message(result, time_ns));
    else
        json_null(json, name);
}

static void write_setup(struct json *json, const struct load_options *options)
{
    json_text(json, "address", options->address);
    json_count(json, "connections", options->connections);
    json_count(json, "message_size", options->message_size);
    if (options->rate > 0) {
        json_count(json, "rate", options->rate);
        json_null(json, "depth");
    } else {
        json_null(json, "rate");
        json_count(json, "depth", options->depth);
    }
}

static void write_json(struct json *json, const struct load_options *options, const struct load_result *result)
{
    json_open_object(json, NULL);
    write_setup(json, options);
    json_count(json, "measured_ns", result->measured_ns);
    json_count(json, "messages", result->messages);
    json_number(json, "messages_per_second", per_second(result, (double)result->messages));
    json_count(json, "bytes", result->messages * options->message_size);
    json_number(json, "bytes_per_second", per_second(result, bytes(options, result)));
    json_count(json, "unanswered", result->unanswered);
    json_count(json, "errors", result->lost_connections);
    write_per_message(json, "load_cpu_ns_per_message", result, result->cpu_ns);
    if (options->peer_clock != NULL) {
        json_count(json, "server_cpu_ns", result->peer_cpu_ns);
        write_per_message(json, "server_cpu_ns_per_message", result, result->peer_cpu_ns);
    }
    if (options->rate > 0)
        write_histogram(json, "delay_ns", &result->delay);
    write_histogram(json, "latency_ns", &result->latency);
    json_close_object(json);
    json_end(json);
}

void load_report_print(const struct load_options *options, const struct load_result *result, bool wants_json)
{
    struct json json = {.file = stdout};

    if (wants_json)
        write_json(&json, options, result);
    else
        print_text(options, result);
}

/* -- For the shell ------------------------------------------------------------------------------------------- */

int load_report_status(const char *verb, const struct load_options *options, const struct load_result *result)
{
    if (result->failure[0] != '\0')
        return verb_fail(verb, "%s: %s", options->address, result->failure);
    if (result->unanswered > 0)
        return verb_fail(verb, "%s: %" PRIu64 " messages got no answer", options->address, result->unanswered);
    return VERB_DONE;
}
