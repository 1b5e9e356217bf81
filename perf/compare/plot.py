"""Plots as inline SVG: lines, bars and ratios. Colours come from the page's style sheet, by the class of each peer."""

import math
from dataclasses import dataclass
from html import escape

LABEL_GAP = 14  # between two labels at the ends of lines
CHARACTER = 6.3  # about the width of one in a label


@dataclass(frozen=True)
class Scale:
    """Maps values to a length, in equal steps or in equal factors."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value):
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def linear_ticks(high, count=5):
    """From 0 to at least `high` in steps of 1, 2 or 5 times a power of ten."""
    rough = high / count or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [step * i for i in range(int(math.ceil(high / step - 1e-9)) + 1)]


def log_ticks(low, high):
    """1, 2 and 5 times powers of ten; powers alone, or every third, where those would be many. They surround both."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if math.log10(high / low) < 1.7 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    below = [tick for tick in ticks if tick <= low * 1.0001]
    above = [tick for tick in ticks if tick >= high * 0.9999]
    start, end = (below or ticks)[-1 if below else 0], (above or ticks)[0 if above else -1]
    kept = [tick for tick in ticks if start <= tick <= end]
    return kept if len(kept) > 1 else [kept[0], kept[0] * 10]


# -- Elements ---------------------------------------------------------------------------------------------------


def text(x, y, content, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def rectangle(x, y, width, height, kind):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>'


def title(content):
    """What is shown when the pointer rests on it."""
    return f"<title>{escape(content)}</title>"


def svg(width, height, name, parts):
    return (
        f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(name, quote=True)}">'
        + "".join(parts)
        + "</svg>"
    )


