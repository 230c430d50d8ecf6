"""
When to ask a dependency again that does not answer (pure).

While it is away, one request at a time finds out whether it is back (a probe), at
intervals that grow to LONGEST_SECONDS. The first answer, a refusal too, ends the
outage: all that waits is due. A refusal is not an outage; its back-off is the caller's.

An interval counts from the start of a request, so the time that a request hangs is
part of it. Something that waits is therefore asked within the longest interval, or
within LIMIT_SECONDS where its own request hangs when the dependency returns.

Times are seconds of one clock of the caller's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

FIRST_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 5.0
SPREAD: Final = 0.20
# The time limit of a request to a dependency, and of its connection.
LIMIT_SECONDS: Final = 8.0
CONNECT_SECONDS: Final = 3.0

_DOUBLINGS: Final = 4  # 0.5 s * 2**4 is past the longest


def interval(attempt: int, jitter: float) -> float:
    """
    From the start of probe number `attempt`, counted from 0, to the next, in seconds.

    `jitter` is chance, 0 to 1. Raises: ValueError for another one.
    """
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter is between 0 and 1, not {jitter}")
    growing = FIRST_SECONDS * (1 << min(attempt, _DOUBLINGS))
    return min(growing, LONGEST_SECONDS) * (1 + SPREAD * (2 * jitter - 1))


@dataclass(slots=True)
class Recovery:
    """Whether one dependency is away, and when it is asked again."""

    _asked: float | None = None
    """While it is away: when the latest probe began."""
    _attempt: int = 0
    _jitter: float = 0.5
    _answered: float = -inf

    @property
    def next_probe(self) -> float | None:
        """When a probe may begin; None while the dependency is not away."""
        if self._asked is None:
            return None
        return self._asked + interval(self._attempt, self._jitter)

    def wait(self, now: float) -> float:
        """Seconds until a probe may begin; 0 while the dependency is not away."""
        return max(0.0, (self.next_probe or now) - now)

    def asked(self, now: float) -> None:
        """A request begins: while the dependency is away, a probe."""
        if self._asked is not None:
            self._asked = now
            self._attempt += 1

    def answered(self, now: float) -> bool:
        """It answered, whatever it said; True where that ends an outage."""
        was_away = self._asked is not None
        self._asked, self._attempt, self._answered = None, 0, now
        return was_away

    def unanswered(self, began: float, jitter: float) -> None:
        """
        A request that began then failed without an answer.

        One that began before the latest answer says nothing about now.
        """
        if began < self._answered:
            return
        self._jitter = jitter
        if self._asked is None:
            self._asked, self._attempt = began, 0

    def set_back(self, seconds: float) -> None:
        """The clock went back by so much: a probe comes as soon as meant."""
        self._answered -= seconds
        if self._asked is not None:
            self._asked -= seconds
