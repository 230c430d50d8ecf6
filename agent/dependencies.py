"""
What this process needs from elsewhere, and whether it is there (pure).

The edge that talks to a dependency reports each success and failure here; the status
and `podlock check` show it. What was not contacted is unknown, not well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

State = Literal["reachable", "unreachable", "unknown"]
Clock = Callable[[], float]

MAX_REASON: Final = 300


@dataclass(slots=True)
class Dependency:
    """
    One of them: `kind` is a word ("identity service"), `name` its URL or path. Times
    are Unix seconds; `failing_since` and `why` are of the failures since the last
    contact, `attempts` their number.
    """

    kind: str
    name: str
    clock: Clock = time.time
    last_contact: float | None = None
    failing_since: float | None = None
    why: str | None = None
    attempts: int = 0

    def heard(self) -> None:
        """It answered, whatever it said."""
        self.last_contact = self.clock()
        self.failing_since = self.why = None
        self.attempts = 0

    def failed(self, why: str) -> None:
        """It did not answer, or not so that it could be used."""
        self.failing_since = self.failing_since or self.clock()
        first, *_ = (*why.strip().splitlines(), "")
        self.why = first[:MAX_REASON] or "no reason given"
        self.attempts += 1

    @property
    def state(self) -> State:
        """What is known of it."""
        if self.failing_since is not None:
            return "unreachable"
        return "unknown" if self.last_contact is None else "reachable"


@dataclass(slots=True)
class Dependencies:
    """All of a process, in the order in which they were first named."""

    clock: Clock = time.time
    _known: dict[tuple[str, str], Dependency] = field(default_factory=dict)

    def of(self, kind: str, name: str) -> Dependency:
        """The one of that kind and name."""
        key = kind, name
        if key not in self._known:
            self._known[key] = Dependency(kind, name, self.clock)
        return self._known[key]

    def forget(self, kind: str, name: str) -> None:
        """It is needed no more."""
        self._known.pop((kind, name), None)

    def __iter__(self) -> Iterator[Dependency]:
        return iter(tuple(self._known.values()))
