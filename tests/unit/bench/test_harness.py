"""The order of the rounds, and what a failure does to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tests.bench import harness
from tests.bench.cases import Case, Effort
from tests.bench.load import Load, LoadFailed
from tests.bench.statistics import P50, Run
from tests.bench.world import SCOPES, Route, Scope

EFFORT = Effort(rounds=2, seconds=0.0, warm_up=0.0, idle=())
LOAD = Load(Path("/nonexistent"), Path("/nonexistent"))


class Entry:
    """A contestant whose route is its own name."""

    def __init__(self, name: str, scopes: Sequence[Scope] = SCOPES) -> None:
        self.name = name
        self.scopes = scopes

    def start(self) -> None:
        """Nothing to start."""

    def route(self, scope: Scope) -> Route:
        """Something that the cases below can tell apart."""
        return Route(cast("Any", None), self.name, 0, ())


def one(_load: Load, route: Route, _effort: Effort) -> Mapping[str, float]:
    """B always fails."""
    if route.address == "B":
        raise LoadFailed("no")
    return {P50.name: 1.0}


CASES = [Case("often", (P50,), one), Case("seldom", (P50,), one, once=True)]
ENTRIES = [Entry("A"), Entry("B")]


def test_contestants_take_turns_within_each_case() -> None:
    """A B, then A B of the next case; what is asked once comes before all rounds."""
    plan = harness.plan(EFFORT, CASES, ["cross-node"], ENTRIES)
    order = [(number, case.name, who.name) for number, _, case, who in plan]
    assert order == [
        (0, "seldom", "A"),
        (0, "seldom", "B"),
        (0, "often", "A"),
        (0, "often", "B"),
        (1, "often", "A"),
        (1, "often", "B"),
    ]


def test_nobody_is_asked_where_it_takes_no_part() -> None:
    """A contestant of one scope leaves its turn to the others in the other one."""
    near = Entry("near", ("same-node",))
    plan = harness.plan(EFFORT, CASES[:1], ["cross-node", "same-node"], [near])
    assert [scope for _, scope, _, _ in plan] == ["same-node"] * 2


def test_a_failure_is_noted_and_stops_nobody() -> None:
    """The others' figures are there, and why there is none for this one."""
    seen: list[tuple[int, int]] = []

    def watch(done: int, total: int, _run: Run) -> None:
        seen.append((done, total))

    runs = harness.perform(LOAD, EFFORT, CASES, ["cross-node"], ENTRIES, watch)
    assert [run.error for run in runs] == [None, "no"] * 3
    assert [dict(run.figures) for run in runs if run.error] == [{}] * 3
    assert seen == [(number, 6) for number in range(1, 7)]
