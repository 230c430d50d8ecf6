"""
What a worker has to tell control, gathered for a moment and sent in one frame.

A frame is one message a line. Messages of a few hundredths of a second share one: at
thousands of short connections a second, to wake control for each of them would cost
more than the connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from agent.workload.connection import (
    Answer,
    ConnectionClosed,
    ConnectionOpened,
    Message,
    Pong,
    TrustInstalled,
    WorldWanted,
    encode,
)

# Messages that wait for control; some 20 MB when it hangs.
MAX_UNTOLD: Final = 65536
GATHER_SECONDS: Final = 0.02

VITAL: Final = (
    ConnectionOpened,
    ConnectionClosed,
    Pong,
    WorldWanted,
    TrustInstalled,
)

Send = Callable[[bytes], Awaitable[None]]


class News:
    """Messages in order; `run` sends them until `finish`."""

    def __init__(self, send: Send) -> None:
        self.lost = 0
        """Messages that found no room since `take_lost`."""
        self._send = send
        self._waiting: list[Message | Answer] = []
        self._something = trio.Event()
        self._finishing = trio.Event()
        self._all_told = trio.Event()

    def tell(self, message: Message | Answer) -> None:
        """
        Queue a message; a control that lags does not grow us for ever.

        What opened and closed is told in any case: control's list must stay true. So
        are answers: control takes a worker without them for hung.
        """
        vital = isinstance(message, VITAL)
        if len(self._waiting) >= MAX_UNTOLD and not vital:
            self.lost += 1
            return
        if not self._waiting:
            self._something.set()
        self._waiting.append(message)

    def take_lost(self) -> int:
        """How many were lost; the count starts anew."""
        lost, self.lost = self.lost, 0
        return lost

    async def run(self) -> None:
        """Send until `finish`. Raises: ChannelClosed."""
        while self._waiting or not self._finishing.is_set():
            await self._something.wait()
            with trio.move_on_after(GATHER_SECONDS):
                await self._finishing.wait()
            waiting, self._waiting = self._waiting, []
            if not self._finishing.is_set():
                self._something = trio.Event()
            if waiting:
                await self._send(b"\n".join(map(encode, waiting)))
        self._all_told.set()

    async def finish(self) -> None:
        """Send what is left, and wait until it has gone."""
        self._finishing.set()
        self._something.set()
        await self._all_told.wait()
