"""One dependency that comes and goes: how often it is asked."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.recovery import (
    FIRST_SECONDS,
    LIMIT_SECONDS,
    LONGEST_SECONDS,
    SPREAD,
    Recovery,
    interval,
)

LONGEST = LONGEST_SECONDS * (1 + SPREAD)


def test_intervals_grow_to_the_longest() -> None:
    """0.5 s, 1, 2, 4, and then 5 for ever."""
    found = [interval(attempt, 0.5) for attempt in (0, 1, 2, 3, 4, 5, 10**6)]
    assert found == [0.5, 1, 2, 4, 5, 5, 5]


@pytest.mark.parametrize("jitter", [-0.1, 1.1])
def test_jitter_is_chance(jitter: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval(0, jitter)


def test_what_is_not_away_needs_no_probe() -> None:
    """Requests and answers of every day."""
    service = Recovery()
    service.asked(1.0)
    assert not service.answered(2.0)
    assert (service.next_probe, service.wait(2.0)) == (None, 0.0)


def test_an_outage_and_its_end() -> None:
    """Probes are counted from their start; the answer ends it."""
    service = Recovery()
    service.unanswered(10.0, 0.5)
    assert service.next_probe == 10.5
    service.asked(10.5)
    service.unanswered(10.5, 0.5)
    assert (service.next_probe, service.wait(11.0)) == (11.5, 0.5)
    assert service.answered(12.0)
    assert service.next_probe is None


def test_a_request_of_before_the_latest_answer_says_nothing() -> None:
    """One that hung since the outage fails after the end of it."""
    service = Recovery()
    service.unanswered(10.0, 0.5)
    service.answered(12.0)
    service.unanswered(11.0, 0.5)
    assert service.next_probe is None
    service.unanswered(12.0, 0.5)
    assert service.next_probe == 12.5


def test_a_clock_that_goes_back() -> None:
    """The probe comes as soon as it was meant to."""
    service = Recovery()
    service.unanswered(100.0, 0.5)
    service.set_back(60.0)
    assert service.next_probe == 40.5


@given(
    outage=st.floats(0, 10_000),
    takes=st.lists(st.floats(0, LIMIT_SECONDS), min_size=1, max_size=8),
    jitter=st.floats(0, 1),
)
def test_one_that_waits_is_asked_in_time(
    outage: float, takes: list[float], jitter: float
) -> None:
    """
    However long it was away, and however long each request hung: a request that can
    succeed begins within the limit of a request, or the longest interval.
    """
    service, now, turn, starts = Recovery(), 0.0, 0, [0.0]
    while now < outage:
        began = now
        service.asked(began)
        now += takes[turn % len(takes)]
        service.unanswered(began, jitter)
        now += service.wait(now)
        starts.append(now)
        turn += 1
    assert now <= outage + max(LIMIT_SECONDS, LONGEST)
    gaps = [b - a for a, b in pairwise(starts)]
    assert all(gap >= FIRST_SECONDS * (1 - SPREAD) - 1e-9 for gap in gaps)
