/*
 * The plot of `sluice tune`: a row for each value that was tried, with its gain and how far noise may have moved it.
 * One file that needs no other: SVG, or that within HTML.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <sluice/engine.h>

#include "tools/tune.h"
#include "tools/units.h"

/* Lengths are in pixels, until somebody scales the picture. */
#define WIDTH        1040
#define LEFT         336 /* of the scale */
#define RIGHT        816
#define HEAD_HEIGHT  196 /* the first row begins here */
#define FOOT_HEIGHT  64
#define ROW_HEIGHT   24
#define GROUP_GAP    14
#define TICK_SPACING 52
#define TEXT_MAX     320

/*
 * The scale is logarithmic, and at least so wide. Noise widens it by no more than a doubling each way; what loses by
 * more than that and by more than others gain is only pointed at.
 */
#define GAIN_MIN  0.05
#define NOISE_MAX 0.7
#define LOSS_MAX  0.35

struct plot {
    const struct tune *tune;
    FILE *file;
    double low; /* gains at the ends of the scale */
    double high;
    double y;
    const char *group; /* the setting of the row above; NULL: none */
};

bool tune_plot_allows(const char *name)
{
    static const char *const endings[] = {".svg", ".html"};

    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t len = strlen(endings[i]);

        if (strlen(name) > len && strcmp(name + strlen(name) - len, endings[i]) == 0)
            return true;
    }
    return false;
}

static bool is_html(const struct tune *tune)
{
    return tune->plot_name[strlen(tune->plot_name) - 1] == 'l';
}

/* -- Text ---------------------------------------------------------------------------------------------------- */

static void write_escaped(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '&')
            fputs("&amp;", file);
        else if (*text == '<')
            fputs("&lt;", file);
        else if (*text == '>')
            fputs("&gt;", file);
        else if (*text == '"')
            fputs("&quot;", file);
        else
            putc(*text, file);
    }
}

static void write_text(struct plot *plot, double x, double y, const char *class, const char *text)
{
    fprintf(plot->file, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, x, y);
    write_escaped(plot->file, text);
    fputs("</text>\n", plot->file);
}

/* -- The scale ----------------------------------------------------------------------------------------------- */

static double place(const struct plot *plot, double gain)
{
    return LEFT + (RIGHT - LEFT) * (gain - plot->low) / (plot->high - plot->low);
}

/* Within the scale, for what may reach beyond it. */
static double place_within(const struct plot *plot, double gain)
{
    return place(plot, fmin(fmax(gain, plot->low), plot->high));
}

static void widen(struct plot *plot, const struct tune_variant *variant)
{
    struct series_estimate estimate = tune_estimate(plot->tune, variant);
    double noise = fmin(estimate.noise, NOISE_MAX);

    if (variant->gains.count == 0)
        return;
    plot->low = fmin(plot->low, estimate.gain - noise);
    plot->high = fmax(plot->high, estimate.gain + noise);
}

static void find_scale(struct plot *plot)
{
    double margin;

    plot->low = -GAIN_MIN;
    plot->high = GAIN_MIN;
    for (size_t i = 0; i < plot->tune->variant_count; i++)
        widen(plot, &plot->tune->variants[i]);
    widen(plot, &plot->tune->together);
    widen(plot, &plot->tune->alone);
    plot->low = fmax(plot->low, fmin(-LOSS_MAX, -plot->high));
    margin = (plot->high - plot->low) / 40;
    plot->low -= margin;
    plot->high += margin;
}

static void write_tick(struct plot *plot, double x, double percent)
{
    char text[UNITS_TEXT_MAX];

    snprintf(text, sizeof text, "%+g %%", percent);
    fprintf(plot->file, "<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%.1f\"/>\n",
            percent == 0 ? "default" : "grid", x, x, HEAD_HEIGHT - 12, plot->y);
    write_text(plot, x, HEAD_HEIGHT - 22, percent == 0 ? "tick strong" : "tick", percent == 0 ? "default" : text);
    write_text(plot, x, plot->y + 20, percent == 0 ? "tick strong" : "tick", percent == 0 ? "default" : text);
}

/* From the default outwards, those that leave room for the text of the one before. */
static void write_ticks(struct plot *plot, const double *percents, size_t percent_count)
{
    double last = place(plot, 0);

    for (size_t i = 0; i < percent_count; i++) {
        double gain = log1p(percents[i] / 100);
        double x = place(plot, gain);

        if (gain < plot->low || gain > plot->high || fabs(x - last) < TICK_SPACING)
            continue;
        write_tick(plot, x, percents[i]);
        last = x;
    }
}

