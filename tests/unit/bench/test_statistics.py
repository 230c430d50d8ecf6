"""Medians, spreads, and who is best."""

from __future__ import annotations

import pytest

from tests.bench.statistics import P50, RATE, Run, Summary, spread
from tests.unit.bench.results import runs

CASE = "round trip, 1"


def test_no_values_have_no_spread() -> None:
    """An empty series is a mistake of the caller, not a zero."""
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_a_spread_is_median_least_and_most() -> None:
    """One outlier moves the most and leaves the median."""
    found = spread([3.0, 1.0, 100.0])
    assert (found.least, found.median, found.most, found.rounds) == (1.0, 3.0, 100.0, 3)


def test_a_failed_run_counts_for_nothing() -> None:
    """What failed has no figure; the other rounds stand."""
    every = runs("cross-node", CASE, P50.name, {"podlock": [1.0, 3.0]})
    every.append(Run(2, "cross-node", CASE, "podlock", {}, "refused"))
    found = Summary.of(every, []).get("cross-node", CASE, P50, "podlock")
    assert found is not None
    assert (found.median, found.rounds) == (2.0, 2)


def test_the_best_peer_depends_on_which_way_is_better() -> None:
    """The lowest latency, the highest rate; and never one that is not a peer."""
    medians = {"plain": [0.1], "podlock": [9.0], "haproxy": [2.0], "nginx": [3.0]}
    peers = ["haproxy", "nginx", "stunnel"]
    for metric, best in ((P50, "haproxy"), (RATE, "nginx")):
        summary = Summary.of(runs("cross-node", CASE, metric.name, medians), peers)
        assert summary.best_peer("cross-node", CASE, metric) == best


def test_ratios_are_of_medians_in_one_scope() -> None:
    """Podlock over the best peer; other scopes do not mix in."""
    every = [
        *runs("cross-node", CASE, P50.name, {"podlock": [1, 2, 9], "nginx": [4]}),
        *runs("same-node", CASE, P50.name, {"podlock": [100], "nginx": [1]}),
    ]
    summary = Summary.of(every, ["nginx"])
    assert summary.to_best("cross-node", CASE, P50, "podlock") == 0.5
    assert summary.to_best("same-node", CASE, P50, "podlock") == 100


@pytest.mark.parametrize(
    "values",
    [{}, {"podlock": [1.0]}, {"nginx": [1.0]}, {"podlock": [1.0], "nginx": [0.0]}],
)
def test_there_is_no_ratio_without_both_sides(values: dict[str, list[float]]) -> None:
    """Neither a missing contestant nor a zero makes a number up."""
    summary = Summary.of(runs("cross-node", CASE, P50.name, values), ["nginx"])
    assert summary.to_best("cross-node", CASE, P50, "podlock") is None
