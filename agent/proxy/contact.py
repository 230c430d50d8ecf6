"""
When a worker goes by itself: control has said nothing for too long (pure).

Control pings every worker about once a second. While it is stopped, swapped out or
stuck, nothing that it should say arrives: a permit that was revoked would be used on.
So the worker takes no new connections then, until control speaks again; those there are
go on. Silence is counted in ticks of the worker's own, and what has arrived is read in
each: a worker that was itself stopped does not take that for silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.errors import Refused

TICK_SECONDS: Final = 1.0


class NoContact(Refused):
    """Control is silent, so no new connection is taken."""


@dataclass(slots=True)
class Contact:
    """Silence of control; `limit_seconds` of it is too much."""

    limit_seconds: float
    silent_seconds: float = 0.0

    def heard(self) -> bool:
        """Control said something; whether new connections were refused before."""
        was_lost, self.silent_seconds = self.is_lost, 0.0
        return was_lost

    def tick(self) -> bool:
        """TICK_SECONDS have passed; whether that is when it becomes too much."""
        was_lost = self.is_lost
        self.silent_seconds += TICK_SECONDS
        return self.is_lost and not was_lost

    @property
    def is_lost(self) -> bool:
        """Whether new connections are refused."""
        return self.silent_seconds >= self.limit_seconds

    def require(self) -> None:
        """Raises: NoContact."""
        if self.is_lost:
            raise NoContact(
                f"control has not answered for {self.silent_seconds:.0f} s, so policy "
                "and certificates may be outdated: no new connections"
            )
