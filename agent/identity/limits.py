"""
How often each node may ask: a token bucket for every name.

`now` is a monotonic clock's seconds, so that a jump of the wall clock neither locks a
node out nor lets it in.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from agent.errors import Refused

# A full bucket is like none: what is forgotten first has long been full.
MAX_NAMES: Final = 65_536


class TooManyRequests(Refused):
    """A caller that asks faster than it may; `retry_after_seconds` says when."""

    def __init__(self, name: str, retry_after_seconds: float) -> None:
        super().__init__(
            f"{name}: asks too often; again in {retry_after_seconds:.1f} s"
        )
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests a second, and so many at once after a rest."""

    per_second: float
    burst: int


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class RateLimits:
    """One bucket for each name."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str, now: float) -> None:
        """One request of `name`. Raises: TooManyRequests."""
        bucket = self._buckets.pop(name, None) or _Bucket(self._rate.burst, now)
        gained = (now - bucket.at) * self._rate.per_second
        bucket.left = min(self._rate.burst, bucket.left + gained)
        bucket.at = now
        self._buckets[name] = bucket
        if len(self._buckets) > MAX_NAMES:
            self._buckets.popitem(last=False)
        if bucket.left < 1:
            raise TooManyRequests(name, (1 - bucket.left) / self._rate.per_second)
        bucket.left -= 1

    def give_back(self, name: str) -> None:
        """A request that was taken and counts for nothing after all."""
        if bucket := self._buckets.get(name):
            bucket.left = min(self._rate.burst, bucket.left + 1)
