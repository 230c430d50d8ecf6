"""
When a worker counts as hung: a pure decision over pings, answers and the time.

A ping waits its turn behind what the worker has not read yet. Until it is written,
every message that the worker took is progress; after that only the answer is. Times
are seconds of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# A fresh process imports and reads the whole world before it answers anything.
START_SECONDS: Final = 30.0
TICKS: Final = 10
"""How often we look, in the time that a worker has to answer."""


@dataclass(slots=True)
class Watch:
    """One worker process, looked at by `tick` every `interval_seconds`."""

    timeout_seconds: float
    started: float
    number: int = 0
    waiting: bool = False
    """A ping is on its way, or in the worker's hands."""
    _written: bool = False
    _answered_once: bool = False
    _progress: float = 0.0
    _ticked: float = 0.0

    def __post_init__(self) -> None:
        self._progress = self._ticked = self.started

    @property
    def interval_seconds(self) -> float:
        """The pause between two looks."""
        return self.timeout_seconds / TICKS

    @property
    def allowed_seconds(self) -> float:
        """How long without progress is too long, right now."""
        if self._answered_once:
            return self.timeout_seconds
        return max(self.timeout_seconds, START_SECONDS)

    def tick(self, now: float) -> bool:
        """Whether the worker is hung."""
        if now - self._ticked > 3 * self.interval_seconds:
            # We did not run ourselves: its answer may be here, unread.
            self._progress = now
        self._ticked = now
        return self.waiting and now - self._progress > self.allowed_seconds

    def ping(self, now: float) -> int | None:
        """The number of a ping to queue now, or None while one is unanswered."""
        if self.waiting:
            return None
        self.number += 1
        self.waiting, self._written, self._progress = True, False, now
        return self.number

    def sent(self, ping: int | None, now: float) -> None:
        """The worker took a message; `ping` is its number where it is one."""
        if not self._written:
            self._progress = now
        if ping == self.number:
            self._written = True

    def answered(self, number: int) -> None:
        """
        The worker answered; another number than the last one says nothing.

        It may do so before we come to note that the ping was sent.
        """
        if self.waiting and number == self.number:
            self.waiting, self._answered_once = False, True
