"""The results as one page that needs nothing else: plots, tables, and what they are worth."""

import math
import pathlib
from html import escape

from . import plot, text
from .peers import PEERS, title_of
from .scenarios import BY_CONNECTIONS, MEASURES, PERCENTILES, SCENARIOS

CARD = 360  # width of a small plot
NOISE = 0.02  # what counts as level

ORDER = [peer.name for peer in PEERS] + ["asio"]


def in_order(peers):
    return sorted(peers, key=ORDER.index)


def tag(name, content, kind=""):
    attribute = f' class="{kind}"' if kind else ""
    return f"<{name}{attribute}>{content}</{name}>"


def section(heading, note, *content):
    """Nothing at all where there is no content."""
    if not any(content):
        return ""
    return tag("section", tag("h2", escape(heading)) + tag("p", escape(note), "note") + "".join(content))


def cards(figures, kind="cards"):
    return tag("div", "".join(figures), kind) if figures else ""


def figure(heading, drawing):
    return tag("figure", tag("h3", escape(heading)) + drawing)


def html_table(heads, rows):
    head = tag("tr", "".join(tag("th", escape(cell)) for cell in heads))
    body = "".join(tag("tr", "".join(tag("td", escape(cell)) for cell in row)) for row in rows)
    return tag("div", tag("table", head + body), "scroll")


def html_list(lines, kind=""):
    return tag("ul", "".join(tag("li", escape(line)) for line in lines), kind)


# -- Ratios -----------------------------------------------------------------------------------------------------


def verdict(results, what, measure_of):
    """How many scenarios are ahead, level and behind, in words."""
    counts = {"ahead": 0, "level": 0, "behind": 0}
    for scenario in SCENARIOS:
        measure = measure_of(scenario)
        ratio = results.to_rival(scenario.name, measure)
        if ratio:
            gain = ratio.spread.median if MEASURES[measure].more_is_better else 1 / ratio.spread.median
            counts["ahead" if gain > 1 + NOISE else "behind" if gain < 1 - NOISE else "level"] += 1
    if not any(counts.values()):
        return ""
    words = ", ".join(f"{word} in {count}" for word, count in counts.items() if count)
    return f"{what}: {words} of {sum(counts.values())}. "


def lead(results):
    verdicts = verdict(results, "Rate", lambda s: s.speed) + verdict(results, "CPU a message", lambda s: s.cost)
    verdicts += verdict(results, "99.9 % latency", lambda s: s.tail)
    if not verdicts:
        return "No rival was measured beside Sluice."
    return f"Sluice against the best rival of each scenario. {verdicts}Level is within {100 * NOISE:.0f} %."


def bounds(ratio):
    return (ratio.spread.median, ratio.spread.low, ratio.spread.high) if ratio else None


def versus(results, scenario, measure):
    rival, floor = results.to_rival(scenario.name, measure), results.to_floor(scenario.name, measure)
    if not rival and not floor:
        return None
    label = f"{rival.spread.median:.2f} {title_of(rival.other)}" if rival else ""
    told = f"{scenario.title}: {text.ratio_text(rival)}, to the floor {text.ratio_text(floor, False)}"
    return plot.Versus(bounds(rival), label, bounds(floor), told)


def ratio_overview(results):
    shown = [s for s in SCENARIOS if s.cost and results.peers(s.name)]
    panels = [
        ("rate", True, [versus(results, s, s.speed) for s in shown]),
        ("CPU a message", False, [versus(results, s, s.cost) for s in shown]),
        ("99.9 % latency", False, [versus(results, s, s.tail) for s in shown]),
    ]
    panels = [panel for panel in panels if any(panel[2])]
    if not panels:
        return ""
    drawing = plot.ratio_plot("Sluice to the best rival", [s.title for s in shown], panels, 1120)
    return tag("figure", tag("div", drawing, "scroll"))


# -- By number of connections -----------------------------------------------------------------------------------


def by_connections(results, measure, heading, is_log):
    """CPU is drawn by factors: at one connection it is many times what it is at thousands."""
    chosen = [s for s in SCENARIOS if s.name in BY_CONNECTIONS]
    series = []
    for peer in in_order({peer for s in chosen for peer in results.peers(s.name)}):
        found = [(s.connections, results.spread(s.name, peer, measure)) for s in chosen]
        points = [
            (count, value.median, f"{title_of(peer)}, {count:,}: {text.quantity(value.median, measure)}")
            for count, value in found
            if value
        ]
        if len(points) > 1:
            series.append(plot.Series(peer, title_of(peer), points))
    if not series:
        return None
    values = [point[1] for one in series for point in one.points]
    counts = [point[0] for one in series for point in one.points]
    y_ticks = plot.log_ticks(min(values), max(values)) if is_log else plot.linear_ticks(max(values))
    x_scale = plot.Scale(min(counts), max(counts), 74, 412, True)
    y_scale = plot.Scale(y_ticks[0], y_ticks[-1], 280, 14, is_log)
    x_ticks = [(count, f"{count:,}") for count in (1, 10, 100, 1000, 10000) if min(counts) <= count <= max(counts)]
    labelled = [(tick, tick_text(tick, measure)) for tick in y_ticks]
    drawing = plot.line_plot(heading, series, x_ticks, x_scale, labelled, y_scale, (520, 322))
    return figure(heading, drawing.replace("</svg>", plot.text(243, 318, "connections", "tick", "middle") + "</svg>"))


