"""The policy benchmark: what it decides is right, and what it says of goals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.policy.decision import Denied, authorize
from tests.bench.policy.decisions import RULES, Spread, Timing, asked, compiled, measure
from tests.bench.policy.goals import GOALS, Figures


def timing(policies: int, p50: float, p99: float) -> Timing:
    spread = Spread(p50, p99)
    return Timing(policies, spread, spread, spread, Spread(1000, 1000), 0.1)


GOOD = Figures(
    {100: timing(100, 5, 9), 10_000: timing(10_000, 6, 40)}, [0.1, 0.25], [0.5]
)


def verdicts(figures: Figures) -> list[bool]:
    return [goal.is_met(figures) for goal in GOALS]


def test_goals() -> None:
    """Each is met by itself, and missed by itself."""
    assert all(verdicts(GOOD))
    slow = replace(GOOD, timings={**GOOD.timings, 10_000: timing(10_000, 6, 51)})
    assert verdicts(slow) == [False, True, True, True]
    steep = replace(GOOD, timings={**GOOD.timings, 10_000: timing(10_000, 11, 40)})
    assert verdicts(steep) == [True, False, True, True]
    assert verdicts(replace(GOOD, enforcement=[0.1, 0.31])) == [True, True, False, True]
    assert verdicts(replace(GOOD, closing=[1.1])) == [True, True, True, False]


def test_callers_of_every_kind() -> None:
    """Some are let in by one of the rules, some are not, in every size."""
    policy = compiled(3)
    assert policy.istio is not None
    assert sum(len(found.rules) for found in policy.istio.allows) == 3 * RULES
    allowed = 0
    for request in asked(3):
        try:
            allowed += bool(authorize(request, policy))
        except Denied:
            assert request.identity is None or request.identity.namespace == "nobody"
    assert allowed == sum(
        request.identity is not None and request.identity.namespace != "nobody"
        for request in asked(3)
    )


def test_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of each kind, and a scan that is slower than nothing."""
    monkeypatch.setattr("tests.bench.policy.decisions.TIMES", 2)
    found = measure(2)
    assert found.policies == 2
    assert min(found.permit.p50, found.refusal.p50, found.scan.p50) > 0
    assert found.gain > 0