/* From the first row to where the last one ends. */
static void write_scale(struct plot *plot)
{
    static const double worse[] = {-1, -2, -5, -10, -20, -30, -40, -50, -60, -70, -80, -90, -95, -98, -99, -99.9};
    static const double better[] = {1,   2,   5,   10,  15,  20,   30,   50,   75,    100,
                                    150, 200, 300, 500, 700, 1000, 2000, 5000, 10000, 100000};

    write_ticks(plot, worse, sizeof worse / sizeof worse[0]);
    write_ticks(plot, better, sizeof better / sizeof better[0]);
    write_tick(plot, place(plot, 0), 0);
}

/* -- Rows ---------------------------------------------------------------------------------------------------- */

/* Colours tell only what is beyond the noise. */
static const char *class_of(const struct tune *tune, const struct tune_variant *variant)
{
    struct series_estimate estimate = tune_estimate(tune, variant);

    if (tune_has_won(tune, variant))
        return "won";
    return estimate.is_known && estimate.gain < -estimate.noise ? "lost" : "even";
}

/* A point, or at the end of the scale an arrow to where it would be. */
static void write_point(struct plot *plot, double gain, double y, const char *class)
{
    if (gain < plot->low)
        fprintf(plot->file, "<path class=\"mark %s\" d=\"M%d %.1f l10 -6 v12 z\"/>\n", class, LEFT, y);
    else
        fprintf(plot->file, "<circle class=\"mark %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/>\n", class, place(plot, gain),
                y);
}

static void write_mark(struct plot *plot, const struct tune_variant *variant, const char *class)
{
    struct series_estimate estimate = tune_estimate(plot->tune, variant);
    double y = plot->y + ROW_HEIGHT / 2.0;

    if (estimate.is_known && estimate.gain >= plot->low)
        fprintf(plot->file, "<line class=\"noise %s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", class,
                place_within(plot, estimate.gain - estimate.noise), place_within(plot, estimate.gain + estimate.noise),
                y, y);
    write_point(plot, estimate.gain, y, class);
}

static void write_numbers(struct plot *plot, const struct tune_variant *variant, const char *class)
{
    double baseline = plot->y + ROW_HEIGHT / 2.0 + 4;
    char text[TEXT_MAX];
    char label[TEXT_MAX];

    snprintf(label, sizeof label, "number %s", class);
    write_text(plot, RIGHT + 80, baseline, label,
               tune_show_gain(tune_estimate(plot->tune, variant).gain, text, sizeof text));
    write_text(plot, WIDTH - 24, baseline, "number quiet",
               tune_show(plot->tune, series_median(&variant->measured), text, sizeof text));
}

static void write_row(struct plot *plot, const struct tune_variant *variant, const char *name, const char *value)
{
    double baseline = plot->y + ROW_HEIGHT / 2.0 + 4;
    const char *class = class_of(plot->tune, variant);
    char text[TEXT_MAX];

    if (name != NULL)
        write_text(plot, 24, baseline, "name", name);
    write_text(plot, LEFT - 20, baseline, "number", value);
    if (variant->gains.count > 0) {
        write_mark(plot, variant, class);
        write_numbers(plot, variant, class);
    } else {
        snprintf(text, sizeof text, "not measured: %.*s", 90,
                 variant->skipped[0] != '\0' ? variant->skipped : "interrupted before");
        write_text(plot, LEFT + 4, baseline, "quiet skipped", text);
    }
    plot->y += ROW_HEIGHT;
}

/* Values of one setting stand together, under its name. */
static void write_variant(struct plot *plot, const struct tune_variant *variant)
{
    bool is_first = plot->group == NULL || strcmp(plot->group, variant->variable) != 0;
    const char *value = variant->feature != 0 ? sluice_feature_name(variant->feature) : variant->value;

    if (is_first && plot->group != NULL)
        plot->y += GROUP_GAP;
    plot->group = variant->variable;
    write_row(plot, variant, is_first ? variant->variable : NULL, value);
}

static void write_again(struct plot *plot)
{
    plot->y += GROUP_GAP;
    if (plot->tune->together.gains.count > 0)
        write_row(plot, &plot->tune->together, "measured again", "all that won");
    if (plot->tune->alone.gains.count > 0)
        write_row(plot, &plot->tune->alone, NULL, "the best of it");
}

