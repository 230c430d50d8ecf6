"""Results of a made-up run, for whoever shows or judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.bench import goals
from tests.bench.report import Results
from tests.bench.stamp import Stamp
from tests.bench.statistics import P50, SPEED, Run, Summary

STAMP = Stamp(
    moment="2026-01-02T03:04:05+00:00",
    kernel="6.1.0",
    cpu="A <fast> & cheap CPU",
    cores=2,
    memory_bytes=4 * 2**30,
    busy=0.5,
    versions={"podlock": "abc", "haproxy": "2.6"},
)
CONTESTANTS = ("plain", "podlock", "haproxy")
ASKED = [
    ("cross-node", "round trip, 1", P50),
    ("cross-node", "bulk up, 1", SPEED),
]


def runs(
    scope: str, case: str, metric: str, values: Mapping[str, Sequence[float]]
) -> list[Run]:
    """One run for each value of each contestant, its place being its round."""
    return [
        Run(number, scope, case, contestant, {metric: value})
        for contestant, series in values.items()
        for number, value in enumerate(series)
    ]


def example() -> Results:
    """Three contestants, two cases, and one run that failed."""
    every = [
        *runs(
            "cross-node",
            "round trip, 1",
            P50.name,
            {"plain": [50e-6], "podlock": [90e-6, 100e-6, 300e-6], "haproxy": [200e-6]},
        ),
        Run(0, "cross-node", "bulk up, 1", "podlock", {}, "[broken] & gone"),
        Run(1, "cross-node", "bulk up, 1", "podlock", {}, "[broken] & gone"),
    ]
    summary = Summary.of(every, ["haproxy"])
    return Results(
        stamp=STAMP,
        seconds=12.34,
        rounds=3,
        contestants=CONTESTANTS,
        asked=ASKED,
        runs=every,
        summary=summary,
        verdicts=goals.judged(summary),
    )