def tick_text(value, measure):
    if value == 0:
        return "0"
    number, _, unit = text.quantity(value, measure).partition(" ")
    return f"{float(number.replace(',', '')):g} {unit}".strip()


# -- Latency ----------------------------------------------------------------------------------------------------


def nines(percent):
    """1 for 90 %, 2 for 99 %: so far apart do percentiles lie on the axis."""
    return -math.log10(1 - percent / 100)


def latency_curve(results, scenario):
    series = []
    for peer in in_order(results.peers(scenario.name)):
        found = [(name, percent, results.spread(scenario.name, peer, name)) for name, percent in PERCENTILES.items()]
        points = [
            (nines(percent), value.median, f"{title_of(peer)}, {percent:g} %: {text.quantity(value.median, name)}")
            for name, percent, value in found
            if value and value.median > 0
        ]
        if len(points) > 1:
            series.append(plot.Series(peer, title_of(peer), points))
    if not series:
        return None
    values = [point[1] for one in series for point in one.points]
    furthest = max(point[0] for one in series for point in one.points)
    ticks = plot.log_ticks(min(values), max(values))
    x_scale = plot.Scale(nines(50), furthest, 52, CARD - 102)
    y_scale = plot.Scale(ticks[0], ticks[-1], 214, 10, True)
    shown = [percent for percent in PERCENTILES.values() if nines(percent) <= furthest + 1e-9]
    x_ticks = [(nines(percent), f"{percent:g} %" if percent == 50 else f"{percent:g}") for percent in shown]
    labelled = [(tick, tick_text(tick, "p50")) for tick in ticks]
    drawing = plot.line_plot(f"latency, {scenario.title}", series, x_ticks, x_scale, labelled, y_scale, (CARD, 240))
    return figure(scenario.title, drawing)


# -- Bars -------------------------------------------------------------------------------------------------------


def bars(results, scenario, measure, heading):
    """All peers that have the measure, the best first."""
    found = [(peer, results.spread(scenario.name, peer, measure)) for peer in results.peers(scenario.name)]
    found = [(peer, value) for peer, value in found if value]
    if not found:
        return None
    found.sort(key=lambda item: item[1].median, reverse=MEASURES[measure].more_is_better)
    rows = [
        plot.Bar(peer, title_of(peer), v.median, v.low, v.high, text.quantity(v.median, measure)) for peer, v in found
    ]
    return figure(heading, plot.bar_plot(heading, rows, CARD))


def bar_cards(results, measure_of):
    figures = (bars(results, s, measure_of(s), s.title) for s in SCENARIOS if measure_of(s))
    return cards([drawn for drawn in figures if drawn])


def own_cards(results):
    figures = (bars(results, s, m, f"{s.title}: {MEASURES[m].title}") for s in SCENARIOS for m in s.own_measures)
    return cards([drawn for drawn in figures if drawn])


# -- The page ---------------------------------------------------------------------------------------------------


def details(results):
    parts = []
    for scenario in SCENARIOS:
        if results.peers(scenario.name):
            rows = html_table(*text.detail_rows(results, scenario))
            parts.append(tag("details", tag("summary", escape(scenario.title)) + rows))
    return "".join(parts)


def plots(results):
    rounds = "Medians over the rounds; the thin line in a bar is their middle half."
    two = [
        by_connections(results, "rate", "messages a second", False),
        by_connections(results, "cpu_ns", "server's CPU time a message", True),
    ]
    curves = [latency_curve(results, s) for s in SCENARIOS if s.tail]
    two = cards([drawn for drawn in two if drawn], "cards wide")
    return (
        section("Echo of 64 bytes, by number of connections", "One server thread.", two)
        + section(
            "Latency",
            "From a message's departure (open loop: from when it was due) to its answer. To the right lie ever slower "
            "messages: at 99.9 % one in a thousand was slower still.",
            cards([curve for curve in curves if curve]),
        )
        + section("Rate", f"More is better. {rounds}", bar_cards(results, lambda s: s.speed))
        + section("CPU a message, or a MiB", f"Less is better. {rounds}", bar_cards(results, lambda s: s.cost))
        + section("Memory, posts, timers", f"The best comes first. {rounds}", own_cards(results))
    )


def html(results, machine, settings, skipped):
    style = (pathlib.Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    where = list(text.machine_lines(machine, settings))
    problems = list(text.failure_lines(results, skipped))
    ratios, own = list(text.ratio_rows(results)), list(text.own_rows(results))
    body = tag("h1", "Sluice and its rivals") + tag("p", escape(lead(results)), "lead") + html_list(where, "where")
    body += section(
        "Sluice to the best rival",
        "Each dot is the median of the ratio in each round, its line the middle half of them; 1 is level. The diamond "
        "is the ratio to the floor: liburing by hand, for that one purpose.",
        ratio_overview(results),
    )
    note = "A ratio, its noise, and whose number it is. " + (text.BOUND_NOTE if text.is_any_bound(ratios) else "")
    body += section("The same in numbers", note, ratios and html_table(text.HEADS, ratios))
    note = "Sluice, the best rival, and the ratio."
    body += section("Questions of their own", note, own and html_table(text.OWN_HEADS, own))
    body += plots(results)
    body += section("What this does not measure", "", html_list(text.NOT_MEASURED))
    body += section("What failed or was left out", "", problems and html_list(problems))
    body += section("All numbers", "Medians over the rounds, ± half the width of their middle half.", details(results))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Sluice and its rivals</title>\n<style>\n{style}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )
