"""Medians, spreads and who is best: plain arithmetic."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One kind of figure. `scale` turns it into `unit`, which is for people."""

    name: str
    unit: str
    better: Better
    title: str
    scale: float = 1.0


P50: Final = Metric("p50_seconds", "us", "lower", "p50", 1e6)
P99: Final = Metric("p99_seconds", "us", "lower", "p99", 1e6)
RATE: Final = Metric("per_second", "/s", "higher", "rate")
SPEED: Final = Metric("bytes_per_second", "GB/s", "higher", "speed", 1e-9)
EVENNESS: Final = Metric("evenness", "", "higher", "least stream / mean")
CPU_BYTES: Final = Metric("cpu_seconds_per_gb", "s/GB", "lower", "CPU per GB")
CPU_COUNT: Final = Metric("cpu_seconds_per_1000", "s", "lower", "CPU per 1,000")
MEMORY: Final = Metric("bytes_per_connection", "KB", "lower", "memory each", 1e-3)
SLOWDOWN: Final = Metric("p99_to_alone", "", "lower", "p99 / p99 alone")
AGENT_MEMORY: Final = Metric("agent_bytes", "MB", "lower", "agent memory", 1e-6)


# How much was done, in figures that are no metric; by name, and what to call one.
REQUESTS: Final = "requests"
MEGABYTES: Final = "megabytes"
UNITS: Final = {REQUESTS: "request", MEGABYTES: "MB"}


class Key(NamedTuple):
    """Which series of figures: one per round goes into it."""

    scope: str
    case: str
    metric: str
    contestant: str


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, with the least and the most."""

    median: float
    least: float
    most: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Run:
    """What one contestant did in one case of one round; `error` where it failed."""

    round: int
    scope: str
    case: str
    contestant: str
    figures: Mapping[str, float]
    error: str | None = None


def spread(values: Iterable[float]) -> Spread:
    """The spread of at least one value. Raises: ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("expected at least one value")
    return Spread(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))


@dataclass(frozen=True, slots=True)
class Summary:
    """Every series of a run, and which contestants are the peers to be measured by."""

    spreads: Mapping[Key, Spread]
    peers: tuple[str, ...]

    @classmethod
    def of(cls, runs: Iterable[Run], peers: Iterable[str]) -> Summary:
        """Gather the figures of all rounds; a failed run has none."""
        series: dict[Key, list[float]] = defaultdict(list)
        for run in runs:
            for metric, value in run.figures.items():
                key = Key(run.scope, run.case, metric, run.contestant)
                series[key].append(value)
        spreads = {key: spread(values) for key, values in series.items()}
        return cls(spreads, tuple(peers))

    def get(
        self, scope: str, case: str, metric: Metric, contestant: str
    ) -> Spread | None:
        """One series, if it was measured."""
        return self.spreads.get(Key(scope, case, metric.name, contestant))

    def best_peer(self, scope: str, case: str, metric: Metric) -> str | None:
        """The peer with the best median, if any peer was measured."""
        medians = {
            peer: found.median
            for peer in self.peers
            if (found := self.get(scope, case, metric, peer))
        }
        if not medians:
            return None
        choose = min if metric.better == "lower" else max
        return choose(medians, key=medians.__getitem__)

    def ratio(
        self, scope: str, case: str, metric: Metric, contestant: str, to: str
    ) -> float | None:
        """The median of a contestant over that of another, if both have one."""
        mine = self.get(scope, case, metric, contestant)
        other = self.get(scope, case, metric, to)
        if mine is None or other is None or other.median == 0:
            return None
        return mine.median / other.median

    def to_best(
        self, scope: str, case: str, metric: Metric, contestant: str
    ) -> float | None:
        """The median of a contestant over that of the best peer."""
        best = self.best_peer(scope, case, metric)
        return self.ratio(scope, case, metric, contestant, best) if best else None
