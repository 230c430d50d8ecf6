"""Policy that comes and goes at random moments, and the record of when."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from tests import patience
from tests.soak.judge import ENFORCED_SECONDS, Revocation
from tests.soak.world import World


@dataclass(slots=True)
class Changes:
    """
    Takes the permit of one revocable path back, and gives it again.

    `record` is written before the file is, so a judge that knows it is never early.
    """

    world: World
    chance: random.Random
    record: list[Revocation]
    permitted_seconds: tuple[float, float] = (2.0, 10.0)
    revoked_seconds: tuple[float, float] = (4.0, 8.0)
    made: int = 0
    _next: float = field(default=0.0)
    _settled: float = 0.0
    _now: Revocation | None = None

    def __post_init__(self) -> None:
        self._wait(self.permitted_seconds)

    @property
    def is_permitted(self) -> bool:
        """Whether every permit is given, and has been for long enough to count."""
        return self._now is None and time.monotonic() > self._settled

    def turn(self) -> None:
        """Change something if it is time to."""
        if time.monotonic() < self._next:
            return
        if self._now:
            self.settle()
            self._wait(self.permitted_seconds)
            return
        names = [path.name for path in self.world.paths if path.revocable]
        self._now = Revocation(
            self.chance.choice(names), time.monotonic(), slowness=patience.FACTOR
        )
        self.record.append(self._now)
        self._write()
        self._wait(self.revoked_seconds)

    def settle(self) -> None:
        """Permit everything again."""
        if self._now:
            self._now.until = time.monotonic()
            self._now = None
            self._settled = time.monotonic() + patience.patient(ENFORCED_SECONDS)
            self._write()

    def _write(self) -> None:
        self.world.permit([self._now.path] if self._now else [])
        self.made += 1

    def _wait(self, span: tuple[float, float]) -> None:
        self._next = time.monotonic() + patience.patient(self.chance.uniform(*span))
