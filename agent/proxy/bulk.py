"""
Whether bytes move in bulk: a stream of small messages had better go elsewhere then.

A message behind a full buffer waits for it, half a millisecond or so at each worker
that it passes.
"""

from __future__ import annotations

import math
from typing import Final

# So much at once, either way, is bulk; and for so long after it somebody is busy.
BULK_BYTES: Final = 1 << 16
BULK_SECONDS: Final = 1.0


class Bulk:
    """Of a tunnel, or of a worker; times are seconds of trio's clock."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at = -math.inf

    def moved(self, now: float) -> None:
        """A buffer of BULK_BYTES or more went through."""
        self._at = now

    def lately(self, now: float) -> bool:
        """Whether more of it has to be expected."""
        return now - self._at < BULK_SECONDS
