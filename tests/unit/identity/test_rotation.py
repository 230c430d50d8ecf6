"""Renewal comes in time, spread by chance, and failures wait longer and longer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.rotation import CertificateState, judge, renew_at, retry_after
from tests.unit.identity.parts import NOW

DAY = timedelta(hours=24)
jitters = st.floats(0, 1)


@pytest.mark.parametrize(
    ("jitter", "fraction"), [(0.0, 0.65), (0.5, 0.70), (1.0, 0.75)]
)
def test_renews_at_seventy_percent(jitter: float, fraction: float) -> None:
    """Chance moves it by five percent of the lifetime either way."""
    assert renew_at(NOW, NOW + DAY, jitter) == NOW + DAY * fraction


@given(jitters, st.timedeltas(timedelta(seconds=1), timedelta(days=3650)))
def test_renews_inside_the_lifetime(jitter: float, lifetime: timedelta) -> None:
    """Whatever the lifetime, there is time left to try again."""
    assert NOW < renew_at(NOW, NOW + lifetime, jitter) < NOW + lifetime


@pytest.mark.parametrize("jitter", [-0.01, 1.01, float("nan")])
def test_refuses_chance_out_of_range(jitter: float) -> None:
    """A wrong jitter is the caller's mistake, not a strange date."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        renew_at(NOW, NOW + DAY, jitter)
    with pytest.raises(ValueError, match="between 0 and 1"):
        retry_after(0, jitter)


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(0, 0.5), (1, 1), (2, 2), (8, 128), (9, 150), (10_000_000, 150)],
)
def test_retries_double_up_to_a_limit(attempt: int, seconds: float) -> None:
    """From half a second to two and a half minutes."""
    assert retry_after(attempt, 0.5) == timedelta(seconds=seconds)


@given(st.integers(0, 100), jitters)
def test_retries_spread_by_a_fifth(attempt: int, jitter: float) -> None:
    """A service that comes back is not asked by all nodes at once."""
    middle = retry_after(attempt, 0.5)
    microsecond = timedelta(microseconds=1)
    assert abs(retry_after(attempt, jitter) - middle) <= middle * 0.2 + microsecond


@pytest.mark.parametrize(
    ("hours", "state"),
    [
        (-1, CertificateState.NOT_YET_VALID),
        (0, CertificateState.VALID),
        (16, CertificateState.VALID),
        (17, CertificateState.DUE),
        (23, CertificateState.DUE),
        (24, CertificateState.EXPIRED),
        (1000, CertificateState.EXPIRED),
    ],
)
def test_tells_the_state(hours: int, state: CertificateState) -> None:
    """Not valid yet, valid, due and expired follow each other."""
    now = NOW + timedelta(hours=hours)
    assert judge(NOW, NOW + DAY, NOW + timedelta(hours=17), now) is state
