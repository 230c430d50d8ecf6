"""Trying again, with pauses that grow, until it has been long enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import trio

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 1.0


@dataclass(slots=True)
class Patience:
    """For so many seconds from now on."""

    seconds: float
    _until: float = field(init=False)
    _next: float = FIRST_PAUSE_SECONDS

    def __post_init__(self) -> None:
        self._until = trio.current_time() + self.seconds

    async def pause(self) -> bool:
        """Wait before another try; False, at once, where there is no time for one."""
        if trio.current_time() + self._next > self._until:
            return False
        await trio.sleep(self._next)
        self._next = min(2 * self._next, LONGEST_PAUSE_SECONDS)
        return True
