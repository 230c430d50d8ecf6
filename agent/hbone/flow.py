"""
Flow-control windows, of a stream or of the whole connection (RFC 9113 section 5.2).

A `SendWindow` counts what the peer lets us send. A `ReceiveWindow` counts what we let
the peer send, and gathers what the application has taken until it is worth a
WINDOW_UPDATE, so that a slow reader holds its writer back from end to end.
"""

from __future__ import annotations

from typing import Final

from agent.errors import PeerError

INITIAL_WINDOW_BYTES: Final = 65_535
MAX_WINDOW_BYTES: Final = 2**31 - 1


class FlowControlViolated(PeerError):
    """The peer sent more than we let it, or opened a window beyond 2^31-1."""


class SendWindow:
    """What we may still send; below zero after the peer has shrunk it."""

    __slots__ = ("available",)

    def __init__(self, size: int = INITIAL_WINDOW_BYTES) -> None:
        self.available = size

    def take(self, length: int) -> None:
        """Raises: ValueError for more than is available; that is our own mistake."""
        if length > self.available:
            raise ValueError(f"{length} bytes for a window of {self.available}")
        self.available -= length

    def grow(self, increment: int) -> None:
        """
        Add credit; a SETTINGS change may take some away (section 6.9.2).

        Raises: FlowControlViolated beyond 2^31-1 (section 6.9.1).
        """
        if self.available + increment > MAX_WINDOW_BYTES:
            raise FlowControlViolated(
                f"a window of {self.available} grows by {increment}"
            )
        self.available += increment


class ReceiveWindow:
    """What the peer may still send, and what we hold or owe of what it sent."""

    __slots__ = ("_available", "_owed", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._available = size
        self._owed = 0

    @property
    def held(self) -> int:
        """Bytes received that the application has not taken yet."""
        return self._size - self._available - self._owed

    def take(self, length: int) -> None:
        """Count what arrived. Raises: FlowControlViolated."""
        if length > self._available:
            raise FlowControlViolated(
                f"{length} bytes for a window of {self._available}"
            )
        self._available -= length

    def consumed(self, length: int) -> int:
        """
        The application took `length` bytes: the credit to return now, mostly 0.

        Credit goes back by halves of the window: fewer frames, never a stall.

        Raises: ValueError for more than is held; that is our own mistake.
        """
        if not 0 <= length <= self._size - self._available - self._owed:
            raise ValueError(f"{length} bytes consumed, {self.held} held")
        self._owed += length
        if self._owed * 2 < self._size:
            return 0
        credit, self._owed = self._owed, 0
        self._available += credit
        return credit