static double height_of(const struct tune *tune)
{
    double height = HEAD_HEIGHT + FOOT_HEIGHT + (double)tune->variant_count * ROW_HEIGHT + GROUP_GAP;

    for (size_t i = 1; i < tune->variant_count; i++) {
        if (strcmp(tune->variants[i].variable, tune->variants[i - 1].variable) != 0)
            height += GROUP_GAP;
    }
    if (tune->together.gains.count > 0)
        height += ROW_HEIGHT;
    if (tune->alone.gains.count > 0)
        height += ROW_HEIGHT;
    return height;
}

/* -- From start to end --------------------------------------------------------------------------------------- */

static const char style[] =
    "<style>\n"
    "text { font: 13px system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif; fill: #2f3437 }\n"
    ".paper { fill: #fbfaf7 } .title { font-size: 22px; font-weight: 600 }\n"
    ".outcome { font-weight: 600 } .name { font-weight: 600; font-size: 12px }\n"
    ".quiet, .tick { fill: #8a8f93 } .tick { text-anchor: middle; font-size: 11px } .strong { fill: #2f3437 }\n"
    ".number { text-anchor: end; font-variant-numeric: tabular-nums } .skipped { font-style: italic; font-size: 12px;\n"
    "  paint-order: stroke; stroke: #fbfaf7; stroke-width: 5px }\n"
    ".grid { stroke: #e8e5de } .default { stroke: #2f3437; stroke-width: 1.5 }\n"
    ".noise { stroke-width: 7; stroke-linecap: round; stroke-opacity: 0.28 }\n"
    ".mark.won { fill: #2a8c6e } line.won { stroke: #2a8c6e } text.won { fill: #1f7a5e; font-weight: 600 }\n"
    ".mark.lost { fill: #c0705a } line.lost { stroke: #c0705a } text.lost { fill: #a95c47 }\n"
    ".mark.even { fill: #9aa0a6 } line.even { stroke: #9aa0a6 } text.even { fill: #8a8f93 }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "text, .strong { fill: #d9dcde } .paper { fill: #1d2022 } .skipped { stroke: #1d2022 }\n"
    ".quiet, .tick { fill: #8b9196 }\n"
    ".grid { stroke: #2e3235 }\n"
    ".default { stroke: #d9dcde } text.won { fill: #5fc4a3 } text.lost { fill: #dd927d } text.even { fill: #8b9196 }\n"
    "}\n"
    "</style>\n";

static void write_head(struct plot *plot)
{
    char text[TEXT_MAX];
    char value[UNITS_TEXT_MAX];
    char line[TEXT_MAX];

    write_text(plot, 24, 44, "title", "Gain over the default, setting by setting");
    write_text(plot, 24, 70, "", tune_describe_workload(plot->tune, text, sizeof text));
    write_text(plot, 24, 90, "", tune_describe_goal(plot->tune));
    snprintf(line, sizeof line, "the default: %s; bars are noise, three standard errors each way",
             tune_show(plot->tune, series_median(&plot->tune->measured), value, sizeof value));
    write_text(plot, 24, 110, "quiet", line);
    write_text(plot, 24, 134, "outcome", tune_describe_outcome(plot->tune));
    write_text(plot, WIDTH - 24, 44, "number quiet", tune_describe_machine(text, sizeof text));
}

static void write_svg(struct plot *plot)
{
    double height = height_of(plot->tune);

    fprintf(plot->file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" "
            "role=\"img\">\n<title>sluice tune</title>\n%s",
            WIDTH, height, WIDTH, height, style);
    fprintf(plot->file, "<rect class=\"paper\" width=\"%d\" height=\"%.0f\"/>\n", WIDTH, height);
    write_head(plot);
    plot->y = height - FOOT_HEIGHT;
    write_scale(plot);
    plot->y = HEAD_HEIGHT;
    for (size_t i = 0; i < plot->tune->variant_count; i++)
        write_variant(plot, &plot->tune->variants[i]);
    write_again(plot);
    fputs("</svg>\n", plot->file);
}

int tune_plot_write(const struct tune *tune)
{
    struct plot plot = {.tune = tune, .file = tune->plot};

    find_scale(&plot);
    if (is_html(tune))
        fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>sluice tune</title>\n"
              "<meta name=\"color-scheme\" content=\"light dark\">\n<style>\nbody { margin: 0; background: #fbfaf7 }\n"
              "svg { display: block; width: 100%; max-width: 1040px; height: auto; margin: 0 auto }\n"
              "@media (prefers-color-scheme: dark) { body { background: #1d2022 } }\n</style>\n</head>\n<body>\n",
              plot.file);
    write_svg(&plot);
    if (is_html(tune))
        fputs("</body>\n</html>\n", plot.file);
    return ferror(plot.file) ? -EIO : 0;
}
