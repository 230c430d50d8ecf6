"""Carry bytes between two plain sockets, both ways, with half-close and resets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

import trio

from agent.log import logger
from agent.proxy.reactor import NOTHING, READABLE, WRITABLE, Reactor
from agent.proxy.session import Traffic
from agent.proxy.share import Account
from agent.proxy.transport import explain
from agent.proxy.tunnel_stream import ApplicationGone

log = logger()

# What every relay of this process receives into: it is sent on before another one's
# turn, and what the other side does not take is kept apart.
_BUFFER: Final = memoryview(bytearray(1 << 18))

Count = Callable[[int], None]


async def relay(
    client: socket.socket,
    server: socket.socket,
    traffic: Traffic,
    reactor: Reactor,
    account: Account,
    revoked: Callable[[], bool] = lambda: False,
) -> None:
    """
    Relay until both sides have finished; the sockets stay the caller's. The work is
    done for `account`.

    Nothing is relayed while `revoked()`: the reactor may come before this task does.

    Raises: ApplicationGone, when either side reset; the caller passes that on.
    """

    def sent(count: int) -> None:
        traffic.sent += count

    def received(count: int) -> None:
        traffic.received += count

    pair = _Pair(reactor, account, revoked)
    up = _Side("client", client, pair)
    down = _Side("server", server, pair)
    up.join(down, sent)
    down.join(up, received)
    try:
        up.start()
        down.start()
        await pair.over.wait()
    finally:
        up.stop()
        down.stop()
    if pair.failure is not None:
        raise pair.failure


class _Pair:
    """Two sides, until both have ended or one has failed."""

    def __init__(
        self, reactor: Reactor, account: Account, revoked: Callable[[], bool]
    ) -> None:
        self.reactor = reactor
        self.account = account
        self.revoked = revoked
        self.over = trio.Event()
        self.failure: ApplicationGone | None = None
        self._open_halves = 2

    def half_ended(self) -> None:
        self._open_halves -= 1
        if not self._open_halves:
            self._end()

    def fail(self, failure: ApplicationGone) -> None:
        if self.failure is None:
            self.failure = failure
            self._end()

    def _end(self) -> None:
        self.over.set()


class _Side:
    """One socket; `_backlog` is what it has not taken of what the other one sent."""

    def __init__(self, name: str, sock: socket.socket, pair: _Pair) -> None:
        self._name = name
        self._socket = sock
        self._pair = pair
        self._descriptor = -1  # while the reactor watches it
        self._watched = NOTHING
        self._backlog = bytearray()
        self._finished = False
        self._other: _Side
        self._count: Count

    def join(self, other: _Side, count: Count) -> None:
        """What comes from here goes to `other`."""
        self._other = other
        self._count = count

    def start(self) -> None:
        self._descriptor = self._socket.fileno()
        self._watched = READABLE
        self._pair.reactor.watch(
            self._descriptor, READABLE, self._ready, self._pair.account
        )

    def stop(self) -> None:
        if self._descriptor >= 0:
            self._pair.reactor.forget(self._descriptor)
            self._descriptor = -1

    def _watch(self, events: int) -> None:
        if self._descriptor >= 0 and events != self._watched:
            self._watched = events
            self._pair.reactor.change(self._descriptor, events)

    def _ready(self, mask: int) -> None:
        if self._pair.over.is_set() or self._pair.revoked():
            return
        try:
            if mask & WRITABLE and self._backlog:
                self._flush()
            if mask & ~WRITABLE:
                if self._watched & READABLE:
                    self._read()
                else:
                    self._look_for_reset()
        except OSError as error:
            self._pair.fail(ApplicationGone(f"the {self._name}: {explain(error)}"))
        except Exception:  # a bug ends this connection, not its neighbours
            log.exception("relay failed by a bug")
            self._pair.fail(ApplicationGone("internal error"))

    def _read(self) -> None:
        try:
            count = self._socket.recv_into(_BUFFER)
        except BlockingIOError:
            return
        if count == 0:
            self._watch(self._watched & ~READABLE)
            self._other.finish()
            return
        self._count(count)
        if not self._other.take(_BUFFER[:count]):
            self._watch(self._watched & ~READABLE)

    def take(self, data: memoryview) -> bool:
        """Send on; False if some of it waits, and no more should come until then."""
        try:
            taken = self._socket.send(data)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self._pair.fail(ApplicationGone(f"the {self._name}: {explain(error)}"))
            return False
        if taken == len(data):
            return True
        self._backlog += data[taken:]
        self._watch(self._watched | WRITABLE)
        return False

    def finish(self) -> None:
        """The other side writes no more; this one hears it after the backlog."""
        self._finished = True
        if not self._backlog:
            self._socket.shutdown(socket.SHUT_WR)
            self._pair.half_ended()

    def _flush(self) -> None:
        try:
            with memoryview(self._backlog) as waiting:
                taken = self._socket.send(waiting)
        except BlockingIOError:  # also where it was told writable: no memory for now
            return
        del self._backlog[:taken]
        if self._backlog:
            return
        self._watch(self._watched & ~WRITABLE)
        if self._finished:
            self.finish()
        else:
            self._other.resume()

    def resume(self) -> None:
        """The other side takes more: read on."""
        self._watch(self._watched | READABLE)

    def _look_for_reset(self) -> None:
        if code := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
