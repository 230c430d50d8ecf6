"""
Sockets in pods' network namespaces, made ahead where they are wanted often.

To enter a namespace and come back costs as much as the socket itself, and one visit can
make several. A pod that gets one connection now and then gets one socket for it; while
its sockets are used up within a second, each visit makes twice as many as the last.
What nobody took for some seconds is closed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agent.proxy.seams import PodSockets

MOST_AHEAD: Final = 16
OFTEN_SECONDS: Final = 1.0
UNUSED_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Shelf:
    """What is in stock of one family in one namespace."""

    sockets: list[socket.socket] = field(default_factory=list)
    filled: float = float("-inf")
    batch: int = 1


class SocketStock:
    """Stocks by namespace; `clock` gives seconds that never go back."""

    def __init__(self, sockets: PodSockets, clock: Callable[[], float]) -> None:
        self._sockets = sockets
        self._clock = clock
        self._shelves: dict[tuple[int, int], _Shelf] = {}

    def take(self, netns_fd: int, family: int) -> socket.socket:
        """A non-blocking TCP socket, the caller's. Raises: KernelError."""
        shelf = self._shelves.setdefault((netns_fd, family), _Shelf())
        if not shelf.sockets:
            self._fill(shelf, netns_fd, family)
        return shelf.sockets.pop()

    def tidy(self) -> None:
        """Close what is in stock where none was made for a while."""
        oldest = self._clock() - UNUSED_SECONDS
        for key in [key for key, s in self._shelves.items() if s.filled < oldest]:
            for sock in self._shelves.pop(key).sockets:
                sock.close()

    def drop(self, netns_fd: int) -> None:
        """Close what is in stock for a namespace, before its descriptor is closed."""
        for key in [key for key in self._shelves if key[0] == netns_fd]:
            for sock in self._shelves.pop(key).sockets:
                sock.close()

    def _fill(self, shelf: _Shelf, netns_fd: int, family: int) -> None:
        now = self._clock()
        often = now - shelf.filled < OFTEN_SECONDS
        shelf.batch = min(2 * shelf.batch, MOST_AHEAD) if often else 1
        shelf.filled = now
        shelf.sockets = self._sockets.open(netns_fd, family, shelf.batch)
