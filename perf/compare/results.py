"""Medians, spreads and ratios of what was measured. Ratios are of the same round, so that both had the same machine."""

import statistics
from dataclasses import dataclass

from .peers import is_rival
from .scenarios import MEASURES

BUSY = 0.97  # this much of a CPU is all of it


@dataclass(frozen=True)
class Spread:
    """A median, and where the middle half of the values lies."""

    median: float
    low: float
    high: float
    count: int

    @property
    def half(self):
        return (self.high - self.low) / 2


def spread(values):
    if len(values) < 2:
        return Spread(values[0], values[0], values[0], len(values))
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


@dataclass(frozen=True)
class Ratio:
    """Sluice to another, in one measure."""

    other: str
    spread: Spread


class Results:
    """All rounds: runs[scenario][peer][round] is numbers by measure."""

    def __init__(self):
        self.runs = {}
        self.failures = []  # (scenario, peer, round, reason)

    def add(self, scenario, peer, round_number, numbers):
        self.runs.setdefault(scenario, {}).setdefault(peer, {})[round_number] = numbers

    def fail(self, scenario, peer, round_number, reason):
        self.failures.append((scenario, peer, round_number, reason))

    def failed(self, scenario, peer):
        """How often it did."""
        return sum(1 for failure in self.failures if failure[:2] == (scenario, peer))

    def peers(self, scenario):
        return list(self.runs.get(scenario, {}))

    def values(self, scenario, peer, measure):
        rounds = self.runs.get(scenario, {}).get(peer, {})
        return {number: found[measure] for number, found in rounds.items() if measure in found}

    def spread(self, scenario, peer, measure):
        values = list(self.values(scenario, peer, measure).values())
        return spread(values) if values else None

    def best_rival(self, scenario, measure):
        medians = {}
        for peer in self.peers(scenario):
            found = self.spread(scenario, peer, measure)
            if found and is_rival(peer):
                medians[peer] = found.median
        if not medians:
            return None
        return (max if MEASURES[measure].more_is_better else min)(medians, key=medians.get)

    def ratio(self, scenario, measure, other):
        """Sluice to `other` in the rounds that have both, or None."""
        if measure is None or other is None:
            return None
        ours = self.values(scenario, "sluice", measure)
        theirs = self.values(scenario, other, measure)
        ratios = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
        return Ratio(other, spread(ratios)) if ratios else None

    def to_rival(self, scenario, measure):
        return self.ratio(scenario, measure, self.best_rival(scenario, measure)) if measure else None

    def to_floor(self, scenario, measure):
        return self.ratio(scenario, measure, "floor")

    def is_bound_by_load(self, scenario):
        """The load's CPU was full and Sluice's was not: the rate is the load's, the CPU a message is still Sluice's."""
        server, load = (self.spread(scenario, "sluice", name) for name in ("server_busy", "load_busy"))
        return bool(server and load and load.median > BUSY and server.median < BUSY)
