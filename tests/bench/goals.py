"""
What Podlock promises of its speed, and whether a run bears it out.

Ratios are those of medians within one run. Where a goal covers several cases, the
worst of them counts. A goal whose figure is missing is not met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.statistics import (
    AGENT_MEMORY,
    CPU_BYTES,
    MEMORY,
    P50,
    RATE,
    SPEED,
    Metric,
    Summary,
)

PODLOCK: Final = "podlock"
DIRECT: Final = "podlock-direct"
PLAIN: Final = "plain"
CROSS: Final = "cross-node"
SAME: Final = "same-node"
WAYS: Final = ("up", "down")
NOT_MEASURED: Final = "not measured"

Figure = Callable[[Summary], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """One row of the table: the figure must keep to the side of `bound`."""

    case: str
    bound: float
    figure: Figure
    to: str
    """What the figure is measured by: `of the best peer`, `MB`."""
    at_most: bool = True
    missing: str = NOT_MEASURED

    @property
    def text(self) -> str:
        """The goal in words."""
        side = "at most" if self.at_most else "at least"
        return f"{side} {self.bound:g} {self.to}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what a run says about it; `figure` None: the run says nothing."""

    goal: Goal
    figure: float | None

    @property
    def met(self) -> bool:
        """Whether there is a figure, and it is on the right side."""
        if self.figure is None:
            return False
        if self.goal.at_most:
            return self.figure <= self.goal.bound
        return self.figure >= self.goal.bound

    @property
    def said(self) -> str:
        """The figure, or why there is none."""
        return self.goal.missing if self.figure is None else f"{self.figure:.2f}"

    def document(self) -> dict[str, Any]:
        """As data; `note` is there where the figure is not."""
        document: dict[str, Any] = {
            "case": self.goal.case,
            "goal": self.goal.text,
            "figure": self.figure,
            "met": self.met,
        }
        if self.figure is None:
            document["note"] = self.goal.missing
        return document


def judged(summary: Summary) -> list[Verdict]:
    """Every goal, judged by a run."""
    return [Verdict(goal, goal.figure(summary)) for goal in GOALS]


def bulk(*streams: int) -> list[str]:
    """The names of the bulk cases, both ways."""
    return [f"bulk {way}, {count}" for count in streams for way in WAYS]


def _worst(figures: Iterable[float | None], at_most: bool) -> float | None:
    found = list(figures)
    known = [figure for figure in found if figure is not None]
    if not known or len(known) < len(found):
        return None  # half a measurement proves nothing
    return max(known) if at_most else min(known)


def _to_best(cases: Sequence[str], metric: Metric) -> Figure:
    lower = metric.better == "lower"
    return lambda summary: _worst(
        (summary.to_best(CROSS, case, metric, PODLOCK) for case in cases), lower
    )


def _direct(cases: Sequence[str], metric: Metric) -> Figure:
    lower = metric.better == "lower"
    return lambda summary: _worst(
        (summary.ratio(SAME, case, metric, DIRECT, PLAIN) for case in cases), lower
    )


def _same_to_cross(cases: Sequence[str], metric: Metric) -> Figure:
    def one(summary: Summary, case: str) -> float | None:
        same = summary.get(SAME, case, metric, PODLOCK)
        cross = summary.get(CROSS, case, metric, PODLOCK)
        return same.median / cross.median if same and cross else None

    lower = metric.better == "lower"
    return lambda summary: _worst((one(summary, case) for case in cases), lower)


def _idle_megabytes(summary: Summary) -> float | None:
    """MB per 1,000 connections, which is KB for one."""
    found = summary.get(CROSS, "idle, 1000", MEMORY, PODLOCK)
    return found.median / 1e3 if found else None


def _agent_megabytes(summary: Summary) -> float | None:
    found = summary.get(SAME, "agent, 100 pods", AGENT_MEMORY, PODLOCK)
    return found.median / 1e6 if found else None


def _goals() -> list[Goal]:
    best, plain, cross = "of the best peer", "of plain", "of cross-node"
    trip, connect = "round trip, 1", "new connection, 1"
    many, parallel = "round trip, 64", "new connection, 32"

    def direct(case: str, bound: float, figure: Figure, at_most: bool = True) -> Goal:
        name = f"same node, direct: {case}"
        return Goal(name, bound, figure, plain, at_most)

    same = "same node, tunnel"
    away = "cross node"
    return [
        direct("round trip, p50", 1.05, _direct([trip], P50)),
        direct("bulk", 0.95, _direct(bulk(1, 8), SPEED), at_most=False),
        direct("new connection, p50", 1.3, _direct([connect], P50)),
        Goal(f"{same}: round trip, p50", 1.0, _same_to_cross([trip], P50), cross),
        Goal(f"{same}: bulk", 1.0, _same_to_cross(bulk(1, 8), SPEED), cross, False),
        Goal(f"{away}: bulk, 1 stream", 1.3, _to_best(bulk(1), SPEED), best, False),
        Goal(f"{away}: bulk, 8 streams", 1.3, _to_best(bulk(8), SPEED), best, False),
        Goal(f"{away}: round trip, p50", 1.0, _to_best([trip], P50), best),
        Goal(f"{away}: requests/s, 64", 1.2, _to_best([many], RATE), best, False),
        Goal(f"{away}: new connection, p50", 0.6, _to_best([connect], P50), best),
        Goal(
            f"{away}: new connections/s", 2.0, _to_best([parallel], RATE), best, False
        ),
        Goal(f"{away}: CPU per GB", 0.9, _to_best(bulk(1, 8), CPU_BYTES), best),
        Goal(f"{away}: 1,000 idle connections", 40.0, _idle_megabytes, "MB"),
        Goal("agent idle with 100 pods", 120.0, _agent_megabytes, "MB"),
    ]


GOALS: Final = _goals()
