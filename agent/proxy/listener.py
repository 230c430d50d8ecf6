"""Accepting on a pod's listeners."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from agent.addresses import SocketAddress
from agent.log import logger
from agent.proxy.reactor import NOTHING, READABLE, Reactor

log = logger()

Serve = Callable[[socket.socket, SocketAddress], Awaitable[None]]
Patience = Callable[[], float]
"""Seconds for which a new connection is left to the other workers."""


def no_patience() -> float:
    """Take connections as soon as they come."""
    return 0.0


def beside_bulk(busy: bool) -> float:
    """How long a worker that moves bytes in bulk leaves a connection to the others."""
    return BULK_YIELD_SECONDS if busy else 0.0


def yielding(tunnels: int, busy: bool) -> float:
    """How long a worker with so many tunnels leaves a new one to the others."""
    return min(tunnels, YIELD_TUNNELS) * YIELD_SECONDS + beside_bulk(busy)


# Every worker waits at the same accept queue, and all wake when somebody comes. Who
# has taken some, this many at most, leaves the next ones to the others for a moment:
# else the first awake would take a burst whole, and one that spins nearly everything.
BATCH: Final = 8
TURN_SECONDS: Final = 0.001
# A tunnel stays for long, so it is worth finding who carries fewest: a worker leaves a
# new one to the others for so long, for each that it has, up to so many.
YIELD_SECONDS: Final = 0.001
YIELD_TUNNELS: Final = 8
# A connection beside bulk waits for a buffer of it in each message (bulk.py). Where all
# are busy it is late by this once.
BULK_YIELD_SECONDS: Final = 0.002
# Out of file descriptors or memory: accept() would fail again at once.
PAUSE_SECONDS: Final = 0.1


class Acceptor:
    """
    Starts `serve(connection, peer)` in `nursery` for each connection; `serve` owns the
    socket. Stop it before the listener is closed.
    """

    def __init__(
        self,
        listener: socket.socket,
        serve: Serve,
        reactor: Reactor,
        nursery: trio.Nursery,
        patience: Patience = no_patience,
    ) -> None:
        self._listener = listener
        self._serve = serve
        self._reactor = reactor
        self._nursery = nursery
        self._patience = patience
        self._descriptor = listener.fileno()
        reactor.watch(self._descriptor, READABLE, self._ready)

    def stop(self) -> None:
        """Take no more connections."""
        if self._descriptor >= 0:
            self._reactor.forget(self._descriptor)
            self._descriptor = -1

    def _ready(self, _mask: int) -> None:
        if seconds := self._patience():
            self._reactor.change(self._descriptor, NOTHING)
            self._nursery.start_soon(self._take_later, seconds)
        else:
            self._rest(self._take())

    def _take(self) -> float:
        """Accept who is there still; how long to rest then, 0 if nobody was."""
        taken = 0
        try:
            while taken < BATCH:
                sock, peer = self._listener.accept()
                taken += 1
                sock.setblocking(False)
                self._nursery.start_soon(self._serve, sock, SocketAddress.of(peer))
        except (BlockingIOError, ConnectionError):
            pass  # taken by another worker, or gone before we looked
        except OSError as error:
            log.warning("accept failed", error=error.strerror)
            return PAUSE_SECONDS
        return TURN_SECONDS if taken else 0.0

    def _rest(self, seconds: float) -> None:
        if seconds:
            self._reactor.change(self._descriptor, NOTHING)
            self._nursery.start_soon(self._pause, seconds)

    async def _take_later(self, seconds: float) -> None:
        await trio.sleep(seconds)
        if self._descriptor >= 0:
            await self._pause(self._take())

    async def _pause(self, seconds: float) -> None:
        await trio.sleep(seconds)
        if self._descriptor >= 0:
            self._reactor.change(self._descriptor, READABLE)
