"""The results as text: numbers with units, the table of ratios for a terminal, and results.md."""

from .peers import title_of
from .scenarios import MEASURES, SCENARIOS

NOT_MEASURED = (
    "A network: both ends are on one machine, over loopback or Unix sockets. The kernel's receiving half of a loopback "
    "packet runs on the sender's CPU time, so a server's CPU holds some of the work that a network card would spread.",
    "More than one core a server: each peer serves on one thread, pinned to one CPU (blocking: a thread a connection, "
    "all on that CPU). Only \"two engines\" asks for two.",
    "What the kernel does for a server outside its process: only the process's CPU time is counted (with the kernel's "
    "own threads in it, as for SLUICE_SQPOLL).",
    "Encryption, name lookup, logging, anything a program does with its bytes; long runs; memory under load.",
)


# -- Numbers ----------------------------------------------------------------------------------------------------


def digits(value):
    """Three of them."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def scaled(value, steps):
    """With the largest unit that leaves at least 1."""
    factor, unit = next(((f, u) for f, u in steps if abs(value) >= f), steps[-1])
    return f"{digits(value / factor)} {unit}"


def quantity(value, measure):
    """A value of a measure with its unit, for people."""
    unit = MEASURES[measure].unit
    if unit == "ns":
        return scaled(value, ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")))
    if unit == "1/s":
        return scaled(value, ((1e6, "M/s"), (1e3, "k/s"), (1, "/s")))
    if unit == "B/s":
        return scaled(value, ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1, "B/s")))
    if unit == "B":
        return scaled(value, ((2**20, "MiB"), (2**10, "KiB"), (1, "B")))
    return f"{value:.2f}" if measure.endswith("busy") else f"{value:.3f}"


def ratio_text(ratio, names_other=True):
    """As "1.23 ±.02 libuv"; a dash where there is none."""
    if ratio is None:
        return "–"
    half = ratio.spread.half
    number = f"{ratio.spread.median:.2f}" if ratio.spread.median < 100 else f"{ratio.spread.median:.0f}"
    noise = f" ±{half:.2f}".replace("±0.", "±.") if ratio.spread.count > 1 else ""
    return number + noise + (f" {title_of(ratio.other)}" if names_other else "")


# -- The table of ratios ----------------------------------------------------------------------------------------

HEADS = ("Sluice to …", "rate, rival", "CPU, rival", "99.9 %, rival", "rate, floor", "CPU, floor", "Sluice")
NO_RATIO = "–"
BOUND = " *"
BOUND_NOTE = "* The load's CPU was full while Sluice's was not: Sluice could have moved more."


def ratio_rows(results):
    """A row a scenario: rate, CPU and the slowest latency to the best rival's, then to the floor's."""
    for scenario in SCENARIOS:
        if scenario.cost is None or not results.peers(scenario.name):
            continue
        row = [ratio_text(results.to_rival(scenario.name, m)) for m in (scenario.speed, scenario.cost, scenario.tail)]
        if scenario.speed and results.is_bound_by_load(scenario.name):
            row[0] += BOUND
        row += [ratio_text(results.to_floor(scenario.name, m), False) for m in (scenario.speed, scenario.cost)]
        yield [scenario.title, *row, absolute(results, scenario)]


def is_any_bound(rows):
    return any(row[1].endswith(BOUND) for row in rows)


def absolute(results, scenario):
    """What the ratios are of: Sluice's own rate and CPU."""
    found = ((results.spread(scenario.name, "sluice", m), m) for m in (scenario.speed, scenario.cost) if m)
    return ", ".join(quantity(value.median, measure) for value, measure in found if value) or NO_RATIO


def own_rows(results):
    """A row a measure that only one scenario has: Sluice, the best rival, the ratio of the two."""
    for scenario in SCENARIOS:
        for measure in scenario.own_measures if results.peers(scenario.name) else ():
            ours = results.spread(scenario.name, "sluice", measure)
            rival = results.best_rival(scenario.name, measure)
            theirs = results.spread(scenario.name, rival, measure) if rival else None
            yield [
                f"{scenario.title}: {MEASURES[measure].title}",
                quantity(ours.median, measure) if ours else NO_RATIO,
                f"{quantity(theirs.median, measure)} {title_of(rival)}" if theirs else NO_RATIO,
                ratio_text(results.to_rival(scenario.name, measure), False) if MEASURES[measure].unit else NO_RATIO,
            ]


OWN_HEADS = ("", "Sluice", "best rival", "ratio")


