"""A node may ask so often, whatever the others do."""

from __future__ import annotations

import pytest

from agent.identity import limits
from agent.identity.limits import Rate, RateLimits, TooManyRequests


def test_a_burst_and_then_a_rate() -> None:
    """Three at once, then one every half second; a rest fills it up again."""
    rates = RateLimits(Rate(per_second=2, burst=3))
    for _ in range(3):
        rates.take("n1", 100.0)
    with pytest.raises(TooManyRequests) as caught:
        rates.take("n1", 100.0)
    assert caught.value.retry_after_seconds == 0.5
    rates.take("n2", 100.0)
    rates.take("n1", 100.5)
    for _ in range(3):
        rates.take("n1", 1000.0)
    with pytest.raises(TooManyRequests, match="n1: asks too often; again"):
        rates.take("n1", 1000.0)


def test_forgets_who_has_long_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names do not gather for ever."""
    monkeypatch.setattr(limits, "MAX_NAMES", 2)
    rates = RateLimits(Rate(per_second=1, burst=1))
    for name in ("a", "b", "c", "a"):
        rates.take(name, 0.0)
    assert len(rates._buckets) == 2
