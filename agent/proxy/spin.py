"""
When to look again at once instead of going to sleep.

To wake a process on an idle CPU takes tens of microseconds, on a virtual machine more
than the rest of a hop; so a worker that has just handled something looks on for a
moment before it sleeps, as the kernel's haltpoll does for the CPU itself. It pays only
where the next event is near and the CPU has nothing else to do:

- with several conversations at a time, or bytes in bulk, the worker is busy anyway, and
  so are its neighbours: it looks on only while the last events came from two sockets,
  an application's and a tunnel's, or from four in turn, where both ends of a tunnel
  are here, and were handled quickly;
- where looking on found nothing several times in a row, it is tried only now and then.

So an idle worker costs nothing, a busy one nothing either, and one with a request each
ten milliseconds half a per cent of one CPU at most.
"""

from __future__ import annotations

from collections import deque
from typing import Final

# About the time in which a peer on a fast wire answers. Measured with one
# connection on two cores: p50 of a round trip 44 us instead of 150 us (DECISIONS 18).
SPIN_SECONDS: Final = 200e-6
# One conversation: so many sockets in so many events.
SOCKETS: Final = 2
EVENTS: Final = 8
# And both ends of it, one after the other.
BOTH_ENDS: Final = 4
# Handling a message takes less, a buffer of bulk more.
SHORT_SECONDS: Final = 100e-6
# So many vain spins in a row are taken as a habit; then one in so many is a probe.
PATIENCE: Final = 8
PROBE: Final = 16


class Spin:
    """Whether looking on is worth it, from what came of it lately."""

    __slots__ = ("_recent", "_skipped", "_vain")

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=EVENTS)
        self._vain = 0
        self._skipped = 0

    def allowed(self, descriptor: int, seconds: float) -> bool:
        """Whether to look on after one event there that took so long."""
        self._recent.append(descriptor)
        if seconds > SHORT_SECONDS or not self._is_one_conversation():
            return False
        if self._vain < PATIENCE:
            return True
        self._skipped += 1
        if self._skipped < PROBE:
            return False
        self._skipped = 0
        return True

    def _is_one_conversation(self) -> bool:
        recent = list(self._recent)
        if len(set(recent)) <= SOCKETS:
            return True
        return len(recent) == EVENTS and recent[BOTH_ENDS:] == recent[:BOTH_ENDS]

    def ended(self, *, found: bool) -> None:
        """What came of it."""
        self._vain = 0 if found else self._vain + 1
