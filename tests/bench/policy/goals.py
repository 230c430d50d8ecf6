"""What Podlock promises of its policy's speed, and whether a run bears it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.bench.policy.decisions import Timing

FEW, MANY = 100, 10_000


@dataclass(slots=True)
class Figures:
    """What a run measured; `timings` by how many policies there are."""

    timings: dict[int, Timing] = field(default_factory=dict)
    enforcement: list[float] = field(default_factory=list)
    closing: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Goal:
    """The figure must not exceed `bound`."""

    name: str
    bound: float
    unit: str
    figure: Callable[[Figures], float]

    def is_met(self, figures: Figures) -> bool:
        """Whether a run bears it out."""
        return self.figure(figures) <= self.bound


def _p99(found: Figures) -> float:
    timing = found.timings[MANY]
    return max(timing.permit.p99, timing.refusal.p99)


def _growth(found: Figures) -> float:
    few, many = found.timings[FEW], found.timings[MANY]
    permit = many.permit.p50 / few.permit.p50
    return max(permit, many.refusal.p50 / few.refusal.p50)


GOALS: Final = (
    Goal("a decision among 10,000 policies, p99", 50, "us", _p99),
    Goal("10,000 policies to 100, p50", 2, "times", _growth),
    Goal(
        "file changed until enforced on both nodes, the longest",
        300,
        "ms",
        lambda found: max(found.enforcement) * 1000,
    ),
    Goal(
        "file changed until 1,000 connections are closed, the longest",
        1000,
        "ms",
        lambda found: max(found.closing) * 1000,
    ),
)