def columns(heads, rows):
    """A table for the terminal."""
    rows = [list(heads), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def table(results):
    """What perf/run prints: ratios first."""
    lines = []
    ratios = list(ratio_rows(results))
    if ratios:
        lines += [*columns(HEADS, ratios), ""]
        lines += ["rate: more is better; CPU a message (or a MiB) and 99.9 % latency: less is."]
        lines += ["Medians over the rounds of the ratio in each, ± half the width of their middle half."]
        lines += [BOUND_NOTE] if is_any_bound(ratios) else []
    own = list(own_rows(results))
    if own:
        lines += [""] * bool(lines) + columns(OWN_HEADS, own)
    return "\n".join(lines)


# -- results.md -------------------------------------------------------------------------------------------------


def markdown_table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines] + [""]


def machine_lines(machine, settings):
    virtual = ", a virtual machine" if machine["is_virtual"] else ""
    governor = f", governor {machine['governor']}" if machine["governor"] else ""
    yield f"{machine['cpu']}, {machine['cpus']} CPUs{virtual}{governor}, {machine['memory_gib']} GiB"
    yield f"Linux {machine['kernel']}, {machine['system']}, {machine['compiler']}"
    yield ", ".join(f"{name} {version}" for name, version in machine["libraries"].items()) or "no rival's library"
    yield f"Sluice {machine['commit']}" + "".join(f", {name}={text}" for name, text in machine["settings"].items())
    rounds = "1 round" if settings["rounds"] == 1 else f"{settings['rounds']} rounds"
    how = f"{rounds}, windows of {settings['seconds']:g} s or more after {settings['warmup']:g} s of warming up"
    if settings["smoke"]:
        how = "a smoke run, of which no number is worth anything"
    yield f"servers on CPU {settings['server_cpu']}, loads on CPU {settings['load_cpu']}; {how}"
    yield (
        f"CPUs busy with other work before the run {machine['busy_before_percent']:.0f} %, stolen by a hypervisor during "
        f"it {machine['stolen_percent']:.1f} %; {machine['when']}"
    )


def detail_rows(results, scenario):
    """A row a peer: every measure that any peer has, in the order of the table of measures."""
    peers = results.peers(scenario.name)
    kept = [name for name in MEASURES if any(results.values(scenario.name, peer, name) for peer in peers)]
    counts_bytes = scenario.speed == "byte_rate"
    hidden = ("rate", "cpu_ns") if counts_bytes else ("byte_rate", "cpu_ns_per_mib")
    kept = [name for name in kept if name not in hidden]
    rows = []
    for peer in peers:
        cells = (results.spread(scenario.name, peer, name) for name in kept)
        rows.append([title_of(peer), *(cell_text(cell, name) for cell, name in zip(cells, kept))])
    return ["", *(MEASURES[name].title for name in kept)], rows


def cell_text(found, measure):
    if found is None:
        return NO_RATIO
    if found.count < 2 or not found.median or not MEASURES[measure].unit:
        return quantity(found.median, measure)
    return f"{quantity(found.median, measure)} ±{100 * found.half / abs(found.median):.0f} %"


def failure_lines(results, skipped):
    titles = {scenario.name: scenario.title for scenario in SCENARIOS}
    yield from skipped
    for scenario, peer, round_number, reason in results.failures:
        yield f"{titles[scenario]}, {title_of(peer)}, round {round_number + 1}: {reason}"


def markdown(results, machine, settings, skipped):
    lines = ["# Sluice and its rivals", "", "Sluice to the best rival, and to the floor: liburing by hand.", ""]
    ratios = list(ratio_rows(results))
    own = list(own_rows(results))
    if ratios:
        lines += markdown_table(HEADS, ratios)
        lines += ["Rate: more is better. CPU a message (or a MiB) and 99.9 % latency: less is better. Medians over the"]
        lines += ["rounds of the ratio in each round, ± half the width of their middle half.", ""]
        lines += [BOUND_NOTE, ""] if is_any_bound(ratios) else []
    if own:
        lines += markdown_table(OWN_HEADS, own)
    lines += ["## Where", "", *(f"- {line}" for line in machine_lines(machine, settings)), ""]
    lines += ["## What this does not measure", "", *(f"- {line}" for line in NOT_MEASURED), ""]
    problems = list(failure_lines(results, skipped))
    if problems:
        lines += ["## What failed or was left out", "", *(f"- {line}" for line in problems), ""]
    lines += ["## All numbers", "", "Medians over the rounds, ± half the width of their middle half.", ""]
    for scenario in SCENARIOS:
        if results.peers(scenario.name):
            lines += [f"### {scenario.title}", "", *markdown_table(*detail_rows(results, scenario))]
    return "\n".join(lines).rstrip() + "\n"
