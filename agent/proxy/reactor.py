"""
The worker's own readiness loop: sockets that carry bytes are served by callbacks.

trio runs everything that is a sequence of steps (setting up a connection, handshakes,
deadlines, the channel to control). Bytes are not: each piece is one step, and for
that a task costs several times the work itself (one-shot epoll_ctl, scheduling, frames
of coroutines). So sockets that carry bytes are registered here, once, in an epoll of
their own, which trio watches as if it were one socket.

While anything is ready the reactor keeps the thread, handles batch by batch, and after
each batch flushes what the batch has gathered (`later`): that is how many streams
share one write. It gives the thread back to trio when it has woken a task
(`yield_to_trio`), when nothing comes any more, and every few milliseconds in any case.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Final

import trio

from agent.log import logger
from agent.proxy.spin import SPIN_SECONDS, Spin

log = logger()

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
NOTHING: Final = 0
# Events of one batch; what is left over comes first the next time.
BATCH: Final = 64
# So long trio's tasks may wait while bytes flow.
TURN_SECONDS: Final = 2e-3

Ready = Callable[[int], None]
"""Told the epoll mask; must not block, and must bear a call for nothing."""
Flush = Callable[[], None]


class Reactor:
    """Handlers by file descriptor; `run` in one task, for as long as the worker."""

    def __init__(self, spin_seconds: float = SPIN_SECONDS) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Ready] = {}
        self._later: dict[Flush, None] = {}
        self._spin = Spin()
        self._spin_seconds = spin_seconds
        self._awake = False
        self._trio_is_due = False

    def watch(self, fd: int, events: int, ready: Ready) -> None:
        """Call `ready` whenever `fd` is; level-triggered. Raises: OSError."""
        self._epoll.register(fd, events or select.EPOLLET)
        self._handlers[fd] = ready

    def change(self, fd: int, events: int) -> None:
        """
        Watch for something else. With `NOTHING` a reset or hang-up is still told, once
        (EPOLLET): the kernel does not let go of these two, and would tell for ever.
        """
        self._epoll.modify(fd, events or select.EPOLLET)

    def forget(self, fd: int) -> None:
        """
        Stop watching, before `fd` is closed; also one that is not watched.

        Explicitly, for a listener is also open in other processes, and epoll forgets
        an open file, not a descriptor.
        """
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, flush: Flush) -> None:
        """Call `flush` after this batch, once however often it was asked for."""
        if self._awake:
            self._later[flush] = None
        else:
            flush()

    def yield_to_trio(self) -> None:
        """A task was woken: let it run after this batch."""
        self._trio_is_due = True

    def close(self) -> None:
        """Let go of the epoll; the watched sockets stay their owners'."""
        self._epoll.close()

    async def run(self) -> None:
        """Forever: serve what is ready."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._awake = True
            try:
                while self._turn():
                    await trio.lowlevel.checkpoint()
            finally:
                self._awake = False

    def _turn(self) -> bool:
        """Serve until nothing is ready (False), or until trio must have its turn."""
        until = time.monotonic() + TURN_SECONDS
        handled = 0
        self._trio_is_due = False
        self._flush()
        while events := self._epoll.poll(0, BATCH) or self._look_on(handled):
            handled = len(events)
            for fd, mask in events:
                self._serve(fd, mask)
            self._flush()
            if self._trio_is_due or time.monotonic() > until:
                return True
        return False

    def _look_on(self, handled: int) -> list[tuple[int, int]]:
        """Wait a moment for the next event without sleeping, where that pays."""
        if self._trio_is_due or not handled or not self._spin.allowed(handled):
            return []
        poll, clock = self._epoll.poll, time.monotonic
        until = clock() + self._spin_seconds
        events = poll(0, BATCH)
        while not events and clock() < until:
            events = poll(0, BATCH)
        self._spin.ended(found=bool(events))
        return events

    def _serve(self, fd: int, mask: int) -> None:
        ready = self._handlers.get(fd)
        if ready is None:
            return  # forgotten by an earlier handler of this batch
        try:
            ready(mask)
        except Exception:  # a bug in one handler must not end every connection
            log.exception("a readiness handler failed by a bug", descriptor=fd)
            self.forget(fd)

    def _flush(self) -> None:
        while self._later:
            flushes, self._later = self._later, {}
            for flush in flushes:
                flush()
