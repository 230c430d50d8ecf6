"""
What is known of the redirect in the kernel: when it was verified, and since when it is
not what it should be. Pure; times are Unix seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.redirect.facts import Fault
from agent.status.documents import iso

FRESH_SECONDS: Final = 2.0
"""How long what was verified may be reported as it was."""
KEPT: Final = 20


@dataclass(frozen=True, slots=True)
class Interruption:
    """A time in which the redirect was not, or may not have been, what it should be."""

    since: float
    until: float
    faults: tuple[Fault, ...]


@dataclass(slots=True)
class Verification:
    """
    One agent's view. Before `begin` nothing is claimed, and nothing is missing.

    `since`: the last time at which everything was found right, before the first of the
    faults that there are now.
    """

    verified_at: float | None = None
    since: float | None = None
    faults: tuple[Fault, ...] = ()
    past: deque[Interruption] = field(default_factory=lambda: deque(maxlen=KEPT))
    _begun: float | None = None
    _seen: list[Fault] = field(default_factory=list)

    def begin(self, now: float) -> None:
        """From now on it must be verified."""
        self._begun = now

    def observed(
        self, faults: Collection[Fault], now: float
    ) -> tuple[list[Fault], Interruption | None]:
        """
        The result of one whole look: the faults that are new, and what has ended.

        Lasting faults are reported and interrupt nothing.
        """
        before = set(self.faults)
        self.faults = tuple(faults)
        new = [each for each in self.faults if each not in before]
        missing = [each for each in self.faults if not each.lasting]
        if missing:
            if self.since is None:
                self.since = now if self.verified_at is None else self.verified_at
            self._seen += [each for each in missing if each not in self._seen]
            return new, None
        self.verified_at = now
        if self.since is None:
            return new, None
        ended = Interruption(self.since, now, tuple(self._seen))
        self.past.append(ended)
        self.since, self._seen = None, []
        return new, ended

    def is_fresh(self, now: float) -> bool:
        """Whether what is reported was verified within the last two seconds."""
        return (
            self.since is None
            and self.verified_at is not None
            and 0 <= now - self.verified_at <= FRESH_SECONDS
        )

    def reasons(self, now: float) -> list[str]:
        """Why the node is not ready. Names no pod: anybody on the node may ask."""
        if self._begun is None or self.is_fresh(now):
            return []
        if self.since is not None:
            return [f"redirect missing since {iso(self.since)}: {self._what()}"]
        if self.verified_at is None:
            return ["the redirect has not been verified yet"]
        return [f"the redirect was last verified at {iso(self.verified_at)}"]

    def _what(self) -> str:
        missing = [each for each in self.faults if not each.lasting]
        node = [each.message for each in missing if each.uid is None]
        pods = {each.uid for each in missing if each.uid is not None}
        words = node + ([f"{len(pods)} pods are not redirected wholly"] if pods else [])
        return "; ".join(words)


def sentences(faults: Sequence[Fault]) -> str:
    """The faults in one line."""
    return "; ".join(f"{each.object}: {each.message}" for each in faults)
