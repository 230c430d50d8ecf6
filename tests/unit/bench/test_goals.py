"""The goals, and how a run is judged by them."""

from __future__ import annotations

from tests.bench import goals
from tests.bench.cases import FULL, QUICK, all_cases
from tests.bench.goals import Verdict
from tests.bench.statistics import (
    AGENT_MEMORY,
    CPU_BYTES,
    MEMORY,
    P50,
    RATE,
    SPEED,
    Summary,
)
from tests.unit.bench.results import runs

CROSS = "cross-node"


def verdict(summary: Summary, case: str) -> Verdict:
    """The verdict on the one goal whose case reads so."""
    (found,) = [each for each in goals.judged(summary) if each.goal.case == case]
    return found


def test_an_empty_run_meets_nothing() -> None:
    """Without a figure there is no goal that is met."""
    empty = Summary.of([], ["nginx"])
    for each in goals.judged(empty):
        assert not each.met
        assert each.document()["figure"] is None
        assert each.document()["note"] == each.said


def test_direct_is_judged_by_plain() -> None:
    """A contestant of that name is all that the rows need."""
    values = {"plain": [100e-6], "podlock-direct": [104e-6]}
    every = runs("same-node", "round trip, 1", P50.name, values)
    found = verdict(Summary.of(every, []), "same node, direct: round trip, p50")
    assert found.met
    assert found.said == "1.04"


def test_the_bound_itself_meets_the_goal() -> None:
    """At most means at most, and a hair above it is not met."""
    for latency, met in ((100e-6, True), (100.1e-6, False)):
        values = {"podlock": [latency], "nginx": [100e-6]}
        every = runs(CROSS, "round trip, 1", P50.name, values)
        found = verdict(Summary.of(every, ["nginx"]), "cross node: round trip, p50")
        assert found.met is met


def test_the_worst_direction_counts() -> None:
    """Fast one way and slow the other is slow."""
    every = [
        *runs(CROSS, "bulk up, 1", SPEED.name, {"podlock": [3e9], "nginx": [1e9]}),
        *runs(CROSS, "bulk down, 1", SPEED.name, {"podlock": [1.2e9], "nginx": [1e9]}),
    ]
    found = verdict(Summary.of(every, ["nginx"]), "cross node: bulk, 1 stream")
    assert found.figure == 1.2
    assert not found.met


def test_the_worst_of_a_cost_is_the_highest() -> None:
    """CPU per GB is a cost: the dearest case counts."""
    cheap, dear = {"podlock": [1.0], "nginx": [2.0]}, {"podlock": [3.0], "nginx": [2.0]}
    every = [
        each
        for case in goals.bulk(1, 8)
        for each in runs(
            CROSS, case, CPU_BYTES.name, dear if case == "bulk down, 8" else cheap
        )
    ]
    found = verdict(Summary.of(every, ["nginx"]), "cross node: CPU per GB")
    assert found.figure == 1.5


def test_half_a_measurement_proves_nothing() -> None:
    """A goal over several cases needs all of them."""
    values = {"podlock": [9e9], "nginx": [1e9]}
    every = runs(CROSS, "bulk up, 1", SPEED.name, values)
    found = verdict(Summary.of(every, ["nginx"]), "cross node: bulk, 1 stream")
    assert found.figure is None
    assert not found.met


def test_memory_is_judged_in_megabytes() -> None:
    """39 KB for one connection are 39 MB for a thousand; agents weigh in MB."""
    every = [
        *runs(CROSS, "idle, 1000", MEMORY.name, {"podlock": [39_000]}),
        *runs("same-node", "agent, 100 pods", AGENT_MEMORY.name, {"podlock": [121e6]}),
    ]
    summary = Summary.of(every, [])
    assert verdict(summary, "cross node: 1,000 idle connections").figure == 39
    agent = verdict(summary, "agent idle with 100 pods")
    assert (agent.figure, agent.met) == (121, False)


def test_every_goal_can_be_met_by_what_is_measured() -> None:
    """No goal asks for a case or metric that no run has: all names agree."""
    for effort in (QUICK, FULL):
        every = [
            each
            for case in all_cases(effort)
            for metric in case.metrics
            for scope in ("same-node", CROSS)
            for each in runs(
                scope,
                case.name,
                metric.name,
                {
                    name: [1.0]
                    for name in ("plain", "podlock", "podlock-direct", "nginx")
                },
            )
        ]
        agent = {"podlock": [1.0]}
        every += runs("same-node", "agent, 100 pods", AGENT_MEMORY.name, agent)
        verdicts = goals.judged(Summary.of(every, ["nginx"]))
        assert [v.goal.case for v in verdicts if v.figure is None] == []


def test_a_verdict_as_data_has_case_goal_figure_and_met() -> None:
    """The keys that other programs read."""
    values = {"podlock": [3.0], "nginx": [1.0]}
    every = runs(CROSS, "round trip, 64", RATE.name, values)
    found = verdict(Summary.of(every, ["nginx"]), "cross node: requests/s, 64")
    assert found.document() == {
        "case": "cross node: requests/s, 64",
        "goal": "at least 1.2 of the best peer",
        "figure": 3.0,
        "met": True,
    }