def spread_apart(wanted, low, high):
    """Where labels go that would overlap where they are wanted: as near as possible, in the same order."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    floor = low
    for i in order:
        placed[i] = max(wanted[i], floor)
        floor = placed[i] + LABEL_GAP
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - LABEL_GAP
    return placed


# -- Lines ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    peer: str
    label: str
    points: list  # (x, y, what the pointer is told)


def line_plot(name, series, x_ticks, x_scale, y_ticks, y_scale, size):
    """Lines with their names at their ends. Ticks are pairs of a value and its text."""
    width, height = size
    parts = []
    for value, label in y_ticks:
        y = y_scale.at(value)
        parts += [line(x_scale.start, y, x_scale.end, y, "grid"), text(x_scale.start - 8, y + 4, label, "tick", "end")]
    for value, label in x_ticks:
        x = x_scale.at(value)
        parts += [line(x, y_scale.start, x, y_scale.start + 4, "axis")]
        parts += [text(x, y_scale.start + 18, label, "tick", "middle")]
    parts.append(line(x_scale.start, y_scale.start, x_scale.end, y_scale.start, "axis"))
    for one in reversed(series):  # so that Sluice, the first, lies on top
        parts.append(draw_series(one, x_scale, y_scale))
    return svg(width, height, name, parts + end_labels(series, x_scale, y_scale))


def draw_series(one, x_scale, y_scale):
    places = [(x_scale.at(x), y_scale.at(y), told) for x, y, told in one.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="dot">{title(told)}</circle>' for x, y, told in places
    )
    return f'<g class="peer {one.peer}"><polyline points="{path}" class="line"/>{dots}</g>'


def end_labels(series, x_scale, y_scale):
    ends = [(x_scale.at(one.points[-1][0]), y_scale.at(one.points[-1][1])) for one in series]
    placed = spread_apart([y for _, y in ends], y_scale.end + 4, y_scale.start)
    parts = []
    for one, (x, y), label_y in zip(series, ends, placed):
        label_x = x_scale.end + 16
        leader = line(x + 5, y, label_x - 3, label_y, "leader")
        parts.append(f'<g class="peer {one.peer}">{leader}{text(label_x, label_y + 4, one.label, "name")}</g>')
    return parts


# -- Bars -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    peer: str
    label: str
    value: float
    low: float
    high: float
    text: str


BAR_PITCH = 24
BAR_HEIGHT = 13


def bar_plot(name, bars, width):
    """Bars from the same zero with their values at their ends; a thin line marks the middle half of the rounds."""
    left = 92
    room = 12 + max(len(bar.text) for bar in bars) * CHARACTER
    scale = Scale(0, max(max(bar.value, bar.high) for bar in bars) or 1, left, width - room)
    parts = []
    for row, bar in enumerate(bars):
        y = row * BAR_PITCH + BAR_PITCH / 2 + 2
        parts.append(f'<g class="peer {bar.peer}">{title(f"{bar.label}: {bar.text}")}')
        parts.append(text(left - 10, y + 4, bar.label, "name", "end"))
        length = max(1.0, scale.at(max(bar.value, 0)) - left)
        parts.append(rectangle(left, y - BAR_HEIGHT / 2, length, BAR_HEIGHT, "bar"))
        if bar.high > bar.low >= 0:
            parts.append(line(scale.at(bar.low), y, scale.at(bar.high), y, "noise"))
        end = max(scale.at(max(bar.value, 0)), scale.at(max(bar.high, 0)))
        parts.append(text(end + 7, y + 4, bar.text, "value") + "</g>")
    parts.append(line(left, 0, left, len(bars) * BAR_PITCH + 4, "axis"))
    return svg(width, len(bars) * BAR_PITCH + 6, name, parts)


# -- Ratios -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Versus:
    """Sluice to the best rival and to the floor, each a median and the two ends of its middle half, or None."""

    rival: tuple
    rival_label: str
    floor: tuple
    told: str


RATIO_PITCH = 25
RATIO_TOP = 44
RATIO_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1, 1.25, 2, 5, 10, 20, 50, 100)


def ratio_plot(name, labels, panels, width):
    """
    A row a scenario and a panel a measure. A panel is (heading, whether more is better, a Versus or None for each row).
    """
    left = 228
    gap = 16
    label_room = 106
    panel_width = (width - left - gap * (len(panels) - 1)) / len(panels)
    bottom = RATIO_TOP + len(labels) * RATIO_PITCH
    parts = []
    for row, label in enumerate(labels):
        y = RATIO_TOP + row * RATIO_PITCH
        if row % 2:
            parts.append(rectangle(0, y, width, RATIO_PITCH, "stripe"))
        parts.append(text(6, y + RATIO_PITCH / 2 + 4, label, "row"))
    for number, (heading, more_is_better, rows) in enumerate(panels):
        start = left + number * (panel_width + gap)
        scale = ratio_scale(rows, start + 10, start + panel_width - label_room)
        parts += ratio_frame(heading, more_is_better, scale, bottom)
        for row, versus in enumerate(rows):
            if versus:
                middle = RATIO_TOP + row * RATIO_PITCH + RATIO_PITCH / 2
                parts.append(ratio_mark(versus, scale, middle))
    return svg(width, bottom + 26, name, parts)


def ratio_scale(rows, start, end):
    values = [value for row in rows if row for found in (row.rival, row.floor) if found for value in found]
    values = [value for value in values if value > 0] or [1]
    return Scale(min(min(values), 0.8) * 0.95, max(max(values), 1.25) * 1.05, start, end, True)


def ratio_frame(heading, more_is_better, scale, bottom):
    one = scale.at(1)
    better_from, better_to = (one, scale.end) if more_is_better else (scale.start, one)
    arrow = "more is better →" if more_is_better else "← less is better"
    parts = [
        rectangle(better_from, RATIO_TOP, better_to - better_from, bottom - RATIO_TOP, "better"),
        text(scale.start, 16, heading, "heading"),
        text(scale.start, 33, arrow, "tick"),
    ]
    labelled = [one]
    for tick in sorted(RATIO_TICKS, key=lambda tick: abs(math.log(tick))):
        if scale.low <= tick <= scale.high:
            x = scale.at(tick)
            parts.append(line(x, RATIO_TOP, x, bottom, "one" if tick == 1 else "grid"))
            if tick == 1 or all(abs(x - other) > 26 for other in labelled):
                labelled.append(x)
                parts.append(text(x, bottom + 17, f"{tick:g}", "tick", "middle"))
    return parts


def ratio_mark(versus, scale, y):
    """A dot with its noise for the rival, a hollow diamond for the floor."""
    parts = [f'<g class="peer sluice">{title(versus.told)}']
    if versus.floor:
        x = scale.at(versus.floor[0])
        parts.append(f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" class="diamond"/>')
    if versus.rival:
        middle, low, high = versus.rival
        parts.append(line(scale.at(low), y, scale.at(high), y, "whisker"))
        parts.append(f'<circle cx="{scale.at(middle):.1f}" cy="{y:.1f}" r="4.5" class="dot"/>')
        parts.append(text(scale.end + 12, y + 4, versus.rival_label, "value"))
    return "".join(parts) + "</g>"
