"""
The worker's own readiness loop: sockets that carry bytes are served by callbacks.

trio runs everything that is a sequence of steps (setting up a connection, handshakes,
deadlines, the channel to control). Bytes are not: each piece is one step, and for
that a task costs several times the work itself (one-shot epoll_ctl, scheduling, frames
of coroutines). So sockets that carry bytes are registered here, once, in an epoll of
their own, which trio watches as if it were one socket.

A handler does the work of one turn and asks for the next with `again`; so none keeps
the thread for longer, whatever its peer sends. Its time is charged to an account
(share.py): handlers of an account that has used more than its share wait until no other
is ready, and then have the thread for a millisecond at a time.

While anything is ready the reactor keeps the thread, handles batch by batch, and after
each batch flushes what the batch has gathered (`later`): that is how many streams
share one write. When nothing is ready it looks on for a moment (spin.py), then sleeps
for a millisecond at most: to come back through trio costs more than a hop. It gives the
thread to trio after each batch if any task can run, and every few milliseconds in any
case; so trio's own deadlines and sockets are late by a millisecond while bytes flow.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from typing import Final

import trio

from agent.log import logger
from agent.proxy.share import Account
from agent.proxy.spin import SPIN_SECONDS, Spin

log = logger()

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
NOTHING: Final = 0
# Events of one batch; what is left over comes first the next time.
BATCH: Final = 64
# So long trio's own sockets and deadlines may wait while bytes flow, and so long it
# sleeps for the next ones.
TURN_SECONDS: Final = 2e-3
LINGER_SECONDS: Final = 1e-3
# So long the greediest account has the thread before others are looked for.
GREEDY_SECONDS: Final = 1e-3

Ready = Callable[[int], None]
"""Told the epoll mask; must not block, and must bear a call for nothing."""
Events = list[tuple[int, int]]
Flush = Callable[[], None]


class _OtherTasks(trio.abc.Instrument):
    """Which tasks could run now, beside the one that asks."""

    def __init__(self) -> None:
        self.runnable: set[trio.lowlevel.Task] = set()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self.runnable.add(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.runnable.discard(task)


class Reactor:
    """Handlers by file descriptor; `run` in one task, for as long as the worker."""

    def __init__(self, spin_seconds: float = SPIN_SECONDS) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Ready] = {}
        self._accounts: dict[int, Account] = {}
        self._again: dict[int, None] = {}
        self._postponed: dict[Account, dict[int, int]] = {}
        self._later: dict[Flush, None] = {}
        self._spin = Spin()
        self._spin_seconds = spin_seconds
        self._awake = False
        self._tasks = _OtherTasks()
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._alarm, READABLE)

    def watch(
        self, fd: int, events: int, ready: Ready, account: Account | None = None
    ) -> None:
        """
        Call `ready` whenever `fd` is; level-triggered. Its time goes to `account`.

        Raises: OSError.
        """
        self._epoll.register(fd, events or select.EPOLLET)
        self._handlers[fd] = ready
        if account is not None:
            self._accounts[fd] = account

    def again(self, fd: int) -> None:
        """Call its handler once more, as readable, after others had their turn."""
        if fd in self._handlers:
            self._again[fd] = None
            if not self._awake:
                os.eventfd_write(self._alarm, 1)

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
            self._again.pop(fd, None)
            account = self._accounts.pop(fd, None)
            if account is not None and account in self._postponed:
                self._postponed[account].pop(fd, None)

    def later(self, flush: Flush) -> None:
        """Call `flush` after this batch, once however often it was asked for."""
        if self._awake:
            self._later[flush] = None
        else:
            flush()

    async def wait(self, sock: socket.socket, events: int) -> None:
        """Wait until a socket is ready that nobody watches."""
        ready = trio.Event()

        def tell(_mask: int) -> None:
            self.forget(descriptor)
            ready.set()

        descriptor = sock.fileno()
        self.watch(descriptor, events, tell)
        try:
            await ready.wait()
        finally:
            self.forget(descriptor)

    def close(self) -> None:
        """Let go of the epoll; the watched sockets stay their owners'."""
        self._epoll.close()
        os.close(self._alarm)

    async def run(self) -> None:
        """Forever: serve what is ready."""
        trio.lowlevel.add_instrument(self._tasks)
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._awake = True
                while self._turn():
                    await trio.lowlevel.checkpoint()
                self._awake = False
        finally:
            self._awake = False
            trio.lowlevel.remove_instrument(self._tasks)

    def _turn(self) -> bool:
        """
        Serve until nothing comes (False), or until trio must have its turn.

        One batch in any case: peers that keep tasks busy (handshakes, byte by byte)
        must not keep bytes from flowing.
        """
        events: Events = []
        until, took = time.monotonic() + TURN_SECONDS, 0.0
        self._flush()
        while True:
            ready = self._poll()
            if not ready and not self._postponed and self._tasks.runnable:
                return True
            if not ready and not self._postponed:
                ready = self._wait_for_more(events, took)
                if not ready:
                    return False
            events = ready
            began = time.monotonic()
            now = self._serve_all(events, began)
            took = now - began
            # Only now: tasks that can always run must not keep bytes from flowing.
            if self._tasks.runnable or now >= until:
                return True

    def _poll(self) -> Events:
        """What is ready, and who has asked for another turn."""
        ready = self._epoll.poll(0, BATCH)
        if not self._again:
            return ready
        asked, self._again = self._again, {}
        for fd, _ in ready:
            asked.pop(fd, None)
        return ready + [(fd, READABLE) for fd in asked]

    def _serve_all(self, events: Events, now: float) -> float:
        """Those within their share, then one that is not; when that was done."""
        for fd, mask in events:
            account = self._accounts.get(fd)
            if account is None:
                self._serve(fd, mask)
            elif account.is_greedy(now):
                self._postponed.setdefault(account, {})[fd] = mask
            else:
                self._serve(fd, mask)
                earlier, now = now, time.monotonic()
                account.charge(now - earlier, now)
        if self._postponed:
            now = self._serve_greedy(now)
        self._flush()
        return time.monotonic()

    def _serve_greedy(self, now: float) -> float:
        """The account that owes least, for a moment, and no longer."""
        account = min(self._postponed, key=lambda each: each.owed(now))
        waiting = self._postponed[account]
        until = now + GREEDY_SECONDS
        while waiting and now < until:
            fd = next(iter(waiting))
            self._serve(fd, waiting.pop(fd))
            earlier, now = now, time.monotonic()
            account.charge(now - earlier, now)
        if not waiting:
            del self._postponed[account]
        return now

    def _wait_for_more(self, last: Events, took: float) -> Events:
        return self._look_on(last, took) or self._epoll.poll(LINGER_SECONDS, BATCH)

    def _look_on(self, last: Events, took: float) -> Events:
        """Wait a moment for the next event without sleeping, where that pays."""
        if len(last) != 1 or not self._spin.allowed(last[0][0], took):
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
            if fd == self._alarm:
                os.eventfd_read(fd)
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
                try:
                    flush()
                except Exception:  # as in `_serve`
                    log.exception("a flush failed by a bug")
