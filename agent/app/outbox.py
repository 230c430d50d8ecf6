"""What waits to be sent to one worker: in order, counted, and with an end."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from agent.errors import KernelError

# What a worker that reads may lag behind: thousands of changes.
MAX_WAITING_BYTES: Final = 16 << 20
MAX_WAITING: Final = 16_384


@dataclass(slots=True)
class Parcel:
    """
    A frame and duplicates of the descriptors that go with it, for `shares` workers;
    the last one to have it closes them. `ping` is the number of the ping it is.
    """

    frame: bytes
    descriptors: tuple[int, ...] = ()
    shares: int = 1
    ping: int | None = None

    @classmethod
    def of(
        cls, frame: bytes, descriptors: Sequence[int] = (), shares: int = 1
    ) -> Parcel:
        """
        Duplicates, because the pod may be released before this is sent.

        Raises: KernelError when there are no descriptors left; none is leaked.
        """
        with contextlib.ExitStack() as undo:
            try:
                made = tuple(_duplicate(descriptor, undo) for descriptor in descriptors)
            except OSError as error:
                text = f"descriptors for a worker: {error.strerror}"
                raise KernelError(text) from error
            undo.pop_all()
        return cls(frame, made, shares)

    def close(self) -> None:
        """One worker less has it."""
        self.shares -= 1
        if not self.shares:
            for descriptor in self.descriptors:
                os.close(descriptor)


def _duplicate(descriptor: int, undo: contextlib.ExitStack) -> int:
    duplicate = os.dup(descriptor)
    undo.callback(os.close, duplicate)
    return duplicate


@dataclass(slots=True, eq=False)
class Outbox:
    """
    Parcels for one worker, first in, first out; for one reader.

    It holds at most `MAX_WAITING_BYTES`, or twice the largest frame that it was
    given (a whole world may be larger), and one frame more. What comes when it is
    full is not taken, and `overflowed` stays true: whoever misses one message must
    not go on with the next.
    """

    overflowed: bool = False
    waiting_bytes: int = 0
    _waiting: deque[Parcel] = field(default_factory=deque)
    _largest: int = 0
    _filled: trio.Event = field(default_factory=trio.Event)

    @property
    def waiting(self) -> int:
        """How many messages."""
        return len(self._waiting)

    def put(self, parcel: Parcel) -> None:
        """Queue `parcel`, or close it when there is no room."""
        full = max(MAX_WAITING_BYTES, 2 * self._largest)
        if self.waiting_bytes > full or len(self._waiting) >= MAX_WAITING:
            self.overflowed = True
        if self.overflowed:
            parcel.close()
            return
        self._waiting.append(parcel)
        self.waiting_bytes += len(parcel.frame)
        self._largest = max(self._largest, len(parcel.frame))
        self._filled.set()

    async def take(self) -> Parcel:
        """The next one, which the caller closes; waits until there is one."""
        while not self._waiting:
            self._filled = trio.Event()
            await self._filled.wait()
        parcel = self._waiting.popleft()
        self.waiting_bytes -= len(parcel.frame)
        return parcel

    def close(self) -> None:
        """Close what the worker will not get."""
        while self._waiting:
            self._waiting.popleft().close()
        self.waiting_bytes = 0
